"""Judge samples in worker processes, each item under a time limit that ends in SIGKILL.

A thread per worker takes chunks of items from one queue, so several `verify` calls share the workers. A worker sends
one message an item, right after judging it: the first item without one is what the worker is at, so a verifier that
hangs or takes its process down costs that item only. What is left of its chunk goes back to the queue. Equal responses
to one problem are judged once: a verdict is a function of the two.
"""

import contextlib
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from selftrain import pulse
from selftrain.backends.process import Child, start
from selftrain.errors import EngineError, PluginError, UserError
from selftrain.lab import AskedModel
from selftrain.records import Problem, Sample, Score, Verdict, digest

if TYPE_CHECKING:
    from selftrain.backends.scorer import ScorerProcess

CHUNK = 64
"""Items that a worker gets at once, at most."""
LOAD_LIMIT = 120.0
"""Seconds a worker has for starting and loading a verifier."""
MEMORY = 4 << 30
"""Bytes of private memory a worker may allocate before Python raises MemoryError in it."""

ANSWERED = {"model": ("sample", "score"), "scorer": ("score", "step_scores")}
"""The resources that the pool's owner has, and what verifiers may call of them."""

Item = tuple[Problem, Sample]


class Described(NamedTuple):
    """What a worker says of a verifier it has loaded."""

    name: str
    group: bool
    asks: frozenset[str]
    time_limit: float


class Judged(NamedTuple):
    """A worker's message about one unit: a score for each of its items or one for all, and how long it took."""

    scores: tuple[Score, ...]
    seconds: float


class Question(NamedTuple):
    """A worker's message that a verifier calls a resource which its owner has."""

    resource: str
    method: str
    args: tuple[Any, ...]
    named: dict[str, Any]


class Answer(NamedTuple):
    """The owner's answer to a question: what came back, or why nothing did."""

    value: Any = None
    error: str = ""


class Unloadable(NamedTuple):
    """A worker's message that the verifier can't be had."""

    why: str


@dataclass(frozen=True)
class Order:
    """What a worker is asked: to load a verifier and judge units, each of one item or of all of a problem's."""

    spec: str
    units: tuple[tuple[Problem, tuple[Any, ...]], ...]
    """Samples for a verifier of groups, else their one text: token ids are of no use to it."""


@dataclass
class _Call:
    """One `verify` call: where its verdicts go, and whether anybody still wants them."""

    model: AskedModel | None = None
    results: "queue.SimpleQueue[list[Verdict] | Described | BaseException]" = field(default_factory=queue.SimpleQueue)
    over: bool = False


class _Chunk(NamedTuple):
    call: _Call
    spec: str
    units: tuple[tuple[Item, ...], ...]
    about: Described | None
    """None asks for a description of the verifier."""


