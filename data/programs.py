"""Small programs over lists of whole numbers, one to three operations each, with unit tests; made on the spot.

    Write f(xs): keep the even numbers, then add 3 to each.

    def f(xs):
        xs = [x for x in xs if x % 2 == 0]
        return [x + 3 for x in xs]

A problem's tests are asserts drawn from its own seed and chosen so that they tell its operations from others: with one
left out, in another order, of another kind, or with a number one off, a program fails, unless it does the same on all
the lists that were tried. No operation of a problem is idle.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from selftrain.errors import DataError
from selftrain.problems import SPLITS, fill, in_share
from selftrain.records import Problem, seed_of

NUMBERS = range(-15, 31)
ROUNDS = 4
"""How often each number occurs in the lists that tests are chosen from."""
LISTS = 4
"""Fewest lists in a problem's tests, beside the empty one."""


class Operation(NamedTuple):
    """A kind of step: how it is asked for, written and done; `{k}` and k stand for its number."""

    asked: str
    written: str
    does: Callable[[list[int], int], Any]
    numbers: range = range(1)
    last: bool = False
    """Whether it returns a number, so that nothing can follow."""


class Step(NamedTuple):
    """An operation by its name, with its number (0 where it has none)."""

    name: str
    k: int


OPERATIONS = {
    "add": Operation("add {k} to each", "[x + {k} for x in xs]", lambda xs, k: [x + k for x in xs], range(1, 10)),
    "subtract": Operation(
        "subtract {k} from each", "[x - {k} for x in xs]", lambda xs, k: [x - k for x in xs], range(1, 10)
    ),
    "multiply": Operation(
        "multiply each by {k}", "[x * {k} for x in xs]", lambda xs, k: [x * k for x in xs], range(2, 6)
    ),
    "even": Operation(
        "keep the even numbers", "[x for x in xs if x % 2 == 0]", lambda xs, _: [x for x in xs if not x & 1]
    ),
    "odd": Operation("keep the odd numbers", "[x for x in xs if x % 2 == 1]", lambda xs, _: [x for x in xs if x & 1]),
    "above": Operation(
        "keep those above {k}", "[x for x in xs if x > {k}]", lambda xs, k: [x for x in xs if x >= k + 1], range(10)
    ),
    "below": Operation(
        "keep those below {k}", "[x for x in xs if x < {k}]", lambda xs, k: [x for x in xs if x <= k - 1], range(10)
    ),
    "reverse": Operation("reverse the list", "xs[::-1]", lambda xs, _: list(reversed(xs))),
    "sort": Operation("sort the list", "sorted(xs)", lambda xs, _: sorted(xs)),
    "first": Operation("keep the first {k}", "xs[:{k}]", lambda xs, k: xs[:k], range(1, 5)),
    "drop": Operation("drop the first {k}", "xs[{k}:]", lambda xs, k: xs[k:], range(1, 5)),
    "sum": Operation("return the sum", "sum(xs)", lambda xs, _: sum(xs), last=True),
    "largest": Operation(
        "return the largest, or 0 if none", "max(xs, default=0)", lambda xs, _: max(xs) if xs else 0, last=True
    ),
    "count": Operation("return the count", "len(xs)", lambda xs, _: len(xs), last=True),
}


def load(
    *,
    train: int = 200,
    valid: int = 100,
    test: int = 100,
    seed: int = 0,
    min_operations: int = 1,
    max_operations: int = 2,
) -> Mapping[str, Sequence[Problem]]:
    """Return distinct programs by split, held-out splits first; the splits draw from disjoint parts of all programs."""
    if not 1 <= min_operations <= max_operations:
        raise DataError(
            f"programs: min_operations={min_operations}, max_operations={max_operations}; "
            "both at least 1 and in this order"
        )
    streams = {split: _drawn(split, seed, (min_operations, max_operations)) for split in SPLITS}
    return fill("programs", streams, {"train": train, "valid": valid, "test": test})


def bundled() -> Sequence[Problem]:
    """Return a few programs."""
    return load(train=10, valid=0, test=0, max_operations=3)["train"]


