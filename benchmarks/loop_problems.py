"""A data set by path: the very problems of the plain loop, so that both sides train on and are measured on the same.

selftrain run rest_em --data ./benchmarks/loop_problems.py data.problems=150 data.rounds=3

Item i of a reasoning-gym set is drawn from seed + i. The loop holds out the first 200 distinct problems from item 0,
and draws round r's from item 100,000 x (r + 1); valid, which the loop has not, comes from far behind those.
"""

from collections.abc import Mapping, Sequence

from selftrain.errors import DataError
from selftrain.records import Problem

TASK = {"min_terms": 2, "max_terms": 3, "min_digits": 1, "max_digits": 2}
APART = 100_000
natural = False


def load(
    *, train: int, valid: int, test: int, seed: int, problems: int = 150, rounds: int = 3, first: int = 0
) -> Mapping[str, Sequence[Problem]]:
    """Return the splits; `first` moves the training problems on by so many rounds, for another seed."""
    if train != problems * rounds:
        raise DataError(f"the pool is {train}, but {rounds} rounds of {problems} problems are {rounds * problems}")
    seen: set[str] = set()
    held_out = _distinct(0, test, seen, "test")
    behind = _distinct(APART * 900, valid, seen, "valid")
    pool = [each for round in range(rounds) for each in _distinct(APART * (first + round + 1), problems, seen, "train")]
    return {"train": pool, "valid": behind, "test": held_out}


def bundled() -> Sequence[Problem]:
    """Return one problem of the set."""
    return _distinct(0, 1, set(), "test")


def _distinct(first: int, count: int, seen: set[str], split: str) -> list[Problem]:
    """Draw so many problems from an item on whose question has not been seen."""
    import reasoning_gym

    pool = reasoning_gym.create_dataset("chain_sum", size=first + 20 * count + 20, seed=0, **TASK)
    found: list[Problem] = []
    index = first
    while len(found) < count:
        row = pool[index]
        index += 1
        if row["question"] not in seen:
            seen.add(row["question"])
            found.append(Problem.of(row["question"], answer=row["answer"], verifier="number", split=split))
    return found
