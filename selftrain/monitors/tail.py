"""Tail narrowing: whether the hardest problems keep their part of the rows, and whether they are solved.

Mitigating Tail Narrowing (GSI, arXiv:2411.00750) and critique-in-the-loop (arXiv:2411.16579): self-training samples and
selects easy problems ever more. Difficulty is a problem's pass rate in the first round that sampled it, frozen from
then on; the hardest quarter of the problems is the tail.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from selftrain.monitors import Reading, below, missing, reading
from selftrain.observed import Columns, Observed
from selftrain.statistics import Estimate, Sums, of_sums, quotient

HARDEST = 0.25
"""Of the problems, the hardest: GSI's quarter."""
USED = 0.5
"""Of the tail's solved problems, beside the same share of the others, at least so many give rows: below one half a rule
works against them."""
RUNNING = 2
"""Rounds in a row before it alarms: one may be chance."""
_PROBLEMS = """
    WITH rated AS (
        SELECT round, problem, count(*) AS n, count_if(correct) AS passed FROM attempts
        WHERE split = 'train' AND correct IS NOT NULL GROUP BY round, problem),
    bins AS (
        SELECT problem, row_number() OVER (ORDER BY passed / n, hash(problem)) <= {hardest} * count(*) OVER () AS tail
        FROM rated WHERE round = (SELECT min(round) FROM rated)),
    taught AS (
        SELECT round, problem, count(DISTINCT id) AS learned FROM trained WHERE kind <> 'rejected' AND split = 'train'
        GROUP BY round, problem)
    SELECT coalesce(rated.round, taught.round) AS round, bins.problem, bins.tail, coalesce(rated.n, 0) AS n,
        coalesce(rated.passed, 0) AS passed, coalesce(taught.learned, 0) AS learned
    FROM (rated FULL JOIN taught ON taught.round = rated.round AND taught.problem = rated.problem)
    JOIN bins ON bins.problem = coalesce(rated.problem, taught.problem)
    WHERE coalesce(rated.round, taught.round) > 0 ORDER BY round, bins.problem"""


def readings(seen: Observed) -> Iterator[Reading]:
    """Measure the tail's part of the rows, its pass rate, and how many of its solved problems are learned from."""
    found = seen.query(_PROBLEMS.format(hardest=HARDEST))
    if not len(found["round"]) or not found["learned"].any():
        yield missing(seen, "rows of train problems, and their pass rates by their own verifier, are not both stored")
        return
    rounds = {int(number): _part(found, number) for number in np.unique(found["round"])}
    shares = {
        number: of_sums([each["learned"] * each["tail"], each["learned"]], quotient) for number, each in rounds.items()
    }
    for number, each in rounds.items():
        tail = each["tail"]
        yield reading(
            "the tail's share of rows",
            number,
            shares[number],
            "share of rows",
            alarm=_shrinking(rounds, shares, number),
        )
        yield reading(
            "the tail's pass rate",
            number,
            of_sums([each["passed"] * tail, each["n"] * tail], quotient),
            "share of samples",
        )
        yield reading("concentration of rows (Gini)", number, _gini(each["learned"]), "0 to 1")
    yield from _used(rounds)
    yield from _changed(seen)


def _part(found: Columns, number: int) -> Columns:
    return {
        name: np.asarray(values[found["round"] == number], dtype=None if name == "problem" else np.float64)
        for name, values in found.items()
    }


def _shrinking(rounds: dict[int, Columns], shares: dict[int, Estimate], number: int) -> str | None:
    """Say so where the tail's share fell in each of the last rounds, and beyond chance over all of them."""
    before = [at for at in shares if at <= number][-RUNNING - 1 :]
    values = [shares[at].value for at in before]
    if len(values) <= RUNNING or not all(b < a for a, b in pairwise(values)):
        return None
    if shares[number].high >= shares[before[0]].low:
        return None
    return (
        f"the hardest quarter of the problems gives {100 * values[-1]:.0f} % of the rows, after"
        f" {', '.join(f'{100 * each:.0f} %' for each in values[:-1])}: give it a quota or guidance (recipe gsi), or cap"
        " the rows a problem (AtMost)"
    )


def _used(rounds: dict[int, Columns]) -> Iterator[Reading]:
    """Compare the share of solved problems that give a row, in the tail and beside it."""
    low: list[int] = []
    for number, each in rounds.items():
        solved, learned, tail = each["passed"] > 0, each["learned"] > 0, each["tail"] > 0
        columns = [solved & learned & tail, solved & tail, solved & learned & ~tail, solved & ~tail]

        def ratio(sums: Sums) -> Sums:
            return np.asarray((sums[0] / sums[1]) / (sums[2] / sums[3]))

        # The tail's solved problems are what it is over.
        found = of_sums(columns, ratio)._replace(n=int(columns[1].sum()))
        low = [*low, number] if below(found._replace(n=len(solved)), (USED, None)) and found.n >= 5 else []
        alarm = None
        if len(low) >= RUNNING:
            alarm = (
                f"of the solved problems of the hardest quarter {100 * found.value:.0f} % as many give rows as of the"
                f" others, {len(low)} rounds running: a rule leaves the hard ones out; drop it, or add a quota (gsi)"
            )
        yield reading(
            "solved problems of the tail that give rows, beside the others'",
            number,
            found,
            "ratio",
            band=(USED, None),
            alarm=alarm,
        )


def _gini(learned: Sums) -> Estimate:
    """Return how unequally rows are spread over the problems: 0 all alike, 1 all of one problem."""
    order = np.sort(learned)
    total, n = order.sum(), len(order)
    value = float((2 * np.arange(1, n + 1) - n - 1) @ order / (n * total)) if total else float("nan")
    return Estimate(value, float("nan"), float("nan"), n)


def _changed(seen: Observed) -> Iterator[Reading]:
    for name, condition in (
        ("newly solved", "now.value > 0.5 AND base.value <= 0.5"),
        ("newly lost", "now.value <= 0.5 AND base.value > 0.5"),
    ):
        text = f"""
            SELECT now.round, now.problem, CAST({condition} AS INTEGER) AS part, 1 AS whole
            FROM outcomes AS now JOIN outcomes AS base USING (problem, name, stage)
            WHERE base.round = 0 AND now.round > 0 AND now.split = ? AND now.name = 'accuracy'"""
        for number, each in seen.shares(text, seen.held_out).items():
            yield reading(f"{name}, {seen.held_out}", number, each, "share of problems")
