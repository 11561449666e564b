import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from selftrain.backends import nursery
from selftrain.backends.process import Child
from selftrain.errors import EngineError
from tests.backends.test_process import running, wait_until_gone

HEAVY = """
import os
born = os.getpid()
"""

CHILD = """
import os, signal, subprocess, sys, time
from selftrain.backends.process import die_with_owner, owner_pipe

def main(arguments):
    die_with_owner()
    pipe = owner_pipe()
    what = arguments[0]
    if what == "about":
        pipe.send({
            "pid": os.getpid(), "parent": os.getppid(), "group": os.getpgrp(), "session": os.getsid(0),
            "imported": "heavy" in sys.modules and sys.modules["heavy"].born, "argv": sys.argv[1:],
            "main": sys.modules["__main__"].__spec__.name, "folder": os.getcwd(), "said": os.environ.get("SAID"),
            "child_signal": signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL,
            "open": sorted(os.readlink(f"/proc/self/fd/{fd}").split(":")[0] for fd in os.listdir("/proc/self/fd")
                           if os.path.exists(f"/proc/self/fd/{fd}") or fd == str(pipe.fileno())),
        })
        return None
    if what == "echo":
        while True:
            pipe.send(("echo", pipe.recv()))
    if what == "status":
        return int(arguments[1])
    if what == "fail":
        print("said before")
        raise ValueError("no such weights")
    if what == "exit":
        raise SystemExit("not like this")
    if what == "signal":
        os.kill(os.getpid(), int(arguments[1]))
    if what == "family":
        near = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        pipe.send([os.getppid(), os.getpid(), near.pid])
        sum(range(10**11))
"""

