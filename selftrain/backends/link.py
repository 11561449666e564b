"""The owner's end of an engine process: jobs go in, answers come out, and a lost engine is started again.

A job is an operation on numbered items, answered item by item. Jobs of several threads are open at once. When the
process dies or goes silent it is started again and gets what was not answered; every item is answered exactly once.
"""

import contextlib
import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from selftrain import pulse
from selftrain.backends.process import Child
from selftrain.errors import ConfigError, EngineError

log = logging.getLogger(__name__)

LOSSES = 3
"""So many losses in a row without an answer, or of one job, are a failure."""
START_SECONDS = 1800.0
_starting: set[Child] = set()
"""Engines that are not ready yet: nobody else knows of them."""


def end_starting() -> None:
    """Kill the engines that are being started; whoever waits for one gets an error."""
    for child in list(_starting):
        child.process.kill()


class Refused(EngineError):
    """An engine that is well refuses one item."""


@dataclass(eq=False, slots=True)
class Job:
    """An operation whose items are being answered."""

    id: int
    op: str
    items: dict[int, Any]
    """What is not answered yet; all of it from the start where the engine needs whole jobs."""
    patience: float
    again: bool
    """Whether to send it again to a new engine; what changes the engine is not."""
    answers: "queue.SimpleQueue[tuple[int, Any]]" = field(default_factory=queue.SimpleQueue)
    left: set[int] = field(default_factory=set)
    losses: int = 0
    sent_to: Child | None = None


