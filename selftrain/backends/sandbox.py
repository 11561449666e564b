"""Run programs that nobody has read, and judge them where they can't reach; implements `lab.Sandbox`.

Two servers, each pid 1 of its own bubblewrap sandbox: one forks a process per program, the other, in another pid
namespace, a process per judgement. This file is the owner's side: it opens the servers, hands them jobs, reads what
comes out up to a limit, and opens new ones in the place of those that ended or have served their time.
"""

import contextlib
import math
import os
import select
import signal
import socket
import time
from dataclasses import replace
from types import TracebackType
from typing import Literal, NamedTuple, Self

from selftrain.backends.sandbox_process import GRACE, MEMORY, PRELOAD_MEMORY, Gone, Job, Kind, Report, Server
from selftrain.backends.sandbox_wire import WireError, receive_with, send_with, sheet, write, written
from selftrain.errors import EngineError
from selftrain.lab import Outcome, Ran, Tested

OUTPUT = 1 << 20
"""Bytes of stdout, and of stderr."""
FILES = 2_000
"""Files and folders that a program may make."""
TICK = 0.01
"""Seconds between two looks at what a program takes."""
PROBLEMS = 50
"""Problems after which the judge's process is replaced by a new one; it judges all their programs."""
TRIES, LONGER = 3, 10
"""How often, and how many times longer, a program is tried that had to wait for a processor."""
TESTS_SECONDS = 20.0
"""Seconds that tests may take beside the program's own."""
KINDS: tuple[Kind, ...] = ("program", "judge")
Ended = Literal["exited", "time", "memory", "files", "output", "lost"]


class _Read(NamedTuple):
    stdout: bytes
    stderr: bytes
    flooded: bool


