"""Estimates with intervals: bootstrap over problems, paired differences, unbiased pass@k."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import comb
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

RESAMPLES = 10_000
LEVEL = 0.95

QUICK = 1_000
"""Resamples where many figures are wanted at once."""
BLOCKS = 2_000
"""Problems beyond which blocks of them are drawn: as many, of nearly equal size, put together at random."""

Sums = npt.NDArray[Any]


class Estimate(NamedTuple):
    """A mean with its percentile bootstrap interval over problems, a 95 % one where nothing else is said."""

    value: float
    low: float
    high: float
    n: int


def mean(values: Sequence[float], *, seed: int = 0, level: float = LEVEL) -> Estimate:
    """Return the mean over problems with its interval; nan for no problems."""
    if not values:
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    data = np.asarray(values, dtype=float)
    draws = _resampled(data, np.random.default_rng(seed))
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(data.mean()), float(low), float(high), len(values))


def nested(groups: Sequence[Sequence[float]], *, seed: int = 0, level: float = LEVEL) -> tuple[Estimate, float]:
    """Return the mean over groups of their means, with its interval, and the p-value of its being 0.

    Both levels are drawn anew: groups (seeds of a run), then values within each (problems). The p-value is two-sided,
    from the share of draws beyond 0. With one group the interval is over its values alone.
    """
    data = [np.asarray(group, dtype=float) for group in groups if len(group)]
    if not data:
        return Estimate(float("nan"), float("nan"), float("nan"), 0), 1.0
    rng = np.random.default_rng(seed)
    means = np.stack([_resampled(group, rng) for group in data])
    chosen = rng.integers(len(data), size=(len(data), RESAMPLES))
    draws = np.take_along_axis(means, chosen, axis=0).mean(axis=0)
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    value = float(np.mean([group.mean() for group in data]))
    beyond = min(float((draws <= 0).mean()), float((draws >= 0).mean()))
    return Estimate(value, float(low), float(high), sum(map(len, data))), min(1.0, 2 * beyond + 1 / RESAMPLES)


def holm(values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number (Holm 1979): what stays below 0.05 is rarely chance in all of them."""
    order = sorted(range(len(values)), key=lambda at: values[at])
    found, least = [0.0] * len(values), 0.0
    for rank, at in enumerate(order):
        least = max(least, min(1.0, (len(values) - rank) * values[at]))
        found[at] = least
    return found


def difference(after: Sequence[float], before: Sequence[float], *, seed: int = 0) -> Estimate:
    """Return the mean of after - before, paired by problem, with its interval (Efron 1979, percentile bootstrap)."""
    if len(after) != len(before):
        raise ValueError(f"{len(after)} outcomes after, {len(before)} before: a paired difference needs equal problems")
    return mean([a - b for a, b in zip(after, before, strict=True)], seed=seed)


def of_sums(columns: Sequence[npt.ArrayLike], of: Callable[[Sums], Sums]) -> Estimate:
    """Return a function of sums over problems, such as a quotient, with its 95 % interval.

    `columns` have an entry a problem; `of` takes an array with their sums first (and more sums behind, one a resample)
    and returns one value each. By percentile bootstrap over problems with QUICK resamples, the same ones for as many
    problems; nan without any problem, and where the function is not finite.
    """
    data = np.stack([np.asarray(each, dtype=np.float64) for each in columns])
    problems = data.shape[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(of(data.sum(axis=1))) if problems else float("nan")
        if not np.isfinite(value):
            return Estimate(float("nan"), float("nan"), float("nan"), problems)
        if problems > BLOCKS:
            block = np.random.default_rng(0).permutation(problems) % BLOCKS
            data = np.stack([np.bincount(block, weights=each, minlength=BLOCKS) for each in data])
        draws = of(data @ _resamples(data.shape[1]))
    low, high = np.quantile(draws[np.isfinite(draws)], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value, min(value, float(low)), max(value, float(high)), problems)


def quotient(sums: Sums) -> Sums:
    """Return the first sum over the second: for `of_sums`."""
    return np.asarray(sums[0] / sums[1])


@lru_cache(maxsize=16)
def _resamples(count: int) -> Sums:
    """How often each of so many is drawn, a column a resample."""
    drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=QUICK)
    return drawn.T.astype(np.float64)


def pass_at_k(n: int, passed: int, k: int) -> float:
    """Return the unbiased estimate of pass@k from n samples of which `passed` passed (Chen et al. 2021, section 2.1).

    Raises ValueError for k > n, where no unbiased estimate exists.
    """
    if not 1 <= k <= n:
        raise ValueError(f"pass@{k} cannot be estimated from {n} samples")
    return 1.0 - comb(n - passed, k) / comb(n, k)


def _resampled(
    data: "np.ndarray[tuple[int], np.dtype[np.float64]]", rng: np.random.Generator
) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Means of bootstrap samples; for outcomes of few values the counts are drawn, which is the same and faster."""
    values, counts = np.unique(data, return_counts=True)
    drawn = rng.multinomial(len(data), counts / len(data), size=RESAMPLES)
    return np.asarray(drawn @ values / len(data), dtype=np.float64)
