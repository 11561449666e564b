"""Step error: right answers reached by wrong steps.

CREST (arXiv:2411.06387) asks follow-up questions about a rationale, Guiding Through Complexity (arXiv:2410.20790) and
OmegaPRM (arXiv:2406.06592) judge its steps: a filter that looks at answers alone lets lucky rationales into the rows,
and what they teach is guessing. Needs a verifier that scores steps, or follow-ups whose Credit comes back.
"""

from collections.abc import Iterator

from selftrain.monitors import Reading, above, missing, reading
from selftrain.observed import Observed
from selftrain.statistics import Estimate

WRONG = 0.5
"""A step, or a share of right follow-ups, below it counts as wrong: more likely wrong than right."""
MORE = 0.1
"""Of right answers, the share with wrong steps that may be more than at first: one in ten."""
_CHECKED = """
    checked AS (
        SELECT v.round, v.sample, min(CASE WHEN v.least IS NOT NULL THEN v.least ELSE v.score END) < {wrong} AS slip
        FROM verdicts AS v
        WHERE v.least IS NOT NULL OR (v."by" = v.stage AND v.score IS NOT NULL
            AND EXISTS (SELECT 1 FROM problems AS p WHERE p.kind = 'followup'))
        GROUP BY v.round, v.sample)"""
_RIGHT = """
    WITH {checked} SELECT k.round, s.problem, count_if(k.slip) AS part, count(*) AS whole
    FROM checked AS k JOIN samples AS s ON s.id = k.sample JOIN asked AS a ON a.id = s.problem
    JOIN truth AS c ON c.sample = k.sample
    WHERE a.split = 'train' AND a.given AND s.finish <> 'gold' AND {condition} GROUP BY k.round, s.problem"""
_LEARNED = """
    WITH {checked} SELECT t.round, t.problem, count_if(k.slip) AS part, count(*) AS whole
    FROM (SELECT DISTINCT round, problem, sample FROM trained WHERE kind <> 'rejected' AND split = 'train') AS t
    JOIN (SELECT sample, bool_or(slip) AS slip FROM checked GROUP BY sample) AS k ON k.sample = t.sample
    GROUP BY t.round, t.problem"""


def readings(seen: Observed) -> Iterator[Reading]:
    """Measure how many right, and how many wrong, answers have a wrong step, and how many of the rows."""
    checked = _CHECKED.format(wrong=WRONG)
    right = seen.shares(_RIGHT.format(checked=checked, condition="c.correct"))
    if not right:
        yield missing(seen, "no right answer's steps were judged (process_reward, or follow-ups with Credit)")
        return
    yield from _judged("right answers with a wrong step", right)
    for number, each in seen.shares(_RIGHT.format(checked=checked, condition="NOT c.correct")).items():
        yield reading("wrong answers with a wrong step", number, each, "share of wrong answers")
    yield from _judged("rows with a wrong step", seen.shares(_LEARNED.format(checked=checked)))
    yield from _first_errors(seen)


def _judged(name: str, found: dict[int, Estimate]) -> Iterator[Reading]:
    if not found:
        return
    first = next(iter(found.values()))
    band = (None, first.high + MORE)
    for number, each in found.items():
        alarm = None
        if above(each, band):
            alarm = (
                f"{name}: {100 * each.value:.0f} %, {100 * first.value:.0f} % at first: a filter by answers leaks;"
                " select by steps or follow-ups too (AtLeast, recipe crest)"
            )
        yield reading(name, number, each, "share", band=band, alarm=alarm)


def _first_errors(seen: Observed) -> Iterator[Reading]:
    """Where in a response the first wrong step stands, from 1; over samples, without an interval."""
    found = seen.query(
        "SELECT round, avg(first) AS place, count(*) AS n FROM"
        f" (SELECT round, list_position([x < {WRONG} FOR x IN steps], true) AS first FROM verdicts WHERE len(steps) >"
        " 0) WHERE first IS NOT NULL AND first > 0 GROUP BY round ORDER BY round"
    )
    for number, place, n in zip(found["round"], found["place"], found["n"], strict=True):
        each = Estimate(float(place), float("nan"), float("nan"), int(n))
        yield reading("first wrong step", int(number), each, "step", note="a mean over responses that have one")
