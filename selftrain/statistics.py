"""Estimates with intervals: bootstrap over problems, paired differences, unbiased pass@k."""

from collections.abc import Sequence
from math import comb
from typing import NamedTuple

import numpy as np

RESAMPLES = 10_000
LEVEL = 0.95


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


def difference(after: Sequence[float], before: Sequence[float], *, seed: int = 0) -> Estimate:
    """Return the mean of after - before, paired by problem, with its interval (Efron 1979, percentile bootstrap)."""
    if len(after) != len(before):
        raise ValueError(f"{len(after)} outcomes after, {len(before)} before: a paired difference needs equal problems")
    return mean([a - b for a, b in zip(after, before, strict=True)], seed=seed)


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
