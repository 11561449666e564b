"""Generation-verification gap: how much better what is selected is than what is sampled; and whether rounds still gain.

Mind the Gap (arXiv:2412.02674): a model improves itself only while selection is better than sampling, and the gap,
also relative to what is left to gain, closes within a few rounds. Sharpening (arXiv:2412.01951) says why. Whether a
round gained is the Gate's question; a run whose rounds gain no more is marked here, and is no alarm.
"""

from collections.abc import Iterator

import numpy as np

from selftrain.monitors import FEWEST, Reading, missing, reading
from selftrain.observed import Columns, Observed
from selftrain.statistics import Estimate, of_sums, quotient

RUNNING = 2
"""Rounds in a row without a gap before it alarms: one may be chance."""
_PROBLEMS = """
    WITH kept AS (
        SELECT t.round, t.problem, count(*) AS kept, count_if(c.correct) AS kept_right
        FROM (SELECT DISTINCT round, problem, sample FROM trained
              WHERE kind <> 'rejected' AND split = 'train' AND finish <> 'gold') AS t
        JOIN truth AS c ON c.sample = t.sample GROUP BY t.round, t.problem)
    SELECT a.round, a.problem, count(*) AS sampled, count_if(a.correct) AS correct,
        coalesce(any_value(k.kept), 0) AS kept, coalesce(any_value(k.kept_right), 0) AS kept_right
    FROM attempts AS a LEFT JOIN kept AS k ON k.round = a.round AND k.problem = a.problem
    WHERE a.split = 'train' AND a.correct IS NOT NULL GROUP BY a.round, a.problem ORDER BY a.round, a.problem"""


def readings(seen: Observed) -> Iterator[Reading]:
    """Measure, problem by problem, the accuracy of selected samples less that of all; and the gain of each round."""
    found = seen.query(_PROBLEMS)
    if not len(found["round"]) or not found["kept"].any():
        yield missing(seen, "no row comes from a sample that was judged by its problem's own verifier")
    else:
        yield from _gaps(found)
    yield from _gains(seen)


def _gaps(found: Columns) -> Iterator[Reading]:
    low: list[int] = []
    # Problem by problem: else choosing easy problems would pass for choosing good responses.
    mine = found["kept"] > 0
    sampled = found["correct"][mine] / found["sampled"][mine]
    difference = found["kept_right"][mine] / found["kept"][mine] - sampled
    rounds = found["round"][mine]
    for number in np.unique(rounds):
        here = rounds == number
        ones = np.ones(int(here.sum()))
        gap = of_sums([difference[here], ones], quotient)
        low = [*low, int(number)] if gap.n >= FEWEST and gap.low <= 0 else []
        alarm = None
        if len(low) >= RUNNING:
            alarm = (
                f"what is selected is no better than what is sampled ({100 * gap.value:+.1f} points, 95 % interval"
                f" {100 * gap.low:+.1f} to {100 * gap.high:+.1f}), {len(low)} rounds running: stop, keep the best"
                " round, or select by a better verifier"
            )
        yield reading("gap", int(number), gap, "share of samples", band=(0.0, None), alarm=alarm)
        relative = of_sums([difference[here], 1 - sampled[here]], quotient)
        yield reading("gap relative to what is left to gain", int(number), relative, "share")


def _gains(seen: Observed) -> Iterator[Reading]:
    text = """
        SELECT now.round, now.problem, now.value - before.value AS part, 1 AS whole
        FROM outcomes AS now JOIN outcomes AS before
            ON before.problem = now.problem AND before.name = now.name AND before.stage = now.stage
            AND before.round = now.round - 1
        WHERE now.split = ? AND now.name IN ('accuracy', 'pass@1')"""
    before: Estimate | None = None
    for number, each in seen.shares(text, seen.held_out).items():
        flat = [estimate.low <= 0 for estimate in (before, each) if estimate is not None]
        note = "saturated: two rounds without a gain beyond chance" if len(flat) == RUNNING and all(flat) else ""
        yield reading(f"gain of the round, {seen.held_out}", number, each, "share of problems", note=note)
        before = each
