"""A fault, where it strikes, what is done to try it, and how that must end."""

import signal
from collections.abc import Callable
from typing import NamedTuple

from tests.faults.stand import Stand, Wrong

PROMISED = {
    "SIGKILL of the controller": (-signal.SIGKILL,),
    "SIGTERM of the controller": (130,),
    "SIGINT of the controller": (130,),
    "SIGKILL of the engine": (0,),
    "SIGTERM of the engine": (0,),
    "engine hangs": (0,),
    "SIGKILL of the trainer": (1,),
    "SIGTERM of the trainer": (1,),
    "out of memory in the trainer": (1,),
    "trainer hangs": (0,),
    "SIGKILL of the worker": (0,),
    "worker hangs": (0,),
    "verifier hangs": (0,),
    "sandbox killed": (0,),
    "disk full (ENOSPC)": (1,),
    "read-only file system (EROFS)": (1,),
    "permission lost (EACCES)": (1,),
    "input/output error (EIO)": (1,),
    "stale network file handle (ESTALE)": (1,),
    "rename": (0,),
    "clock jumps": (0,),
    "two controllers": (2,),
    "checkpoint's": (2,),
    "model's": (2,),
    "kill during export": (-signal.SIGKILL,),
    "term during export": (130,),
}
"""How faults begin, and the exit codes that docs/reliability.md promises for them ("How faults end")."""


class Came(NamedTuple):
    """What came of a fault."""

    code: int | None
    """The exit code of what was disturbed, 0 for every finished run; None where the fault can't be tried."""
    words: str
    """And of what followed, in a few words."""


class Case(NamedTuple):
    """One injected fault."""

    fault: str
    """What goes wrong."""
    point: str
    """Where."""
    run: str
    """The kind of run: small (the model is a rule), nano, server, vllm."""
    attempt: Callable[[Stand], Came]
    """Tries it; raises `stand.Wrong` where something is lost, doubled, changed or not told."""
    ends: tuple[int, ...] = ()
    """The exit codes that are right; by default those promised for such a fault."""

    @property
    def right(self) -> tuple[int, ...]:
        """The exit codes that are right."""
        return self.ends or next(codes for begin, codes in PROMISED.items() if self.fault.startswith(begin))

    def tried(self, stand: Stand) -> str:
        """Try it and return the outcome in a few words; raises `stand.Wrong` where it is not as it must be."""
        came = self.attempt(stand)
        if came.code is not None and came.code not in self.right:
            raise Wrong(f"exit code {came.code}, where {' or '.join(map(str, self.right))} is promised; {came.words}")
        return came.words
