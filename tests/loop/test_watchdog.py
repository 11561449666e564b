"""A stage without a sign of life is ended and started again; a run stops before memory or disk are used up."""

import errno
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from selftrain import pulse
from selftrain.backends import models
from selftrain.backends.server import ServerSampler
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
from tests.faults.stub_server import serving

STALL = 1_000.0
"""Seconds that no test takes: only a clock that is set reaches them."""


class Said(Quiet):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


class Hanging(FakeSampler):
    """Waits for its end in each of the first few rounds of samples, while time seems to fly."""

    left = 0

    def sample(self, requests: Any, *, seed: int) -> Iterator[Any]:
        if Hanging.left:
            Hanging.left -= 1
            end = time.monotonic() + 30
            while not self.closed.wait(0.02):
                assert time.monotonic() < end
                pulse._last[0] = time.monotonic() - 2 * STALL
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
    return said, watched(root, Backends(adds), said, stall=STALL, restarts=restarts)


def watched(root: Path, backends: FakeBackends, said: Said, *, stall: float, restarts: int) -> str:
    """Run on, with a watchdog; how it was ended."""
    lab = Lab(backends, root=root, seed=0, protocol=Protocol())
    watchdog = Watchdog(root, lab.close, stall=stall, every=0.05)
    with watchdog.awake():
        try:
            Controller(recipe(), Store(root), lab, said, Limits(restarts=restarts), watchdog=watchdog).go()
        except Stalled as stalled:
            return str(stalled)
        finally:
            lab.close()
    return ""


class Served(FakeBackends):
    """Has its samples from a server."""

    def __init__(self, url: str) -> None:
        super().__init__(adds)
        self.url = url

    def sampler(self, checkpoint: Path) -> Any:
        return ServerSampler(models.resolve("nano"), settings={"url": self.url, "context": 2_000})


def test_a_stage_that_hangs_is_ended_and_started_again(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "sampler.log").write_text("loading\nwaiting for a lock\n")
    said, ended = hung(tmp_path, times=1, restarts=2)
    assert ended == ""
    (line,) = [line for line in said.lines if line.startswith("warning")]
    assert line.startswith("warning: round 1 generate+evaluate-greedy+evaluate-verify gave no sign of life")
    assert "sampler.log: loading | waiting for a lock" in line
    assert "2 more times at most" in line
    assert sampled(tmp_path) == 24


def sampled(root: Path) -> int:
    """How many of the first round's samples are there."""
    samples = Store(root).stages(1)["generate"]
    return len({(s.problem, s.index) for k in samples.shards() for s in samples.read(Sample, k)})


def test_so_is_one_whose_server_never_answers(tmp_path: Path) -> None:
    fake_run(recipe(), tmp_path, limits=Limits(tokens=1))
    said = Said()
    with serving("silent", times=1) as server:
        began = time.monotonic()
        assert watched(tmp_path, Served(server.url), said, stall=1, restarts=19) == ""
    assert time.monotonic() - began < 60
    assert all("gave no sign of life for 1 s" in line for line in said.lines if line.startswith("warning"))
    assert [line for line in said.lines if line.startswith("warning")]
    assert sampled(tmp_path) == 24


def test_it_is_started_again_a_set_number_of_times(tmp_path: Path) -> None:
    said, ended = hung(tmp_path, times=99, restarts=1)
    assert "evaluate-verify gave no sign of life for 1000 s (stall_minutes)" in ended
    assert len([line for line in said.lines if line.startswith("warning")]) == 1
    said, ended = hung(tmp_path, times=0, restarts=1)
    assert (said.lines, ended) == ([], "")


def test_who_gives_signs_of_life_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, ended = [0.0], threading.Event()
    monkeypatch.setattr(pulse, "time", SimpleNamespace(monotonic=lambda: now[0]))
    watchdog = Watchdog(tmp_path, ended.set, stall=60, every=0.01)

    def works() -> None:
        with watchdog.awake(), watchdog.at("a long stage"):
            for _ in range(10):
                now[0] += 50
                assert not ended.wait(0.05)
                pulse.beat()
            now[0] += 61
            assert ended.wait(10)

    with pytest.raises(Stalled, match="a long stage gave no sign of life for 60 s"):
        works()


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


def ended_by(watchdog: Watchdog, ended: threading.Event) -> None:
    """Wait for the watchdog to end what is done."""
    with watchdog.awake(), watchdog.at("round 1 train"):
        assert ended.wait(10)


def test_a_limit_that_cannot_be_looked_at_is_told_once_and_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    troubles = [OSError(errno.ESTALE, os.strerror(errno.ESTALE))] * 3

    def free(folder: Path) -> int:
        if troubles:
            raise troubles.pop()
        return 0

    monkeypatch.setattr("selftrain.loop.watchdog.free_disk", free)
    ended = threading.Event()
    with pytest.raises(Blocked, match="disk left"):
        ended_by(Watchdog(tmp_path, ended.set, every=0.02, disk=1e18), ended)
    (told,) = caplog.messages
    assert "cannot look at the disk (OSError: [Errno 116] Stale file handle)" in told


