"""Corruptions: how a response is made wrong. A corruption takes a text and a random stream, and returns the changed
text, or None where there is nothing to change."""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from selftrain.errors import RecipeError
from selftrain.proposals import NUMBER, other_number

Corruption = Callable[[str, random.Random], str | None]

# An operand is a number, a letter or a bracket: the hyphens and dashes of words are no minus signs.
_OPERATOR = re.compile(
    r"(?:(?<=[\d)\]] )|(?<=\b\w ))[-+*/](?= (?:[\d(\[]|\w\b))|(?:(?<=[\d)\]])|(?<=\b\w))[-+*/](?=[\d(\[]|\w\b)"
)


@dataclass(frozen=True, slots=True)
class NumberSwap:
    """Numbers changed to others with as many digits (the subtle errors of RISE, arXiv:2410.06638)."""

    count: int = 1

    def __post_init__(self) -> None:
        if self.count < 1:
            raise RecipeError(f"NumberSwap({self.count}): the count must be at least 1")

    def __call__(self, text: str, draw: random.Random) -> str | None:
        """Change `count` numbers, or as many as there are."""
        found = list(NUMBER.finditer(text))
        for match in sorted(draw.sample(found, min(self.count, len(found))), key=lambda m: -m.start()):
            text = text[: match.start()] + other_number(match[0], draw) + text[match.end() :]
        return text if found else None


@dataclass(frozen=True, slots=True)
class OperatorSwap:
    """One arithmetic operator changed to another."""

    def __call__(self, text: str, draw: random.Random) -> str | None:
        """Change one operator between two operands."""
        found = list(_OPERATOR.finditer(text))
        if not found:
            return None
        match = draw.choice(found)
        return text[: match.start()] + draw.choice([o for o in "+-*/" if o != match[0]]) + text[match.end() :]


@dataclass(frozen=True, slots=True)
class StepDrop:
    """One line left out, never the last one, which says the answer."""

    def __call__(self, text: str, draw: random.Random) -> str | None:
        """Drop a line."""
        lines = text.splitlines(keepends=True)
        steps = _steps(lines)
        if not steps:
            return None
        del lines[draw.choice(steps)]
        return "".join(lines)


@dataclass(frozen=True, slots=True)
class StepSwap:
    """Two neighbouring lines exchanged, the last one excepted."""

    def __call__(self, text: str, draw: random.Random) -> str | None:
        """Exchange two lines."""
        lines = text.splitlines(keepends=True)
        places = [(a, b) for a, b in pairwise(_steps(lines)) if lines[a] != lines[b]]
        if not places:
            return None
        a, b = draw.choice(places)
        lines[a], lines[b] = lines[b], lines[a]
        return "".join(lines)


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of several corruptions, at random among those that find something to change."""

    corruptions: tuple[Corruption, ...] = (NumberSwap(), OperatorSwap(), StepDrop())

    def __post_init__(self) -> None:
        if not self.corruptions:
            raise RecipeError("OneOf: give at least one corruption")

    def __call__(self, text: str, draw: random.Random) -> str | None:
        """Try them in random order."""
        for each in draw.sample(self.corruptions, len(self.corruptions)):
            changed = each(text, draw)
            if changed is not None:
                return changed
        return None


def _steps(lines: Sequence[str]) -> list[int]:
    """Return where the lines with something on them are, but for the last of these."""
    return [at for at, line in enumerate(lines) if line.strip()][:-1]
