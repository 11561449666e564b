"""One bad sample never kills a run: it is quarantined with its reason, and there is a limit."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from selftrain.errors import Blocked
from selftrain.lab import AskedModel, Completion, EngineModel, Lab, Request
from selftrain.loop.controller import Limits
from selftrain.recipe import Recipe
from selftrain.records import Checkpoint, Quarantined, Sample
from selftrain.stages import Evaluate, Generate
from selftrain.store import Store
from selftrain.templates import Protocol
from selftrain.testing import FakeBackends, FakeSampler, adds, fake_run, sums

PROBLEMS = {"train": sums(24), "valid": sums(4, "valid", 200), "test": sums(4, "test", 400)}


class Refusing(FakeSampler):
    """Refuses every request of some problems."""

    every = 4

    def sample(self, requests: Any, *, seed: int) -> Iterator[Completion]:
        for done in super().sample(requests, seed=seed):
            bad = len(requests) > 4 and int(done.id, 16) % self.every == 0
            yield Completion(id=done.id, ids=(), text="the prompt is bad", finish="failed") if bad else done


class Backends(FakeBackends):
    def sampler(self, checkpoint: Path) -> FakeSampler:
        return Refusing(checkpoint, self.answer)


def recipe() -> Recipe:
    return Recipe(paper="none", rounds=1, each_round=[Generate(n=8, max_new_tokens=40), Evaluate(max_new_tokens=40)])


def test_a_request_that_the_engine_refuses_is_quarantined_with_the_reason(tmp_path: Path) -> None:
    history = fake_run(recipe(), tmp_path, problems=PROBLEMS, backends=Backends(adds), limits=Limits(quarantine=0.5))
    assert len(history.rounds) == 2
    folder = Store(tmp_path).stages(1)["generate"]
    bad = [each for shard in folder.shards() for each in folder.read(Quarantined, shard)]
    good = [each for shard in folder.shards() for each in folder.read(Sample, shard)]
    assert {each.why for each in bad} == {"the prompt is bad"}
    places = [*((each.problem, each.index) for each in bad), *((each.problem, each.index) for each in good)]
    assert len(set(places)) == len(places) == 24 * 8
    assert folder.summary()["quarantined"] == len(bad)


def test_too_many_stop_the_run_also_when_it_goes_on(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(
            Blocked, match=r"'generate': \d+ of \d+ samples are quarantined .*allowed 10%.*The first: the"
        ):
            fake_run(recipe(), tmp_path, problems=PROBLEMS, backends=Backends(adds), limits=Limits(quarantine=0.1))
    history = fake_run(recipe(), tmp_path, problems=PROBLEMS, backends=Backends(adds), limits=Limits(quarantine=1.0))
    assert len(history.rounds) == 2


def test_a_verifier_whose_question_is_refused_hears_why(tmp_path: Path) -> None:
    class Never(FakeSampler):
        def sample(self, requests: Any, *, seed: int) -> Iterator[Completion]:
            requests_: list[Request] = list(requests)
            return (Completion(id=r.id, ids=(), text="no", finish="failed") for r in requests_)

    class All(FakeBackends):
        def sampler(self, checkpoint: Path) -> FakeSampler:
            return Never(checkpoint, self.answer)

    backends = All(adds)
    backends.trainer().prepare(tmp_path, tmp_path / "base")
    lab = Lab(backends, root=tmp_path, seed=0, protocol=Protocol())
    model: AskedModel = lab.asked(Checkpoint(id="x", path="base"), "judge")
    assert isinstance(model, EngineModel)
    with pytest.raises(ValueError, match="no"):
        model.sample([[{"role": "user", "content": "right?"}]])
