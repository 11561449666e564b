"""Ending a run ends an engine that is changing its weights, whoever waits for it."""

import contextlib
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selftrain.errors import EngineError
from selftrain.lab import Lab
from selftrain.records import Checkpoint
from selftrain.templates import Protocol
from selftrain.testing import FakeBackends, FakeSampler, adds
from tests.faults import stand
from tests.faults.stub_server import serving
from tests.killing import waited


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


SERVED = """
import os, signal
from selftrain import cli
from selftrain.backends import models
from selftrain.backends.local import LocalBackends
from selftrain.backends.server import ServerSampler
from selftrain.loop import launch
from tests.faults.small import Small

class Served(Small):
    kind = "server"
    interrupt = LocalBackends.interrupt

    def sampler(self, checkpoint):
        return ServerSampler(models.resolve("nano"), settings={"url": os.environ["SERVER"], "context": 2_000})

# Where tests run in the background, Ctrl-C is ignored by all they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
vars(launch)["LocalBackends"] = Served
cli.main()
"""
"""A run whose model is a server; all else but the trainer is real."""


def interrupted(out: Path, url: str, asked: Callable[[], bool], sign: signal.Signals) -> None:
    """Interrupt a run while its server lets it wait."""
    command = [sys.executable, "-c", SERVED, *stand.command(stand.SMALL, out)[3:]]
    run = stand.started(command, {"SERVER": url})
    try:
        assert waited(asked, 60), run.communicate(timeout=5)
        began = time.monotonic()
        run.send_signal(sign)
        _, said = run.communicate(timeout=30)
    finally:
        run.kill()
    assert time.monotonic() - began < 10
    assert run.returncode == 130, said
    assert said.splitlines()[-1].startswith("interrupted; the same command goes on")
    assert "Traceback" not in said


def test_nor_for_a_server_that_never_answers(tmp_path: Path) -> None:
    with serving("silent", times=10**9) as server:
        interrupted(tmp_path / "run", server.url, lambda: server.tries.total() > 0, signal.SIGINT)


@pytest.mark.slow
def test_nor_for_one_that_does_not_even_say_what_it_serves(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.setblocking(False)
        heard: list[socket.socket] = []

        def asked() -> bool:
            with contextlib.suppress(BlockingIOError):
                heard.append(silent.accept()[0])
            return bool(heard)

        interrupted(tmp_path / "run", f"http://127.0.0.1:{silent.getsockname()[1]}", asked, signal.SIGTERM)
        for each in heard:
            each.close()
