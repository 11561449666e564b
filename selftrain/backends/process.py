"""Start child processes of ours that never outlive the process that started them.

A child is `python -m MODULE` in a session of its own (Ctrl-C in the terminal does not reach it) with a pipe to its
owner. Its main begins with `die_with_owner()`, before any heavy import; so does any grandchild that leaves the
child's process group. The watcher is a process, not a thread: a thread cannot run while a regular expression or a
kernel holds the interpreter's lock, and the owner may have died by SIGKILL without a chance to tell anyone.

Children that would spend seconds on importing torch are started by `nursery.start` instead.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, NoReturn, Protocol

import selftrain
from selftrain.errors import EngineError

OWNER = "SELFTRAIN_OWNER"
"""Environment variable: the process id whose end ends us. Grandchildren inherit it."""
PATIENT = {"GOMP_SPINCOUNT": "20000"}
"""OpenMP threads spin briefly while they wait: for long, they slow everything tenfold as soon as anything else wants a
core; not at all, sampling on an idle machine takes twice the time (349 against 638 tokens/s seen)."""
PIPE = "SELFTRAIN_PIPE"
"""Environment variable: the file descriptor of a child's pipe to its owner."""
POLL_SECONDS = 0.3
"""How often a watcher looks where the system has no pidfd."""


class Process(Protocol):
    """What a `Child` needs of its process; Popen has it."""

    @property
    def pid(self) -> int:
        """The process id."""

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; raises subprocess.TimeoutExpired."""

    def terminate(self) -> None:
        """Send SIGTERM, if it still runs."""

    def kill(self) -> None:
        """Send SIGKILL, if it still runs."""


class Child:
    """A running child process: messages go both ways, its output goes to a log file."""

    def __init__(self, process: Process, connection: "Connection[Any, Any]", log: Path) -> None:
        self.process = process
        self.connection = connection
        self.log = log
        self._sending = threading.Lock()

    @property
    def pid(self) -> int:
        """The child's process id, which is also the id of its process group."""
        return self.process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self.process.poll()

    def send(self, message: object) -> None:
        """Send a picklable message; any thread may. Raises OSError when the child is gone."""
        with self._sending:
            self.connection.send(message)

    def poll(self, seconds: float | None = 0.0) -> bool:
        """Tell whether `recv` would return (or raise EOFError) at once, after waiting for at most `seconds`."""
        return self.connection.poll(seconds)

    def recv(self) -> Any:
        """Return the child's next message; raises EOFError or OSError when it is gone."""
        return self.connection.recv()

    def tail(self, lines: int = 15) -> str:
        """Return the last lines of the log, for an error message."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - 16_384))
            text = file.read().decode("utf-8", "replace")
        return "\n".join(text.rstrip().splitlines()[-lines:])

    def failure(self, what: str) -> EngineError:
        """Return an error that says what happened, how the process ended, and the last lines of its log."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5.0)
        state = "still running" if self.returncode is None else f"exit status {self.returncode}"
        return EngineError(f"{what} ({state}); the last lines of {self.log}:\n{self.tail()}")

    def close(self, timeout: float = 5.0) -> None:
        """End the child: SIGTERM, and after `timeout` seconds SIGKILL; its watcher ends the rest of its group."""
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout)
        self.process.kill()
        self.process.wait()
        self.connection.close()


def start(
    module: str, *args: str, log: Path, python: str = sys.executable, env: Mapping[str, str] | None = None
) -> Child:
    """Start `python -m module args` as a child that dies with this process; `env` adds to our environment."""
    ours, theirs = Pipe(duplex=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    with theirs, log.open("ab") as output:
        process = subprocess.Popen(
            [python, "-P", "-m", module, *args],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={
                **PATIENT,
                **os.environ,
                **_search_path(),
                **(env or {}),
                OWNER: str(os.getpid()),
                PIPE: str(theirs.fileno()),
            },
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
        )
    return Child(process, ours, log)


def owner_pipe() -> "Connection[Any, Any]":
    """Return, in a child's main, its pipe to the owner; call once."""
    descriptor = int(os.environ.pop(PIPE))
    os.set_inheritable(descriptor, False)
    return Connection(descriptor)


def die_with_owner() -> None:
    """Make this process, and its group where it leads one, end within a second of its owner's end.

    Call it first thing in main, before threads and heavy imports, since it forks the watcher. Without an owner in the
    environment (a module run by hand) it does nothing.
    """
    owner = int(os.environ.get(OWNER, "0"))
    if not owner:
        return
    group, watched = os.getpgrp(), os.getpid()
    ready, ready_child = os.pipe()
    if os.fork() == 0:
        _watch(owner, watched, group, ready_child)
    os.close(ready_child)
    os.read(ready, 1)
    os.close(ready)


def _watch(owner: int, watched: int, group: int, ready: int) -> NoReturn:
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        # Holding the pipe or the log open would hide the watched process's end from those who wait for it.
        os.closerange(0, ready)
        os.closerange(ready + 1, 65_536)
        ended = _first_to_end(owner, watched, ready)
        # A group lives as long as its owner and its leader; a member that is not the leader may come and go.
        if ended == owner or watched == group:
            _kill_group(group)
    finally:
        os._exit(0)


def _first_to_end(owner: int, watched: int, ready: int) -> int:
    """Return which of the two processes ended first; closes `ready` once both are being watched."""
    if not hasattr(os, "pidfd_open"):
        os.close(ready)
        return _first_to_end_polled(owner, watched)
    descriptors: dict[int, int] = {}
    for pid in (owner, watched):
        try:
            descriptors[os.pidfd_open(pid)] = pid
        except ProcessLookupError:
            return pid
    os.close(ready)
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return descriptors[poll.poll()[0][0]]


def _first_to_end_polled(owner: int, watched: int) -> int:
    while True:
        for pid in (owner, watched):
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return pid
        # A watched process that ended is a zombie until its parent reaps it; then we have a new parent.
        if os.getppid() != watched:
            return watched
        time.sleep(POLL_SECONDS)


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _search_path() -> dict[str, str]:
    """In a checkout, let `python` find this checkout even where it is another environment's."""
    root = Path(selftrain.__file__).parent.parent
    if not (root / "pyproject.toml").is_file():
        return {}
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")]))}
