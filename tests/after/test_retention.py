"""What a run keeps of its weights while it goes on, and what that costs at the end of a round."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from selftrain.after.retention import Keep, Retention, weigh
from selftrain.lab import Progress, Trained, TrainJob
from selftrain.recipe import Recipe
from selftrain.round import History
from selftrain.rules import AtMost, passed
from selftrain.stages import Evaluate, Gate, Generate, MakeExamples, Select, Train, Verify
from selftrain.store import Store
from selftrain.testing import FakeBackends, FakeTrainer, adds, fake_run

counted: list[str] | None = None


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if counted is not None and event in ("open", "os.scandir"):
        counted.append(str(arguments[0]))


sys.addaudithook(_hear)  # which cannot be taken away; it does nothing while nobody counts


class WritesWeights(FakeTrainer):
    """Writes weights and an adapter to what it began with, every other time with less skill."""

    def _write(self, out: Path, skill: float, rows: Sequence[str] = ()) -> str:
        id = super()._write(out, skill, rows)
        (out / "serve").mkdir()
        (out / "serve" / "model.safetensors").write_bytes(b"weights")
        return id

    def train(self, job: TrainJob, progress: Progress) -> Trained:
        self.gain = -self.gain
        trained = super().train(job, progress)
        said = json.loads((trained.path / "checkpoint.json").read_text())
        said |= {"adapter": True, "start": str(job.start.resolve() / "serve")}
        (trained.path / "checkpoint.json").write_text(json.dumps(said))
        return trained


def run(root: Path, rounds: int, **more: Any) -> History:
    stages = [Generate(n=4), Verify(), Select(rules=(passed, AtMost(2))), MakeExamples(), Train(), Evaluate()]
    backends = FakeBackends(adds)
    backends.made = WritesWeights(0.3)
    recipe = Recipe(paper="none", rounds=rounds, each_round=[*stages, Gate(patience=99)])
    return fake_run(recipe, root, backends=backends, **more)


def weights(root: Path) -> set[int]:
    return {int(path.parts[-5][6:]) for path in root.glob("round-*/*-train/checkpoint/serve/*.safetensors")}


def test_neither_a_round_nor_its_end_opens_more_files_than_those_before(tmp_path: Path) -> None:
    """Else each round takes longer than the one before; and what is freed is what a fresh look would free."""
    global counted
    words = "best,last,every:3"
    retention = Retention(Store(tmp_path), Keep.of(words))
    rounds: list[int] = []
    ends: list[int] = []

    def ended(number: int, stored: History) -> None:
        global counted
        assert counted is not None
        rounds.append(len(counted))
        counted = None
        fresh = [each.path for each in weigh(retention.store, retention.keep, rests=True) if not each.kept]
        counted = []
        freed = retention.collect(stored, words, rests=True)
        ends.append(len(counted))
        counted = None
        assert [each.path for each in freed] == fresh
        assert not any(not each.kept for each in weigh(retention.store, retention.keep, rests=True))
        counted = []

    counted = []
    run(tmp_path, 12, ended=ended)
    counted = None
    for each in (rounds, ends):
        assert min(each[4:8]) > 0
        # A file more or less: whether the gate's best is the last one, how often a weight file is looked for.
        assert max(each[9:]) <= 1.05 * max(each[4:8])
    assert {3, 6, 9, 12} <= weights(tmp_path) < set(range(1, 13))
