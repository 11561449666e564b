"""A worker of the verifier pool: loads verifiers and judges what its owner sends, one message a unit."""

import contextlib
import resource
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from selftrain.backends.pool import ANSWERED, Answer, Described, Judged, Order, Question, Unloadable
from selftrain.backends.process import die_with_owner, owner_pipe
from selftrain.errors import PluginError
from selftrain.records import Score
from selftrain.verification.verify import LONGEST_WHY, LoadedVerifier, load_verifier, storable


def main(memory: int) -> None:
    """Serve orders until the owner hangs up."""
    die_with_owner()
    _limit(memory)
    pipe = owner_pipe()
    given = _Given(pipe)
    verifiers: dict[str, LoadedVerifier] = {}
    while True:
        try:
            order: Order = pipe.recv()
        except EOFError:
            return
        try:
            verifier = verifiers.get(order.spec) or load_verifier(order.spec, given)
        except PluginError as error:
            pipe.send(Unloadable(str(error)))
            continue
        verifiers[order.spec] = verifier
        pipe.send(Described(verifier.name, verifier.group, verifier.asks, verifier.time_limit))
        _judge(order, verifier, pipe)


class _Given:
    """The resources of this worker's verifiers: the sandbox is its own, a model and a scorer are its owner's."""

    def __init__(self, pipe: "Connection[Any, Any]") -> None:
        self._pipe = pipe
        self._made: dict[str, object] = {}

    def __call__(self, resource: str) -> object:
        if resource not in self._made:
            if resource == "sandbox":
                from selftrain.backends.sandbox import open_sandbox

                self._made[resource] = open_sandbox()
            else:
                self._made[resource] = _Remote(self._pipe, resource)
        return self._made[resource]


class _Remote:
    """Hands calls to the owner and waits for their answers."""

    def __init__(self, pipe: "Connection[Any, Any]", resource: str) -> None:
        self._pipe = pipe
        self._resource = resource

    def __getattr__(self, method: str) -> Callable[..., Any]:
        if method not in ANSWERED[self._resource]:
            raise AttributeError(f"a {self._resource} has no {method}")

        def ask(*args: Any, **named: Any) -> Any:
            self._pipe.send(Question(self._resource, method, args, named))
            answer: Answer = self._pipe.recv()
            if answer.error:
                raise ValueError(answer.error)
            return answer.value

        return ask


def _judge(order: Order, verifier: LoadedVerifier, pipe: "Connection[Any, Any]") -> None:
    for problem, attempts in order.units:
        started = time.perf_counter()
        try:
            if verifier.group:
                scores = tuple(verifier.judge_group(problem=problem, attempts=attempts))
            else:
                scores = (verifier.judge(problem=problem, response=attempts[0]),)
        except BaseException as error:  # SystemExit too: it must not pass for the worker's own end
            scores = (Score(status="error", why=_said(error)),) * len(attempts)
        pipe.send(Judged(scores, time.perf_counter() - started))


def _said(error: BaseException) -> str:
    """Return an exception's type and message, and the file and line it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name} line {frames[-1].lineno})" if frames else ""
    return storable(f"{type(error).__name__}: {error}"[:LONGEST_WHY] + where)


def _limit(memory: int) -> None:
    """Bound what a verifier can take: memory, no core dumps, and first to go when the machine runs out."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = memory if hard == resource.RLIM_INFINITY else min(memory, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


if __name__ == "__main__":
    main(int(sys.argv[1]))
