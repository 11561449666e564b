"""Measure any model by a run's protocol, alone or against another, problem by problem."""

import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from selftrain import plugins, statistics
from selftrain.backends import models
from selftrain.errors import ConfigError
from selftrain.loop import config, launch
from selftrain.loop.controller import Watcher
from selftrain.loop.runfile import read_file, run_file
from selftrain.recipe import Recipe, Stage
from selftrain.records import Metric, Outcome
from selftrain.stages import Evaluate
from selftrain.store import Store

OWN = {"samples", "temperature", "max_new_tokens", "by"}
"""Fields of Evaluate that can be set by their plain names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Metrics of one model, and the paired difference to another where one was asked for."""

    model: str
    split: str
    metrics: tuple[Metric, ...]
    against: str | None = None
    other: tuple[Metric, ...] = ()
    gain: statistics.Estimate | None = None
    differences: Mapping[str, float] = field(default_factory=dict)
    """Problem -> what the model is ahead of the other."""

    def lines(self) -> list[str]:
        """Return it as lines to read."""
        lines = [*_lines(self.model, self.metrics, self.split)]
        if self.against and self.gain:
            lines += _lines(self.against, self.other, self.split)
            gain = self.gain
            lines.append(
                f"{self.model} against {self.against}: {100 * gain.value:+.1f} points accuracy (95 % interval"
                f" {100 * gain.low:+.1f} to {100 * gain.high:+.1f}, paired over {gain.n} problems)"
            )
        return lines

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        said: dict[str, Any] = {"model": self.model, "split": self.split, "metrics": _plain(self.metrics, self.split)}
        if self.against and self.gain:
            said |= {"against": self.against, "other": _plain(self.other, self.split), "gain": self.gain._asdict()}
        return said


def evaluate(
    model: str,
    settings: Mapping[str, Any],
    *,
    data: str | None = None,
    against: str | None = None,
    like: Path | None = None,
    split: str = "test",
    watcher: Watcher | None = None,
) -> Measured:
    """Measure a model on a split; `like` takes protocol, data and verifier from a run's folder, `data` other problems.

    Without either the problems are those of `sums`.

    Raises a UserError for wrong input, EngineError when an engine failed.
    """
    if split not in ("valid", "test"):
        raise ConfigError(f"split is {split!r}; it can be valid or test")
    # A run that came from elsewhere lends its protocol, not its programs.
    with plugins.none_of(like, typed=[dict(settings), data]) if like is not None else nullcontext():
        asked = _asked(settings, data, like)
        for name in (model, against) if against else ():
            models.resolve(name)
        metrics, outcomes = _measure(model, asked, split, watcher or launch.Quiet())
        if against is None:
            return Measured(model=model, split=split, metrics=metrics)
        other, before = _measure(against, asked, split, watcher or launch.Quiet())
    gain = statistics.difference([outcomes[id] for id in outcomes], [before[id] for id in outcomes])
    ahead = {id: outcomes[id] - before[id] for id in outcomes}
    return Measured(
        model=model, split=split, metrics=metrics, against=against, other=other, gain=gain, differences=ahead
    )


def _asked(settings: Mapping[str, Any], data: str | None, like: Path | None) -> config.Job:
    """A job whose only stage is an Evaluate."""
    own = {key: value for key, value in settings.items() if key in OWN}
    rest: dict[str, Any] = {key: value for key, value in settings.items() if key not in OWN}
    stage: Stage = Evaluate()
    if like is not None:
        root = launch.Run.open(like).root
        asked = read_file(root / "run.yaml")
        stage = next((each for each in config.stored(root).recipe.given() if each.baseline), stage)
        kept = {"data", "eval", "pool", "valid", "test", "seed", "verifier", "prompt", "sampler", "contamination"}
        if data is not None:
            # Other problems: by the run's protocol, but judged and divided as their own set says.
            kept -= {"data", "eval", "verifier"}
            rest = {"data": data} | rest
        rest = {key: value for key, value in asked.items() if key in kept} | rest
    else:
        rest = {"data": data or "sums", "pool": 1} | rest
    file = run_file({"recipe": "eval", **rest})
    # No rounds: round 0 alone is the evaluation of the model as it is.
    recipe = Recipe(paper="none: an evaluation", rounds=0, each_round=[config.with_fields(stage, own)])
    return config.Job(file=file, recipe=recipe, args={}, stages={}, protocol=file.prompt.protocol())


def _measure(
    model: str, asked: config.Job, split: str, watcher: Watcher
) -> tuple[tuple[Metric, ...], dict[str, float]]:
    stage = replace(asked.recipe.given()[0], splits=(split,))
    with tempfile.TemporaryDirectory(prefix="selftrain-eval-") as folder:
        file = asked.file.model_copy(update={"model": {"policy": model}, "out": Path(folder) / "run"})
        job = replace(asked, file=file, recipe=replace(asked.recipe, each_round=[stage]))
        launch.prepare(job, watcher).execute(watcher)
        found = Store(Path(folder) / "run").stages(0)[stage.name]
        outcomes = {o.problem: o.value for o in found.read(Outcome, 0) if o.name == "accuracy"}
        return tuple(found.read(Metric, 0)), outcomes


def _lines(model: str, metrics: tuple[Metric, ...], split: str) -> list[str]:
    lines = [f"{model} on {split}:"]
    for metric in metrics:
        interval = "" if metric.low is None or metric.high is None else f" ({metric.low:.3f} to {metric.high:.3f})"
        lines.append(f"  {metric.name:<22} {metric.value:.3f}{interval}  n={metric.n}")
    return lines


def _plain(metrics: tuple[Metric, ...], split: str) -> dict[str, Any]:
    return {m.name: {"value": m.value, "low": m.low, "high": m.high, "n": m.n} for m in metrics if m.split == split}
