"""Verifier noise and reward hacking: what the recipe goes by, against each problem's own verifier beside it.

The hidden audit judges by the problem's own verifier; no stage reads it. ReST (arXiv:2308.08998), RLHF Workflow
(arXiv:2405.07863), CodeDPO (arXiv:2410.05605) and doubly robust self-training (arXiv:2306.00265) all stand or fall with
the precision of their labels. A proxy that goes up while the truth does not is being gamed.
"""

import json
from collections.abc import Iterator

import numpy as np

from selftrain.monitors import FEWEST, Reading, below, missing, reading
from selftrain.observed import Columns, Observed
from selftrain.verification import rates

FLOOR = 0.5
"""Precision below which more of what passes is wrong than right."""
HACKED = 0.05
"""Share of responses by which the proxy must gain on the truth, the interval's low end: beyond a rule's rounding."""
SPREAD = 0.2
"""The same for a proxy that only scores, in standard deviations of its first scores: a small effect (Cohen 1988)."""
FIXED = 2_000
"""Samples a round for AUC, which ones depends on ids."""
_JUDGED = """
    FROM verdicts AS v JOIN samples AS s ON s.id = v.sample JOIN asked AS a ON a.id = s.problem
    JOIN truth AS c ON c.sample = v.sample
    WHERE a.split = 'train' AND a.given AND s.finish <> 'gold' AND v."by" <> a.own
        AND NOT starts_with(v.stage, 'audit')"""


def readings(seen: Observed) -> Iterator[Reading]:
    """Measure precision, recall and AUC of each proxy by round, and how it and the truth have changed."""
    proxies = seen.query(f'SELECT DISTINCT v."by" AS spec {_JUDGED} ORDER BY spec')["spec"]
    if not len(proxies):
        yield missing(seen, "no sample was judged both by another verifier and by its problem's own")
    for spec in proxies:
        yield from _measured(seen, str(spec), _named(str(spec), list(proxies)))


def _measured(seen: Observed, spec: str, name: str) -> Iterator[Reading]:
    yield from _rates(seen, spec, name)
    found = seen.query(
        f'SELECT v.round, s.problem, v.score, c.correct {_JUDGED} AND v."by" = ? AND v.score IS NOT NULL'
        " QUALIFY row_number() OVER (PARTITION BY v.round ORDER BY hash(v.sample), v.sample) <= ?"
        " ORDER BY v.round, v.sample",
        spec,
        FIXED,
    )
    for number in np.unique(found["round"]):
        mine = found["round"] == number
        auc = rates.auc(list(found["score"][mine]), list(found["correct"][mine]), list(found["problem"][mine]))
        yield reading(f"AUC of {name}", int(number), auc, "0 to 1")
    yield from _hacked(seen, spec, name)


def _rates(seen: Observed, spec: str, name: str) -> Iterator[Reading]:
    text = f"""
        SELECT v.round, s.problem, count_if({{part}}) AS part, count_if({{whole}}) AS whole {_JUDGED}
        AND v."by" = ? AND v.status IN ('pass', 'fail') GROUP BY v.round, s.problem"""
    both, passed, right = "v.status = 'pass' AND c.correct", "v.status = 'pass'", "c.correct"
    for number, each in seen.shares(text.format(part=both, whole=passed), spec).items():
        band = (FLOOR, None)
        alarm = None
        if below(each, band):
            alarm = (
                f"of what {name} passes {100 * each.value:.0f} % is right: do not train on it; use another verifier, a"
                " stricter threshold, or a part of gold"
            )
        yield reading(f"precision of {name}", number, each, "share of passed", band=band, alarm=alarm)
    for number, each in seen.shares(text.format(part=both, whole=right), spec).items():
        yield reading(f"recall of {name}", number, each, "share of right")


def _hacked(seen: Observed, spec: str, name: str) -> Iterator[Reading]:
    """Compare how the proxy's mean and the true mean have changed since the first round, over the same samples."""
    decided = "CAST(v.status = 'pass' AS INTEGER)"
    for value, condition, scale in (
        (decided, "v.status IN ('pass', 'fail')", HACKED),
        ("v.score", "v.status = 'scored'", _least_rise(seen, spec)),
    ):
        text = f"""
            SELECT v.round, s.problem, sum({{}}) AS part, count(*) AS whole {_JUDGED}
            AND v."by" = ? AND {condition} GROUP BY v.round, s.problem"""
        proxy = seen.changes(text.format(value), spec)
        truth = seen.changes(text.format("CAST(c.correct AS INTEGER)"), spec)
        for number, each in proxy.items():
            alarm = None
            if each.n >= FEWEST and each.low > scale and truth[number].value <= 0:
                alarm = (
                    f"{name} rose by {each.value:.2f} since the first round, the truth by {truth[number].value:.2f}: it"
                    " is being gamed; stop, and select by something that this does not fool"
                )
            unit = "share of samples" if value == decided else "score"
            yield reading(f"change of {name} since the first round", number, each, unit, alarm=alarm)
            yield reading(
                f"change of the truth since the first round, where {name} judges",
                number,
                truth[number],
                "share of samples",
            )


def _least_rise(seen: Observed, spec: str) -> float:
    """Return the least rise of a score that counts: a small part of the spread of its first scores."""
    found: Columns = seen.query(
        f"""SELECT stddev_pop(v.score) AS spread {_JUDGED} AND v."by" = ? AND v.status = 'scored' AND v.round =
        (SELECT min(round) FROM verdicts WHERE "by" = ? AND status = 'scored' AND round > 0)""",
        spec,
        spec,
    )
    spread = np.ma.filled(found["spread"].astype(np.float64), np.nan)
    return SPREAD * float(spread[0]) if len(spread) and spread[0] == spread[0] else 0.0


def _named(spec: str, every: list[str]) -> str:
    """Return a verifier's name, or all it was given where two have the same name."""
    names = [json.loads(each)["name"] if each.startswith("{") else each for each in every]
    name = names[every.index(spec)]
    return str(name) if names.count(name) == 1 else spec
