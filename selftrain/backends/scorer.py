"""Reward and process models behind `lab.Scorer`: a child process of the pool's, started at the first question."""

import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from selftrain.backends import nursery
from selftrain.backends.process import Child
from selftrain.errors import EngineError, ModelError
from selftrain.records import Message


class ScorerProcess:
    """Loads models by folder, checkpoint folder or hub id and keeps the last few; implements `lab.Scorer`.

    Any thread may ask; questions are answered one after the other. A model that can't be used is a ModelError, a
    question that it can't take is a ValueError, and a lost process is an EngineError: the next question starts another.
    """

    def __init__(self, *, log: Path) -> None:
        """Start nothing yet."""
        self._log = log
        self._child: Child | None = None
        self._asking = threading.Lock()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The process id of the child, if one runs."""
        return self._child.pid if self._child else None

    def score(self, model: str, conversations: Sequence[Sequence[Message]]) -> list[float]:
        """Return a reward model's number for each conversation, whose last turn is the response."""
        found: list[float] = self._ask("score", model, [list(each) for each in conversations])
        return found

    def step_scores(
        self, model: str, prompt: Sequence[Message], responses: Sequence[Sequence[str]]
    ) -> list[tuple[float, ...]]:
        """Return, for each response given as its steps, a process model's probability that each step is right.

        The steps' texts follow each other as they are; each is encoded by itself and read at its last token.
        """
        found: list[tuple[float, ...]] = self._ask("step_scores", model, list(prompt), [list(r) for r in responses])
        return found

    def close(self) -> None:
        """End the process; whoever waits for an answer gets an EngineError."""
        self._closed = True
        if (child := self._child) is not None:
            child.process.kill()
        with self._asking:
            self._end()

    def _ask(self, *question: Any) -> Any:
        with self._asking:
            if self._child is None and not self._closed:
                self._child = nursery.start("selftrain.backends.scorer_child", log=self._log)
            child = self._child
            # A first start takes seconds, in which it may be closed.
            if child is None or self._closed:
                raise EngineError("the scorer is closed")
            try:
                child.send(question)
                kind, answer = child.recv()
            except (EOFError, OSError):
                failure = child.failure("the process that scores by reward models is gone")
                self._end()
                raise (EngineError("the scorer was closed while it was scoring") if self._closed else failure) from None
        if kind == "model":
            raise ModelError(answer)
        if kind == "question":
            raise ValueError(answer)
        return answer

    def _end(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None
