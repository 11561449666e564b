"""A sandbox's server as its owner sees it: a process that takes jobs and says how they ended."""

import contextlib
import socket
import subprocess
from typing import Any, Literal

from selftrain.backends.sandbox_launch import died, start_server
from selftrain.backends.sandbox_wire import receive_with, send_with

MEMORY = 1 << 30
"""Bytes: address space of a process, and what all of a program's processes may hold at once."""
PRELOAD_MEMORY = 3 << 30
"""The same where modules are loaded before."""
LIMITS = {"CORE": 0, "NOFILE": 128, "NPROC": 64, "FSIZE": 64 << 20, "MEMLOCK": 0, "MSGQUEUE": 0, "NICE": 0}
RECYCLED = {"program": 1_000, "judge": 10_000}
"""Jobs after which a server is replaced by a new one."""
START_SECONDS = 60.0
GRACE = 30.0
"""Seconds beyond its limit after which a server that has not answered is given up."""
PRELOADED = (
    "bisect",
    "collections",
    "copy",
    "functools",
    "heapq",
    "itertools",
    "json",
    "math",
    "operator",
    "random",
    "re",
    "string",
    "typing",
)
"""Modules that most programs import: loaded once, not by each."""
Kind = Literal["program", "judge"]
Job = dict[str, Any]
Report = dict[str, Any]


class Gone(Exception):
    """A server ended, or does not answer."""


class Server:
    """A server process, as its owner sees it."""

    def __init__(self, kind: Kind, modules: tuple[str, ...] = ()) -> None:
        """Start it; `ready` waits until it is there."""
        self.kind = kind
        self.jobs = 0
        self.busy = False
        self.dirty = False
        self.report: Report = {}
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process: subprocess.Popen[bytes] | None = None
        try:
            with theirs:
                limits = LIMITS | {"AS": PRELOAD_MEMORY if modules else MEMORY}
                self._process = start_server(kind, theirs, modules=[*PRELOADED, *modules], limits=limits)
            self._is_ready = False
        except BaseException:
            self.close()
            raise

    @property
    def worn(self) -> bool:
        """Whether it has served its time, or could not clean up."""
        return self.dirty or self.jobs >= RECYCLED[self.kind]

    def ready(self) -> None:
        """Wait until it can take jobs; raises SandboxError or EngineError if it ended instead."""
        if self._is_ready:
            return
        assert self._process is not None
        try:
            self._receive(START_SECONDS)
        except Gone:
            self._process.kill()
            raise died(self._process, self.kind) from None
        self._is_ready = True

    def give(self, job: Job, descriptors: list[int]) -> None:
        """Hand a job over, with its descriptors; they stay open here."""
        self.ready()
        try:
            self._control.settimeout(GRACE)
            send_with(self._control, job, descriptors)
        except OSError as error:
            raise Gone from error
        self.busy = True
        self.jobs += 1

    def end(self, why: Literal["stopped", "late"] = "stopped") -> None:
        """Have it end the job."""
        with contextlib.suppress(OSError):
            send_with(self._control, why, [])

    def settle(self, seconds: float = GRACE) -> Report:
        """Wait for the job's end, if it has not come yet; returns how it came to it."""
        if self.busy:
            self.report = self._receive(seconds)
            self.busy = False
            self.dirty = bool(self.report["dirty"])
        return self.report

    def _receive(self, seconds: float) -> dict[str, Any]:
        self._control.settimeout(seconds)
        try:
            said, _ = receive_with(self._control)
        except (EOFError, OSError) as error:
            raise Gone from error
        assert isinstance(said, dict)
        return said

    def close(self) -> None:
        """End it; everything in its sandbox ends with it."""
        self._control.close()
        if self._process is None:
            return
        try:
            self._process.wait(0.5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stderr:
            self._process.stderr.close()
