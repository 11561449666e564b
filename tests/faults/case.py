"""A fault, where it strikes, and what is done to try it."""

from collections.abc import Callable
from typing import NamedTuple

from tests.faults.stand import Stand


class Case(NamedTuple):
    """One injected fault."""

    fault: str
    """What goes wrong."""
    point: str
    """Where."""
    run: str
    """The kind of run: small (the model is a rule), nano, server, vllm."""
    attempt: Callable[[Stand], str]
    """Tries it; returns the outcome in a few words, or raises `stand.Wrong`."""
