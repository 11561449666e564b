"""Start children that need torch from a process that has imported it: in each of them that would take 4 to 13 seconds.

The nursery is a child of ours (`process.start`) that does nothing but import and fork. There is one for a python and
an environment, from the first need to the owner's end. It has no second thread and touches no device, since neither
survives a fork.

A child of the nursery is what one of `process.start` is: it has a session of its own, a pipe to its owner, its output
in a log, and a `main(arguments)` that begins with `die_with_owner()`. But its parent is the nursery, which tells the
owner how it ended. Where the nursery is killed its children go on, and the next start makes another nursery.
"""

import atexit
import contextlib
import gc
import importlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, NoReturn

from selftrain.backends import process
from selftrain.backends.process import Child
from selftrain.errors import EngineError

MODELS = (
    "torch",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.generation.utils",
)
"""What is imported to load and run a model."""
CHANGING = ("PYTEST_CURRENT_TEST",)
"""Variables of the environment that no library reads at its import, and that change all the time."""


class Forked:
    """A child of the nursery, with those methods of Popen that `Child` uses; any thread may call them."""

    def __init__(self, pid: int, pidfd: int, told: "Connection[Any, Any]") -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._pidfd = pidfd
        self._told = told
        self._sign: Connection[Any, Any] | int = told
        self._looking = threading.Lock()
        weakref.finalize(self, os.close, pidfd)

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal; None while it runs."""
        with self._looking:
            while self.returncode is None and wait([self._sign], 0):
                if self._sign == self._pidfd:
                    self.returncode = -signal.SIGKILL
                    break
                try:
                    _, self.returncode = self._told.recv()
                except (EOFError, OSError):
                    # The nursery was killed. How its children end nobody can know, only when.
                    self._sign = self._pidfd
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit status; raises subprocess.TimeoutExpired."""
        end = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            left = None if end is None else end - time.monotonic()
            if timeout is not None and left is not None and left <= 0:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
            wait([self._sign], left)
        return status

    def terminate(self) -> None:
        """Send SIGTERM, if it still runs."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL, if it still runs."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        # Its process id may be another process's by now; this descriptor never is.
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)


class Birth(NamedTuple):
    """What the nursery is asked for; the child's pipe, its log, and the line to tell its fate follow."""

    module: str
    arguments: tuple[str, ...]
    preload: tuple[str, ...]
    environment: dict[str, str]
    folder: str


class Nursery:
    """The owner's end of a nursery process."""

    def __init__(self, python: str, log: Path) -> None:
        self.environment = _environment()
        self._child = process.start("selftrain.backends.nursery", log=log, python=python)

    def usable(self) -> bool:
        """Tell whether it lives, and whether a process started afresh would have its environment."""
        return self._child.returncode is None and self.environment == _environment()

    def fork(self, birth: Birth, *descriptors: int) -> Forked:
        """Have a child forked; raises EOFError or OSError where the nursery is lost."""
        told, telling = Pipe(duplex=True)
        with telling:
            self._child.send(tuple(birth))
            _hand(self._child.connection, *descriptors, telling.fileno())
        what, pid = told.recv()
        if what != "started":
            raise EOFError(f"the process was {what} before it started")
        (pidfd,) = _handed(told, 1)
        return Forked(pid, pidfd, told)

    def failure(self, what: str) -> EngineError:
        """Return an error with the last lines of its log."""
        return self._child.failure(what)

    def retire(self) -> None:
        """Let it end once its children have."""
        self._child.connection.close()

    def close(self) -> None:
        """End it now."""
        self._child.close(0.0)


_nurseries: dict[str, Nursery] = {}
_asking = threading.Lock()


def start(
    module: str,
    *args: str,
    log: Path,
    preload: Sequence[str] = MODELS,
    python: str = sys.executable,
    env: Mapping[str, str] | None = None,
) -> Child:
    """Start the `main` of a module with these arguments as a child that dies with this process.

    `preload` names the modules that it is to find imported; the first child that wants them waits for that.
    """
    if not hasattr(os, "pidfd_open"):
        # Not Linux: there, forking after such imports is not safe either.
        return process.start(module, *args, log=log, python=python, env=env)
    birth = Birth(module, args, tuple(preload), dict(env or {}), os.getcwd())
    ours, theirs = Pipe(duplex=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    with theirs, log.open("ab") as output, _asking:
        return Child(_forked(birth, theirs.fileno(), output.fileno(), log, python), ours, log)


def _forked(birth: Birth, pipe: int, output: int, log: Path, python: str) -> Forked:
    nursery = _nurseries.get(python)
    if nursery and nursery.usable():
        with contextlib.suppress(EOFError, OSError):
            return nursery.fork(birth, pipe, output)
    if nursery:
        nursery.retire()
    nursery = _nurseries[python] = Nursery(python, log)
    try:
        return nursery.fork(birth, pipe, output)
    except (EOFError, OSError) as error:
        raise nursery.failure(f"{birth.module} did not start") from error


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in CHANGING}


