"""The demo job against a plain loop of scripts (a process per stage, restarted each round), by phase, side by side.

python benchmarks/plain_loop.py --loop run.sh --work WORK [--problems 150] [--samples 8] [--rounds 3]

The loop is called as `run.sh PYTHON MODEL_DIR WORK ROUNDS PROBLEMS SAMPLES` and prints lines of `name=value` that
begin with SAMPLE, TRAIN or LOOP. Same model, task, numbers of problems and samples, cap (4), epochs (2), batch,
learning rate, and LoRA shape; each side draws its own problems. selftrain also measures a validation split.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import selftrain
from selftrain.after import summary
from selftrain.backends import models
from selftrain.loop.launch import Run
from selftrain.loop.plan import cores

RESULTS = Path(__file__).parent / "results"
SAME: dict[str, Any] = {"keep": 4, "num_train_epochs": 2, "test": 200}
PHASES = {
    "start engine": ("start_s", ()),
    "sample": ("sample_s", ("generate",)),
    "train": ("seconds", ("train",)),
    "evaluate": ("eval_s", ("evaluate-greedy", "evaluate", "gate")),
}
"""Phase -> the loop's name of its seconds, and selftrain's stages."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loop", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--problems", type=int, default=150)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--ours", type=Path, help="a finished run of the demo instead of a new one with the loop's rule"
    )
    asked = parser.parse_args()
    shutil.rmtree(asked.work, ignore_errors=True)
    model = models.resolve("smollm2-135m")
    ours, our_seconds = finished(asked.ours) if asked.ours else our_side(asked.work / "ours", asked)
    theirs, their_seconds, accuracies = loop_side(asked.loop, model, asked.work / "loop", asked)
    write(ours, our_seconds, theirs, their_seconds, accuracies, asked)


def finished(folder: Path) -> tuple[Run, float]:
    """Return a finished run and the wall seconds of its stages; the start of the command is not among them."""
    run = Run.open(folder)
    return run, sum(summary.phases(run).values())


def our_side(out: Path, asked: argparse.Namespace) -> tuple[Run, float]:
    """Run the demo with the loop's numbers."""
    begun = time.monotonic()
    numbers: dict[str, Any] = {"draw": asked.problems, "pool": asked.problems * asked.rounds}
    numbers |= {"samples": asked.samples, "rounds": asked.rounds}
    run = selftrain.run("rest_em", preset="demo", out=str(out), **SAME, **numbers)
    return run, time.monotonic() - begun


def loop_side(
    loop: Path, model: Path, work: Path, asked: argparse.Namespace
) -> tuple[dict[str, float], float, list[float]]:
    """Run the loop; return its seconds by name, in all, and its greedy accuracy by round."""
    numbers = [str(n) for n in (asked.rounds, asked.problems, asked.samples)]
    command = ["bash", str(loop), sys.executable, str(model), str(work), *numbers]
    begun = time.monotonic()
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    # The last SAMPLE line, after LOOP, only measures; its time is not the loop's.
    before, _, after = printed.partition("LOOP")
    found: dict[str, float] = {}
    for name, value in re.findall(r"(\w+)=([\d.]+)", before):
        found[name] = found.get(name, 0.0) + float(value)
    seconds = re.search(r"seconds=(\d+)", after)
    accuracies = [float(value) for value in re.findall(r"greedy=([\d.]+)", printed)]
    return found, float(seconds[1]) if seconds else time.monotonic() - begun, accuracies


def write(
    ours: Run, our_seconds: float, theirs: dict[str, float], their_seconds: float, accuracies: list[float],
    asked: argparse.Namespace,
) -> None:  # fmt: skip
    """Write the table and the figures behind it."""
    phases = summary.phases(ours)
    table = {
        phase: (theirs.get(name, 0.0), sum(phases.get(stage, 0.0) for stage in stages))
        for phase, (name, stages) in PHASES.items()
    }
    known = [sum(values) for values in zip(*table.values(), strict=True)]
    table["other"] = (their_seconds - known[0], our_seconds - known[1])
    table["in all"] = (their_seconds, our_seconds)
    lines = [
        "# The demo job against the plain loop",
        "",
        f"`python benchmarks/plain_loop.py --loop run.sh --work WORK --problems {asked.problems} --samples"
        f" {asked.samples} --rounds {asked.rounds}`",
        "",
        f"SmolLM2-135M-Instruct (Q4_1), {asked.rounds} rounds of {asked.problems} problems x {asked.samples} samples,"
        f" {cores()} cores, one run of each, ours first. Seconds of wall-clock; our first evaluation carries the start"
        " of the engine, our sampling carries verification, selection and row building.",
        "",
        "The loop trains on at most 4 rows a problem for 2 epochs; "
        + ("so does selftrain here." if not asked.ours else "the demo, as it comes, on at most 2 for 1 epoch."),
        "",
        "| phase | plain loop | selftrain | ratio |",
        "|---|---|---|---|",
    ]
    lines += [f"| {name} | {a:.0f} | {b:.0f} | {f'{a / b:.1f}' if b >= 1 else '-'} |" for name, (a, b) in table.items()]
    lines += ["", "| round | plain loop, greedy on 200 | selftrain, greedy on 200 test problems |", "|---|---|---|"]
    for number, accuracy in enumerate(accuracies):
        metric = ours.metric("accuracy", split="test", round=number)
        lines.append(f"| {number} | {100 * accuracy:.1f} % | {f'{100 * metric.value:.1f} %' if metric else ''} |")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "plain-loop.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    figures = {name: {"plain_loop": a, "selftrain": b} for name, (a, b) in table.items()}
    (RESULTS / "plain-loop.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
