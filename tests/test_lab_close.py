"""Ending a run ends an engine that is changing its weights, whoever waits for it."""

import threading
from pathlib import Path
from typing import Any

import pytest

from selftrain.errors import EngineError
from selftrain.lab import Lab
from selftrain.records import Checkpoint
from selftrain.templates import Protocol
from selftrain.testing import FakeBackends, FakeSampler, adds


class Slow(FakeSampler):
    """Hangs while it takes over other weights, until it is closed."""

    def __init__(self, *arguments: Any) -> None:
        self.loading, self.closed = threading.Event(), threading.Event()
        self.first = True
        super().__init__(*arguments)

    def load(self, checkpoint: Path) -> None:
        if not self.first:
            self.loading.set()
            assert self.closed.wait(30)
            raise EngineError("the engine was ended")
        self.first = False
        super().load(checkpoint)

    def close(self) -> None:
        self.closed.set()


class Backends(FakeBackends):
    def sampler(self, checkpoint: Path) -> FakeSampler:
        return Slow(checkpoint, self.answer)


def test_a_run_that_ends_does_not_wait_for_an_engine_that_hangs(tmp_path: Path) -> None:
    backends = Backends(adds)
    backends.trainer().prepare(tmp_path, tmp_path / "base")
    lab = Lab(backends, root=tmp_path, seed=0, protocol=Protocol())
    sampler = lab.sampler(Checkpoint(id="one", path="base"))
    assert isinstance(sampler, Slow)
    errors: list[Exception] = []

    def swaps() -> None:
        try:
            lab.sampler(Checkpoint(id="two", path="base"))
        except EngineError as error:
            errors.append(error)

    waiting = threading.Thread(target=swaps)
    waiting.start()
    assert sampler.loading.wait(10)
    ending = threading.Thread(target=lab.close)
    ending.start()
    ending.join(10)
    assert not ending.is_alive()
    waiting.join(10)
    assert [str(error) for error in errors] == ["the engine was ended"]
    with pytest.raises(EngineError, match="the run is ending"):
        lab.sampler(Checkpoint(id="one", path="base"))
    lab.reopen()
    assert lab.sampler(Checkpoint(id="one", path="base")) is not sampler


class Starting(FakeBackends):
    """Opens a sampler for ever, until it is interrupted."""

    def __init__(self) -> None:
        super().__init__(adds)
        self.opening, self.interrupted = threading.Event(), threading.Event()

    def sampler(self, checkpoint: Path) -> FakeSampler:
        self.opening.set()
        assert self.interrupted.wait(30)
        raise EngineError("the engine ended while it started")

    def interrupt(self) -> None:
        self.interrupted.set()


def test_nor_for_one_that_hangs_while_it_starts(tmp_path: Path) -> None:
    backends = Starting()
    lab = Lab(backends, root=tmp_path, seed=0, protocol=Protocol())

    def starts() -> None:
        with pytest.raises(EngineError, match="ended while it started"):
            lab.sampler(Checkpoint(id="one", path="base"))

    waiting = threading.Thread(target=starts)
    waiting.start()
    assert backends.opening.wait(10)
    ending = threading.Thread(target=lab.close)
    ending.start()
    ending.join(10)
    assert not ending.is_alive()
    waiting.join(10)
