"""Coverage: what one sample solves against what many solve, on the train pool, and both against held-out problems.

pass@k, unbiased (Chen et al. 2021, arXiv:2107.03374). Self-training can make one sample better while many samples solve
fewer problems: the policy sharpens and loses what it knew (Mind the Gap, arXiv:2412.02674; B-STaR, arXiv:2412.17256).
ReST-EM (arXiv:2312.06585) sees train accuracy go up while held-out accuracy stands still.
"""

from collections.abc import Iterator

import numpy as np

from selftrain import statistics
from selftrain.monitors import Reading, missing, reading
from selftrain.observed import Columns, Observed

OVERFIT = 0.1
"""Gain on train problems, the interval's low end, from which held-out accuracy must have gained something too: at a
smaller one the held-out gain can hide in its noise."""


def readings(seen: Observed) -> Iterator[Reading]:
    """Measure pass@1, 2, 4, ... of the policy's samples of train problems by the round that sampled them."""
    found = seen.query(
        "SELECT round, problem, count(*) AS n, count_if(correct) AS passed FROM attempts"
        " WHERE split = 'train' AND correct IS NOT NULL GROUP BY round, problem ORDER BY round, problem"
    )
    if not len(found["n"]):
        yield missing(seen, "no sample of a train problem was judged by the problem's own verifier")
        return
    most = int(np.median(found["n"]))
    rounds = {int(number): _part(found, number, most) for number in np.unique(found["round"])}
    first = next(iter(rounds.values()))
    held_out = held_out_gains(seen)
    for number, each in rounds.items():
        for k in _powers(most):
            estimate = statistics.of_sums([pass_at(each, k), np.ones(len(each["n"]))], statistics.quotient)
            alarm = None
            if k == 1:
                alarm = _overfit(first, each, held_out.get(number - 1))
            elif k == most:
                alarm = _sharpened(first, each, most)
            yield reading(f"pass@{k}, train", number, estimate, "share of problems", alarm=alarm)


def pass_at(found: Columns, k: int) -> statistics.Sums:
    """Return each problem's unbiased pass@k from n samples of which `passed` are right."""
    wrong = np.asarray(found["n"] - found["passed"], dtype=np.float64)
    missed = np.ones(len(wrong))
    for at in range(k):
        missed *= np.clip((wrong - at) / (found["n"] - at), 0.0, 1.0)
    return 1.0 - missed


def held_out_gains(seen: Observed) -> dict[int, statistics.Estimate]:
    """Return, by round, how much the held-out outcome has changed since round 0, paired by problem."""
    return seen.changes(
        "SELECT round, problem, sum(value) AS part, count(*) AS whole FROM outcomes WHERE split = ? AND name ="
        " (SELECT min(name) FROM outcomes WHERE name IN ('accuracy', 'pass@1')) GROUP BY round, problem",
        seen.held_out,
    )


def _part(found: Columns, number: int, most: int) -> Columns:
    kept = (found["round"] == number) & (found["n"] >= most)
    return {name: values[kept] for name, values in found.items()}


def _powers(most: int) -> list[int]:
    return sorted({2**at for at in range(8) if 2**at <= most} | {most})


def _change(first: Columns, each: Columns, k: int) -> statistics.Estimate:
    _, one, other = np.intersect1d(first["problem"], each["problem"], return_indices=True)
    return statistics.of_sums(
        [pass_at(each, k)[other] - pass_at(first, k)[one], np.ones(len(one))], statistics.quotient
    )


def _sharpened(first: Columns, each: Columns, most: int) -> str | None:
    one, many = _change(first, each, 1), _change(first, each, most)
    if not (one.low > 0 and many.high < 0):
        return None
    return (
        f"one sample solves {100 * one.value:+.1f} points since the first round, but {most} samples"
        f" {100 * many.value:+.1f}: what the policy could do is lost; sample at a higher temperature, cap the rows a"
        " problem (AtMost), or start from base"
    )


def _overfit(first: Columns, each: Columns, held_out: statistics.Estimate | None) -> str | None:
    train = _change(first, each, 1)
    if held_out is None or not (train.low > OVERFIT and held_out.value <= 0):
        return None
    return (
        f"train problems gained {100 * train.value:+.1f} points, held-out ones {100 * held_out.value:+.1f}: the rows"
        " are learned by heart; take fewer epochs, more problems, or start from base"
    )
