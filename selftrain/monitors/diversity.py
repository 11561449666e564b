"""Diversity: how different a problem's samples are from each other.

B-STaR (arXiv:2412.17256) sees exploration fade within few rounds; Multiagent finetuning (arXiv:2501.05707) and SOFT
measure it by different answers and texts. Fewer different answers are no harm while more of them are right: the alarm
is for those that fall while accuracy does not rise.
"""

from collections.abc import Iterator

from selftrain.monitors import Reading, below, missing, reading
from selftrain.observed import Observed

FALL = 0.2
"""Of the first round's diversity: a fifth lost without a gain in accuracy is more than rounds differ by chance."""
MEASURES = {
    "different answers a sample": "count(DISTINCT answer)",
    "different responses a sample": "count(DISTINCT text)",
    "different right responses a sample": "count(DISTINCT text) FILTER (correct)",
}
_EACH = (
    "SELECT round, problem, {} AS part, count(*) AS whole FROM attempts WHERE split = 'train'"
    " GROUP BY round, problem HAVING count(*) > 1"
)
RIGHT = (
    "SELECT round, problem, count_if(correct) AS part, count(*) AS whole FROM attempts WHERE split = 'train'"
    " AND correct IS NOT NULL GROUP BY round, problem"
)
"""By round and problem, how many samples are right."""


def readings(seen: Observed) -> Iterator[Reading]:
    """Measure different answers and texts, by the samples of a problem."""
    gains = seen.changes(RIGHT)
    any_found = False
    for name, count in MEASURES.items():
        if "answer" in name and not len(seen.query("SELECT 1 AS one FROM read LIMIT 1")["one"]):
            continue
        found = seen.shares(_EACH.format(count))
        if not found:
            continue
        any_found = True
        first = next(iter(found.values()))
        band = None if "right" in name else ((1 - FALL) * first.low, None)
        for number, each in found.items():
            gain = gains.get(number)
            alarm = None
            if band and below(each, band) and (gain is None or gain.low <= 0):
                accuracy = "is not known" if gain is None else f"changed by {100 * gain.value:+.1f} points"
                alarm = (
                    f"{each.value:.2f} {name}, {first.value:.2f} at first, while accuracy {accuracy}: raise the"
                    " temperature, cap the rows a problem (AtMost, distinct), or add problems"
                )
            yield reading(name, number, each, "share of samples", band=band, alarm=alarm)
    if not any_found:
        yield missing(seen, "no train problem has two samples of one round")
