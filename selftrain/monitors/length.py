"""Length drift: how long responses are, beside their correctness and on both sides of a preference.

Meta-Rewarding (arXiv:2407.19594) and LaTRO (arXiv:2411.04282) see responses grow round by round; Concise self-training
(arXiv:2502.20122) wants them shorter; a sudden loss of thoughts is what BoT's backdoor looks like (arXiv:2502.12202).
Preference pairs whose chosen side is ever longer teach length instead of quality.
"""

from collections.abc import Iterator

from selftrain import statistics
from selftrain.monitors import Reading, above, below, missing, reading
from selftrain.observed import Observed

SHORTER, LONGER = 0.7, 1.4
"""Of the first round's length: a third gained or lost is beyond what a better model's fewer detours and fewer cut off
responses make."""
GAP = 0.2
"""Of the first round's mean length, by which chosen minus rejected may grow: a fifth, less than LONGER alone shows."""
QUANTILES = (0.5, 0.95)


def readings(seen: Observed) -> Iterator[Reading]:
    """Measure tokens of the policy's responses on train and held-out problems, and the gap of preference pairs."""
    for split in ("train", seen.held_out):
        yield from _lengths(seen, split)
    yield from _gap(seen)


def _lengths(seen: Observed, split: str) -> Iterator[Reading]:
    text = "SELECT round, problem, sum(tokens) AS part, count(*) AS whole FROM attempts WHERE split = ? {} GROUP BY ALL"
    found = seen.shares(text.format(""), split)
    if not found:
        yield missing(seen, f"no response to {split} problems is stored")
        return
    first = next(iter(found.values()))
    band = (SHORTER * first.low, LONGER * first.high)
    for number, each in found.items():
        alarm = None
        if above(each, band):
            alarm = (
                f"responses to {split} problems have {each.value:.0f} tokens on average, {first.value:.0f} at first:"
                " control length (Shortest, LengthMatched pairs, length_normalised=true)"
            )
        elif below(each, band):
            alarm = (
                f"responses to {split} problems have {each.value:.0f} tokens on average, {first.value:.0f} at first:"
                " look whether the reasoning is skipped, and from which rows that was learned"
            )
        yield reading(f"mean length, {split}", number, each, "tokens", band=band, alarm=alarm)
    for number, each in seen.shares(text.format("AND correct"), split).items():
        yield reading(f"mean length of right responses, {split}", number, each, "tokens")
    yield from _quantiles(seen, split)


def _quantiles(seen: Observed, split: str) -> Iterator[Reading]:
    quantiles = ", ".join(f"quantile_cont(tokens, {q}) AS q{round(100 * q)}" for q in QUANTILES)
    found = seen.query(
        f"SELECT round, count(DISTINCT problem) AS n, {quantiles} FROM attempts WHERE split = ?"
        " GROUP BY round ORDER BY round",
        split,
    )
    for at, number in enumerate(found["round"]):
        for q in QUANTILES:
            name = "median length" if q == 0.5 else f"{100 * q:.0f}th percentile of length"
            value = float(found[f"q{round(100 * q)}"][at])
            each = statistics.Estimate(value, float("nan"), float("nan"), int(found["n"][at]))
            yield reading(f"{name}, {split}", int(number), each, "tokens")


def _gap(seen: Observed) -> Iterator[Reading]:
    text = """
        SELECT round, problem, avg(tokens) FILTER (kind = 'chosen') - avg(tokens) FILTER (kind = 'rejected') AS part,
            1 AS whole
        FROM trained WHERE kind IN ('chosen', 'rejected') GROUP BY round, problem
        HAVING count_if(kind = 'chosen') > 0 AND count_if(kind = 'rejected') > 0"""
    found = seen.shares(text)
    if not found:
        return
    sampled = seen.shares(
        "SELECT round, problem, sum(tokens) AS part, count(*) AS whole FROM trained GROUP BY round, problem"
    )
    first, length = next(iter(found.values())), next(iter(sampled.values())).value
    band = (None, max(0.0, first.high) + GAP * length)
    for number, each in found.items():
        alarm = None
        if above(each, band):
            alarm = (
                f"chosen responses are {each.value:.1f} tokens longer than rejected ones, {first.value:.1f} at first:"
                " pair responses of like length (LengthMatched) or take length_normalised=true"
            )
        yield reading("chosen minus rejected length", number, each, "tokens", band=band, alarm=alarm)
