"""What samplers with an engine process of ours share: its link, its requests, its end."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path

from selftrain.backends.link import Link, Refused
from selftrain.backends.process import Child
from selftrain.backends.served import served
from selftrain.lab import Completion, Request, Scored
from selftrain.records import seed_of


class EngineSampler(ABC):
    """A sampler whose engine is a child process; `kind`, `module`, `load`, `sleep` and `wake` are the engine's own."""

    module: str
    """What the engine process runs."""
    patience = 300.0
    """Seconds without a sign of life after which a busy engine counts as lost."""
    whole = False
    """Whether the engine needs a job whole, to do it the same way again."""

    def __init__(self, model: Path, *, log: Path, python: str) -> None:
        self._log = log
        self._python = python
        self._served = served(model)
        self._loading = threading.Lock()
        self.gap: float | None = None
        """The probe's difference at the last load; None where there was no probe."""
        self._link = Link(self._launch, patience=self.patience, whole=self.whole)
        try:
            self._started()
        except BaseException:
            self._link.close()
            raise

    @property
    def pid(self) -> int:
        """Process id of the engine as it runs now."""
        return self._link.pid

    def sample(self, requests: Sequence[Request], *, seed: int) -> Iterator[Completion]:
        """Yield one completion per request as they finish; each has a random stream of its own, made of its id.

        The requests are sent before the first completion is asked for. One that the engine refuses has the finish
        "failed", and the reason as its text.
        """
        items = {number: (each, seed_of(seed, each.id)) for number, each in enumerate(requests)}
        answers = self._link.stream("sample", items)
        return (_completion(requests[number], answer) for number, answer in answers)

    def score(self, sequences: Sequence[Scored]) -> list[tuple[float, ...]]:
        """Return the log-probability of each completion token, in nats."""
        answers = dict(self._link.stream("score", dict(enumerate(sequences))))
        for answer in answers.values():
            if isinstance(answer, Refused):
                raise answer
        return [answers[number] for number in range(len(sequences))]

    def close(self) -> None:
        """End the engine and all its processes."""
        self._link.close()

    @abstractmethod
    def _launch(self, starts: int) -> Child:
        """Start the engine process."""

    @abstractmethod
    def _started(self) -> None:
        """Describe an engine that was just started, and compare it with its checkpoint's probe."""


def _completion(request: Request, answer: Completion | Refused) -> Completion:
    if isinstance(answer, Refused):
        return Completion(id=request.id, ids=(), text=str(answer), finish="failed")
    return answer
