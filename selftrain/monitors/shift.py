"""Distribution shift: how uneven the rows' weights are, how old the rows, and how likely the policy finds its samples.

IWSI (arXiv:2408.09849) weighs own samples by how far they lie from the valid distribution: a heavy tail of weights
means that few rows are learned. GKD (arXiv:2306.13649) trains on the policy's own fresh samples: rows of old policies
are off policy. A divergence from the base model on fixed prompts would need its likelihoods, which no stage stores.
"""

from collections.abc import Iterator

import numpy as np

from selftrain.monitors import Reading, above, below, missing, reading
from selftrain.observed import Observed
from selftrain.statistics import Sums, of_sums

EFFECTIVE = 0.3
"""Effective number of rows by Kish, of all: below it two thirds of the rows count for nothing."""
OLD, STALE = 2, 0.5
"""Rounds since a row was sampled from which it is stale, and the share of stale rows that is too many."""


def readings(seen: Observed) -> Iterator[Reading]:
    """Measure the rows that were trained on, and the samples' log-probabilities where they are stored."""
    found = seen.query(
        "SELECT round, problem, sum(weight) AS weight, sum(weight * weight) AS square, count(*) AS rows,"
        f" count_if(round - made >= {OLD} AND finish <> 'gold') AS stale FROM trained WHERE split = 'train'"
        " GROUP BY round, problem ORDER BY round, problem"
    )
    if not len(found["round"]):
        yield missing(seen, "no rows are stored")
    for number in np.unique(found["round"]):
        mine = found["round"] == number
        columns = [found[name][mine] for name in ("weight", "square", "rows")]
        effective = of_sums(columns, _effective)
        alarm = None
        if below(effective, (EFFECTIVE, None)):
            alarm = (
                f"the rows' weights make {100 * effective.value:.0f} % of them count: cap the weights, or filter the"
                " rows that are far off (recipe iwsi)"
            )
        yield reading("effective rows", int(number), effective, "share of rows", band=(EFFECTIVE, None), alarm=alarm)
        stale = of_sums([found["stale"][mine], found["rows"][mine]], lambda sums: sums[0] / sums[1])
        alarm = None
        if above(stale, (None, STALE)):
            alarm = (
                f"{100 * stale.value:.0f} % of the rows were sampled {OLD} or more rounds ago: sample anew"
                " (data=fresh), or replay a smaller part"
            )
        yield reading("stale rows", int(number), stale, "share of rows", band=(None, STALE), alarm=alarm)
    yield from _likelihood(seen)


def _effective(sums: Sums) -> Sums:
    return np.asarray(sums[0] ** 2 / sums[1] / sums[2])


def _likelihood(seen: Observed) -> Iterator[Reading]:
    text = """
        SELECT s.round, s.problem, sum(s.logprob / s.tokens) AS part, count(*) AS whole
        FROM samples AS s JOIN asked AS a ON a.id = s.problem
        WHERE s.logprob IS NOT NULL AND s.tokens > 0 AND a.split = 'train' AND a.given GROUP BY s.round, s.problem"""
    for number, each in seen.shares(text).items():
        yield reading("log-probability of own samples", number, each, "nats a token")
