"""Forgetting: held-out problems that the base model solved and this round does not, over every evaluation there is.

S3FT (arXiv:2502.08130), ReGenesis (arXiv:2410.02108) and SSR (arXiv:2403.01244) measure what fine-tuning on own samples
costs on tasks that were not trained. A battery is a further Evaluate stage, or one with several measured stages; each
is compared with round 0 by itself. The perplexity of fixed text is in `degeneration`, where it is stored.
"""

from collections.abc import Iterator

from selftrain.monitors import FEWEST, Reading, above, missing, reading
from selftrain.observed import Observed

LOST = 0.25
"""Of the problems that the base model solved: with sampling noise a better model may lose some, not one in four."""
_EACH = """
    FROM outcomes AS now JOIN outcomes AS base
        ON base.problem = now.problem AND base.name = now.name AND base.stage = now.stage AND base.round = 0
    WHERE now.split = ? AND now.stage = ? AND now.name = ? GROUP BY now.round, now.problem"""


def readings(seen: Observed) -> Iterator[Reading]:
    """Measure the change since round 0 and the share of lost problems, of each outcome that is stored."""
    sets = seen.query(
        "SELECT stage, name FROM outcomes WHERE split = ? AND round = 0 AND NOT starts_with(name, 'triggered/')"
        " GROUP BY stage, name ORDER BY min(place), name",
        seen.held_out,
    )
    if not len(sets["stage"]):
        yield missing(seen, "no outcome of round 0 is stored")
    for stage, name in zip(sets["stage"], sets["name"], strict=True):
        yield from _measured(seen, str(stage), str(name))


def _measured(seen: Observed, stage: str, name: str) -> Iterator[Reading]:
    label = name if stage == "evaluate" else f"{stage} {name}"
    asked = (seen.held_out, stage, name)
    gains = seen.shares(
        f"SELECT now.round, now.problem, sum(now.value - base.value) AS part, count(*) AS whole {_EACH}", *asked
    )
    for number, each in gains.items():
        alarm = None
        if each.n >= FEWEST and each.high < 0:
            alarm = (
                f"{label} on {seen.held_out} fell by {-100 * each.value:.1f} points since the base model (95 % interval"
                f" {-100 * each.high:.1f} to {-100 * each.low:.1f}): mix in gold or rehearsal rows, or start from base"
            )
        if number:
            yield reading(
                f"change of {label} since base", number, each, "share of problems", band=(0.0, None), alarm=alarm
            )
    lost = seen.shares(
        "SELECT now.round, now.problem, count_if(base.value > 0.5 AND now.value <= 0.5) AS part,"
        f" count_if(base.value > 0.5) AS whole {_EACH}",
        *asked,
    )
    for number, each in lost.items():
        alarm = None
        if above(each, (None, LOST)):
            alarm = (
                f"{100 * each.value:.0f} % of the problems that the base model solved ({label}, {seen.held_out}) are"
                " lost: mix in gold or rehearsal rows, or start from base"
            )
        if number:
            yield reading(f"solved by base and lost, {label}", number, each, "share", band=(None, LOST), alarm=alarm)
