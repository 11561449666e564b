"""Correction dynamics: what a second turn makes of the first.

SCoRe (arXiv:2409.12917), S2R (arXiv:2502.12853) and self-rewarding correction (arXiv:2502.19613): a model that is
trained to revise may learn to repeat itself, or to talk itself out of right answers. A revision is a sample of a made
problem of kind revision; the attempt is the first sample it is about.
"""

from collections.abc import Iterator

import numpy as np

from selftrain.monitors import FEWEST, Reading, missing, reading
from selftrain.observed import Columns, Observed
from selftrain.statistics import Sums, of_sums, quotient

SAME = 0.9
"""Share of revisions equal to their attempt from which nothing is revised."""
_TURNS = """
    SELECT s.round, a.origin AS problem, count(*) AS n, count_if(one.correct) AS before, count_if(two.correct) AS after,
        count_if(one.correct AND NOT two.correct) AS harmed, count_if(NOT one.correct AND two.correct) AS mended,
        count_if(first.text = s.text) AS same
    FROM samples AS s JOIN asked AS a ON a.id = s.problem JOIN samples AS first ON first.id = s.parents[1]
    JOIN truth AS one ON one.sample = first.id JOIN truth AS two ON two.sample = s.id
    WHERE a.kind = 'revision' AND a.split = ? GROUP BY s.round, a.origin ORDER BY s.round, a.origin"""


def readings(seen: Observed) -> Iterator[Reading]:
    """Measure both turns' accuracy, what was mended and what was harmed, on train or else on held-out problems."""
    found, split = seen.query(_TURNS, "train"), "train"
    if not len(found["round"]):
        found, split = seen.query(_TURNS, seen.held_out), seen.held_out
    if not len(found["round"]):
        yield missing(seen, "no attempt and its revision were both judged by the problem's own verifier")
    for number in np.unique(found["round"]):
        mine = found["round"] == number
        yield from _measured({name: values[mine] for name, values in found.items()}, int(number), split)


def _measured(found: Columns, number: int, split: str) -> Iterator[Reading]:
    def share(part: str, whole: str | Sums = "n") -> Sums:
        return np.stack([found[part], found[whole] if isinstance(whole, str) else whole])

    turns = {"accuracy of first turns": share("before"), "accuracy of second turns": share("after")}
    turns["wrong turned right"] = share("mended", found["n"] - found["before"])
    turns["right turned wrong"] = share("harmed", "before")
    for name, columns in turns.items():
        yield reading(f"{name}, {split}", number, of_sums(list(columns), quotient), "share of attempts")
    change = of_sums([found["after"].astype(float) - found["before"], found["n"]], quotient)
    same = of_sums([found["same"], found["n"]], quotient)
    alarm = None
    if change.n >= FEWEST and change.high < 0:
        alarm = (
            f"revising turns more right answers wrong than wrong ones right ({100 * change.value:+.1f} points): ask"
            " only about attempts found wrong, or train on corrections (recipe self_rewarding_correction)"
        )
    yield reading(f"change by revising, {split}", number, change, "share of attempts", band=(0.0, None), alarm=alarm)
    alarm = None
    if same.n >= FEWEST and same.low > SAME and change.low <= 0:
        alarm = (
            f"{100 * same.value:.0f} % of the revisions repeat their attempt, and accuracy does not rise: correction"
            " has collapsed; train on pairs of wrong attempt and right revision that differ"
        )
    yield reading(f"revisions equal to their attempt, {split}", number, same, "share", band=(None, SAME), alarm=alarm)
