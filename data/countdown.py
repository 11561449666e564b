"""Countdown with three or four digits: signs put between them make a target; made on the spot, no download.

A solution tries one expression after the other, always in the same order, until one makes the target:

    Make 12 from 8, 5, 1.       8+5+1=14
                                8*5+1=41
                                8+5-1=12
                                #### 8+5-1

The digits are given in falling order, and all targets are made by one of `FORMS`, the expressions that are tried; any
other expression that makes the target is right too. Level 1 has three digits, plus and minus; level 2 has a product;
level 3 has four digits, plus and minus.
"""

import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from selftrain.problems import fill_by_level
from selftrain.records import Problem

HARDEST = 3
FORMS = {
    3: ("+ +", "* +", "+ -", "* -", "- +"),
    4: ("+ + +", "+ + -", "+ - +", "- + +", "+ - -", "- + -"),
}
"""The signs that are tried, by the number of digits; none makes a number below zero of falling digits."""
OF_LEVEL = {1: (3, ("+ +", "+ -", "- +")), 2: (3, ("* +", "* -")), 3: (4, FORMS[4])}
"""How many digits a level has, and the signs that make its targets."""


class Game(NamedTuple):
    """The digits, in falling order, and the number to make."""

    digits: tuple[int, ...]
    target: int


def load(
    *,
    train: int = 200,
    valid: int = 100,
    test: int = 100,
    seed: int = 0,
    min_level: int = 1,
    max_level: int = HARDEST,
) -> Mapping[str, Sequence[Problem]]:
    """Return distinct games by split; the splits draw from disjoint parts of all games."""
    counts = {"train": train, "valid": valid, "test": test}
    return fill_by_level(
        "countdown",
        lambda stream, level: problem(draw(stream, level)),
        counts,
        seed=seed,
        levels=(min_level, max_level),
        hardest=HARDEST,
    )


def bundled() -> Sequence[Problem]:
    """Return a few games."""
    return load(train=10, valid=0, test=0)["train"]


def draw(stream: random.Random, level: int) -> Game:
    """Draw digits and one of the level's ways to join them that is not found at another level."""
    count, ways = OF_LEVEL[level]
    while True:
        digits = tuple(sorted((stream.randint(1, 9) for _ in range(count)), reverse=True))
        game = Game(digits, _value(digits, stream.choice(ways)))
        if tried(game)[-1] in ways:
            return game


def problem(game: Game) -> Problem:
    """Write a game as a problem with its solution."""
    signs = tried(game)[-1]
    (level,) = [level for level, (count, ways) in OF_LEVEL.items() if count == len(game.digits) and signs in ways]
    return Problem.of(
        f"Make {game.target} from {', '.join(map(str, game.digits))}.",
        solution="\n".join(steps(game)),
        verifier="countdown",
        meta={"numbers": list(game.digits), "target": game.target, "level": level},
    )


def tried(game: Game) -> list[str]:
    """Return the signs that a solution tries; the last ones make the target."""
    forms = FORMS[len(game.digits)]
    right = next(place for place, signs in enumerate(forms) if _value(game.digits, signs) == game.target)
    return list(forms[: right + 1])


def steps(game: Game, *, most: int | None = None) -> list[str]:
    """Return the lines of a solution, or of one that takes the last of at most so many tries, whatever it makes."""
    tries = [_joined(game.digits, signs) for signs in tried(game)[:most]]
    values = [_value(game.digits, signs) for signs in tried(game)[:most]]
    lines = [f"{expression}={value}" for expression, value in zip(tries, values, strict=True)]
    return [*lines, f"#### {tries[-1]}"]


def _joined(digits: Sequence[int], signs: str) -> str:
    first, *rest = digits
    return str(first) + "".join(f"{sign}{digit}" for sign, digit in zip(signs.split(), rest, strict=True))


def _value(digits: Sequence[int], signs: str) -> int:
    """Return what the digits make; a product comes first in all the forms there are, so from left to right will do."""
    total, *rest = digits
    for sign, digit in zip(signs.split(), rest, strict=True):
        total = total * digit if sign == "*" else total + digit if sign == "+" else total - digit
    return total
