"""Ask other verifiers and put together what they say: for verifiers made of verifiers.

Pass and fail are truth values; error, timeout and abstain are "not known". A score without a verdict is no truth value:
where one is needed it becomes an error. Whatever a part raises is an error of that part, never a fail; a part that
hangs takes the whole with it, which the worker pool ends as a timeout.
"""

import json
import math
from collections.abc import Iterable, Sequence

from selftrain.errors import PluginError
from selftrain.lab import Judge
from selftrain.records import Json, Problem, Score

Part = str | Json
"""A verifier that another one uses: its spec, or the spec's JSON; "" is the problem's own."""

GRAVEST = ("error", "timeout", "abstain")
"""What isn't known, the gravest first: of several the whole takes the gravest."""


def spec_of(part: Part) -> str:
    """Return a part's spec as a text."""
    return part if isinstance(part, str) else json.dumps(dict(part), sort_keys=True)


def named(parts: Iterable[Part]) -> tuple[str, ...]:
    """Return the specs of the parts that are named, for `parts`; the problem's own is known with the problem only."""
    return tuple(spec for part in parts if (spec := spec_of(part)))


def ask(judge: Judge, part: Part, *, problem: Problem, response: str) -> Score:
    """Return what a part says, and an error where it raises."""
    try:
        return judge(spec_of(part), problem=problem, response=response)
    except PluginError:
        raise
    except Exception as error:
        return Score(status="error", why=f"{label(part)}: {type(error).__name__}: {error}")


def label(part: Part) -> str:
    """Return how a part is called in a why."""
    return spec_of(part) or "the problem's own verifier"


def truth(score: Score, part: Part) -> Score:
    """Return a score that is pass, fail or not known: a mere score becomes an error that says what to do."""
    if score.status != "scored":
        return score
    why = f"{label(part)} gives a score, not pass or fail; give it a threshold"
    return Score(status="error", why=why, answer=score.answer)


def gravest(scores: Sequence[Score]) -> Score | None:
    """Return the gravest of the scores that are not known, the first of its kind, or None."""
    unknown = [score for score in scores if score.status in GRAVEST]
    return min(unknown, key=lambda score: GRAVEST.index(score.status), default=None)


def checked_parts(parts: Sequence[Part]) -> None:
    """Refuse an empty list of parts; raises ValueError."""
    if not parts:
        raise ValueError("it needs at least one verifier")


def checked_share(name: str, value: float | None) -> None:
    """Refuse what is no share; raises ValueError."""
    if value is not None and not (math.isfinite(value) and 0 <= value <= 1):
        raise ValueError(f"{name} is {value}; it must be from 0 to 1")
