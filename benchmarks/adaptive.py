"""Adaptive budget: tokens and kept rows of sampling in waves beside sampling all at once, and what becomes of the tail.

python -m benchmarks.adaptive --work WORK [--preset nano] [--seeds 3] [--rounds 3] [--samples 16] [--keep 2]

`saving` gives a problem no more samples once it has as many distinct right ones as are kept; `shifting` gives what that
saves to the problems that have none yet, up to twice as many samples. The hardest quartile are the problems that the
base model solves least often, by the samples of round 1 of the run that samples all at once.
"""

import argparse
import json
import os
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

import selftrain
from benchmarks.paired import commit, machine, result
from selftrain.loop.launch import Run


class Taken(NamedTuple):
    """What a run sampled and kept, over its rounds."""

    tokens: int
    rows: int
    hardest: int
    """Rows on the hardest quartile."""
    test: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--preset", default="nano")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--keep", type=int, default=2)
    asked = parser.parse_args()
    waves = {"generate.waves": asked.samples // asked.keep, "generate.enough": asked.keep}
    ways: dict[str, dict[str, Any]] = {
        "all at once": {}, "saving": waves, "shifting": {**waves, "generate.most": 2 * asked.samples},
    }  # fmt: skip
    found: dict[str, list[Taken]] = defaultdict(list)
    for seed in range(asked.seeds):
        hardest: frozenset[str] = frozenset()
        for name, settings in ways.items():
            run = selftrain.run(
                "rest_em", preset=asked.preset, seed=seed, rounds=asked.rounds, samples=asked.samples, keep=asked.keep,
                out=str(asked.work / f"{asked.preset}-{name.replace(' ', '-')}-{seed}"),
                **{"gate.patience": 99, **settings},
            )  # fmt: skip
            hardest = hardest or least_solved(run)
            found[name].append(taken(run, hardest))
            print(seed, name, found[name][-1], flush=True)
    write(found, asked)


def _read(run: Run, pattern: str) -> str:
    return f"read_parquet('{run.root}/{pattern}')"


def least_solved(run: Run) -> frozenset[str]:
    """Return the quarter of round 1's problems that the base model solves least often."""
    rows = duckdb.execute(
        f"select s.problem, avg((v.status = 'pass')::int) as rate"
        f" from {_read(run, 'round-01/*-generate/part-*/samples.parquet')} s"
        f" join {_read(run, 'round-01/*-verify/part-*/verdicts.parquet')} v on v.sample = s.id"
        " group by s.problem order by rate, s.problem"
    ).fetchall()
    return frozenset(problem for problem, _ in rows[: len(rows) // 4])


def taken(run: Run, hardest: frozenset[str]) -> Taken:
    """Add up what a run's rounds sampled and kept."""
    tokens = duckdb.execute(
        f"select sum(len(completion_ids)) from {_read(run, 'round-0[1-9]/*-generate/part-*/samples.parquet')}"
    ).fetchall()[0][0]
    kept = duckdb.execute(
        f"select problem from {_read(run, 'round-0[1-9]/*-select/part-*/picks.parquet')} where side = 'kept'"
    ).fetchall()
    metric = run.metric("accuracy", split="test", round=run.history.rounds[-1].number)
    hard = sum(problem in hardest for (problem,) in kept)
    return Taken(int(tokens), len(kept), hard, metric.value if metric else 0.0)


def write(found: dict[str, list[Taken]], asked: argparse.Namespace) -> None:
    """Write the table."""
    lines = [
        f"# Adaptive budget, preset {asked.preset}",
        "",
        f"`python -m benchmarks.adaptive --work WORK --preset {asked.preset} --seeds {asked.seeds} --rounds"
        f" {asked.rounds} --samples {asked.samples} --keep {asked.keep}`",
        "",
        f"Commit {commit()}, {machine()}. Sums over {asked.rounds} rounds and {asked.seeds}"
        " seeds; ratios to sampling all at once; accuracy on test after the last round by seed.",
        "",
        "| way | tokens | kept rows | tokens a kept row | share of the hardest quartile | accuracy, % |",
        "|---|---|---|---|---|---|",
    ]
    plain = [sum(values) for values in zip(*found["all at once"], strict=True)]
    for name, each in found.items():
        tokens, rows, hard, _ = (sum(values) for values in zip(*each, strict=True))
        lines.append(
            f"| {name} | {tokens:,.0f} ({tokens / plain[0]:.2f}) | {rows:.0f} ({rows / plain[1]:.2f})"
            f" | {tokens / rows:.0f} | {100 * hard / rows:.1f} %"
            f" | {', '.join(f'{100 * one.test:.1f}' for one in each)} |"
        )
    result(f"adaptive-{asked.preset}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    figures = {"commit": commit(), "load": os.getloadavg(), "ways": found}
    result(f"adaptive-{asked.preset}.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
