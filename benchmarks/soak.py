"""Two hundred rounds of a small job: do memory, handles, processes, disk or the time of a round grow?

python -m benchmarks.soak --work WORK [--rounds 200]

The job is `selftrain run rest_em` on nano, as its own command. From outside, four times a second, everything it has
started is looked at: memory (proportional set size, shared pages divided among those who share them; of the controller
what is its own and no file's), open handles, processes. Weights are kept by retention (best and last); records are
kept for ever, so the disk they take grows by what a round stores. A slope is over means of blocks of rounds, the first
rounds left out, so that neighbours that are alike don't make its interval too small.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.paired import RESULTS, commit, machine
from selftrain.backends.process import OWNER

SETTINGS = (
    "model=nano", "data=sums", "data.max_terms=3", "pool=12", "valid=20", "test=20", "samples=4", "max_new_tokens=48",
    "max_steps=2", "learning_rate=0.0005", "gate.patience=100000", "keep_checkpoints=best,last", "sampler.threads=1",
)  # fmt: skip
WARM = 20
"""Rounds at the beginning that no slope counts: caches fill."""
BLOCKS = 12
STUDENT = {10: 2.228, 8: 2.306, 4: 2.776}
"""The 97.5 % quantile of Student's t by degrees of freedom."""
TICK = 0.25


@dataclass
class Seen:
    """What was seen of one round: the most at any moment, the disk after it, and how long it took."""

    round: int
    seconds: float = 0.0
    memory: float = 0.0
    """MB of all its processes."""
    controller: float = 0.0
    """MB of the process that was started."""
    handles: int = 0
    processes: int = 0
    weights: float = 0.0
    """MB on disk."""
    records: float = 0.0
    """MB on disk of everything else."""


class Slope(NamedTuple):
    """What a figure is on average, and how it changes in a hundred rounds, with its 95 % interval."""

    mean: float
    value: float
    low: float
    high: float