def draw(stream: random.Random, operations: tuple[int, int]) -> tuple[Step, ...]:
    """Draw a program's steps: how many, then each one's operation, then its number."""
    length = stream.randint(*operations)
    steps = []
    for place in range(1, length + 1):
        names = [name for name, operation in OPERATIONS.items() if place == length or not operation.last]
        name = stream.choice(names)
        steps.append(Step(name, stream.choice(OPERATIONS[name].numbers)))
    return tuple(steps)


def question(steps: Sequence[Step]) -> str:
    """Return what is asked."""
    return f"Write f(xs): {', then '.join(OPERATIONS[step.name].asked.format(k=step.k) for step in steps)}."


def written(expressions: Sequence[str]) -> str:
    """Return the program whose steps are these expressions of xs."""
    *first, last = expressions
    return "\n".join(["def f(xs):", *(f"    xs = {each}" for each in first), f"    return {last}"])


def solution(steps: Sequence[Step]) -> str:
    """Return the program, as it is written most simply."""
    return written([OPERATIONS[step.name].written.format(k=step.k) for step in steps])


def problem(steps: Sequence[Step], *, split: str = "train") -> Problem | None:
    """Write a program as a problem with its tests and its solution; None if one of its operations is idle."""
    lists = _lists(random.Random(seed_of("programs", "tests", question(steps))))
    wanted = [outcome(steps, xs) for xs in lists]
    shorter = [(*steps[:place], *steps[place + 1 :]) for place in range(len(steps))]
    if any([outcome(each, xs) for xs in lists] == wanted for each in shorter):
        return None
    if all(each == wanted[0] for each in wanted):
        return None
    return Problem.of(
        question(steps),
        tests="\n".join(f"assert f({xs}) == {outcome(steps, xs)}" for xs in ([], *_telling(steps, lists))),
        solution=solution(steps),
        verifier="python_tests",
        split=split,
        meta={"operations": [step.name for step in steps]},
    )


def outcome(steps: Sequence[Step], xs: list[int]) -> Any:
    """Return what a program makes of a list."""
    made: Any = xs
    for step in steps:
        made = OPERATIONS[step.name].does(made, step.k)
    return made


def variants(steps: Sequence[Step]) -> Iterator[tuple[Step, ...]]:
    """Yield the programs that a program's tests must tell from it."""
    for place, step in enumerate(steps):
        before, after = tuple(steps[:place]), tuple(steps[place + 1 :])
        yield before + after
        if after and not OPERATIONS[after[0].name].last:
            yield (*before, after[0], step, *after[1:])
        if len(OPERATIONS[step.name].numbers) > 1:
            yield from ((*before, Step(step.name, step.k + change), *after) for change in (-1, 1))
        for name, other in OPERATIONS.items():
            if name != step.name and other.last == OPERATIONS[step.name].last:
                k = step.k if step.k in other.numbers else other.numbers[0]
                yield (*before, Step(name, k), *after)


def _drawn(split: str, seed: int, operations: tuple[int, int]) -> Iterator[Problem]:
    stream = random.Random(seed_of("programs", seed, split))
    while True:
        steps = draw(stream, operations)
        if in_share("programs", seed, split, question(steps)):
            made = problem(steps, split=split)
            if made is not None:
                yield made


def _lists(stream: random.Random) -> list[list[int]]:
    """Return lists of four to eight numbers, in which each number occurs equally often."""
    lists = []
    for _ in range(ROUNDS):
        numbers = stream.sample(NUMBERS, len(NUMBERS))
        while numbers:
            length = stream.randint(4, 8)
            lists.append(numbers[:length])
            numbers = numbers[length:]
    return lists


def _telling(steps: Sequence[Step], lists: Sequence[list[int]]) -> list[list[int]]:
    """Return a few of the lists; every variant that differs on any of them all differs on one of the few."""
    wanted = [outcome(steps, xs) for xs in lists]
    left = [{at for at, xs in enumerate(lists) if outcome(each, xs) != wanted[at]} for each in variants(steps)]
    chosen: list[int] = []
    while left := [differs for differs in left if differs and differs.isdisjoint(chosen)]:
        chosen.append(max(range(len(lists)), key=lambda at: sum(at in differs for differs in left)))
    others = [at for at in range(len(lists)) if at not in chosen]
    return [lists[at] for at in chosen + others[: LISTS - len(chosen)]]