class VerifierPool:
    """Workers that judge samples; implements `lab.Verifiers`."""

    def __init__(
        self,
        workers: int | None = None,
        *,
        log: Path | None = None,
        time_limit: float | None = None,
        memory: int = MEMORY,
        model: AskedModel | None = None,
    ) -> None:
        """Make a pool; processes start when there is work.

        `time_limit` overrides the verifiers' own; `model` is whom they ask where `verify` names nobody.
        """
        self._model = model
        self._workers = workers or os.cpu_count() or 1
        self._log = log
        self._time_limit = time_limit
        self._memory = memory
        self._chunks: queue.Queue[_Chunk | None] = queue.Queue()
        self._threads: list[threading.Thread] = []
        self._children: set[Child] = set()
        self._described: dict[str, Described] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._scoring: ScorerProcess | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def describe(self, spec: str) -> Described:
        """Load a verifier in a worker and return what it is; raises PluginError where it can't be had."""
        if spec not in self._described:
            call = _Call()
            self._put([_Chunk(call, spec, (), None)])
            answer = call.results.get()
            if isinstance(answer, BaseException):
                raise answer
            assert isinstance(answer, Described)
            self._described[spec] = answer
        return self._described[spec]

    def verify(self, by: str, items: Sequence[Item], *, model: AskedModel | None = None) -> Iterator[Verdict]:
        """Yield one verdict per item as they come; '' takes each problem's own verifier, and `model` is what they ask.

        Raises PluginError for a verifier that isn't there or doesn't load; whatever it does to an item is a verdict.
        """
        call = _Call(model or self._model)
        try:
            self._put(self._cut(call, by, items))
            left = len(items)
            while left:
                answer = call.results.get()
                if isinstance(answer, BaseException):
                    raise answer
                assert isinstance(answer, list)
                left -= len(answer)
                yield from answer
        finally:
            call.over = True

    def close(self) -> None:
        """End the workers; a `verify` still under way raises EngineError."""
        with self._lock:
            self._closed = True
            children, threads, scoring = list(self._children), list(self._threads), self._scoring
        for child in children:
            _kill(child)
        if scoring is not None:
            scoring.close()
        for _ in threads:
            self._chunks.put(None)
        for thread in threads:
            thread.join()
        for child in list(self._children):
            self._gone(child)

    def _cut(self, call: _Call, by: str, items: Sequence[Item]) -> list[_Chunk]:
        """Group items by verifier, and those of a group verifier by problem, into chunks."""
        by_spec: dict[str, list[Item]] = {}
        for problem, sample in items:
            by_spec.setdefault(by or problem.verifier, []).append((problem, sample))
        size = max(1, min(CHUNK, len(items) // (4 * self._workers)))
        chunks = []
        for spec, mine in by_spec.items():
            about = self.describe(spec)
            if "model" in about.asks and call.model is None:
                raise PluginError(
                    f"verifier {spec!r} asks a model, and none is named; say which, as in verify.model=policy"
                    " (--model of the commands that judge a file or a run)"
                )
            groups: dict[tuple[str, str, str], list[Item]] = {}
            for problem, sample in mine:
                # A problem's id leaves out its meta, and a verifier may judge by nothing else (a schema, a pattern).
                meta = digest(dict(problem.meta)) if problem.meta else ""
                key = (problem.id, meta, "" if about.group else sample.text)
                groups.setdefault(key, []).append((problem, sample))
            units = [tuple(group) for group in groups.values()]
            chunks += [_Chunk(call, spec, tuple(units[at : at + size]), about) for at in range(0, len(units), size)]
        return chunks

    def _put(self, chunks: Sequence[_Chunk]) -> None:
        with self._lock:
            if self._closed:
                raise EngineError("the verifier pool is closed")
            while len(self._threads) < min(self._workers, len(self._threads) + len(chunks)):
                thread = threading.Thread(target=self._serve, name=f"verifier-{len(self._threads)}", daemon=True)
                self._threads.append(thread)
                thread.start()
            for chunk in chunks:
                self._chunks.put(chunk)

    def _serve(self) -> None:
        """Run one worker, and a new one after each that died, until the pool is closed."""
        child: Child | None = None
        while (chunk := self._chunks.get()) is not None:
            if self._closed:
                chunk.call.results.put(EngineError("the verifier pool was closed while it was judging"))
            elif not chunk.call.over:
                try:
                    child = self._work(chunk, child)
                except Exception as error:
                    chunk.call.results.put(error)
                    self._gone(child)
                    child = None
        self._gone(child)

    def _work(self, chunk: _Chunk, child: Child | None) -> Child | None:
        """Have a chunk judged; returns the worker, or None if it died of it."""
        child, loaded = self._with_verifier(chunk, child)
        if isinstance(loaded, Unloadable):
            chunk.call.results.put(PluginError(loaded.why))
            if child.returncode is None:
                return child
            self._gone(child)
            return None
        if chunk.about is None:
            chunk.call.results.put(loaded)
            return child
        for at, unit in enumerate(chunk.units):
            alive = not chunk.call.over and self._judged(chunk, chunk.about, unit, child)
            if not alive:
                if rest := chunk.units[at + 1 :]:
                    self._put([chunk._replace(units=rest)])
                self._gone(child)
                return None
        return child

    def _with_verifier(self, chunk: _Chunk, child: Child | None) -> tuple[Child, Described | Unloadable]:
        """Return a worker and what it has loaded; one that ends over it, a new one too, is replaced once.

        Raises EngineError if that one is killed as well: the verifier may be in order.
        """
        child = child or self._started()
        loaded = self._loaded(chunk, child)
        if loaded is None:
            # It may have died of what it judged before, for want of memory, or by somebody's hand.
            self._gone(child)
            child = self._started()
            loaded = self._loaded(chunk, child)
        if self._closed:
            raise EngineError("the verifier pool was closed while it was judging")
        if loaded is None:
            why = f"verifier {chunk.spec!r}: its process ended while loading it: {_ending(child)}"
            if (child.returncode or 0) < 0:
                self._gone(child)
                raise EngineError(
                    f"{why}, and so did the one before; if memory is short end something else or take fewer workers,"
                    " and the same command goes on"
                )
            loaded = Unloadable(why)
        return child, loaded

    def _loaded(self, chunk: _Chunk, child: Child) -> Described | Unloadable | None:
        """Give a chunk to a worker and hear what it has loaded; None if its process ended before it could say."""
        group = chunk.about is not None and chunk.about.group
        units = tuple(
            (unit[0][0], tuple(sample for _, sample in unit) if group else (unit[0][1].text,)) for unit in chunk.units
        )
        try:
            child.send(Order(chunk.spec, units))
            if child.poll(LOAD_LIMIT):
                answer: Described | Unloadable = child.recv()
                return answer
        except (EOFError, OSError):
            return None
        _kill(child)
        child.process.wait()
        return Unloadable(f"verifier {chunk.spec!r} was not loaded after {LOAD_LIMIT:g} s")

    def _judged(self, chunk: _Chunk, about: Described, unit: tuple[Item, ...], child: Child) -> bool:
        """Wait for one unit's verdicts; False if the worker is lost: it hung, or its process ended."""
        limit = (self._time_limit or about.time_limit) * (len(unit) if about.group else 1)
        started = time.monotonic()
        try:
            answer = self._heard(chunk.call, child, limit)
        except (EOFError, OSError):
            if self._closed:
                raise EngineError("the verifier pool was closed while it was judging") from None
            died = Score(status="error", why=f"the verifier's process ended: {_ending(child)}")
            answer, alive = Judged((died,), time.monotonic() - started), False
        else:
            alive = answer is not None
        if answer is None:
            late = Score(status="timeout", why=f"the verifier took longer than its limit of {limit:g} s")
            answer = Judged((late,), limit)
        scores = answer.scores if len(answer.scores) == len(unit) else answer.scores * len(unit)
        each = answer.seconds / len(unit)
        verdicts = [_verdict(s.id, chunk.spec, score, each) for (_, s), score in zip(unit, scores, strict=True)]
        chunk.call.results.put(verdicts)
        pulse.beat()
        return alive

    def _heard(self, call: _Call, child: Child, limit: float) -> Judged | None:
        """Answer a worker's questions until it has judged its unit; None if that takes longer than `limit` seconds.

        The time that answers take is not the verifier's.
        """
        end = time.monotonic() + limit
        while child.poll(max(0.0, end - time.monotonic())):
            message: Judged | Question = child.recv()
            if isinstance(message, Judged):
                return message
            asked = time.monotonic()
            child.send(self._answer(call, message))
            end += time.monotonic() - asked
        return None

    def _answer(self, call: _Call, question: Question) -> Answer:
        """Call what a verifier asks for; a lost engine or wrong model ends the call, other trouble is the item's."""
        if question.method not in ANSWERED[question.resource]:
            return Answer(error=f"a {question.resource} has no {question.method}")
        target: object = call.model
        args = question.args
        if question.resource == "scorer":
            target, args = self._scorer(), _with_model(args, call.model)
        try:
            return Answer(getattr(target, question.method)(*args, **question.named))
        except UserError:
            raise
        except (ValueError, TypeError) as error:
            return Answer(error=str(error))

    def _scorer(self) -> "ScorerProcess":
        from selftrain.backends.scorer import ScorerProcess

        with self._lock:
            if self._closed:
                raise EngineError("the verifier pool was closed while it was judging")
            self._scoring = self._scoring or ScorerProcess(log=self._log or Path(os.devnull))
            return self._scoring

    def _started(self) -> Child:
        with self._lock:
            if self._closed:
                raise EngineError("the verifier pool was closed while it was judging")
            child = start(
                "selftrain.backends.pool_worker",
                str(self._memory),
                log=self._log or Path(os.devnull),
                # One thread each: there are as many workers as cores. Hash order must not decide a verdict.
                env={"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"},
            )
            self._children.add(child)
            return child

    def _gone(self, child: Child | None) -> None:
        """End a worker for good."""
        if child is not None:
            with self._lock:
                known = child in self._children
                self._children.discard(child)
            # Once only: its number may be another process's by now.
            if known:
                _kill(child)
                child.close()


def _with_model(args: tuple[Any, ...], model: AskedModel | None) -> tuple[Any, ...]:
    """Return a scorer's arguments with the stage's model where the verifier names none."""
    if args[:1] != ("",):
        return args
    if model is None:
        raise PluginError(
            'a verifier that scores by a reward or process model names none; set its "model", or name one of the '
            "recipe's, as in verify.model=reward"
        )
    return (str(model.folder), *args[1:])


def _kill(child: Child) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def _ending(child: Child) -> str:
    """Say how a worker's process ended."""
    try:
        status = child.process.wait(5.0)
    except subprocess.TimeoutExpired:
        return "it closed its pipe"
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


def _verdict(sample: str, by: str, score: Score, seconds: float) -> Verdict:
    return Verdict(
        sample=sample,
        by=by,
        status=score.status,
        score=score.score,
        step_scores=score.step_scores,
        why=score.why,
        answer=score.answer,
        seconds=seconds,
    )