OWNER = """
import signal, sys, time
from pathlib import Path
from selftrain.backends import nursery
# In a shell's background job it would be ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
child = nursery.start("forkedchild", "family", log=Path(sys.argv[1]), preload=("heavy",))
print(*child.recv(), flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module", autouse=True)
def modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("modules")
    (folder / "heavy.py").write_text(HEAVY)
    (folder / "broken.py").write_text("import heavy\nraise RuntimeError('this package is broken')\n")
    (folder / "forkedchild.py").write_text(CHILD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        yield folder


def fork(tmp_path: Path, *args: str, preload: tuple[str, ...] = ("heavy",), **more: Any) -> Child:
    return nursery.start("forkedchild", *args, log=tmp_path / "log", preload=preload, **more)


def about(tmp_path: Path, *args: str, **more: Any) -> dict[str, Any]:
    child = fork(tmp_path, "about", *args, **more)
    found: dict[str, Any] = child.recv()
    assert child.process.wait(10) == 0
    assert found["pid"] == child.pid
    return found


def test_what_one_child_had_imported_the_next_one_finds(tmp_path: Path) -> None:
    first, second = about(tmp_path), about(tmp_path)
    assert first["imported"] == second["imported"] == first["parent"] == second["parent"] != os.getpid()
    assert first["pid"] != second["pid"]


def test_a_child_is_like_one_that_was_started_afresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    found = about(tmp_path, "--loud", env={"SAID": "once"})
    assert found["group"] == found["session"] == found["pid"]
    assert (found["argv"], found["main"]) == (["about", "--loud"], "forkedchild")
    assert (found["folder"], found["said"], found["child_signal"]) == (str(tmp_path), "once", True)
    # Input, twice the log, its pipe.
    assert found["open"] == sorted(["/dev/null", *[str(tmp_path / "log")] * 2, "socket"])
    assert about(tmp_path)["said"] is None
    assert capfd.readouterr() == ("", "")


def test_a_changed_environment_is_a_new_nurserys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stays = fork(tmp_path, "echo")
    before = about(tmp_path)
    monkeypatch.setenv("SAID", "from now on")
    after = about(tmp_path)
    assert after["said"] == "from now on"
    assert after["parent"] != before["parent"]
    stays.send(1)
    assert stays.recv() == ("echo", 1)
    stays.close()
    assert stays.returncode == -signal.SIGTERM
    assert wait_until_gone([before["parent"]]) == []


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("status", "0"), 0),
        (("status", "3"), 3),
        (("fail",), 1),
        (("exit",), 1),
        (("signal", "9"), -9),
        (("signal", "15"), -15),
    ],
)
def test_its_end_comes_through(tmp_path: Path, arguments: tuple[str, ...], status: int) -> None:
    child = fork(tmp_path, *arguments)
    with pytest.raises((EOFError, OSError)):
        child.recv()
    assert child.process.wait(10) == child.returncode == status
    assert f"exit status {status}" in str(child.failure("it ended"))
    child.close()


def test_output_and_traceback_are_in_the_log(tmp_path: Path) -> None:
    child = fork(tmp_path, "fail")
    error = str(child.failure("the child ended"))
    assert "said before" in error
    assert "ValueError: no such weights" in error
    ended = fork(tmp_path, "exit")
    assert str(ended.failure("the child ended")).endswith("not like this")


def test_waiting_has_a_limit_and_close_ends_the_whole_group(tmp_path: Path) -> None:
    child = fork(tmp_path, "family")
    _, pid, near = child.recv()
    with pytest.raises(subprocess.TimeoutExpired):
        child.process.wait(0.2)
    assert child.returncode is None
    child.close()
    assert child.returncode == -signal.SIGTERM
    assert wait_until_gone([pid, near]) == []


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nursery_and_children_end_with_their_owner(tmp_path: Path, how: signal.Signals) -> None:
    command = [sys.executable, "-c", OWNER, str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as owner:
        assert owner.stdout is not None
        family = [int(pid) for pid in owner.stdout.readline().split()]
        assert len(family) == 3
        assert all(map(running, family))
        owner.send_signal(how)
        owner.wait()
    assert wait_until_gone(family, 5) == []


def test_children_outlive_a_killed_nursery_and_the_next_start_makes_another(tmp_path: Path) -> None:
    child, idle = fork(tmp_path, "echo"), fork(tmp_path, "echo")
    before = about(tmp_path)
    os.kill(before["parent"], signal.SIGKILL)
    after = about(tmp_path)
    assert after["parent"] not in (before["parent"], os.getpid())
    child.send(2)
    assert child.recv() == ("echo", 2)
    assert child.returncode is None
    with pytest.raises(subprocess.TimeoutExpired):
        child.process.wait(0.2)
    child.close()
    # Nobody was there to see how it ended.
    assert child.returncode == -signal.SIGKILL
    assert wait_until_gone([child.pid]) == []
    os.kill(idle.pid, signal.SIGKILL)
    assert idle.process.wait(10) == -signal.SIGKILL
    idle.process.kill()


def test_threads_start_children_at_once(tmp_path: Path) -> None:
    found: list[dict[str, Any]] = []
    threads = [threading.Thread(target=lambda: found.append(about(tmp_path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len({each["pid"] for each in found}) == 8
    assert len({each["parent"] for each in found}) == 1


def test_a_forked_owner_has_a_nursery_of_its_own(tmp_path: Path) -> None:
    before = about(tmp_path)
    pid = os.fork()
    if pid == 0:
        other = about(tmp_path)
        nursery._end()
        os._exit(0 if other["parent"] != before["parent"] else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert about(tmp_path)["parent"] == before["parent"]


def test_no_descriptors_are_left_open(tmp_path: Path) -> None:
    parent = about(tmp_path)["parent"]

    def count() -> list[int]:
        return [len(os.listdir(f"/proc/{pid}/fd")) for pid in ("self", parent)]

    def grown() -> bool:
        return any(now > was for now, was in zip(count(), before, strict=True))

    # The first child may not be let go of yet: that is one, and a leak would be twenty.
    before = count()
    for _ in range(20):
        assert about(tmp_path)["parent"] == parent
    end = time.monotonic() + 5
    while grown() and time.monotonic() < end:
        time.sleep(0.05)
    assert not grown()


def test_a_broken_package_is_its_childs_failure_alone(tmp_path: Path) -> None:
    before = about(tmp_path)
    child = fork(tmp_path, "about", preload=("broken",))
    with pytest.raises((EOFError, OSError)):
        child.recv()
    assert "RuntimeError: this package is broken" in str(child.failure("it ended"))
    assert child.returncode == 1
    assert about(tmp_path)["parent"] == before["parent"]
    missing = nursery.start("nosuchchild", log=tmp_path / "log", preload=())
    assert "No module named 'nosuchchild'" in str(missing.failure("it ended"))


def test_a_python_without_selftrain_is_said(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho no module named selftrain\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(
        EngineError, match=r"(?s)forkedchild did not start \(exit status 1\).*no module named selftrain"
    ):
        fork(tmp_path, "about", python=str(python))


def test_the_interpreters_end_is_quiet(tmp_path: Path) -> None:
    program = OWNER.replace("family", "about").replace("time.sleep(600)", "del child")
    command = [sys.executable, "-X", "dev", "-c", program, str(tmp_path / "log")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
