"""A stage without a sign of life is ended and started again; a run stops before memory or disk are used up."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from selftrain import pulse
from selftrain.errors import Blocked
from selftrain.lab import Lab
from selftrain.loop import room
from selftrain.loop.controller import Controller, Limits
from selftrain.loop.launch import Quiet
from selftrain.loop.watchdog import Stalled, Watchdog
from selftrain.recipe import Recipe, Stage
from selftrain.records import Sample
from selftrain.round import Part
from selftrain.stages import Evaluate, Generate
from selftrain.store import Store
from selftrain.templates import Protocol
from selftrain.testing import FakeBackends, FakeSampler, adds, fake_run


class Said(Quiet):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


class Hanging(FakeSampler):
    """Waits for its end in each of the first few rounds of samples."""

    left = 0

    def sample(self, requests: Any, *, seed: int) -> Iterator[Any]:
        if Hanging.left:
            Hanging.left -= 1
            assert self.closed.wait(30)
            raise RuntimeError("closed while it was sampling")
        return super().sample(requests, seed=seed)

    def load(self, checkpoint: Path) -> None:
        self.closed = threading.Event()
        super().load(checkpoint)

    def close(self) -> None:
        self.closed.set()


class Backends(FakeBackends):
    def sampler(self, checkpoint: Path) -> FakeSampler:
        return Hanging(checkpoint, self.answer)


def recipe() -> Recipe:
    stages: list[Stage] = [Generate(n=2, max_new_tokens=40), Evaluate(max_new_tokens=40)]
    return Recipe(paper="none", rounds=1, each_round=stages)


def hung(root: Path, times: int, restarts: int) -> tuple[Said, str]:
    """Run with a sampler that hangs so many times; what was said, and how it ended."""
    fake_run(recipe(), root, limits=Limits(tokens=1))
    Hanging.left = times
    said = Said()
    lab = Lab(Backends(adds), root=root, seed=0, protocol=Protocol())
    watchdog = Watchdog(root, lab.close, stall=0.3, every=0.05)
    with watchdog.awake():
        try:
            Controller(recipe(), Store(root), lab, said, Limits(restarts=restarts), watchdog=watchdog).go()
        except Stalled as stalled:
            return said, str(stalled)
    return said, ""


def test_a_stage_that_hangs_is_ended_and_started_again(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "sampler.log").write_text("loading\nwaiting for a lock\n")
    said, ended = hung(tmp_path, times=1, restarts=2)
    assert ended == ""
    (line,) = [line for line in said.lines if line.startswith("warning")]
    assert line.startswith("warning: round 1 generate+evaluate-greedy+evaluate-verify gave no sign of life")
    assert "sampler.log: loading | waiting for a lock" in line
    assert "2 more times at most" in line
    samples = Store(tmp_path).stages(1)["generate"]
    assert len({(s.problem, s.index) for k in samples.shards() for s in samples.read(Sample, k)}) == 24


def test_it_is_started_again_a_set_number_of_times(tmp_path: Path) -> None:
    said, ended = hung(tmp_path, times=99, restarts=1)
    assert "evaluate-verify gave no sign of life for 0 s (stall_minutes)" in ended
    assert len([line for line in said.lines if line.startswith("warning")]) == 1
    said, ended = hung(tmp_path, times=0, restarts=1)
    assert (said.lines, ended) == ([], "")


def test_who_gives_signs_of_life_is_left_alone(tmp_path: Path) -> None:
    ended = threading.Event()
    watchdog = Watchdog(tmp_path, ended.set, stall=0.3, every=0.02)
    with watchdog.awake(), watchdog.at("a long stage"):
        for _ in range(20):
            time.sleep(0.05)
            pulse.beat()
    assert not ended.is_set()


@pytest.mark.parametrize(("limits", "said"), [({"disk": 1e18}, "disk left"), ({"memory": 1e18}, "memory are left")])
def test_a_run_stops_before_disk_or_memory_are_used_up(tmp_path: Path, limits: dict[str, float], said: str) -> None:
    ended = threading.Event()
    watchdog = Watchdog(tmp_path, ended.set, every=0.02, **limits)

    def trained() -> None:
        with watchdog.awake(), watchdog.at("round 1 train"):
            assert ended.wait(10)
            raise RuntimeError("the trainer was ended")

    with pytest.raises(Blocked, match=said):
        trained()


HANGS = """
import sys, time
from pathlib import Path
from selftrain.loop.watchdog import Watchdog
watchdog = Watchdog(Path(sys.argv[1]), lambda: None, stall=0.2, every=0.05, grace=0.2)
with watchdog.awake(), watchdog.at("round 1 mine"):
    time.sleep(60)
"""


def test_a_stage_that_hangs_in_this_process_ends_it_with_one_line(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", HANGS, str(tmp_path)], capture_output=True, text=True, timeout=50)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: round 1 mine gave no sign of life for 0 s")
    assert "the same command goes on" in line
    assert "time.sleep" in (tmp_path / "logs" / "hangs.log").read_text() or (
        "<string>" in (tmp_path / "logs" / "hangs.log").read_text()
    )


@dataclass(frozen=True, kw_only=True)
class Never(Stage):
    """Must not be reached."""

    @property
    def reads(self) -> tuple[type[Any], ...]:
        return ()

    @property
    def writes(self) -> tuple[type[Any], ...]:
        return ()

    def run(self, part: Part, lab: Lab) -> Iterator[Any]:
        raise AssertionError("the round began")


def test_a_round_that_has_no_room_does_not_begin(tmp_path: Path) -> None:
    fake_run(recipe(), tmp_path, limits=Limits(tokens=1))
    store = Store(tmp_path)

    def begins(number: int) -> None:
        room.check(number, tmp_path, room.Need(int(1e18), 0))

    stages: list[Stage] = [Never(), Evaluate(max_new_tokens=40)]
    lab = Lab(FakeBackends(adds), root=tmp_path, seed=0, protocol=Protocol())
    short = Controller(Recipe(paper="none", rounds=1, each_round=stages), store, lab, Quiet(), Limits(), begins=begins)
    with pytest.raises(Blocked, match=r"round 1 needs about 1000000000.00 GB of disk, but .* GB free"):
        short.go()


def test_memory_is_what_the_machine_or_its_control_group_has_left(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 100 kB\nMemAvailable:      80 kB\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert room.free_memory(tmp_path / "meminfo", tmp_path) == 80 * 1024
    (tmp_path / "memory.max").write_text("50000\n")
    (tmp_path / "memory.current").write_text("40000\n")
    (tmp_path / "memory.stat").write_text("anon 30000\ninactive_file 5000\n")
    assert room.free_memory(tmp_path / "meminfo", tmp_path) == 15_000
    assert room.free_memory(tmp_path / "nothing", tmp_path / "nowhere") is None
    with pytest.raises(Blocked, match=r"needs at least 1000000000\.00 GB of memory"):
        room.check(2, tmp_path, room.Need(0, int(1e18)))
