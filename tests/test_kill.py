"""Kill any process of a run at any stage: nothing survives, nothing stored changes, the same command finishes."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from selftrain.backends.process import OWNER
from selftrain.records import Sample
from selftrain.store import Store

pytestmark = pytest.mark.slow

SETTINGS = ("pool=48", "valid=24", "test=24", "rounds=2", "samples=4", "keep=2", "max_new_tokens=64", "shard=8")
MODULES = {"engine": ("transformers_engine", "vllm_engine"), "trainer": ("trainer_child",), "worker": ("pool_worker",)}
SURVIVE_SECONDS = 5.0
STAGES = (
    (0, "evaluate-greedy"),
    (1, "generate"),
    (1, "verify"),
    (1, "train"),
    (1, "evaluate-greedy"),
    (2, "generate"),
    (2, "train"),
    (2, "evaluate-verify"),
)


def command(out: Path, *more: str) -> list[str]:
    base = [sys.executable, "-m", "selftrain.cli", "run", "rest_em", *SETTINGS, *more]
    return [*base, "--model", "nano", "--data", "sums", "--out", str(out)]


def start(out: Path, *more: str) -> "subprocess.Popen[bytes]":
    log = (out.parent / "run.log").open("ab")
    return subprocess.Popen(command(out, *more), stdout=log, stderr=log)


def family(owner: int) -> dict[int, str]:
    """Process id -> command line of every process that a run has started, wherever it now hangs in the tree."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            environment = (path / "environ").read_bytes().split(b"\0")
            state = (path / "stat").read_text().rpartition(")")[2].split()[0]
            line = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if f"{OWNER}={owner}".encode() in environment and state != "Z":
            found[int(path.name)] = line
    return found


def waited(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


def stored(out: Path) -> dict[str, bytes]:
    """The records of the finished shards; a part's folder gets its name when it is whole."""
    parts = [p for p in out.glob("round-*/*/part-*") if not p.name.endswith(".unfinished")]
    return {str(f.relative_to(out)): f.read_bytes() for part in parts for f in part.iterdir()}


def in_progress(out: Path, number: int, name: str) -> bool:
    folder = Store(out).stages(number).get(name)
    return folder is not None and (folder.path / "key.json").exists() and not folder.done()


def target(owner: int, role: str) -> int | None:
    for pid, line in family(owner).items():
        # The watcher of a child has its command line too; the child is the older of the two.
        if any(module in line for module in MODULES[role]):
            return min(p for p, text in family(owner).items() if text == line and p <= pid)
    return None


def strike(run: "subprocess.Popen[bytes]", out: Path, number: int, name: str, role: str) -> bool:
    """Kill one process of a run while a stage is under way; tell whether there was one to kill."""
    begun = waited(lambda: in_progress(out, number, name) or run.poll() is not None, 300)
    if not begun or run.poll() is not None:
        return False
    time.sleep(random.Random(f"{number}{name}{role}").random() * 0.3)
    victim: int | None = run.pid
    if role != "controller":
        waited(lambda: target(run.pid, role) is not None or run.poll() is not None, 60)
        victim = target(run.pid, role)
    if victim is None:
        return False
    os.kill(victim, signal.SIGKILL)
    return True


def exactly_once(out: Path) -> None:
    for number in Store(out).rounds():
        for name, folder in Store(out).stages(number).items():
            if name in ("generate", "evaluate-greedy"):
                pairs = Counter((s.problem, s.index) for k in folder.shards() for s in folder.read(Sample, k))
                quarantined = json.loads((folder.path / "stage.json").read_text()).get("quarantined", 0)
                wanted = 48 * 4 if name == "generate" else 48
                assert set(pairs.values()) == {1}
                assert len(pairs) + quarantined == wanted, (number, name)


def rounds() -> Iterator[tuple[str, tuple[tuple[int, str], ...]]]:
    yield "controller", STAGES
    yield "engine", ((0, "evaluate-greedy"), (1, "generate"), (2, "generate"), (2, "evaluate-greedy"))
    yield "trainer", ((1, "train"), (2, "train"))
    yield "worker", ((1, "verify"), (2, "verify"))


@pytest.mark.parametrize(("role", "stages"), list(rounds()), ids=lambda value: value if isinstance(value, str) else "")
def test_a_kill_loses_nothing_that_was_stored(tmp_path: Path, role: str, stages: tuple[tuple[int, str], ...]) -> None:
    """16 kills over stages and processes, each followed by the same command."""
    out = tmp_path / "run"
    struck = 0
    for number, name in stages:
        run = start(out)
        hit = strike(run, out, number, name, role)
        struck += hit
        before = stored(out)
        if role == "controller":
            run.wait(30)
            assert waited(lambda pid=run.pid: not family(pid), SURVIVE_SECONDS), family(run.pid)  # type: ignore[misc]
        else:
            # A lost engine is replaced and the run goes on; a lost trainer or worker may end it.
            run.wait(600)
            assert waited(lambda pid=run.pid: not family(pid), SURVIVE_SECONDS), family(run.pid)  # type: ignore[misc]
        after = stored(out)
        assert {key: after[key] for key in before} == before
        if role != "controller" and run.returncode == 0:
            break
    last = start(out)
    assert last.wait(900) in (0, 3), (tmp_path / "run.log").read_text()[-2000:]
    final = stored(out)
    assert {key: final[key] for key in before} == before
    assert struck >= (len(stages) if role == "controller" else 1), f"only {struck} kills hit"
    exactly_once(out)


def test_vllm_dies_with_a_killed_controller_and_the_run_goes_on(tmp_path: Path) -> None:
    """4 kills of a run that samples with vLLM."""
    pytest.importorskip("vllm")
    out = tmp_path / "run"
    more = ("sampler=vllm", "rounds=1")
    for number, name in ((0, "evaluate-greedy"), (1, "generate"), (1, "train"), (1, "evaluate-greedy")):
        run = start(out, *more)
        assert strike(run, out, number, name, "controller"), (tmp_path / "run.log").read_text()[-2000:]
        run.wait(30)
        assert waited(lambda pid=run.pid: not family(pid), SURVIVE_SECONDS), family(run.pid)  # type: ignore[misc]
        before = stored(out)
    assert start(out, *more).wait(900) in (0, 3), (tmp_path / "run.log").read_text()[-2000:]
    final = stored(out)
    assert {key: final[key] for key in before} == before
    exactly_once(out)
