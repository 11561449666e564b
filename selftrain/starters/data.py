"""NAME: products of two numbers, made on the spot.

Say here what yours asks: `selftrain list data` shows the first line.
"""

import random
from collections.abc import Iterator, Mapping, Sequence

from selftrain.errors import DataError
from selftrain.problems import fill
from selftrain.records import Problem, seed_of


def load(*, train: int, valid: int, test: int, seed: int, largest: int = 99) -> Mapping[str, Sequence[Problem]]:
    """Return distinct problems by split; arguments beyond the first four are its settings."""
    if largest < 2:
        raise DataError(f"NAME: largest={largest}; it must be 2 or more")
    counts = {"train": train, "valid": valid, "test": test}
    seeds = {split: seed_of("NAME", seed, split) for split in counts}
    streams = {split: drawn(random.Random(seeds[split]), largest) for split in counts}
    return fill("NAME", streams, counts)


def bundled() -> Sequence[Problem]:
    """Return a few of its problems."""
    return load(train=5, valid=0, test=0, seed=0)["train"]


def drawn(stream: random.Random, largest: int) -> Iterator[Problem]:
    """Yield problems for ever; `fill` leaves out those that were drawn before."""
    while True:
        # The smaller factor comes first, so that 3*7 in one split and 7*3 in another can't be.
        low, high = sorted((stream.randint(2, largest), stream.randint(2, largest)))
        yield Problem.of(f"What is {low}*{high}?", answer=str(low * high), verifier="number")
