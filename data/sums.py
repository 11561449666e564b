"""Sums of a few small numbers, with solutions written out column by column; made on the spot, no download.

A solution adds the ones, then the tens, and so on, one column a line, the carry as the last number of the next line:

    What is 47+85+9?      7+5+9=21
                          4+8+2=14
                          #### 141
"""

import random
from collections.abc import Mapping, Sequence

from selftrain.errors import DataError
from selftrain.records import Problem, seed_of

TRIES = 200
"""Draws in a row that may hit known problems before the pool counts as used up."""


def load(
    *,
    train: int = 200,
    valid: int = 100,
    test: int = 100,
    seed: int = 0,
    min_terms: int = 2,
    max_terms: int = 3,
    min_digits: int = 1,
    max_digits: int = 2,
) -> Mapping[str, Sequence[Problem]]:
    """Return distinct sums by split; no sum of one split is in another, also not with its terms in other order."""
    if not 2 <= min_terms <= max_terms:
        raise DataError(f"sums: min_terms={min_terms}, max_terms={max_terms}; both at least 2 and in this order")
    if not 1 <= min_digits <= max_digits:
        raise DataError(f"sums: min_digits={min_digits}, max_digits={max_digits}; both at least 1 and in this order")
    known: set[tuple[int, ...]] = set()
    splits: dict[str, list[Problem]] = {}
    for split, count in (("test", test), ("valid", valid), ("train", train)):
        stream = random.Random(seed_of("sums", seed, split))
        splits[split] = []
        misses = 0
        while len(splits[split]) < count:
            terms = draw(stream, (min_terms, max_terms), (min_digits, max_digits))
            key = tuple(sorted(terms))
            if key not in known:
                known.add(key)
                splits[split].append(problem(terms, split=split))
                misses = 0
            elif (misses := misses + 1) > TRIES:
                raise DataError(
                    f"sums: only {len(known)} distinct sums found, {train + valid + test} asked for; "
                    "ask for fewer, or raise max_terms or max_digits"
                )
    return splits


def bundled() -> Sequence[Problem]:
    """Return a few sums."""
    return load(train=10, valid=0, test=0)["train"]


def draw(stream: random.Random, terms: tuple[int, int], digits: tuple[int, int]) -> tuple[int, ...]:
    """Draw a sum's terms: how many, then each one's number of digits, then its value; none is zero."""
    lengths = [stream.randint(*digits) for _ in range(stream.randint(*terms))]
    return tuple(stream.randint(10 ** (length - 1), 10**length - 1) for length in lengths)


def problem(terms: Sequence[int], *, split: str = "train") -> Problem:
    """Write a sum as a problem with its answer and its solution."""
    return Problem.of(
        f"What is {'+'.join(map(str, terms))}?",
        answer=str(sum(terms)),
        solution="\n".join(steps(terms)),
        verifier="number",
        split=split,
        meta={"terms": len(terms), "digits": max(len(str(term)) for term in terms)},
    )


def steps(terms: Sequence[int]) -> list[str]:
    """Return the lines of a sum's solution: one a column, ones first, then the answer."""
    lines: list[str] = []
    written, carry, unit = "", 0, 1
    while unit <= max(terms):
        column = [term // unit % 10 for term in terms if term >= unit] + [carry] * (carry > 0)
        lines.append(f"{'+'.join(map(str, column))}={sum(column)}")
        written, carry, unit = f"{sum(column) % 10}{written}", sum(column) // 10, unit * 10
    return [*lines, f"#### {carry or ''}{written}"]
