"""Products of a digit and a number of one to three digits, written out column by column; made on the spot, no download.

A solution multiplies the ones, then the tens, and so on, one column a line, the carry added in the next line:

    What is 7*384?      7*4=28
                        7*8+2=58
                        7*3+5=26
                        #### 2688

A problem's level is the number of digits of its second factor.
"""

import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from selftrain.problems import fill_by_level
from selftrain.records import Problem

HARDEST = 3


class Product(NamedTuple):
    """A product's two factors."""

    digit: int
    number: int


def load(
    *,
    train: int = 200,
    valid: int = 100,
    test: int = 100,
    seed: int = 0,
    min_level: int = 1,
    max_level: int = HARDEST,
) -> Mapping[str, Sequence[Problem]]:
    """Return distinct products by split; the splits draw from disjoint parts of all products."""
    counts = {"train": train, "valid": valid, "test": test}
    return fill_by_level(
        "products",
        lambda stream, level: problem(draw(stream, level)),
        counts,
        seed=seed,
        levels=(min_level, max_level),
        hardest=HARDEST,
    )


def bundled() -> Sequence[Problem]:
    """Return a few products."""
    return load(train=10, valid=0, test=0)["train"]


def draw(stream: random.Random, level: int) -> Product:
    """Draw a digit from 2 on, and a number of as many digits as the level says; it is not zero."""
    return Product(stream.randint(2, 9), stream.randint(10 ** (level - 1), 10**level - 1))


def problem(product: Product) -> Problem:
    """Write a product as a problem with its answer and its solution."""
    digit, number = product
    return Problem.of(
        f"What is {digit}*{number}?",
        answer=str(digit * number),
        solution="\n".join(steps(product)),
        verifier="number",
        meta={"level": len(str(number))},
    )


def steps(product: Product, *, carried: bool = True) -> list[str]:
    """Return the lines of a solution: one a column, ones first, then the answer; or of one that forgets the carry."""
    lines: list[str] = []
    written, carry = "", 0
    for figure in reversed(str(product.number)):
        total = product.digit * int(figure) + carry
        lines.append(f"{product.digit}*{figure}{f'+{carry}' if carry else ''}={total}")
        written = f"{total % 10}{written}"
        carry = total // 10 if carried else 0
    return [*lines, f"#### {total // 10 or ''}{written}"]