def test_one_that_can_never_be_looked_at_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def free(folder: Path) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("selftrain.loop.watchdog.free_disk", free)
    ended = threading.Event()
    with pytest.raises(Blocked, match="memory are left"):
        ended_by(Watchdog(tmp_path, ended.set, every=0.02, disk=1e18, memory=1e18), ended)


def test_a_stall_is_told_where_the_logs_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "sampler.log").symlink_to("nowhere")
    ended = threading.Event()
    with pytest.raises(Stalled, match=r"logs cannot be read: No such file"):
        ended_by(Watchdog(tmp_path, ended.set, every=0.02, stall=0.1), ended)


HANGS = """
import json, sys, time
from pathlib import Path
from selftrain.loop.watchdog import Watchdog
watchdog = Watchdog(Path(sys.argv[1]), lambda: None, every=0.05, grace=0.2, **json.loads(sys.argv[2]))
with watchdog.awake(), watchdog.at("round 1 mine"):
    time.sleep(60)
"""


def hangs(root: Path, **limits: float) -> "subprocess.CompletedProcess[str]":
    """Do nothing for a minute that nothing can end."""
    command = [sys.executable, "-c", HANGS, str(root), json.dumps(limits)]
    return subprocess.run(command, capture_output=True, text=True, timeout=50)


def test_a_stage_that_hangs_in_this_process_ends_it_with_one_line(tmp_path: Path) -> None:
    done = hangs(tmp_path, stall=0.2)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: round 1 mine gave no sign of life for 0 s")
    assert "hangs in selftrain's own process" in line
    assert "the same command goes on" in line
    assert "<string>" in (tmp_path / "logs" / "hangs.log").read_text()


def test_so_does_one_that_cannot_be_ended_when_room_runs_out_by_another_code(tmp_path: Path) -> None:
    done = hangs(tmp_path, disk=1e18)
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert "GB of disk left" in line
    assert "what was under way did not end in 0 s" in line
    assert "hangs in selftrain's own process" not in line
    assert "<string>" in (tmp_path / "logs" / "hangs.log").read_text()


def test_nor_does_a_log_that_cannot_be_written_keep_it_alive(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file where the folder should be")
    done = hangs(tmp_path, stall=0.2)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "its stacks cannot be written to" in line
    assert "File exists" in line


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


GROUP = {
    "memory.max": "50000",
    "memory.current": "40000",
    "memory.stat": "anon 30000\ninactive_file 5000",
}
OLD_GROUP = {
    "memory.limit_in_bytes": "50000",
    "memory.usage_in_bytes": "40000",
    "memory.stat": "inactive_file 0\ntotal_inactive_file 5000",
}
FREE = {"memory.max": "max"}
OLD_FREE = {"memory.limit_in_bytes": str(2**63 - 4096)}


def made(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text + "\n")


@pytest.mark.parametrize(
    ("said", "groups"),
    [
        ("0::/", {"": GROUP}),
        ("0::/", {"": FREE}),
        ("0::/slurm/job_7/step_0", {"": FREE, "slurm": FREE, "slurm/job_7": GROUP, "slurm/job_7/step_0": FREE}),
        ("0::/user.slice/run-1.scope", {"user.slice": FREE, "user.slice/run-1.scope": GROUP}),
        ("0::/docker/its path on the host", {"": GROUP}),
        ("0::/../other", {"": GROUP, "../other": {**GROUP, "memory.max": "1"}}),
        ("4:memory:/slurm/job_7\n0::/", {"memory": OLD_FREE, "memory/slurm/job_7": OLD_GROUP}),
        ("2:cpu,memory:/job_7", {"memory": OLD_FREE, "memory/job_7": OLD_FREE}),
        ("1:name=systemd:/", {"memory": OLD_GROUP}),
    ],
)
def test_memory_is_what_the_machine_or_one_of_its_control_groups_has_left(
    tmp_path: Path, said: str, groups: dict[str, dict[str, str]]
) -> None:
    proc, mount = tmp_path / "proc", tmp_path / "groups" / "mounted"
    made(proc, {"meminfo": "MemTotal: 100 kB\nMemAvailable:      80 kB"})
    made(proc / "self", {"cgroup": said})
    for name, files in groups.items():
        made(mount / name, files)
    limited = any("50000" in files.values() for files in groups.values())
    assert room.free_memory(proc, mount) == (15_000 if limited else 80 * 1024)
    assert room.memory_limit(proc, mount) == (50_000 if limited else None)


def test_where_nobody_tells_of_memory_no_limit_is_known(tmp_path: Path) -> None:
    assert room.free_memory(tmp_path, tmp_path) is None
    assert room.memory_limit(tmp_path, tmp_path) is None
    with pytest.raises(Blocked, match=r"needs at least 1000000000\.00 GB of memory"):
        room.check(2, tmp_path, room.Need(0, int(1e18)))