def _forget() -> None:
    """Leave the nurseries to the process that this one was forked from."""
    global _asking
    _asking = threading.Lock()
    _nurseries.clear()


def _end() -> None:
    for nursery in _nurseries.values():
        nursery.close()


os.register_at_fork(after_in_child=_forget)
atexit.register(_end)


def _hand(connection: "Connection[Any, Any]", *descriptors: int) -> None:
    """Send file descriptors."""
    with socket.socket(fileno=os.dup(connection.fileno())) as wire:
        socket.send_fds(wire, [b"+"], descriptors)


def _handed(connection: "Connection[Any, Any]", count: int) -> list[int]:
    """Receive file descriptors."""
    with socket.socket(fileno=os.dup(connection.fileno())) as wire:
        said, descriptors, _, _ = socket.recv_fds(wire, 1, count, socket.MSG_CMSG_CLOEXEC)
    if not said:
        raise EOFError
    return descriptors


def main() -> None:
    """Import and fork as the owner asks; when it hangs up, stay until the last child has ended."""
    process.die_with_owner()
    owner = process.owner_pipe()
    # Asked through NVML, whether there is a GPU does not start the driver, which must not happen before a fork.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    lines: dict[int, Connection[Any, Any]] = {}
    signal.signal(signal.SIGCHLD, lambda number, frame: _reap(lines))
    with contextlib.suppress(EOFError):
        while True:
            birth = Birth(*owner.recv())
            _fork(birth, _handed(owner, 3), lines)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    _reap(lines)
    while lines:
        signal.sigwait({signal.SIGCHLD})
        _reap(lines)


def _reap(lines: "dict[int, Connection[Any, Any]]") -> None:
    """Tell the owner how children ended."""
    for pid in list(lines):
        # Interrupted by itself, it may find that a child was reaped already.
        with contextlib.suppress(ChildProcessError):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                # The owner may have let go of the child.
                with contextlib.suppress(OSError), lines.pop(pid) as line:
                    line.send(("ended", os.waitstatus_to_exitcode(status)))


def _fork(birth: Birth, descriptors: Sequence[int], lines: "dict[int, Connection[Any, Any]]") -> None:
    pipe, output, line = descriptors
    # What an import prints, and the end of a nursery that it crashes, belong in the log of who wanted it.
    _print_to(output)
    os.close(output)
    loaded = _imported(birth)
    gc.freeze()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    pid = os.fork()
    if pid == 0:
        _be_born(birth, loaded, pipe, line)
    lines[pid] = Connection(line)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    os.close(pipe)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    _print_to(nowhere)
    os.close(nowhere)


def _imported(birth: Birth) -> ModuleType | BaseException:
    """Return the module, or what its import raised: that is for the child to raise, not for all others."""
    try:
        for name in birth.preload:
            importlib.import_module(name)
        return importlib.import_module(birth.module)
    except BaseException as error:
        return error


def _print_to(descriptor: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)


def _be_born(birth: Birth, loaded: ModuleType | BaseException, pipe: int, line: int) -> NoReturn:
    """Become a process like one that was started afresh, and run the module's main."""
    status: object = 1
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        owner = Connection(line)
        owner.send(("started", os.getpid()))
        _hand(owner, os.pidfd_open(os.getpid()))
        os.closerange(3, pipe)
        os.closerange(pipe + 1, 65_536)
        os.chdir(birth.folder)
        os.environ.update({**birth.environment, process.PIPE: str(pipe)})
        if isinstance(loaded, BaseException):
            raise loaded
        # The command line, which it shares with the nursery, would not tell one child from another.
        Path("/proc/self/comm").write_text(birth.module.rpartition(".")[2])
        sys.argv = [str(loaded.__file__), *birth.arguments]
        sys.modules["__main__"] = loaded
        status = loaded.main(sys.argv[1:])
    except SystemExit as stop:
        status = stop.code
    except BaseException:
        traceback.print_exc()
    finally:
        if isinstance(status, str):
            sys.stderr.write(f"{status}\n")
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status if isinstance(status, int) else int(status is not None))


if __name__ == "__main__":
    main()