class Link:
    """A supervised engine process. `launch` starts it; it is told how many starts there were before."""

    def __init__(self, launch: Callable[[int], Child], *, patience: float = 300.0, whole: bool = False) -> None:
        self._launch = launch
        self._patience = patience
        self._whole = whole
        self._numbers = itertools.count()
        self._jobs: dict[int, Job] = {}
        self._changed = threading.Condition()
        self._delivery = threading.Lock()
        self._holder: int | None = None
        self._broken: EngineError | None = None
        self._closing = False
        self._losses = 0
        self.starts = 0
        self.info: Mapping[str, Any] = {}
        self._child, self._reader = self._start()

    @property
    def pid(self) -> int:
        """Process id of the engine as it runs now."""
        return self._child.pid

    def stream(self, op: str, items: Mapping[int, Any]) -> Iterator[tuple[int, Any]]:
        """Send a job at once; the iterator yields its answers, then raises the first failed item's error.

        What the engine refused is an answer too, a `Refused`.
        """
        return self._answers(self._submit(op, items, self._patience, True), len(items)) if items else iter(())

    def call(self, op: str, item: Any, *, patience: float = START_SECONDS, again: bool = False) -> Any:
        """Send a job of one item and return its answer."""
        ((_, answer),) = self._answers(self._submit(op, {0: item}, patience, again), 1)
        if isinstance(answer, Refused):
            raise answer
        return answer

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Wait until every job is answered, and let no other thread's in meanwhile."""
        with self._changed:
            self._changed.wait_for(lambda: self._holder is None)
            self._holder = threading.get_ident()
            self._changed.wait_for(lambda: not self._jobs)
        try:
            yield
        finally:
            with self._changed:
                self._holder = None
                self._changed.notify_all()

    def restart(self) -> None:
        """End the engine and start it again as `launch` now starts it; call it inside `exclusive`."""
        self._retire()
        self._closing, self._broken, self._losses = False, None, 0
        self._child, self._reader = self._start()

    def close(self) -> None:
        """End the engine; open jobs fail."""
        self._retire()
        self._fail_all(EngineError("the sampler was closed while requests were open"))

    def _submit(self, op: str, items: Mapping[int, Any], patience: float, again: bool) -> Job:
        job = Job(next(self._numbers), op, dict(items), patience, again, left=set(items))
        with self._changed:
            self._changed.wait_for(lambda: self._holder in (None, threading.get_ident()))
            if self._broken or self._closing:
                raise self._broken or EngineError("the sampler is closed")
            self._jobs[job.id] = job
        self._deliver(job)
        return job

    def _answers(self, job: Job, count: int) -> Iterator[tuple[int, Any]]:
        failed: Exception | None = None
        try:
            for _ in range(count):
                number, answer = job.answers.get()
                if isinstance(answer, Exception) and not isinstance(answer, Refused):
                    failed = failed or answer
                else:
                    yield number, answer
            if failed:
                raise failed
        finally:
            self._abandon(job)

    def _abandon(self, job: Job) -> None:
        """Take back what is still open of a job whose caller has stopped listening."""
        with self._changed:
            dropped = self._jobs.pop(job.id, None)
            self._changed.notify_all()
        if dropped:
            with contextlib.suppress(OSError):
                self._child.send(("abort", job.id))

    def _deliver(self, job: Job) -> None:
        """Send a job to the engine that runs now, once; a dead engine's end is the reader's business."""
        with self._delivery, contextlib.suppress(OSError):
            child = self._child
            if job.sent_to is not child:
                job.sent_to = child
                child.send(("job", job.id, job.op, list(job.items.items())))

    def _start(self) -> tuple[Child, threading.Thread]:
        began = time.monotonic()
        child = self._launched = self._launch(self.starts)
        self.starts += 1
        _starting.add(child)
        try:
            self.info = self._ready(child)
        except BaseException:
            child.close(0.0)
            raise
        finally:
            _starting.discard(child)
        log.info("%s started in %.1f s, pid %d", self.info.get("engine", "engine"), time.monotonic() - began, child.pid)
        reader = threading.Thread(target=self._read, args=(child,), name="engine-reader", daemon=True)
        reader.start()
        return child, reader

    def _ready(self, child: Child) -> Mapping[str, Any]:
        try:
            if not child.poll(START_SECONDS):
                raise child.failure(f"the engine was not ready after {START_SECONDS:.0f} s")
            kind, what = child.recv()
        except (EOFError, OSError) as error:
            raise child.failure("the engine ended while it started") from error
        if kind == "refused":
            raise ConfigError(what)
        info: Mapping[str, Any] = what
        return info

    def _read(self, child: Child) -> None:
        heard = time.monotonic()
        while True:
            try:
                if child.poll(1.0):
                    self._dispatch(child.recv())
                    heard = time.monotonic()
                elif not self._jobs:
                    heard = time.monotonic()
                elif time.monotonic() - heard > (limit := self._limit()):
                    return self._lost(child, f"the engine gave no sign of life for {limit:.0f} s")
            except (EOFError, OSError):
                return self._lost(child, "the engine process ended")

    def _limit(self) -> float:
        with self._changed:
            return max((job.patience for job in self._jobs.values()), default=self._patience)

    def _dispatch(self, message: tuple[Any, ...]) -> None:
        pulse.beat()
        if message[0] == "beat":
            return
        with self._changed:
            for number, item, answer in message[1]:
                job = self._jobs.get(number)
                if job is None or item not in job.left:
                    continue
                job.left.discard(item)
                if not self._whole:
                    del job.items[item]
                failed = message[0] == "failed"
                job.answers.put((item, Refused(answer) if failed else answer))
                if not failed:
                    self._losses = 0
                if not job.left:
                    del self._jobs[number]
            self._changed.notify_all()

    def _lost(self, child: Child, why: str) -> None:
        """Start a new engine in place of a lost one and send it what is open, or give up."""
        if self._closing or child is not self._child:
            return
        self._losses += 1
        failure = child.failure(why)
        child.close(0.0)
        log.warning("engine lost (%d in a row): %s", self._losses, failure)
        for job in list(self._jobs.values()):
            job.losses += 1
        if self._losses < LOSSES:
            try:
                self._child, self._reader = self._start()
            except (EngineError, ConfigError, OSError) as error:
                failure, self._losses = EngineError(f"the engine was lost and did not start again: {error}"), LOSSES
        if self._losses >= LOSSES:
            self._broken = failure
            self._fail_all(failure)
            return
        self._fail_if(failure, lambda job: job.losses >= LOSSES or not job.again)
        for job in list(self._jobs.values()):
            self._deliver(job)

    def _fail_all(self, error: EngineError) -> None:
        self._fail_if(error, lambda job: True)

    def _fail_if(self, error: EngineError, doomed: Callable[[Job], bool]) -> None:
        with self._changed:
            for job in [job for job in self._jobs.values() if doomed(job)]:
                for item in job.left:
                    job.answers.put((item, error))
                del self._jobs[job.id]
            self._changed.notify_all()

    def _retire(self) -> None:
        """End the engine, whether it runs or is being started by the reader."""
        self._closing = True
        while self._reader.is_alive():
            self._launched.process.kill()
            self._reader.join(0.2)
        self._child.close(0.0)
