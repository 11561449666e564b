"""Measure a model by tasks of EleutherAI's lm-evaluation-harness: `selftrain eval MODEL --lm-eval TASKS`."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from selftrain.errors import ConfigError, DataError, near

PACKAGE = "lm_eval"
RESAMPLES = 1_000
"""For the standard errors of metrics that are no means."""
NORMAL = 1.96
"""Standard errors in half a 95 % interval."""


class Figure(NamedTuple):
    """One metric of a task; the interval is from the harness's standard error, None where it gives none."""

    task: str
    metric: str
    value: float
    low: float | None
    high: float | None
    n: int


class HarnessResult(NamedTuple):
    """What the harness measured."""

    model: str
    version: str
    figures: tuple[Figure, ...]

    def lines(self) -> list[str]:
        """It as lines to read."""
        told = [f"{self.model}, by lm-evaluation-harness {self.version}:"]
        for each in self.figures:
            interval = "" if each.low is None else f" ({each.low:.3f} to {each.high:.3f})"
            told.append(f"  {each.task} {each.metric:<22} {each.value:.3f}{interval}  n={each.n}")
        return told

    def as_json(self) -> dict[str, Any]:
        """It as plain data."""
        return {"model": self.model, "lm_eval": self.version, "tasks": [each._asdict() for each in self.figures]}


def evaluate(model: str, tasks: Sequence[str], *, limit: int | None = None, batch_size: int = 8) -> HarnessResult:
    """Measure a model folder, a known model or a hub id by tasks: names of the harness, or YAML files of one's own.

    Raises ConfigError for a task that isn't there or where lm-eval isn't installed, DataError where a task's data can't
    be had.
    """
    if find_spec(PACKAGE) is None:
        raise ConfigError(
            "--lm-eval needs the package lm-eval, which is not installed; pip install 'selftrain[lm-eval]'"
        )
    from selftrain.backends import models

    folder = models.resolve(model)
    models.check(folder)
    import lm_eval
    import torch
    from lm_eval.tasks import TaskManager

    files = [Path(task) for task in tasks if task.endswith((".yaml", ".yml"))]
    places = sorted({str(file.resolve().parent) for file in files})
    manager = TaskManager(include_path=places or None)
    wanted = [_named(Path(task)) if task.endswith((".yaml", ".yml")) else task for task in tasks]
    for task in wanted:
        if not manager.match_tasks([task]):
            offer = near(task, manager.all_tasks) or "; `lm-eval ls tasks` lists them"
            raise ConfigError(f"the harness has no task {task!r}{offer}")
    try:
        found = lm_eval.simple_evaluate(
            model="hf",
            model_args={"pretrained": str(folder), "dtype": "auto"},
            tasks=wanted,
            task_manager=manager,
            limit=limit,
            batch_size=batch_size,
            device="cuda" if torch.cuda.is_available() else "cpu",
            bootstrap_iters=RESAMPLES,
        )
    except Exception as error:  # the harness and the hub let errors of several libraries through
        raise DataError(
            f"the harness could not run {', '.join(wanted)} ({type(error).__name__}: {error}); tasks fetch their data"
            " from the hub: check that it can be reached, or give a task file (.yaml) with data of your own"
        ) from error
    return HarnessResult(model, str(lm_eval.__version__), tuple(_figures(found)))


def _named(file: Path) -> str:
    """The name of the task that a file describes."""
    if not file.is_file():
        raise ConfigError(f"there is no task file {file}")
    # Task files have tags of their own (!function), of which nothing is wanted here.
    name = next((line for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("task:")), "")
    if not name:
        raise ConfigError(f"the task file {file} has no line `task: NAME`")
    return str(yaml.safe_load(name)["task"])


def _figures(found: dict[str, Any]) -> list[Figure]:
    figures = []
    for task, values in found["results"].items():
        n = int(found.get("n-samples", {}).get(task, {}).get("effective", 0))
        for key, value in values.items():
            metric, comma, filtered = key.partition(",")
            if comma and not metric.endswith("_stderr") and isinstance(value, (int, float)):
                error = values.get(f"{metric}_stderr,{filtered}")
                half = NORMAL * error if isinstance(error, (int, float)) else None
                name = metric if filtered == "none" else f"{metric} ({filtered})"
                low, high = (None, None) if half is None else (value - half, value + half)
                figures.append(Figure(task, name, float(value), low, high, n))
    return figures
