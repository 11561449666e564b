"""Adaptive budget: tokens and kept rows of sampling in waves beside sampling all at once, and what becomes of the tail.

python -m benchmarks.adaptive --work WORK [--preset nano] [--ways NAME ...] [--seeds 3] [--rounds 3] [--samples 16]
                              [--keep 2] [--fewer 10 ...] [--middle 0.6] [--valid 50] [--test 150]

`saving` gives a problem no more samples once it has as many distinct right ones as are kept; `shifting` gives what that
saves to the problems that have none yet, up to twice as many samples. `rising` has `fewer` samples a problem, one a
wave, from temperature 0.4 up to 0.8; `steady` one a wave too, all at `middle`; `cool` as many at once at `middle`: what
the temperature does without waves. How hard a problem is, is how many digits stand in it: the model has no say in that.
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

WAYS = ("saving", "shifting", "cool", "steady", "rising")
COOLEST, HOTTEST = 0.4, 0.8
"""Temperatures of `rising`."""


class Taken(NamedTuple):
    """What a run sampled and kept, over its rounds."""

    tokens: int
    rows: dict[int, int]
    """Digits in the problem -> kept rows."""
    test: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--preset", default="nano")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--keep", type=int, default=2)
    parser.add_argument("--fewer", type=int, nargs="+", default=[10])
    parser.add_argument("--middle", type=float, default=0.6)
    parser.add_argument("--valid", type=int, default=50)
    parser.add_argument("--test", type=int, default=150)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    asked = parser.parse_args()
    waves = {"generate.waves": asked.samples // asked.keep, "generate.enough": asked.keep}
    ways: dict[str, dict[str, Any]] = {"saving": waves, "shifting": {**waves, "generate.most": 2 * asked.samples}}
    for fewer in asked.fewer:
        at_once = {"samples": fewer, "temperature": asked.middle}
        one_by_one = {"generate.waves": fewer, "generate.enough": asked.keep}
        ways[f"cool, {fewer}"] = at_once
        ways[f"steady, {fewer}"] = at_once | one_by_one
        ways[f"rising, {fewer}"] = at_once | one_by_one | {"temperature": HOTTEST, "generate.coolest": COOLEST}
    sides: dict[str, dict[str, Any]] = {"all at once": {}}
    sides |= {name: changed for name, changed in ways.items() if name.split(",")[0] in asked.ways}
    found: dict[str, list[Taken]] = defaultdict(list)
    for seed in range(asked.seeds):
        for name, changed in sides.items():
            settings = {"samples": asked.samples, "valid": asked.valid, "test": asked.test, **changed}
            run = selftrain.run(
                "rest_em", preset=asked.preset, seed=seed, rounds=asked.rounds, keep=asked.keep,
                out=str(asked.work / f"{asked.preset}-{name.replace(',', '').replace(' ', '-')}-{seed}"),
                **{"gate.patience": 99, **settings},
            )  # fmt: skip
            found[name].append(taken(run))
            print(seed, name, found[name][-1], flush=True)
    write(found, asked)


def _read(run: Run, pattern: str) -> str:
    return f"read_parquet('{run.root}/{pattern}')"


def taken(run: Run) -> Taken:
    """Add up what a run's rounds sampled and kept."""
    tokens = duckdb.execute(
        f"select sum(len(completion_ids)) from {_read(run, 'round-0[1-9]/*-generate/part-*/samples.parquet')}"
    ).fetchall()[0][0]
    rows = duckdb.execute(
        "select length(regexp_replace(p.prompt[-1].content, '[^0-9]', '', 'g')) as digits, count(*)"
        f" from {_read(run, 'round-0[1-9]/*-select/part-*/picks.parquet')} k"
        f" join {_read(run, 'round-00/00-*/part-*/problems.parquet')} p on p.id = k.problem"
        " where k.side = 'kept' group by digits order by digits"
    ).fetchall()
    metric = run.metric("accuracy", split="test", round=run.history.rounds[-1].number)
    return Taken(int(tokens), dict(rows), metric.value if metric else 0.0)


def write(found: dict[str, list[Taken]], asked: argparse.Namespace) -> None:
    """Write the table."""
    bins = sorted({digits for each in found.values() for one in each for digits in one.rows})
    lines = [
        f"# Adaptive budget, preset {asked.preset}",
        "",
        f"`python -m benchmarks.adaptive --work WORK --preset {asked.preset} --ways {' '.join(asked.ways)} --seeds"
        f" {asked.seeds} --rounds {asked.rounds} --samples {asked.samples} --keep {asked.keep} --fewer"
        f" {' '.join(map(str, asked.fewer))} --middle {asked.middle} --valid {asked.valid} --test {asked.test}`",
        "",
        f"Commit {commit()}, {machine()}. Sums over {asked.rounds} rounds and {asked.seeds} seeds; ratios to sampling"
        " all at once; kept rows by the digits in the problem; accuracy on test after the last round by seed.",
        "",
        f"| way | tokens | kept rows | tokens a row | {' | '.join(f'{each} digits' for each in bins)} | accuracy, % |",
        "|---" * (5 + len(bins)) + "|",
    ]
    plain = _sums(found["all at once"])
    for name, each in found.items():
        tokens, rows = _sums(each)
        by_bin = " | ".join(str(sum(one.rows.get(digits, 0) for one in each)) for digits in bins)
        lines.append(
            f"| {name} | {tokens:,} ({tokens / plain[0]:.2f}) | {rows} ({rows / plain[1]:.2f})"
            f" | {tokens / rows:.0f} | {by_bin} | {', '.join(f'{100 * one.test:.1f}' for one in each)} |"
        )
    result(f"adaptive-{asked.preset}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    figures = {"commit": commit(), "load": os.getloadavg(), "ways": found}
    result(f"adaptive-{asked.preset}.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def _sums(each: list[Taken]) -> tuple[int, int]:
    """Tokens and rows of several runs."""
    return sum(one.tokens for one in each), sum(sum(one.rows.values()) for one in each)


if __name__ == "__main__":
    main()
