"""Does each monitor fire on a run made to have its fault, and stay quiet on healthy ones? (benchmarks/faults.py)

python -m benchmarks.monitors --work WORK [--seeds 3] [--healthy 10] [--jobs 2] [--only tail length]

Runs of the bundled model lie in WORK and go on where an earlier call was stopped. The thresholds are constants in
`selftrain/monitors/`, fixed before these runs were made; how strong the faults are was tried out with a seed that is
not among them. A monitor has fired where any of its readings alarms in any round.
"""

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.faults import FAULTS, SHARED
from benchmarks.paired import RESULTS, commit, machine
from selftrain.loop.plan import cores
from selftrain.monitors import alarms, available

RECIPE = "benchmarks/faults.py"
SIZE = {"model": "nano", "pool": 80, "valid": 50, "test": 10, "workers": 1}
LONG = ("", "coverage", "degeneration", "tail")
"""What takes three rounds: healthy runs, to give false alarms a chance, and faults that build up."""
LARGER = {"tail": 150}
"""Fault -> problems of a second set of runs, by other seeds: of few problems too few of the hardest quarter are solved.
It was added when the first set had shown that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the monitors said of one run."""

    fault: str
    seed: int
    pool: int
    seconds: float
    accuracy: tuple[float, ...]
    """On valid, by round."""
    applied: tuple[str, ...]
    """Monitors that had what they need."""
    alarms: dict[str, str]
    """Monitor -> its first alarm."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--healthy", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=cores())
    parser.add_argument("--only", nargs="*", default=list(FAULTS), choices=list(FAULTS))
    asked = parser.parse_args()
    # Engines of two threads beside each other wait for one another: a run has one core.
    os.environ["OMP_NUM_THREADS"] = "1"
    pool_size = SIZE["pool"]
    wanted = [("", seed, pool_size) for seed in range(asked.healthy)]
    wanted += [(fault, seed, pool_size) for seed in range(asked.seeds) for fault in asked.only]
    again = range(asked.seeds, 2 * asked.seeds)
    wanted += [(fault, seed, size) for fault, size in LARGER.items() if fault in asked.only for seed in again]
    # All of a seed before the next one, so that what is there can be looked at early.
    wanted.sort(key=lambda run: run[1])
    with ProcessPoolExecutor(asked.jobs, multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(seen, [asked.work] * len(wanted), *zip(*wanted, strict=True)))
    write(found, asked)


def seen(work: Path, fault: str, seed: int, pool: int) -> Seen:
    """Make a run if it isn't there, and read its monitors."""
    import selftrain

    settings: dict[str, Any] = {**SIZE, "pool": pool, "fault": fault, "rounds": 3 if fault in LONG else 2, "seed": seed}
    settings |= {"data": "sums"} | ({"eval": RECIPE, "contamination": "warn"} if fault == "provenance" else {})
    begun = time.monotonic()
    run = selftrain.run(RECIPE, out=str(work / f"{fault or 'healthy'}-{seed}"), **settings)
    readings = run.monitors()
    found = {each.monitor: each.alarm or "" for each in reversed(alarms(readings))}
    seconds = time.monotonic() - begun
    said = ", ".join(sorted(found)) or "quiet"
    print(f"{fault or 'healthy'} {seed}: {said}, {seconds:.0f} s", flush=True)
    metrics = [run.metric("accuracy", split="valid", round=each.number) for each in run.history.rounds]
    return Seen(
        fault=fault,
        seed=seed,
        pool=pool,
        seconds=round(seconds, 1),
        accuracy=tuple(round(metric.value, 3) for metric in metrics if metric is not None),
        applied=tuple(sorted({each.monitor for each in readings if each.value is not None})),
        alarms=found,
    )


def write(found: Sequence[Seen], asked: argparse.Namespace) -> None:
    """Write the table, and what each run's monitors said."""
    healthy = [each for each in found if not each.fault]
    lines = [
        "# Monitors on runs with and without a fault",
        "",
        f"`python -m benchmarks.monitors --work WORK --seeds {asked.seeds} --healthy {asked.healthy}`",
        "",
        f"Commit {commit()}, {machine()}. The bundled model nano, {SIZE['pool']} problems to"
        f" train on, {SIZE['valid']} held out, two rounds (three where a fault builds up, and of healthy runs). Fired:"
        " runs with the fault in which the monitor alarmed. False alarms: healthy runs in which it did, of those where"
        " it had what it needs. Accuracy: greedy on held-out problems, before and after, by seed.",
        "",
        "| monitor | its fault | fired | false alarms | accuracy | what it said first |",
        "|---|---|---|---|---|---|",
        *(row(name, [each for each in found if each.pool == SIZE["pool"]]) for name in available()),
        *(
            row(name, [each for each in found if each.fault == name and each.pool == size], f", {size} problems")
            for name, size in LARGER.items()
        ),
        "",
        "On healthy runs accuracy went "
        + ", ".join(f"{100 * each.accuracy[0]:.0f} -> {100 * each.accuracy[-1]:.0f} %" for each in healthy)
        + ".",
        "",
        "Which other monitors alarmed on runs with a fault:",
        "",
        *(others(name, [each for each in found if each.fault == name]) for name in asked.only),
    ]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "monitors.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    content = {"commit": commit(), "runs": [asdict(each) for each in found]}
    (RESULTS / "monitors.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print("\n".join(lines))


def row(name: str, found: Sequence[Seen], what: str = "") -> str:
    fault = SHARED.get(name, name)
    faulty = [each for each in found if each.fault == fault]
    fired = [each for each in faulty if name in each.alarms]
    applied = [each for each in found if not each.fault and name in each.applied]
    false = sum(name in each.alarms for each in applied)
    accuracy = ", ".join(f"{100 * each.accuracy[0]:.0f} -> {100 * each.accuracy[-1]:.0f}" for each in faulty)
    said = fired[0].alarms[name].partition(":")[0].replace("|", "/") if fired else "nothing"
    quiet = f"{false} of {len(applied)}" if applied else "" if what else "no healthy run has its data"
    missed = f"{len(fired)} of {len(faulty)}" if faulty else "no run has its fault"
    return f"| {name}{what} | {FAULTS.get(fault, 'none')} | {missed} | {quiet} | {accuracy} | {said} |"


def others(name: str, faulty: Sequence[Seen]) -> str:
    counts = {other: sum(other in each.alarms for each in faulty) for other in available() if other != name}
    said = ", ".join(f"{other} {count}" for other, count in counts.items() if count)
    return f"- {name}: {said or 'none'}"


if __name__ == "__main__":
    main()
