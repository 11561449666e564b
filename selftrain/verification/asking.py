"""Asking a model about several things at once, for verifiers."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from selftrain.records import Score

T = TypeVar("T")
R = TypeVar("R")


def each_or_error(ask: Callable[[Sequence[T]], Sequence[R]], items: Sequence[T]) -> list[R | Score]:
    """Ask about all items at once; where that is refused, one by one, with an error for those that are refused.

    So a response that is longer than the model's context costs itself only.
    """
    if not items:
        return []
    try:
        return list(ask(items))
    except ValueError as error:
        if len(items) == 1:
            return [Score(status="error", why=str(error))]
    return [found for item in items for found in each_or_error(ask, [item])]


def thresholded(score: float, threshold: float | None, *, why: str = "", below: bool = False) -> Score:
    """Return a score as it is, or with a threshold as pass or fail; with `below`, what is at most the threshold passes.

    The score is kept either way.
    """
    if threshold is None:
        return Score(status="scored", score=score, why=why)
    passes = score <= threshold if below else score >= threshold
    return Score(status="pass" if passes else "fail", score=score, why=why)
