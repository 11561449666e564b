"""Weak-supervisor imitation: whether the strong model learns its weak teacher's mistakes.

Weak-to-strong generalisation (arXiv:2312.09390) and weak-to-strong reasoning (arXiv:2407.13647): a strong model that
fits its supervisor well enough copies its errors too. The weak model's samples are those of a model that is not the
policy. The gap recovered needs the strong model's ceiling, which is another run (gold_sft); compare the two.
"""

from collections.abc import Iterator

from selftrain.monitors import Reading, above, missing, reading
from selftrain.observed import Observed

MORE = 0.1
"""Of the weak model's mistakes, the share that the policy repeats may be so much more than at first: one in ten."""
_MISTAKES = """
    WITH weak AS (
        SELECT s.round, s.problem, r.answer FROM samples AS s
        JOIN stages AS g ON g.round = s.round AND g.place = s.place AND g.class = 'Generate' AND g.model <> 'policy'
        JOIN truth AS c ON c.sample = s.id JOIN read AS r ON r.sample = s.id JOIN asked AS a ON a.id = s.problem
        WHERE NOT c.correct AND a.given AND a.split = 'train')
    SELECT p.round, p.problem, count_if(p.answer = w.answer) AS part, count(*) AS whole
    FROM attempts AS p JOIN weak AS w ON w.round = p.round AND w.problem = p.problem
    WHERE p.split = 'train' GROUP BY p.round, p.problem"""


def readings(seen: Observed) -> Iterator[Reading]:
    """Measure how often the policy gives the weak model's answer where that is wrong."""
    found = seen.shares(_MISTAKES)
    if not found:
        yield missing(seen, "no other model than the policy was sampled and judged by the problems' own verifier")
        return
    first = next(iter(found.values()))
    band = (None, first.high + MORE)
    for number, each in found.items():
        alarm = None
        if above(each, band):
            alarm = (
                f"the policy repeats {100 * each.value:.0f} % of the weak model's mistakes, {100 * first.value:.0f} %"
                " at first: stop earlier, or learn only where both agree and the policy is sure"
            )
        yield reading("weak model's mistakes repeated", number, each, "share of samples", band=band, alarm=alarm)
