"""Start children that need torch from a process that has imported it: in each of them that would take 4 to 13 seconds.

The nursery is a child of ours (`process.start`) that does nothing but import and fork. There is one for a python and
an environment, from the first need to the owner's end. It starts no thread and touches no device, since neither
survives a fork (pyarrow's allocator has a thread, and minds forks).

A child of the nursery is what one of `process.start` is: it has a session of its own, a pipe to its owner, its output
in a log, and a `main(arguments)` that begins with `die_with_owner()`. But its parent is the nursery, which tells the
owner how it ended. Where the nursery is killed its children go on, and the next start makes another nursery.
"""

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any

from selftrain.backends import process
from selftrain.backends.nursery_child import Birth, hand, handed
from selftrain.backends.process import Child
from selftrain.errors import EngineError

MODELS = (
    "torch",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.generation.utils",
    "transformers.modeling_utils",
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


class Nursery:
    """The owner's end of a nursery process."""

    def __init__(self, python: str, log: Path) -> None:
        self.environment = _environment()
        self._child = process.start("selftrain.backends.nursery_child", log=log, python=python)

    def usable(self) -> bool:
        """Tell whether it lives, and whether a process started afresh would have its environment."""
        return self._child.returncode is None and self.environment == _environment()

    def fork(self, birth: Birth, *descriptors: int) -> Forked:
        """Have a child forked; raises EOFError or OSError where the nursery is lost."""
        told, telling = Pipe(duplex=True)
        with telling:
            self._child.send(tuple(birth))
            hand(self._child.connection, *descriptors, telling.fileno())
        what, pid = told.recv()
        if what != "started":
            raise EOFError(f"the process was {what} before it started")
        (pidfd,) = handed(told, 1)
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
        # Not Linux: there, forking after such imports isn't safe either.
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
