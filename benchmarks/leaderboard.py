"""Every recipe on nano: the same checkpoint, problems, samples a problem and learning rate, against verifier off.

python -m benchmarks.leaderboard --work WORK [--seeds 3] [--only rest_em star] [--rounds 2]

A seed draws other problems and other samples; all recipes of a seed have the same problems, so that their greedy
outcomes on test are paired by problem. Each recipe counts with its last round: no gate chooses for it. The tokens it
sampled and the rows it trained on stand beside the result, for they are not made equal. Intervals are corrected for the
number of lines (Bonferroni). Runs lie in WORK and go on where an earlier call was stopped.
"""

import argparse
import platform
from pathlib import Path

from benchmarks.paired import RESULTS, accuracy, against, commit, finished, outcomes, shown
from selftrain import plugins, statistics
from selftrain.launch import Run
from selftrain.plan import cores
from selftrain.store import Store

CONTROL = "random_select"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=[])
    asked = parser.parse_args()
    names = asked.only or [name for name in plugins.available("recipe") if name != CONTROL]
    level = 1 - 0.05 / len(names)
    lines = [
        f"# Recipes on nano, {asked.rounds} rounds",
        "",
        f"`python -m benchmarks.leaderboard --work WORK --seeds {asked.seeds} --rounds {asked.rounds}`",
        "",
        f"Commit {commit()}, {platform.machine()}, {cores()} cores. Greedy accuracy on test after the last round;"
        f" differences in points, {level:.2%} intervals paired by problem over {asked.seeds} seeds."
        " Uncorrected, one line in twenty is significant by chance; corrected, one table in twenty has such a line.",
        "",
        "| recipe | base, by seed | last, by seed | sampled tokens | rows | last - base | last - verifier off |",
        "|---|---|---|---|---|---|---|",
    ]
    control = [made(CONTROL, seed, asked) for seed in range(asked.seeds)]
    for name in [CONTROL, *names]:
        runs = [made(name, seed, asked) for seed in range(asked.seeds)]
        lines.append(row(name, runs, control, level))
        print(lines[-1], flush=True)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "leaderboard-nano.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def made(name: str, seed: int, asked: argparse.Namespace) -> Run:
    # No gate: every recipe runs all its rounds.
    return finished(name, "nano", seed, asked.rounds, asked.work / f"{name}-{seed}", **{"gate.patience": 99})


def row(name: str, runs: list[Run], control: list[Run], level: float) -> str:
    gains: list[float] = []
    over: list[float] = []
    for run, off in zip(runs, control, strict=True):
        gains += against(outcomes(run, last(run)), outcomes(run, 0))
        over += against(outcomes(run, last(run)), outcomes(off, last(off)))
    found = [shown(statistics.mean(values, level=level)) for values in (gains, over)]
    bases = ", ".join(accuracy(run, 0).partition(" (")[0] for run in runs)
    lasts = ", ".join(accuracy(run, last(run)).partition(" (")[0] for run in runs)
    tokens = sum(total(run, "tokens", "generate") for run in runs) // len(runs)
    rows = sum(total(run, "row", "build") for run in runs) // len(runs)
    return f"| {name} | {bases} | {lasts} | {tokens:,} | {rows:,} | {' | '.join(found)} |"


def last(run: Run) -> int:
    return run.history.rounds[-1].number


def total(run: Run, what: str, stage: str) -> int:
    """What the stages of a name made in all rounds, by their own summaries."""
    store = Store(run.root)
    folders = [each for number in store.rounds() for each in store.stages(number).items()]
    return sum(int(folder.summary().get(what, 0)) for name, folder in folders if name.startswith(stage))


if __name__ == "__main__":
    main()