class BoxedSandbox:
    """Programs in one sandbox, judgements in another; for one thread at a time."""

    def __init__(self) -> None:
        """Start both servers; raises SandboxError where that can't be."""
        self._servers: dict[tuple[Kind, tuple[str, ...]], Server] = {}
        self._session: socket.socket | None = None
        self._asked: dict[str, str] = {}
        """The problem that the judge's process has been told last."""
        self._problems = 0
        """How many it has been told."""
        try:
            for kind in KINDS:
                self._servers[kind, ()] = Server(kind)
            for server in self._servers.values():
                server.ready()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self, program: str, *, stdin: str = "", seconds: float, preload: tuple[str, ...] = ()) -> Ran:
        """Run a Python program as a script."""
        given = seconds
        for at in range(TRIES):
            ran, report = self._run(program, stdin, given, preload)
            if ran.ended == "time" and _starved(report, seconds):
                given = _longer(report, seconds)
            elif ran.ended != "lost" or at:
                break
        return replace(ran, why=_too_slow(seconds)) if ran.ended == "time" else ran

    def _run(self, program: str, stdin: str, seconds: float, preload: tuple[str, ...]) -> tuple[Ran, Report]:
        job = _job("script", seconds, PRELOAD_MEMORY if preload else MEMORY)
        with contextlib.ExitStack() as stack:
            given = [sheet({"program": program}), written(stdin.encode(errors="replace"))]
            (out, out_end), (err, err_end) = os.pipe(), os.pipe()
            for descriptor in (out, err):
                stack.callback(os.close, descriptor)
            server = self._given("program", preload, job, [*given, out_end, err_end])
            read = _drained(out, err, seconds + GRACE)
        if read.flooded:
            server.end()
        report = self._settled("program", preload)
        if report is None:
            return Ran(ended="lost", code=0, stdout="", stderr="", seconds=0.0, why="the sandbox ended"), {}
        return _ran(report, read, job), report

    def test(self, program: str, *, tests: str, entry: str = "", prompt: str = "", seconds: float) -> Tested:
        """Judge a Python program by tests that it never sees."""
        given = seconds
        for at in range(TRIES):
            tested = self._test(program, {"tests": tests, "entry": entry, "prompt": prompt}, given)
            report = self._settled("program") or {} if tested.outcome == "time" else {}
            if _starved(report, seconds):
                given = _longer(report, seconds)
            elif tested.outcome != "lost" or at:
                break
        return replace(tested, why=_too_slow(seconds)) if tested.outcome == "time" else tested

    def _test(self, program: str, question: dict[str, str], seconds: float) -> Tested:
        job = _job("functions", seconds + TESTS_SECONDS, MEMORY, cpu=seconds)
        ours, theirs = socket.socketpair()
        with ours:
            runner = self._given("program", (), job, [theirs.detach()])
            try:
                ours.settimeout(GRACE)
                write(ours, {"program": program})
                verdict = self._verdict(question, ours, seconds)
            except (OSError, WireError) as error:
                return self._ended(job, 0.0, f"it could not be given to its process: {error}")
        runner.end("late" if verdict and verdict["status"] == "time" else "stopped")
        if verdict is None:
            return self._unjudged()
        taken = min(float(verdict["seconds"]), seconds)
        if verdict["status"] == "time":
            return Tested(outcome="time", seconds=taken)
        if verdict["status"] == "gone":
            return self._ended(job, taken)
        outcome: Outcome = "raised" if verdict["status"] == "broken" else verdict["status"]
        return Tested(outcome=outcome, why=verdict["why"], seconds=taken)

    def _verdict(self, question: dict[str, str], channel: socket.socket, seconds: float) -> Report | None:
        """Ask the judge about the program at a channel; None if it came to no verdict."""
        if self._problems >= PROBLEMS:
            self._forget()
        for _ in range(2):
            session = self._opened()
            sheets = [] if self._asked == question else [sheet(question)]
            session.settimeout(seconds + TESTS_SECONDS)
            try:
                send_with(session, {"seconds": seconds}, [channel.fileno(), *sheets])
                break
            except OSError:  # the last problem's tests have ended the judge's process
                self._forget()
            finally:
                for descriptor in sheets:
                    os.close(descriptor)
        self._asked = question
        self._problems += len(sheets)
        try:
            verdict: Report = receive_with(session)[0]
        except (EOFError, OSError):
            return None
        return verdict

    def _opened(self) -> socket.socket:
        """The way to the judge's process; a new process, if there is none."""
        if self._session is None:
            self._session, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._asked, self._problems = {}, 0
            self._given("judge", (), _SESSION, [theirs.detach()])
        return self._session

    def _forget(self) -> None:
        """End the judge's process."""
        if self._session is not None:
            self._session.close()
            self._session = None
            self._servers["judge", ()].end()

    def close(self) -> None:
        """End all servers."""
        if self._session is not None:
            self._session.close()
        for server in self._servers.values():
            server.close()
        self._servers.clear()

    def _given(self, kind: Kind, modules: tuple[str, ...], job: Job, descriptors: list[int]) -> Server:
        """Hand a job to a server, to a new one if need be, and close the descriptors."""
        key = (kind, modules)
        try:
            if key in self._servers and self._servers[key].busy:
                self._settled(kind, modules)
            server = self._servers.get(key)
            if server is None or server.worn:
                server = self._renewed(key)
            try:
                server.give(job, descriptors)
            except Gone:
                server = self._renewed(key)
                server.give(job, descriptors)
        except Gone as error:
            raise EngineError(f"the sandbox's {kind} server ends as soon as it is given something to do") from error
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return server

    def _renewed(self, key: tuple[Kind, tuple[str, ...]]) -> Server:
        old = self._servers.pop(key, None)
        if old is not None:
            old.close()
        server = self._servers[key] = Server(*key)
        server.ready()
        return server

    def _settled(self, kind: Kind, modules: tuple[str, ...] = ()) -> Report | None:
        """Wait for the end of a server's job; None if the server ended first, which then has to go."""
        server = self._servers[kind, modules]
        try:
            return server.settle()
        except Gone:
            del self._servers[kind, modules]
            server.close()
            return None

    def _ended(self, job: Job, taken: float, otherwise: str = "") -> Tested:
        """Say why a program's process was not there any more."""
        report = self._settled("program")
        if report is None:
            return Tested(outcome="lost", why="the program's sandbox ended", seconds=taken)
        ended, why = _ending(report, job)
        if ended == "time":
            return Tested(outcome="time", why=why, seconds=taken)
        return Tested(outcome="ended", why=why or otherwise or _gone(report), seconds=taken)

    def _unjudged(self) -> Tested:
        """Say why the judge did not come to a verdict."""
        self._forget()
        report = self._settled("judge")
        if report is None:
            return Tested(outcome="lost", why="the judge's sandbox ended")
        if report["ended"] == "stopped":
            return Tested(outcome="tests", why=f"the problem's tests themselves took longer than {TESTS_SECONDS:g} s")
        return Tested(outcome="tests", why=f"the tests' process ended ({report['ended']}, {_status(report['status'])})")


