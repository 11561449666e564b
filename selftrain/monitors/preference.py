"""Preference-loss health: whether the chosen responses stay likely while they win.

ASFT (arXiv:2409.10571), RISE (arXiv:2410.06638), SPIN (arXiv:2401.01335) and DPO-ST (arXiv:2407.18248): DPO's loss can
fall while chosen and rejected responses both become unlikely. A training measures at most 512 of its pairs before its
first and after its last step; means alone are stored, so these readings have no interval.
"""

from collections.abc import Iterator

import numpy as np

from selftrain.monitors import FEWEST, Reading, missing, reading
from selftrain.observed import Observed
from selftrain.statistics import Estimate

FALLEN = 1.0
"""Nats by which the mean log-probability of chosen responses may fall: they are then a third as likely."""
CHANCE = 0.5
"""Share of pairs the right way round after training: what a coin has."""
_PAIRS = """
    SELECT e.round, replace(e.name, '/end/chosen_log_prob', '') AS training, e.value AS ended, b.value AS began, e.n
    FROM metrics AS e JOIN metrics AS b
        ON b.round = e.round AND b.place = e.place AND b.name = replace(e.name, '/end/', '/begin/')
    WHERE e.name LIKE '%/end/chosen_log_prob' ORDER BY e.round, e.place, e.name"""


def readings(seen: Observed) -> Iterator[Reading]:
    """Measure log-probabilities of both sides, margin and accuracy after each preference training."""
    found = seen.query(_PAIRS)
    if not len(found["round"]):
        yield missing(seen, "no training on pairs is stored")
        return
    for number, training, ended, began, n in zip(*found.values(), strict=True):
        alarm = None
        if n >= FEWEST and ended < began - FALLEN:
            alarm = (
                f"chosen responses went from {began:.1f} to {ended:.1f} nats in {training}: add the response's own"
                " likelihood (nll=...), take a loss without a reference (ORPO, ASFT), or a lower learning rate"
            )
        each = _alone(float(ended), int(n))
        yield reading(
            f"log-probability of chosen, {training}",
            int(number),
            each,
            "nats",
            band=(float(began) - FALLEN, None),
            alarm=alarm,
        )
    yield from _others(seen)


def _others(seen: Observed) -> Iterator[Reading]:
    found = seen.query(
        "SELECT round, name, value, n FROM metrics WHERE regexp_matches(name,"
        " '/end/(rejected_log_prob|margin|accuracy)$') ORDER BY round, place, name"
    )
    for number, name, value, n in zip(*found.values(), strict=True):
        training, _, what = str(name).partition("/end/")
        chance = what == "accuracy"
        alarm = None
        if chance and n >= FEWEST and value < CHANCE:
            alarm = (
                f"{100 * value:.0f} % of the pairs of {training} are the right way round after training: nothing was"
                " learned; look at the pairs, the learning rate and beta"
            )
        label = {
            "rejected_log_prob": "log-probability of rejected",
            "margin": "margin",
            "accuracy": "pairs the right way",
        }
        unit = "share of pairs" if chance else "nats"
        yield reading(
            f"{label[what]}, {training}",
            int(number),
            _alone(float(value), int(n)),
            unit,
            band=(CHANCE, None) if chance else None,
            alarm=alarm,
        )


def _alone(value: float, n: int) -> Estimate:
    return Estimate(value, np.nan, np.nan, n)
