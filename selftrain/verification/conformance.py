"""Test a verifier against the contract, through the same worker pool as in a run: `selftrain verify NAME --check`."""

import inspect
import json
import math
import pickle
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from selftrain.errors import PluginError
from selftrain.lab import AskedModel
from selftrain.records import Case, Json, Verdict
from selftrain.verification import probes
from selftrain.verification.probes import Group, Judged
from selftrain.verification.verify import LoadedVerifier, load_verifier

State = Literal["ok", "warn", "fail"]

SHOWN = 3
"""Examples that a finding names."""
LONGEST = 200
"""Characters of a reason that are shown."""
QUICK = 1000
"""Characters of the longest response that is judged in another process too."""


class Finding(NamedTuple):
    """What came of one check."""

    name: str
    state: State
    what: str
    do: str = ""
    """What the author can do about it; '' where there is nothing to do."""

    def __str__(self) -> str:
        return f"{self.state:<5} {self.name:<10} {self.what}" + (f" -> {self.do}" if self.do else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came of all checks."""

    verifier: str
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether no check failed; warnings are for the author to judge."""
        return all(finding.state != "fail" for finding in self.findings)

    def as_json(self) -> Json:
        """The report as plain values."""
        found = [finding._asdict() for finding in self.findings]
        return {"verifier": self.verifier, "passed": self.passed, "findings": found}

    def __str__(self) -> str:
        counts = ", ".join(f"{sum(f.state == s for f in self.findings)} {s}" for s in ("ok", "warn", "fail"))
        return "\n".join([*map(str, self.findings), f"{self.verifier}: {counts}"])


def check(spec: str, *, log: Path | None = None, model: str | None = None) -> Report:
    """Run every check on a verifier; raises PluginError where there is none, or it doesn't load.

    `model` is whom it may ask, by name, folder or hub id; without one, a verifier that asks is only looked at.
    """
    from selftrain.backends.asked import asked_model

    with asked_model(model) as asked:
        return _checked(spec, log, asked)


def _checked(spec: str, log: Path | None, model: AskedModel | None) -> Report:
    from selftrain.backends.pool import VerifierPool

    with VerifierPool(workers=1, log=log, model=model) as pool:
        # A worker loads it first: what happens while it loads can end the worker, not this process.
        limit = pool.describe(spec).time_limit
        loaded = load_verifier(spec)
        findings = [_signature(loaded), _settings(loaded), _cases(loaded)]
        unasked = findings[2].state == "warn" and (model is None or not loaded.cases)
        if findings[0].state == "fail" or findings[2].state == "fail" or unasked:
            return Report(verifier=spec, findings=tuple(findings))
        groups = probes.groups_of(loaded)
        asked = probes.probes_of(groups, group=loaded.group)
        first = probes.judged(pool, asked)
        again = probes.judged(pool, probes.own(groups))
    with VerifierPool(workers=1, log=log, model=model) as other:
        elsewhere = probes.judged(other, [p for p in reversed(asked) if max(map(len, p.responses)) < QUICK])
    findings += [
        _expected(groups, first),
        _gold(groups, first),
        _answer(groups, first),
        *_awkward(first),
        _repeats(first, again, elsewhere),
        _time(first, limit),
        _stored(first),
    ]
    return Report(verifier=spec, findings=tuple(findings))


def _signature(loaded: LoadedVerifier) -> Finding:
    """Gold and response must not be swapped: both are given by name, and can't be given in any other way."""
    parameters = inspect.signature(loaded.call).parameters
    method, wanted = ("verify_group", "attempts") if loaded.group else ("verify", "response")
    do = f"write def {method}(*, problem, {wanted})"
    loose = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    swappable = [name for name, p in parameters.items() if p.kind in by_position]
    if missing := [name for name in ("problem", wanted) if not loose and name not in parameters]:
        return Finding("signature", "fail", f"it has no parameter {' and none '.join(missing)}", do)
    if swappable:
        return Finding("signature", "fail", f"{', '.join(swappable)} can be given by position, so be swapped", do)
    return Finding("signature", "ok", f"{', '.join(parameters)} by name only")


def _settings(loaded: LoadedVerifier) -> Finding:
    """A run file holds settings as JSON, and they are read back from there."""
    made = getattr(loaded.call, "__self__", None)
    if made is None or not is_dataclass(made) or isinstance(made, type):
        return Finding("settings", "ok", "none")
    values = {each.name: getattr(made, each.name) for each in fields(made) if each.init}
    try:
        load_verifier(json.dumps({"name": loaded.name, **values}))
    except (TypeError, ValueError, PluginError) as error:
        do = "use bool, int, float, str, None, and lists, tuples or mappings of them"
        return Finding("settings", "fail", f"a run file can't hold them: {error}", do)
    if not made.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        do = "write @dataclass(frozen=True, slots=True, kw_only=True)"
        return Finding("settings", "warn", "they can change while it judges: the dataclass is not frozen", do)
    return Finding("settings", "ok", ", ".join(f"{name}={value!r}" for name, value in values.items()) or "none")


def _cases(loaded: LoadedVerifier) -> Finding:
    do = "write cases = (Case(answer=..., response=..., expect='pass'), Case(..., expect='fail'))"
    if strangers := [case for case in loaded.cases if not isinstance(case, Case)]:
        return Finding("cases", "fail", f"they must be of selftrain.Case; one is {_short(strangers[0])}", do)
    expected = {case.expect for case in loaded.cases}
    if "scored" in expected or {"pass", "fail"} <= expected:
        return Finding("cases", "ok", f"{len(loaded.cases)}, which expect {', '.join(sorted(expected))}")
    if asked := sorted({"model", "scorer"} & set(loaded.asks)):
        what = f"what it says is not judged here: it asks a {' and a '.join(asked)}"
        return Finding(
            "cases", "warn", what, "name one by --model, or judge it with a small model in a test of its own"
        )
    lacking = " and none ".join(sorted({"pass", "fail"} - expected))
    return Finding("cases", "fail", f"of its {len(loaded.cases)} cases none expects {lacking}", do)


def _expected(groups: Sequence[Group], first: Judged) -> Finding:
    wrong = [
        f"{_short(case.response)} is {verdict.status}, not {case.expect} ({_short(verdict.why, LONGEST)})"
        for n, group in enumerate(groups)
        for case, verdict in zip(group.cases, first[f"case {n}"], strict=True)
        if verdict.status != case.expect
    ]
    if wrong:
        return Finding("own cases", "fail", _some(wrong), "mend the verifier, or the case")
    return Finding("own cases", "ok", "each gets the status that it expects")


def _gold(groups: Sequence[Group], first: Judged) -> Finding:
    """What passes must not fail, or score 0, because the problem has lost its gold answer and tests."""
    silent = [
        _short(case.response)
        for n, group in enumerate(groups)
        for case, before, bare in zip(group.cases, first[f"case {n}"], first[f"bare {n}"], strict=True)
        if (before.status == "pass" and bare.status == "fail")
        or (before.status == bare.status == "scored" and before.score and not bare.score)
    ]
    if silent:
        what = f"what is right turns wrong where the problem has no answer and no tests: {_some(silent)}"
        do = 'return Score(status="error", why="the problem has no gold answer"): the response is not to blame'
        return Finding("no gold", "warn", what, do)
    met = _counted(verdict for n in range(len(groups)) for verdict in first[f"bare {n}"])
    return Finding("no gold", "ok", f"cases without answer, tests and meta: {met}")


def _answer(groups: Sequence[Group], first: Judged) -> Finding:
    depends = []
    for n, group in enumerate(groups):
        rows = [first[f"case {n}"], *(first[f"gold {n} {gold}"] for gold in probes.OTHER_GOLD)]
        for index, case in enumerate(group.cases):
            read = sorted({answer for row in rows if (answer := row[index].answer) is not None})
            if len(read) > 1:
                depends.append(f"{_short(case.response)} reads as {' or '.join(map(_short, read))}")
    if depends:
        what = f"the answer that it reads depends on the gold answer: {_some(depends)}"
        return Finding("answer", "fail", what, "read the response first, then compare: votes count what was read")
    said = any(verdict.answer is not None for verdicts in first.values() for verdict in verdicts)
    what = "what it reads doesn't depend on the gold answer" if said else "it doesn't say which answer it has read"
    return Finding("answer", "ok", what)


def _awkward(first: Judged) -> Iterator[Finding]:
    """What awkward responses did to it: none may end or hang it, and none is right."""
    said = {name.partition(" ")[2]: v[-1] for name, v in first.items() if name.startswith("awkward ")}
    lost = [f"{name}: {v.why}" for name, v in said.items() if v.status == "timeout" or _died(v)]
    raised = [f"{name}: {_short(v.why, LONGEST)}" for name, v in said.items() if v.status == "error" and not _died(v)]
    passed = [name for name, v in said.items() if v.status == "pass" and name in ("empty", "white space")]
    if lost:
        do = "bound how much of a response it reads, and how long it works on it"
        yield Finding("awkward", "fail", f"responses end it: {_some(lost)}", do)
    if raised:
        do = "what nobody can read is wrong: return a fail; more than 5 % errors stop a run"
        yield Finding("awkward", "warn", f"responses become errors: {_some(raised)}", do)
    if passed:
        yield Finding("awkward", "warn", f"it passes a response that is {' or '.join(passed)}", "is that meant?")
    if not (lost or raised or passed):
        yield Finding("awkward", "ok", f"empty, huge, binary, foreign, malformed responses: {_counted(said.values())}")


def _repeats(first: Judged, again: Judged, elsewhere: Judged) -> Finding:
    for where, other in (("a second time", again), ("in another process and order", elsewhere)):
        changed = [
            f"{name} was {_told(before)}, is {_told(after)}"
            for name, verdicts in other.items()
            for before, after in zip(first[name], verdicts, strict=True)
            if not _equal(before, after)
        ]
        if changed:
            do = (
                "let problem and response alone decide: no clock, no draw without a seed, no memory of what came before"
            )
            return Finding("repeats", "fail", f"judged {where}, verdicts change: {_some(changed)}", do)
    return Finding("repeats", "ok", "same verdicts a second time, and in another process and order")


def _time(first: Judged, limit: float) -> Finding:
    own = [verdict for name, verdicts in first.items() if name.startswith("case ") for verdict in verdicts]
    slowest = max(verdict.seconds for verdict in own)
    state: State = "ok" if slowest <= limit / 2 else "warn"
    if any(verdict.status == "timeout" for verdict in own):
        state = "fail"
    do = "" if state == "ok" else "set time_limit = SECONDS in its file, or work less"
    return Finding("time", state, f"the slowest case takes {slowest:.3f} s of {limit:g} s", do)


def _stored(first: Judged) -> Finding:
    """Verdicts cross processes and are written to files."""
    for verdict in (verdict for verdicts in first.values() for verdict in verdicts):
        try:
            kept = pickle.loads(pickle.dumps(verdict)) == verdict
            (verdict.why + (verdict.answer or "")).encode()
        except (pickle.PicklingError, TypeError, ValueError) as error:
            return Finding("verdicts", "fail", f"one can't be stored: {error}", "return texts that are valid Unicode")
        if not kept:
            return Finding(
                "verdicts", "fail", f"one changes when it is stored: {_told(verdict)}", "return plain values"
            )
    return Finding("verdicts", "ok", "they can be pickled and stored")


def _died(verdict: Verdict) -> bool:
    return verdict.status == "error" and verdict.why.startswith("the verifier's process ended")


def _equal(a: Verdict, b: Verdict) -> bool:
    if (a.status, a.answer, a.score is None, len(a.step_scores)) != (
        b.status,
        b.answer,
        b.score is None,
        len(b.step_scores),
    ):
        return False
    scores = zip((a.score or 0.0, *a.step_scores), (b.score or 0.0, *b.step_scores), strict=True)
    return all(math.isclose(x, y, rel_tol=1e-5, abs_tol=1e-9) for x, y in scores)


def _told(verdict: Verdict) -> str:
    score = "" if verdict.score is None else f" {verdict.score:g}"
    return verdict.status + score + ("" if verdict.answer is None else f" ({_short(verdict.answer)})")


def _counted(verdicts: Iterable[Verdict]) -> str:
    statuses = [verdict.status for verdict in verdicts]
    return ", ".join(f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses))


def _short(value: object, length: int = 40) -> str:
    text = repr(value)
    return text if len(text) <= length else f"{text[: length - 3]}..."


def _some(found: Sequence[str]) -> str:
    return "; ".join(found[:SHOWN]) + (f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else "")
