"""Rates of a verifier's mistakes, AUC and kappa, with 95 % intervals: bootstrap over problems.

Responses to one problem are alike, so problems are drawn, not responses (a cluster bootstrap).
"""

from collections.abc import Callable, Sequence
from math import nan
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from selftrain.statistics import LEVEL, RESAMPLES, Estimate

Floats: TypeAlias = npt.NDArray[np.float64]

AUC_RESAMPLES = 2_000


def share(parts: Sequence[tuple[float, float]], *, seed: int = 0) -> Estimate:
    """Return how large a part is, from (part, whole) by problem; nan without any whole.

    Where all or none are part of it, a bootstrap would show no spread: then the bound is the exact binomial one over
    the problems (0.975 ** ... for none of n: 1 - 0.025 ** (1 / n)).
    """
    tables = np.asarray([each for each in parts if each[1]], dtype=np.float64).reshape(-1, 2)
    found = _bootstrapped(tables, lambda drawn: drawn[..., 0] / drawn[..., 1], seed)
    bound = 1 - ((1 - LEVEL) / 2) ** (1 / max(1, len(tables)))
    if found.value == 0:
        return found._replace(low=0.0, high=bound)
    if found.value == 1:
        return found._replace(low=1 - bound, high=1.0)
    return found


def change(parts: Sequence[tuple[float, float]], *, seed: int = 0) -> Estimate:
    """Return the mean change, from (sum of changes, how many) by problem; where nothing varies it has no interval."""
    tables = np.asarray([each for each in parts if each[1]], dtype=np.float64).reshape(-1, 2)
    return _spread(_bootstrapped(tables, lambda drawn: drawn[..., 0] / drawn[..., 1], seed))


def kappa(tables: Sequence[tuple[float, float, float, float]], *, seed: int = 0) -> Estimate:
    """Return Cohen's kappa (1960) from (both pass, first alone, second alone, both fail) by problem.

    It is nan where both always say the same thing of everything; without any disagreement it has no interval.
    """
    counted = np.asarray(tables, dtype=np.float64).reshape(-1, 4)
    return _spread(_bootstrapped(counted, _kappa, seed))


def auc(scores: Sequence[float], right: Sequence[bool], problems: Sequence[str], *, seed: int = 0) -> Estimate:
    """Return the chance that a right response scores above a wrong one, ties half (Hanley and McNeil 1982).

    It is nan without right or without wrong ones; where it is 0 or 1 it has no interval.
    """
    _, level = np.unique(np.asarray(scores, dtype=np.float64), return_inverse=True)
    _, cluster = np.unique(np.asarray(problems, dtype=object).astype(str), return_inverse=True)
    good = np.asarray(right, dtype=np.float64)
    levels, clusters = int(level.max(initial=-1)) + 1, int(cluster.max(initial=-1)) + 1

    def of(weight: Floats) -> float:
        above = np.bincount(level, weights=weight * good, minlength=levels)
        below = np.bincount(level, weights=weight * (1 - good), minlength=levels)
        pairs = above.sum() * below.sum()
        return float((above * (np.cumsum(below) - below / 2)).sum() / pairs) if pairs else nan

    value = of(np.ones(len(good)))
    if value != value:
        return Estimate(nan, nan, nan, len(good))
    rng = np.random.default_rng(seed)
    draws = [
        of(np.bincount(rng.integers(0, clusters, clusters), minlength=clusters)[cluster].astype(np.float64))
        for _ in range(AUC_RESAMPLES)
    ]
    return _spread(_interval(value, np.asarray(draws), len(good)))


def _kappa(drawn: Floats) -> Floats:
    both, first, second, neither = (drawn[..., at] for at in range(4))
    n = both + first + second + neither
    expected = ((both + first) * (both + second) + (first + neither) * (second + neither)) / n**2
    found: Floats = ((both + neither) / n - expected) / (1 - expected)
    return found


def _bootstrapped(tables: Floats, of: Callable[[Floats], Floats], seed: int) -> Estimate:
    """Draw problems; equal ones are drawn by their counts, which is the same and faster."""
    n = int(tables[:, 1:].sum()) if tables.shape[1] == 2 else int(tables.sum())
    if not n:
        return Estimate(nan, nan, nan, 0)
    distinct, counts = np.unique(tables, axis=0, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(tables), counts / len(tables), size=RESAMPLES) @ distinct
    with np.errstate(divide="ignore", invalid="ignore"):
        return _interval(float(of(tables.sum(axis=0))), of(drawn), n)


def _interval(value: float, draws: Floats, n: int) -> Estimate:
    if not (known := draws[np.isfinite(draws)]).size or value != value:
        return Estimate(nan, nan, nan, n)
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value, float(low), float(high), n)


def _spread(found: Estimate) -> Estimate:
    """Drop an interval without width: nothing in the data says how wide it is."""
    return found if found.low < found.high else found._replace(low=nan, high=nan)
