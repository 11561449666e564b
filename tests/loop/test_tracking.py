"""Trackers: they get what metrics.jsonl says, once each; one that can't be had is a line before the run."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from selftrain.loop import tracking
from selftrain.loop.tracking import Tracking
from tests.front_door import call, refused

SMALL = ("model=nano", "data=sums", "pool=4", "valid=4", "test=4", "samples=4", "max_new_tokens=48", "rounds=1")


class Heard:
    """A watcher that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def begin(self, stage: str, total: int, done: int) -> None:
        """Nothing."""

    def advance(self, stage: str, units: int) -> None:
        """Nothing."""

    def end(self, stage: str, text: str) -> None:
        """Nothing."""


def line(round: int, name: str, value: float, **more: Any) -> dict[str, Any]:
    empty = {"low": None, "high": None, "n": 1, "split": "", "step": 0}
    return {"round": round, "name": name, "value": value, **empty, **more}


def write(root: Path, lines: list[dict[str, Any]]) -> None:
    root.mkdir(exist_ok=True)
    (root / "run.yaml").write_text("format: 1\nrecipe: rest_em\nmodel:\n  policy: nano\n")
    (root / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))


def scalars(root: Path) -> dict[str, list[tuple[int, float]]]:
    """Tag -> its steps and values, read back by tensorboard itself."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(root / "trackers" / "tensorboard"), size_guidance={"scalars": 0})
    found.Reload()
    return {tag: [(each.step, each.value) for each in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def test_tensorboard_has_every_metric_by_round_and_every_curve_by_step_once(tmp_path: Path) -> None:
    root, heard = tmp_path / "run", Heard()
    first = [line(0, "accuracy", 0.25, split="test", low=0.125, high=0.5), line(0, "broken", math.nan)]
    write(root, first)
    tracker = Tracking(root, ["tensorboard"], heard)
    tracker.look()
    second = [line(1, "accuracy", 0.5, split="test", low=0.25, high=0.75)]
    second += [line(1, "train/loss", 1.0 / step, step=step) for step in (1, 2, 4)]
    write(root, [*first, *second])
    tracker.end()
    # A run that goes on sends what is new, and nothing twice.
    write(root, [*first, *second, line(2, "accuracy", 0.75, split="test")])
    tracker = Tracking(root, ["tensorboard"], heard)
    tracker.look()
    tracker.end()
    assert heard.lines == []
    assert scalars(root) == {
        "accuracy/test": [(0, 0.25), (1, 0.5), (2, 0.75)],
        "accuracy/test/low": [(0, 0.125), (1, 0.25)],
        "accuracy/test/high": [(0, 0.5), (1, 0.75)],
        "curve/round-01/train/loss": [(1, 1.0), (2, 0.5), (4, 0.25)],
    }


@pytest.mark.slow
def test_a_tracker_that_fails_is_said_once(tmp_path: Path) -> None:
    root, heard = tmp_path / "run", Heard()
    write(root, [])
    (root / "metrics.jsonl").write_text("{")
    tracker = Tracking(root, ["tensorboard"], heard)
    tracker.look()
    tracker.end()
    assert len(heard.lines) == 1
    assert "warning: tracking has stopped: JSONDecodeError" in heard.lines[0]


@pytest.mark.slow
def test_a_run_feeds_tensorboard_while_it_goes(tmp_path: Path) -> None:
    given = ("run", "rest_em", *SMALL, "report_to=tensorboard", "--out", tmp_path / "run")
    assert call(*given).code in (0, 3)
    found = scalars(tmp_path / "run")
    for text in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines():
        each = json.loads(text)
        if not each["step"] and math.isfinite(each["value"]):
            name = "/".join(filter(None, (each["name"], each["split"])))
            (value,) = [value for step, value in found[name] if step == each["round"]]
            assert value == pytest.approx(each["value"])
    assert any(tag.startswith("curve/round-01/train/loss") for tag in found)


def test_trackers_that_cannot_be_had_are_refused_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ("run", "rest_em", *SMALL, "--out", tmp_path / "run")
    assert "did you mean tensorboard?" in refused(*given, "report_to=tensorbord")
    monkeypatch.setattr(tracking, "PACKAGES", {"wandb": "no_such_package"})
    line = refused(*given, "report_to=wandb")
    assert "the package no_such_package is not installed; pip install no_such_package" in line
    assert call(*given, "report_to=none", "--dry-run").code == 0
    assert list(tmp_path.iterdir()) == []
