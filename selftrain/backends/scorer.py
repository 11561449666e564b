"""Reward and process models behind `lab.Scorer`: a child process of the pool's, started at the first question."""

import importlib.util
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from selftrain.backends import nursery, process
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
        self._children: dict[str, Child] = {}
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
        """The process id of the child that scores by transformers, if one runs."""
        child = self._children.get("transformers")
        return child.pid if child else None

    def score(
        self, model: str, conversations: Sequence[Sequence[Message]], *, engine: str = "transformers"
    ) -> list[float]:
        """Return a reward model's number for each conversation, whose last turn is the response."""
        found: list[float] = self._ask(engine, "score", model, [list(each) for each in conversations])
        return found

    def step_scores(
        self, model: str, prompt: Sequence[Message], responses: Sequence[Sequence[str]]
    ) -> list[tuple[float, ...]]:
        """Return, for each response given as its steps, a process model's probability that each step is right.

        The steps' texts follow each other as they are; each is encoded by itself and read at its last token.
        """
        steps = [list(each) for each in responses]
        found: list[tuple[float, ...]] = self._ask("transformers", "step_scores", model, list(prompt), steps)
        return found

    def close(self) -> None:
        """End its processes; whoever waits for an answer gets an EngineError."""
        self._closed = True
        for child in list(self._children.values()):
            child.process.kill()
        with self._asking:
            for engine in list(self._children):
                self._end(engine)

    def _ask(self, engine: str, *question: Any) -> Any:
        with self._asking:
            if engine not in self._children and not self._closed:
                self._children[engine] = self._start(engine)
            child = self._children.get(engine)
            # A first start takes seconds, in which it may be closed.
            if child is None or self._closed:
                raise EngineError("the scorer is closed")
            try:
                child.send(question)
                kind, answer = child.recv()
            except (EOFError, OSError):
                failure = child.failure("the process that scores by reward models is gone")
                self._end(engine)
                raise (EngineError("the scorer was closed while it was scoring") if self._closed else failure) from None
        if kind == "model":
            raise ModelError(answer)
        if kind == "question":
            raise ValueError(answer)
        return answer

    def _start(self, engine: str) -> Child:
        if engine == "transformers":
            return nursery.start("selftrain.backends.scorer_child", log=self._log)
        if engine != "vllm":
            raise ModelError(f"engine is {engine!r}; a reward model can be scored by transformers or vllm")
        if importlib.util.find_spec("vllm") is None:
            raise ModelError("engine is vllm, but vLLM is not installed; `make setup` installs it")
        # It lives alone, outside of the nursery.
        quiet = {"VLLM_LOGGING_LEVEL": "WARNING", "VLLM_NO_USAGE_STATS": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
        env = {name: value for name, value in quiet.items() if name not in os.environ}
        return process.start("selftrain.backends.scorer_child", engine, log=self._log, env=env)

    def _end(self, engine: str) -> None:
        self._children.pop(engine).close()
