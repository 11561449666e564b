"""Pid 1 of a sandbox: forks a process per job, watches it, and leaves nothing of it behind.

Standard library only: it runs inside, where the rest of selftrain is not. Two kinds of process are forked: one runs a
program (`sandbox_program`), one judges (`sandbox_judge`), each in a sandbox of its own. The server reads nothing of
what a job says: the child reads it itself, so no child can find another's job in the memory it was forked with.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from selftrain.backends.sandbox_wire import receive_with, send_with

SWEEP_SECONDS = 5.0
"""Seconds after which something that does not die makes the server give up itself, which ends it all."""
_PAGE = os.sysconf("SC_PAGE_SIZE")
_NOT_DUMPABLE = (4, 0)  # PR_SET_DUMPABLE
_PARENT_DIES = (1, signal.SIGKILL)  # PR_SET_PDEATHSIG
Work = Callable[[Any, Sequence[int]], NoReturn]


class Server:
    """Forks, watches, cleans up; `boxed` says that it is pid 1 of a sandbox."""

    def __init__(self, control: socket.socket, work: Work, *, boxed: bool) -> None:
        """Look at the empty folders, to know later what is left over."""
        self._control = control
        self._work = work
        self._boxed = boxed
        self._folders = ("/tmp", "/dev/shm") if boxed else ()
        self._empty = {folder: _used(folder) for folder in self._folders}

    def serve(self) -> NoReturn:
        """Do one job after another until the owner hangs up."""
        while True:
            try:
                job, descriptors = receive_with(self._control)
            except (EOFError, OSError):
                os._exit(0)
            if not descriptors:  # a word about a job that had ended already
                continue
            child = os.fork()
            if child == 0:
                self._become(job, descriptors)
            for descriptor in descriptors:
                os.close(descriptor)
            report = self._watched(child, job)
            report["dirty"] = not self._clean()
            send_with(self._control, report, [])

    def _become(self, job: Any, descriptors: Sequence[int]) -> NoReturn:
        """In the child: take the limits on and do the job."""
        code = 70
        try:
            self._control.close()
            limit(job["limits"])
            if not self._boxed:
                os.setsid()
            if not self._boxed and sys.platform == "linux":
                ctypes.CDLL(None).prctl(*_PARENT_DIES, 0, 0, 0)
            self._work(job, descriptors)
        finally:
            os._exit(code)

    def _watched(self, child: int, job: Any) -> dict[str, object]:
        """Wait for a child's end, or end it; returns how it came to its end."""
        started = time.monotonic()
        ended = ""
        peak = 0
        with _Awaited(child, self._control, job["tick"]) as awaited:
            while not ended:
                child_ended, called = awaited.next()
                if child_ended:
                    break
                if called:
                    ended = self._word()
                    break
                peak = max(peak, self._resident())
                ended = self._over(job, time.monotonic() - started, peak)
        used, waited = _scheduled(child) if ended in ("time", "late") else (0.0, 0.0)
        status = self._sweep(child, killed=bool(ended))
        if ended == "hangup":
            os._exit(0)
        return {
            "ended": ended or "exited",
            "status": os.waitstatus_to_exitcode(status),
            "seconds": time.monotonic() - started,
            "used": used,
            "waited": waited,
            "peak": peak,
        }

    def _word(self) -> str:
        """What the owner says of the job: "stopped", "late" if it took too long; "hangup" if the owner is gone."""
        try:
            word, _ = receive_with(self._control)
        except (EOFError, OSError):
            return "hangup"
        return str(word)

    def _over(self, job: Any, seconds: float, resident: int) -> str:
        """Say which limit the job has passed, or ''."""
        if seconds > job["seconds"]:
            return "time"
        if resident > job["memory"]:
            return "memory"
        if any(_used(folder) - self._empty[folder] > job["files"] for folder in self._folders):
            return "files"
        return ""

    def _resident(self) -> int:
        """Bytes in memory of every process but this one: in a sandbox, all there are belong to the job."""
        if not self._boxed:
            return 0
        pages = 0
        for name in os.listdir("/proc"):
            if name.isdecimal() and name != "1":
                with contextlib.suppress(OSError), open(f"/proc/{name}/statm", "rb") as file:
                    pages += int(file.read().split()[1])
        return pages * _PAGE

    def _sweep(self, child: int, *, killed: bool) -> int:
        """Kill all that is left, and reap it; returns the child's wait status."""
        status = 0
        if not self._boxed:
            # Not pid 1: only the child's own group may be killed.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child, signal.SIGKILL)
            if killed:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            return os.waitpid(child, 0)[1]
        deadline = time.monotonic() + SWEEP_SECONDS
        while True:
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
            try:
                while True:
                    pid, each = os.waitpid(-1, os.WNOHANG)
                    if pid == 0:
                        break
                    if pid == child:
                        status = each
            except ChildProcessError:
                return status
            if time.monotonic() > deadline:
                os._exit(71)
            time.sleep(0.0002)

    def _clean(self) -> bool:
        """Empty the folders that can be written to; False if something can't be removed: then the server must go."""
        for folder in self._folders:
            if _used(folder) == self._empty[folder]:
                continue
            import shutil

            try:
                for entry in os.scandir(folder):
                    if entry.is_dir(follow_symlinks=False):
                        shutil.rmtree(entry.path)
                    else:
                        os.unlink(entry.path)
            except (OSError, RecursionError):
                return False
            if _used(folder) != self._empty[folder]:
                return False
        return True


