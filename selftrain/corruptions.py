"""Corruptions: how a response is made wrong. A corruption takes a text and a random stream, and returns the changed
text, or None where there is nothing to change."""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from selftrain.proposals import NUMBER, other_number

Corruption = Callable[[str, random.Random], str | None]

_OPERATOR = re.compile(r"(?<=[\w)\]] )[-+*/](?= [\w(\[])|(?<=[\w)\]])[-+*/](?=[\w(\[])")


@dataclass(frozen=True, slots=True)
class NumberSwap:
    """Numbers changed to others with as many digits (the subtle errors of RISE, arXiv:2410.06638)."""

    count: int = 1

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
        if len(lines) < 2:
            return None
        del lines[draw.randrange(len(lines) - 1)]
        return "".join(lines)


@dataclass(frozen=True, slots=True)
class StepSwap:
    """Two neighbouring lines exchanged, the last one excepted."""

    def __call__(self, text: str, draw: random.Random) -> str | None:
        """Exchange two lines."""
        lines = text.splitlines()
        places = [at for at in range(len(lines) - 2) if lines[at] != lines[at + 1]]
        if not places:
            return None
        at = draw.choice(places)
        lines[at], lines[at + 1] = lines[at + 1], lines[at]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of several corruptions, at random among those that find something to change."""

    corruptions: tuple[Corruption, ...] = (NumberSwap(), OperatorSwap(), StepDrop())

    def __call__(self, text: str, draw: random.Random) -> str | None:
        """Try them in random order."""
        for each in draw.sample(self.corruptions, len(self.corruptions)):
            changed = each(text, draw)
            if changed is not None:
                return changed
        return None
