import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from selftrain.backends.process import start

CHILD = """
import os, subprocess, sys, time
from selftrain.backends.process import die_with_owner, owner_pipe
die_with_owner()
pipe = owner_pipe()
what = sys.argv[1]
if what == "echo":
    while True:
        pipe.send(("echo", pipe.recv()))
if what == "fail":
    raise SystemExit("no such weights")
if what == "family":
    alone = "from selftrain.backends.process import die_with_owner as d; d(); import time; time.sleep(600)"
    near = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    far = subprocess.Popen([sys.executable, "-c", alone], start_new_session=True)
    time.sleep(1)
    pipe.send([os.getpid(), near.pid, far.pid])
    # Holds the interpreter's lock for minutes: no thread of this process could act.
    sum(range(10**11))
"""

OWNER = """
import sys, time
from pathlib import Path
from selftrain.backends.process import start
child = start("grownchild", "family", log=Path(sys.argv[1]))
print(*child.recv(), flush=True)
time.sleep(600)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "grownchild.py").write_text(CHILD)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    return "grownchild"


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(pids: list[int], seconds: float = 3.0) -> list[int]:
    end = time.monotonic() + seconds
    while time.monotonic() < end and any(map(running, pids)):
        time.sleep(0.05)
    return [pid for pid in pids if running(pid)]


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_child_and_grandchildren_end_with_a_killed_owner(tmp_path: Path, how: signal.Signals) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    family = [int(pid) for pid in owner.stdout.readline().split()]
    assert len(family) == 3
    assert all(map(running, family))
    owner.send_signal(how)
    owner.wait()
    assert wait_until_gone(family) == []


def test_messages_cross_and_close_ends_the_child(tmp_path: Path, module: str) -> None:
    child = start(module, "echo", log=tmp_path / "log")
    child.send({"n": 1})
    assert child.recv() == ("echo", {"n": 1})
    assert os.getpgid(child.pid) == child.pid != os.getpgid(0)
    assert child.returncode is None
    child.close()
    assert child.returncode is not None
    assert wait_until_gone([child.pid]) == []


def test_grandchildren_end_when_their_child_is_killed(tmp_path: Path, module: str) -> None:
    child = start(module, "family", log=tmp_path / "log")
    _, near, far = child.recv()
    os.kill(child.pid, signal.SIGKILL)
    assert wait_until_gone([near]) == []
    child.close()
    # The far one left the group and its owner, this process, still lives.
    assert running(far)
    os.kill(far, signal.SIGKILL)


def test_failure_quotes_the_log(tmp_path: Path, module: str) -> None:
    child = start(module, "fail", log=tmp_path / "log")
    with pytest.raises((EOFError, OSError)):
        child.recv()
    error = child.failure("the echo child ended")
    assert "exit status 1" in str(error)
    assert "no such weights" in str(error)
    child.close()