class _Awaited:
    """Waits a tick at a time for a child's end or for word from the owner."""

    def __init__(self, child: int, control: socket.socket, tick: float) -> None:
        self._child = child
        self._milliseconds = tick * 1000
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        self._descriptor = os.pidfd_open(child) if hasattr(os, "pidfd_open") else None
        if self._descriptor is not None:
            self._poll.register(self._descriptor, select.POLLIN)

    def __enter__(self) -> "_Awaited":
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)

    def next(self) -> tuple[bool, bool]:
        """Whether the child has ended, and whether the owner says something, after a tick at most."""
        ready = {descriptor for descriptor, _ in self._poll.poll(self._milliseconds)}
        if self._descriptor is not None:
            ended = self._descriptor in ready
        else:
            ended = os.waitid(os.P_PID, self._child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        return ended, bool(ready - {self._descriptor})


def limit(limits: dict[str, int]) -> None:
    """Take on resource limits, by name: the hard ones too, so that they can't be raised again."""
    for name, value in limits.items():
        number = getattr(resource, f"RLIMIT_{name}", None)
        if number is None:
            continue
        hard = resource.getrlimit(number)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(number, (value, value))


@contextlib.contextmanager
def _no_hooks() -> Iterator[None]:
    """Let modules that are imported now do nothing at a fork.

    They would free locks that no other thread holds here, and seed `random` anew: that takes longer than the fork, and
    a verdict should not depend on chance.
    """
    register = os.register_at_fork
    os.register_at_fork = lambda **_: None
    try:
        yield
    finally:
        os.register_at_fork = register


def _scheduled(child: int) -> tuple[float, float]:
    """Seconds that a process has had a processor, and that it had to wait for one."""
    try:
        with open(f"/proc/{child}/schedstat", "rb") as file:
            used, waited, _ = file.read().split()
    except OSError:
        return 0.0, 0.0
    return int(used) / 1e9, int(waited) / 1e9


def _used(folder: str) -> int:
    about = os.statvfs(folder)
    return about.f_files - about.f_ffree


def main() -> None:
    """Serve the owner at the descriptor given; the second argument says as what, further ones are modules to load."""
    descriptor, kind, boxed, settings = sys.argv[1:]
    folders, modules, limits = json.loads(settings)
    control = socket.socket(fileno=int(descriptor))
    control.set_inheritable(False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        # Its memory, descriptors and environment stay its own, in /proc too; what it forks inherits that.
        ctypes.CDLL(None).prctl(*_NOT_DUMPABLE, 0, 0, 0)
    with _no_hooks():
        work: Work = importlib.import_module(f"selftrain.backends.sandbox_{kind}").work
        # What is installed can be imported; what Python itself needs is found first.
        sys.path[:] = [path for path in sys.path if path != os.environ.get("PYTHONPATH")] + folders
        for module in modules:
            importlib.import_module(module)
    limit(limits)
    gc.collect()
    gc.freeze()
    send_with(control, {"ready": True}, [])
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    os.close(null)
    Server(control, work, boxed=boxed == "boxed").serve()


if __name__ == "__main__":
    main()
