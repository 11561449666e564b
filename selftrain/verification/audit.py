"""Measure how often a verifier is wrong, on responses that somebody has labelled: `selftrain audit`.

Rates are over the rows that it decided, pass or fail; how many it left undecided (error, timeout, abstain, or a score
without a threshold) stands beside them. A line is `{"id", "response", "label", "prompt"?, "answer"?, "tests"?,
"meta"?}`, its label true or false, "pass" or "fail".
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from selftrain.errors import DataError, near
from selftrain.records import Verdict
from selftrain.statistics import Estimate
from selftrain.verification import rates
from selftrain.verification.audited import Audit, Audited, Differing, Labelled, told
from selftrain.verification.verify_file import opened, read_responses

if TYPE_CHECKING:
    from selftrain.backends.pool import VerifierPool
    from selftrain.loop.controller import Watcher

LABELS: Mapping[object, bool] = {True: True, False: False, "pass": True, "fail": False, "true": True, "false": False}
UNDECIDED = ("error", "timeout", "abstain", "scored")


def audit(
    spec: str,
    source: Path,
    *,
    against: str | None = None,
    out: Path | None = None,
    model: str | None = None,
    watcher: "Watcher | None" = None,
) -> Audit:
    """Judge labelled responses and compare; all disagreements go to `out` as JSON lines.

    `model` is whom the verifiers may ask, by name, folder or hub id.
    Raises DataError with the line number for a row that can't be read, PluginError for a verifier that isn't there.
    """
    from selftrain.backends.asked import asked_model
    from selftrain.backends.pool import VerifierPool

    specs = (spec,) if against is None else (spec, against)
    with asked_model(model) as asked, VerifierPool(model=asked) as pool, opened(out) as sink:
        for each in specs:
            pool.describe(each)
        rows = list(read_labelled(source))
        said = [_judged(pool, each, rows, watcher) for each in specs]
        differing = list(_differing(rows, said))
        if sink is not None:
            sink.writelines(json.dumps(told(each)) + "\n" for each in differing)
    both = _both_decided(rows, said) if against is not None else None
    return Audit(
        source=str(source),
        right=sum(row.right for row in rows),
        wrong=sum(not row.right for row in rows),
        problems=len({row.problem for row in rows}),
        verifiers=tuple(_audited(each, rows, verdicts) for each, verdicts in zip(specs, said, strict=True)),
        agreement=None if both is None else rates.share([(table[0] + table[3], sum(table)) for table in both]),
        kappa=None if both is None else rates.kappa(both),
        differing=tuple(differing),
    )


def read_labelled(source: Path) -> Iterator[Labelled]:
    """Yield the rows of a file of labelled responses; raises DataError with the line number for a wrong one."""
    for response in read_responses(source):
        where, values = response.row
        if "label" not in values:
            raise DataError(f"{where} has no 'label'{near('label', values)} (it has {', '.join(values)})")
        label = values["label"]
        key = label.strip().lower() if isinstance(label, str) else label
        if not isinstance(key, bool | str) or key not in LABELS:
            met = json.dumps(label)[:80]
            raise DataError(f'{where}: \'label\' must be true or false, "pass" or "fail", not {met}')
        yield Labelled(response, LABELS[key])


def _judged(pool: "VerifierPool", spec: str, rows: Sequence[Labelled], watcher: "Watcher | None") -> list[Verdict]:
    found: dict[str, Verdict] = {}
    if watcher is not None:
        watcher.begin(spec, len(rows), 0)
    for verdict in pool.verify(spec, [(row.response.problem, row.response.sample) for row in rows]):
        found[verdict.sample] = verdict
        if watcher is not None:
            watcher.advance(spec, 1)
    verdicts = [found[row.response.sample.id] for row in rows]
    if watcher is not None:
        counts = Counter(verdict.status for verdict in verdicts)
        watcher.end(spec, ", ".join(f"{count} {status}" for status, count in counts.items()))
    return verdicts


def _audited(by: str, rows: Sequence[Labelled], verdicts: Sequence[Verdict]) -> Audited:
    decided = [(r, v.status == "pass") for r, v in zip(rows, verdicts, strict=True) if v.status in ("pass", "fail")]
    questions = {
        "precision": [(row, row.right) for row, passed in decided if passed],
        "recall": [(row, passed) for row, passed in decided if row.right],
        "false positives": [(row, passed) for row, passed in decided if not row.right],
        "false negatives": [(row, not passed) for row, passed in decided if row.right],
    }
    statuses = [each for each in UNDECIDED if each != "scored" or any(v.status == "scored" for v in verdicts)]
    scored = [(r, v.score) for r, v in zip(rows, verdicts, strict=True) if v.score is not None]
    first: dict[str, str] = {}
    for row, verdict in zip(rows, verdicts, strict=True):
        if verdict.status in ("error", "timeout"):
            first.setdefault(verdict.status, f"{row.response.sample.id}: {verdict.why}")
    return Audited(
        by=by,
        rates={name: _share(of) for name, of in questions.items()},
        auc=rates.auc(
            [score for _, score in scored],
            [row.right for row, _ in scored],
            [row.problem for row, _ in scored],
        )
        if scored
        else None,
        undecided={
            status: _share((row, v.status == status) for row, v in zip(rows, verdicts, strict=True))
            for status in statuses
        },
        first=first,
    )


def _share(rows: Iterable[tuple[Labelled, bool]]) -> Estimate:
    parts: dict[str, tuple[int, int]] = {}
    for row, part in rows:
        before = parts.get(row.problem, (0, 0))
        parts[row.problem] = (before[0] + part, before[1] + 1)
    return rates.share(list(parts.values()))


def _differing(rows: Sequence[Labelled], said: Sequence[Sequence[Verdict]]) -> Iterator[Differing]:
    """Yield what differs: from the label, what passes wrongly first; of two verifiers, any two statuses."""
    found = [Differing(row, verdicts) for row, verdicts in zip(rows, zip(*said, strict=True), strict=True)]
    if len(said) == 1:
        wrong = [each for each in found if each.verdicts[0].status == ("fail" if each.row.right else "pass")]
        yield from sorted(wrong, key=lambda each: each.row.right)
    else:
        yield from (each for each in found if each.verdicts[0].status != each.verdicts[1].status)


def _both_decided(
    rows: Sequence[Labelled], said: Sequence[Sequence[Verdict]]
) -> list[tuple[float, float, float, float]]:
    """Count, by problem, the rows that both pass, the first alone, the second alone, none."""
    found: dict[str, list[float]] = {}
    for row, one, two in zip(rows, *said, strict=True):
        if {one.status, two.status} <= {"pass", "fail"}:
            table = found.setdefault(row.problem, [0.0] * 4)
            table[2 * (one.status == "fail") + (two.status == "fail")] += 1
    return [(a, b, c, d) for a, b, c, d in found.values()]
