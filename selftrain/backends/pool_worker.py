"""A worker of the verifier pool: loads verifiers and judges what its owner sends, one message a unit."""

import contextlib
import resource
import sys
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from selftrain.backends.pool import Described, Judged, Order, Unloadable
from selftrain.backends.process import die_with_owner, owner_pipe
from selftrain.errors import PluginError
from selftrain.records import Score
from selftrain.verify import LONGEST_WHY, LoadedVerifier, load_verifier


def main(memory: int) -> None:
    """Serve orders until the owner hangs up."""
    die_with_owner()
    _limit(memory)
    pipe = owner_pipe()
    verifiers: dict[str, LoadedVerifier] = {}
    while True:
        try:
            order: Order = pipe.recv()
        except EOFError:
            return
        try:
            verifier = verifiers.get(order.spec) or load_verifier(order.spec)
        except PluginError as error:
            pipe.send(Unloadable(str(error)))
            continue
        verifiers[order.spec] = verifier
        pipe.send(Described(verifier.name, verifier.group, verifier.needs, verifier.time_limit))
        _judge(order, verifier, pipe)


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
    return f"{type(error).__name__}: {error}"[:LONGEST_WHY] + where


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
