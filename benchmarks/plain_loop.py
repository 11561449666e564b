"""ReST-EM beside a plain loop of scripts on the very same problems: time by phase, and accuracy problem by problem.

python -m benchmarks.plain_loop --loop FOLDER --work WORK [--problems 150] [--samples 8] [--rounds 3] [--seeds 1]
                                [--test 200] [--adaptive]

FOLDER has the loop's sample.py and train.py: a process per step, started again each round, as in its run.sh. Same
model, problems, number of samples, rule (right, distinct, at most 4 a problem), epochs (2), batch, learning rate and
LoRA shape. A seed moves both on to other training problems. selftrain also measures a valid split, which its gate
needs and the loop has not. Both last models are measured afterwards by one protocol, on the 200 problems that the loop
holds out or on more of their kind, less those that were trained on. What an earlier call has finished is not done
again. With --adaptive, selftrain takes fewer samples, in waves (see `generate.waves`).
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import selftrain
from benchmarks.paired import commit, machine, problems, result, shown
from selftrain import statistics
from selftrain.after import summary
from selftrain.backends import models
from selftrain.loop import measure
from selftrain.loop.budget import spent
from selftrain.store import Store

PROBLEMS = Path(__file__).with_name("loop_problems.py")
SAME: dict[str, Any] = {"keep": 4, "num_train_epochs": 2, "valid": 50, "test": 200, "gate.patience": 99}
WAVES: dict[str, Any] = {
    "samples": 7,
    "temperature": 0.8,
    "generate.waves": 7,
    "generate.coolest": 0.4,
    "generate.enough": 4,
}
PHASES = {
    "start engine": ("start_s", ()),
    "sample": ("sample_s", ("generate",)),
    "train": ("seconds", ("train",)),
    "evaluate": ("eval_s", ("evaluate-greedy", "evaluate", "gate")),
}
"""Phase -> the loop's name of its seconds, and selftrain's stages."""


class Side(NamedTuple):
    """What one side took and left."""

    seconds: float
    phases: dict[str, float]
    kept: int
    tokens: int
    model: Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loop", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--problems", type=int, default=150)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--test", type=int, default=200)
    parser.add_argument("--adaptive", action="store_true")
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    found = []
    for seed in range(asked.seeds):
        # Which side goes first changes from seed to seed.
        order = (ours, theirs) if seed % 2 == 0 else (theirs, ours)
        sides = {side.__name__: side(seed, asked) for side in order}
        compared = measure.evaluate(
            str(sides["ours"].model),
            {"test": asked.test},
            like=asked.work / _name(asked, seed),
            against=str(sides["theirs"].model),
        )
        trained = {each.id for each in problems(asked.work / _name(asked, seed)) if each.split == "train"}
        ahead = [value for problem, value in compared.differences.items() if problem not in trained]
        found.append((sides["ours"], sides["theirs"], ahead))
    write(found, asked)


def _name(asked: argparse.Namespace, seed: int) -> str:
    return f"ours{'-adaptive' * asked.adaptive}-{asked.problems}-{asked.samples}-{asked.rounds}-{seed}"


def ours(seed: int, asked: argparse.Namespace) -> Side:
    """Run selftrain's side, or read it where it is."""
    out = asked.work / _name(asked, seed)
    numbers: dict[str, Any] = {"draw": asked.problems, "pool": asked.problems * asked.rounds}
    numbers |= {"samples": asked.samples, "rounds": asked.rounds, "seed": seed}
    data = {"name": str(PROBLEMS), "problems": asked.problems, "rounds": asked.rounds, "first": 10 * seed}
    settings = {**SAME, **numbers, **(WAVES if asked.adaptive else {})}
    note = out.with_suffix(".seconds")
    if not note.exists():
        # A run in two pieces has no time.
        shutil.rmtree(out, ignore_errors=True)
    begun = time.monotonic()
    run = selftrain.run("rest_em", preset="demo", data=data, out=str(out), **settings)
    if not note.exists():
        note.write_text(str(time.monotonic() - begun))
    phases = summary.phases(run)
    taken = {phase: sum(phases.get(stage, 0.0) for stage in stages) for phase, (_, stages) in PHASES.items()}
    budget = spent(Store(run.root))
    last = next((run.root / f"round-{asked.rounds:02d}").glob("*-train/checkpoint/serve"))
    return Side(float(note.read_text()), taken, budget.rows, budget.sampled, last)