FIGURES = {
    "seconds": ("time of a round", "s"),
    "memory": ("memory, all processes", "MB"),
    "controller": ("memory of the controller alone", "MB"),
    "handles": ("open handles, all processes", ""),
    "processes": ("processes", ""),
    "weights": ("weights on disk", "MB"),
    "records": ("records on disk", "MB"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=200)
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    out = asked.work / "soak"
    if out.exists():
        sys.exit(f"{out} is there: a soak is one run from its first round; delete it, or name another --work")
    command = [sys.executable, "-m", "selftrain.cli", "run", "rest_em", *SETTINGS, f"rounds={asked.rounds}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (asked.work / "soak.log").open("wb") as log:
        process = subprocess.Popen([*command, "--out", str(out)], stdout=log, stderr=log, env=environment)
        seen = list(watched(process, out, asked.rounds))
    # 3 is a run in which the gate has accepted nothing, which is no matter here.
    if process.returncode not in (0, 3) or len(seen) != asked.rounds:
        sys.exit(f"the run ended with {process.returncode} after {len(seen)} rounds; {asked.work}/soak.log says why")
    write(seen)


def watched(process: subprocess.Popen[bytes], out: Path, rounds: int) -> Iterator[Seen]:
    """Look at a run until it ends; yield what was seen of each round when the next one has begun."""
    now = Seen(1)
    while process.poll() is None:
        time.sleep(TICK)
        if not (out / "round-01").exists():
            continue
        look(now, process.pid)
        if (out / f"round-{now.round + 1:02d}/plan.json").exists():
            yield finished(now, out)
            now = Seen(now.round + 1)
    if now.round == rounds and gates(out, rounds):
        yield finished(now, out)


def look(now: Seen, pid: int) -> None:
    """Take the most of what was there so far and what is there at this moment."""
    found = [each for each in map(one, family(pid)) if each is not None]
    now.memory = max(now.memory, sum(each.memory for each in found))
    now.handles = max(now.handles, sum(each.handles for each in found))
    now.processes = max(now.processes, len(found))
    own = one(pid)
    now.controller = max(now.controller, own.own if own else 0.0)


def family(pid: int) -> Iterator[int]:
    """Yield a process and all that it has started, wherever they hang in the tree."""
    mark = f"{OWNER}={pid}".encode()
    yield pid
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (path / "environ").read_bytes().split(b"\0"):
                yield int(path.name)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue


class One(NamedTuple):
    """One process: its share of memory and what is its own and no file's, in MB; its open handles."""

    memory: float
    own: float
    handles: int


def one(pid: int) -> One | None:
    """Look at a process; None when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        handles = len(os.listdir(f"/proc/{pid}/fd"))
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    sizes = {line.partition(":")[0]: int(line.split()[1]) / 1e3 for line in lines[1:]}
    return One(sizes["Pss"], sizes["Anonymous"], handles)


def finished(now: Seen, out: Path) -> Seen:
    """Add a round's time and the disk after it."""
    (end,) = gates(out, now.round)
    (begin,) = gates(out, now.round - 1) if now.round > 1 else [out / "round-01/plan.json"]
    now.seconds = end.stat().st_mtime - begin.stat().st_mtime
    # Unlike rglob, walk goes on where a folder got its name while it was being listed.
    for path in (Path(folder, name) for folder, _, names in os.walk(out) for name in (".", *names)):
        try:
            size = path.lstat().st_blocks * 512 / 1e6
        except FileNotFoundError:  # a file that got its name meanwhile
            continue
        if path.suffix == ".safetensors":
            now.weights += size
        else:
            now.records += size
    return now


def gates(out: Path, number: int) -> list[Path]:
    """Return the mark that a round's last stage is done, if it is."""
    return list((out / f"round-{number:02d}").glob("*-gate/stage.json"))


def slope(values: Sequence[float]) -> Slope:
    """Return the least-squares slope over means of blocks of rounds."""
    blocks = [float(np.mean(part)) for part in np.array_split(np.asarray(values, dtype=float), BLOCKS)]
    middle = np.asarray([float(np.mean(part)) for part in np.array_split(np.arange(len(values)), BLOCKS)])
    deviation = middle - middle.mean()
    value = float((deviation * blocks).sum() / (deviation**2).sum())
    left = np.asarray(blocks) - np.mean(blocks) - value * deviation
    error = float(np.sqrt((left**2).sum() / (BLOCKS - 2) / (deviation**2).sum()))
    reach = STUDENT[BLOCKS - 2] * error
    return Slope(float(np.mean(values)), *(100 * each for each in (value, value - reach, value + reach)))


def write(seen: list[Seen]) -> None:
    """Write the figures, a table of slopes, and the plot."""
    RESULTS.mkdir(exist_ok=True)
    rounds = [{name: round(value, 3) for name, value in asdict(each).items()} for each in seen]
    told = {"commit": commit(), "machine": machine(), "settings": SETTINGS}
    lines = ",\n".join(json.dumps(each) for each in rounds)
    head = json.dumps(told, indent=1)[:-2]
    (RESULTS / "soak.json").write_text(f'{head},\n "rounds": [\n{lines}\n]\n}}\n', encoding="utf-8")
    text = [
        f"# {len(seen)} rounds on nano",
        "",
        f"`python -m benchmarks.soak --work WORK --rounds {len(seen)}`: `selftrain run rest_em {' '.join(SETTINGS)}`",
        "",
        f"Commit {commit()}, {machine()}, beside other work. Slopes over means of {BLOCKS}"
        f" blocks of rounds, the first {WARM} rounds left out; 95 % intervals.",
        "",
        "| figure | mean | change in 100 rounds | 95 % interval | round 21 | last round |",
        "|---|---|---|---|---|---|",
    ]
    for name, (what, unit) in FIGURES.items():
        values = [float(getattr(each, name)) for each in seen[WARM:]]
        found = slope(values)
        text.append(
            f"| {what}{f', {unit}' if unit else ''} | {found.mean:.2f} | {found.value:+.3f}"
            f" | {found.low:+.3f} to {found.high:+.3f} | {values[0]:.2f} | {values[-1]:.2f} |"
        )
    (RESULTS / "soak.md").write_text("\n".join(text) + "\n", encoding="utf-8")
    plot(seen)


def plot(seen: list[Seen]) -> None:
    """Draw each figure by round."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "soak"
    from matplotlib import pyplot

    panels = [["seconds"], ["memory", "controller"], ["handles"], ["processes"], ["weights", "records"]]
    figure, every = pyplot.subplots(len(panels), 1, figsize=(7, 2 * len(panels)), sharex=True)
    for axes, names in zip(every, panels, strict=True):
        for name in names:
            axes.plot([each.round for each in seen], [getattr(each, name) for each in seen], label=FIGURES[name][0])
        axes.set_ylim(bottom=0)
        axes.set_ylabel(FIGURES[names[0]][1] or "number")
        axes.legend(loc="lower right", fontsize=7)
    every[-1].set_xlabel("round")
    figure.tight_layout()
    figure.savefig(RESULTS / "soak.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
