"""A recipe against its control at the same budget, over several seeds: is the gain due to the verifier?

python -m benchmarks.control --work WORK [--recipe rest_em] [--control random_select] [--preset demo] [--seeds 3]
                             [--rounds 3]

A seed draws other problems for every split, and other samples. Both recipes of a seed have the same problems, so their
greedy outcomes on test are paired by problem. Each recipe counts with its own best round (round 0, the base model, if
its gate accepted none) and, beside it, with its last, of the rounds asked for. Runs lie in WORK and go on where an
earlier call was stopped.
"""

import argparse
import json
from pathlib import Path

from benchmarks.paired import RESULTS, accuracy, against, commit, finished, machine, outcomes, shown
from selftrain import statistics
from selftrain.loop.launch import Run
from selftrain.round import History


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--recipe", default="rest_em")
    parser.add_argument("--control", default="random_select")
    parser.add_argument("--preset", default="demo")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    runs = {
        (seed, name): finished(name, asked.preset, seed, asked.rounds, asked.work / f"{name}-{seed}")
        for seed in range(asked.seeds)
        for name in (asked.recipe, asked.control)
    }
    write(runs, asked)


def write(runs: dict[tuple[int, str], Run], asked: argparse.Namespace) -> None:
    """Write the table and the figures behind it."""
    recipe, control, preset, seeds = asked.recipe, asked.control, asked.preset, asked.seeds
    lines = [
        f"# {recipe} against {control}, preset {preset}",
        "",
        f"`python -m benchmarks.control --work WORK --recipe {recipe} --control {control} --preset {preset}"
        f" --seeds {seeds} --rounds {asked.rounds}`",
        "",
        f"Commit {commit()}, {machine()}. Greedy accuracy on test; differences in points with"
        " 95 % bootstrap intervals, paired by problem.",
        "",
        f"| seed | base | {recipe} best | {recipe} last | {control} best | {control} last |"
        f" {recipe} best - base | {recipe} best - {control} best | {recipe} last - {control} last |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    gains: dict[str, list[float]] = {"base": [], "best": [], "last": []}
    for seed in range(seeds):
        ours, theirs = runs[seed, recipe], runs[seed, control]
        best, last = zip(*(within(run, asked.rounds) for run in (ours, theirs)), strict=True)
        base = outcomes(ours, 0)
        new = {
            "base": against(outcomes(ours, best[0]), base),
            "best": against(outcomes(ours, best[0]), outcomes(theirs, best[1])),
            "last": against(outcomes(ours, last[0]), outcomes(theirs, last[1])),
        }
        cells = [accuracy(ours, 0)]
        cells += [accuracy(ours, best[0]), accuracy(ours, last[0])]
        cells += [accuracy(theirs, best[1]), accuracy(theirs, last[1])]
        cells += [shown(statistics.mean(values)) for values in new.values()]
        lines.append(f"| {seed} | " + " | ".join(cells) + " |")
        for name, values in new.items():
            gains[name] += values
    pooled = {name: statistics.mean(values) for name, values in gains.items()}
    lines.append("| all | | | | | | " + " | ".join(shown(each) for each in pooled.values()) + " |")
    figures = {name: estimate._asdict() for name, estimate in pooled.items()}
    RESULTS.mkdir(exist_ok=True)
    name = f"control-{recipe}-{preset}-{asked.rounds}-rounds"
    (RESULTS / f"{name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (RESULTS / f"{name}.json").write_text(json.dumps({"commit": commit(), "pooled": figures}, indent=1) + "\n")
    print("\n".join(lines))


def within(run: Run, rounds: int) -> tuple[int, int]:
    """The best and the last of a run's first rounds: it may have been made with more."""
    history = History(tuple(each for each in run.history.rounds if each.number <= rounds))
    return history.best, history.rounds[-1].number


if __name__ == "__main__":
    main()
