"""What sampling where it pays could save at best: rows and solved problems at a share of a run's samples, simulated.

python -m benchmarks.allocation --run RUN [--keep 4] [--shares 0.5 0.6] [--draws 200]

To the pass rates of each round of a finished run a beta distribution is fitted; problems are drawn from it and sampled
in four waves. Between waves a problem with a right sample is followed up until as many are there as are kept, as many
samples as its rate so far calls for; the rest of a wave goes to the unsolved ones evenly. Beside it: all at once.
"""

import argparse
from math import ceil, lgamma
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from benchmarks.paired import keep

WAVES = 4
MOST = 2
"""Times the samples of all at once that a problem gets at most."""
Counts = NDArray[np.int64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--keep", type=int, default=4)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.5, 0.6])
    parser.add_argument("--draws", type=int, default=200)
    asked = parser.parse_args()
    found = {path.name: simulated(path, asked) for path in sorted(asked.run.glob("round-0[1-9]"))}
    shares = " ".join(f"{share:g}" for share in asked.shares)
    command = f"python -m benchmarks.allocation --run RUN --keep {asked.keep} --shares {shares} --draws {asked.draws}"
    keep("allocation", command, found)


def simulated(round: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """Return what is left of rows and solved problems at each share of the samples."""
    rows = duckdb.execute(
        "select count(*), sum((v.status = 'pass' and s.finish = 'stop')::int)"
        f" from read_parquet('{round}/*-generate/part-*/samples.parquet') s"
        f" join read_parquet('{round}/*-verify/part-*/verdicts.parquet') v on v.sample = s.id group by s.problem"
    ).fetchall()
    samples, right = max(count for count, _ in rows), [int(passed) for _, passed in rows]
    a, b = fitted(right, samples)
    draw = np.random.default_rng(0)
    sums: dict[str, list[tuple[int, int]]] = {name: [] for name in ("all", *map(str, asked.shares))}
    for _ in range(asked.draws):
        rates = draw.beta(a, b, len(rows))
        sums["all"].append(counted(draw.binomial(samples, rates), asked.keep))
        for share in asked.shares:
            sums[str(share)].append(counted(in_waves(rates, samples, asked.keep, share, draw), asked.keep))
    means = {name: np.mean(each, axis=0) for name, each in sums.items()}
    left = {name: (each / means["all"]).round(2).tolist() for name, each in means.items() if name != "all"}
    return {
        "problems": len(rows), "never solved": right.count(0), "beta": [float(f"{each:.2g}") for each in (a, b)],
        "share of samples -> share of rows, of solved problems": left,
    }  # fmt: skip


def counted(right: Counts, most: int) -> tuple[int, int]:
    """Rows, at most so many a problem, and solved problems."""
    return int(np.minimum(right, most).sum()), int((right > 0).sum())


def in_waves(rates: NDArray[np.float64], samples: int, most: int, share: float, draw: np.random.Generator) -> Counts:
    """Return each problem's right samples."""
    tried, right = np.zeros(len(rates), dtype=np.int64), np.zeros(len(rates), dtype=np.int64)
    budget = round(share * samples * len(rates))
    for wave in range(WAVES):
        left = (budget - int(tried.sum())) // (WAVES - wave)
        asked = np.zeros(len(rates), dtype=np.int64)
        open_ = [at for at in range(len(rates)) if 0 < right[at] < most and tried[at] < MOST * samples]
        for at in sorted(open_, key=lambda at: -right[at] / tried[at]):
            wanted = ceil((most - right[at]) * tried[at] / right[at])
            asked[at] = min(wanted, MOST * samples - tried[at], left)
            left -= asked[at]
        unsolved = draw.permutation(np.flatnonzero(right == 0))
        if len(unsolved):
            asked[unsolved] = left // len(unsolved)
            asked[unsolved[: left % len(unsolved)]] += 1
        right += draw.binomial(asked, rates)
        tried += asked
    return right


def fitted(right: list[int], samples: int) -> tuple[float, float]:
    """Return the beta distribution under which these numbers of right samples are likeliest, from a grid."""

    def likelihood(a: float, b: float) -> float:
        start = lgamma(a + b) - lgamma(a) - lgamma(b) - lgamma(a + b + samples)
        return sum(lgamma(a + each) + lgamma(b + samples - each) + start for each in right)

    grid = [(a, b) for a in np.geomspace(0.02, 5, 30) for b in np.geomspace(0.05, 30, 30)]
    return max(grid, key=lambda each: likelihood(*each))


if __name__ == "__main__":
    main()