def theirs(seed: int, asked: argparse.Namespace) -> Side:
    """Run the loop's steps in the order of its run.sh, or read what it said."""
    work = asked.work / f"loop-{asked.problems}-{asked.samples}-{asked.rounds}-{seed}"
    said = work / "said.json"
    if not said.exists():
        work.mkdir(parents=True, exist_ok=True)
        begun = time.monotonic()
        printed = _looped(work, seed, asked)
        said.write_text(json.dumps({"seconds": time.monotonic() - begun, "printed": printed}))
    told = json.loads(said.read_text())
    sums: dict[str, float] = {}
    for name, value in re.findall(r"(\w+)=([\d.]+)", told["printed"]):
        sums[name] = sums.get(name, 0.0) + float(value)
    taken = {phase: sums.get(name, 0.0) for phase, (name, _) in PHASES.items()}
    return Side(told["seconds"], taken, int(sums["kept"]), int(sums["tokens"]), work / f"model-{asked.rounds}")


def _looped(work: Path, seed: int, asked: argparse.Namespace) -> str:
    base = str(models.resolve("smollm2-135m"))
    model, printed = base, ""
    for round in range(asked.rounds):
        rows, made = str(work / f"rows-{round}.json"), str(work / f"model-{round + 1}")
        sizes = [str(10 * seed + round), str(asked.problems), str(asked.samples)]
        for step in (["sample.py", model, rows, *sizes], ["train.py", base, rows, made]):
            command = [sys.executable, str(asked.loop / step[0]), *step[1:]]
            with (work / "log").open("a") as log:
                printed += subprocess.run(command, stdout=subprocess.PIPE, stderr=log, text=True, check=True).stdout
        model = made
    return "\n".join(line for line in printed.splitlines() if line.startswith(("SAMPLE", "TRAIN")))


def write(found: list[tuple[Side, Side, list[float]]], asked: argparse.Namespace) -> None:
    """Write the table and the figures behind it."""
    name = "plain-loop-adaptive" if asked.adaptive else "plain-loop"
    options = f" --seeds {asked.seeds} --test {asked.test}" + " --adaptive" * asked.adaptive
    pairs = [(mine, other) for mine, other, _ in found]
    same = "the same on both sides"
    if asked.adaptive:
        same = f"the same problems on both sides, of which selftrain takes {WAVES['samples']} samples in waves"
    lines = [
        f"# ReST-EM{', adaptive budget,' * asked.adaptive} against the plain loop",
        "",
        f"`python -m benchmarks.plain_loop --loop FOLDER --work WORK --problems {asked.problems} --samples"
        f" {asked.samples} --rounds {asked.rounds}{options}`",
        "",
        f"Commit {commit()}, {machine()}. SmolLM2-135M-Instruct (Q4_1), {asked.rounds} rounds"
        f" of {asked.problems} problems x {asked.samples} samples, {same}. Seconds of wall-clock,"
        " medians over seeds; selftrain's first evaluation carries the start of its engine, its sampling carries"
        " verification, selection and row building, and its evaluation a valid split of 50 that the loop has not.",
        "",
        "| phase | plain loop | selftrain | ratio |",
        "|---|---|---|---|",
    ]
    for phase in (*PHASES, "other", "in all"):
        mine, other = (median(_phase(side, phase) for side in sides) for sides in zip(*pairs, strict=True))
        lines.append(f"| {phase} | {other:.0f} | {mine:.0f} | {f'{other / mine:.2f}' if mine >= 1 else '-'} |")
    lines += ["", "| seed | plain loop, kept rows / sampled tokens | selftrain | ratio of times | accuracy, selftrain -"
              " loop, points on test |", "|---|---|---|---|---|"]  # fmt: skip
    for seed, (own, loop, ahead) in enumerate(found):
        gain = statistics.difference(ahead, [0.0] * len(ahead))
        lines.append(
            f"| {seed} | {loop.kept} / {loop.tokens:,} | {own.kept} / {own.tokens:,}"
            f" | {loop.seconds / own.seconds:.2f} | {shown(gain)} |"
        )
    pooled, _ = statistics.nested([ahead for _, _, ahead in found])
    lines.append(f"| all | | | {median(o.seconds / m.seconds for m, o, _ in found):.2f} | {shown(pooled)} |")
    result(f"{name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    figures = {
        "commit": commit(), "load": os.getloadavg(), "difference": pooled._asdict(),
        "seeds": [{"ours": _plain(m), "loop": _plain(o)} for m, o, _ in found],
    }  # fmt: skip
    result(f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n")


def _phase(side: Side, phase: str) -> float:
    if phase == "in all":
        return side.seconds
    return side.seconds - sum(side.phases.values()) if phase == "other" else side.phases[phase]


def _plain(side: Side) -> dict[str, Any]:
    return {name: value for name, value in side._asdict().items() if name != "model"}


if __name__ == "__main__":
    main()