def open_sandbox() -> BoxedSandbox:
    """Open a sandbox of this process's own; raises SandboxError, which says what to install, where that can't be."""
    return BoxedSandbox()


def _job(kind: str, seconds: float, memory: int, cpu: float | None = None) -> Job:
    limits = {"CPU": math.ceil(seconds if cpu is None else cpu) + 1}
    return {"kind": kind, "seconds": seconds, "memory": memory, "files": FILES, "tick": TICK, "limits": limits}


_SESSION = {"kind": "judge", "seconds": 1e9, "memory": MEMORY, "files": FILES, "tick": 0.2, "limits": {}}


def _starved(report: Report, seconds: float) -> bool:
    """Whether a program that took too long had to wait for a processor instead: then it was not its fault."""
    return bool(report and report["used"] < 0.9 * seconds and report["waited"] > 0.1 * seconds)


def _longer(report: Report, seconds: float) -> float:
    """What a program gets that had to wait for a processor: half as much again as it would have needed."""
    return min(seconds * LONGER, seconds + 1.5 * float(report["waited"]))


def _drained(out: int, err: int, seconds: float) -> _Read:
    """Read both pipes until all who could write are gone, or one has had more than it may."""
    data = {out: bytearray(), err: bytearray()}
    deadline = time.monotonic() + seconds
    poll = select.poll()
    for descriptor in data:
        poll.register(descriptor, select.POLLIN)
    left = set(data)
    while left and time.monotonic() < deadline:
        for descriptor, _ in poll.poll(1000 * (deadline - time.monotonic())):
            part = os.read(descriptor, 1 << 16)
            data[descriptor] += part
            if not part:
                left.discard(descriptor)
                poll.unregister(descriptor)
            if len(data[descriptor]) > OUTPUT:
                return _Read(bytes(data[out][:OUTPUT]), bytes(data[err][:OUTPUT]), True)
    return _Read(bytes(data[out]), bytes(data[err]), False)


def _ran(report: Report, read: _Read, job: Job) -> Ran:
    ended, why = _ending(report, job)
    if read.flooded:
        ended, why = "output", f"it printed more than {OUTPUT} bytes"
    return Ran(
        ended=ended,
        code=report["status"],
        stdout=read.stdout.decode(errors="replace"),
        stderr=read.stderr.decode(errors="replace"),
        seconds=report["seconds"],
        why=why,
    )


def _ending(report: Report, job: Job) -> tuple[Ended, str]:
    """Say what limit ended a job, if one did, and in which words."""
    limits = job["limits"]
    if report["ended"] == "memory" or (report["ended"] == "exited" and report["status"] == -signal.SIGKILL):
        return "memory", f"over its memory limit of {job['memory'] >> 20} MB"
    if report["ended"] == "files":
        return "files", f"it made more than {FILES} files"
    if report["ended"] == "time" or report["status"] == -signal.SIGXCPU:
        return "time", _too_slow(min(job["seconds"], limits["CPU"] - 1))
    return "exited", ""


def _too_slow(seconds: float) -> str:
    return f"over its time limit of {seconds:g} s"


def _gone(report: Report) -> str:
    return f"its process ended ({_status(report['status'])})"


def _status(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"exit status {status}"
