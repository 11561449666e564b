"""Calibration: whether an answer that more samples give is more often right.

ScPO (arXiv:2411.04109) and LMSI (arXiv:2210.11610) take the share of votes as the label, which is safe only while
accuracy rises with it. Vote shares are counted over the policy's samples of a train problem; the truth is the problem's
own verifier. Expected calibration error as in Guo et al. 2017 (arXiv:1706.04599), over problems.
"""

from collections.abc import Iterator

import numpy as np

from selftrain.monitors import FEWEST, Reading, above, missing, reading
from selftrain.observed import Columns, Observed
from selftrain.statistics import Estimate, of_sums, quotient

BINS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Vote shares of the commonest answer; a bin reaches from above one to the next."""
OVERSURE = 0.3
"""Mean vote share less accuracy of the commonest answers: with three in ten more sure than right, a threshold on votes
lets as many wrong labels through as it stops."""
_VOTES = """
    WITH counted AS (
        SELECT round, problem, answer, count(*) AS votes, bool_or(correct) AS correct,
            sum(count(*)) OVER (PARTITION BY round, problem) AS n
        FROM attempts WHERE split = 'train' AND correct IS NOT NULL GROUP BY round, problem, answer)
    SELECT round, problem, votes / n AS share, CAST(correct AS INTEGER) AS correct FROM counted WHERE answer IS NOT NULL
        AND n > 1
    QUALIFY row_number() OVER (PARTITION BY round, problem ORDER BY votes DESC, answer) = 1 ORDER BY round, problem"""
_VOTERS = """
    SELECT DISTINCT "by" FROM verdicts WHERE regexp_matches("by", '^(\\{.*"name": ")?(vote|agreement|mbr)\\b')"""


def readings(seen: Observed) -> Iterator[Reading]:
    """Measure accuracy by vote share, where a vote is among the verifiers."""
    if not len(seen.query(_VOTERS)["by"]):
        yield missing(seen, "no vote is among the verifiers")
        return
    found = seen.query(_VOTES)
    if not len(found["round"]):
        yield missing(seen, "no answers of several samples a problem were judged by the problem's own verifier")
    for number in np.unique(found["round"]):
        mine = found["round"] == number
        yield from _measured({name: values[mine] for name, values in found.items()}, int(number))


def _measured(found: Columns, number: int) -> Iterator[Reading]:
    share, correct = np.asarray(found["share"], dtype=float), np.asarray(found["correct"], dtype=float)
    bins = np.digitize(share, BINS[1:-1], right=True)
    ones = np.ones(len(share))
    by_bin = {at: of_sums([correct[bins == at], ones[bins == at]], quotient) for at in range(len(BINS) - 1)}
    for at, each in by_bin.items():
        if each.n:
            name = f"accuracy at {100 * BINS[at]:.0f} to {100 * BINS[at + 1]:.0f} % of votes"
            yield reading(name, number, each, "share of problems", alarm=_fallen(by_bin, at))
    oversure = of_sums([share - correct, ones], quotient)
    alarm = None
    if above(oversure, (None, OVERSURE)):
        alarm = (
            f"the commonest answers have {100 * share.mean():.0f} % of the votes and {100 * correct.mean():.0f} % of"
            " them are right: votes are no labels any more; raise the temperature, or anchor them in a verifier"
        )
    yield reading("vote share less accuracy", number, oversure, "share", band=(None, OVERSURE), alarm=alarm)
    gaps = [each.n * abs(each.value - share[bins == at].mean()) for at, each in by_bin.items() if each.n]
    error = Estimate(sum(gaps) / len(share), float("nan"), float("nan"), len(share))
    yield reading("expected calibration error", number, error, "share")
    yield reading("Brier score", number, of_sums([(share - correct) ** 2, ones], quotient), "0 to 1")


def _fallen(by_bin: dict[int, Estimate], at: int) -> str | None:
    """Say so where a lower share of votes is right more often, beyond chance."""
    for lower in range(at):
        here, there = by_bin[at], by_bin[lower]
        if min(here.n, there.n) >= FEWEST and here.high < there.low:
            return (
                f"answers with {100 * BINS[at]:.0f} to {100 * BINS[at + 1]:.0f} % of the votes are right in"
                f" {100 * here.value:.0f} %, those with fewer in {100 * there.value:.0f} %: votes are no labels any"
                " more; select by a verifier"
            )
    return None
