"""Procedural problems of reasoning-gym, with any of its tasks' settings: `gym:chain_sum`.

reasoning-gym draws item i from seed + i, so the splits are index ranges of one seed that lie far apart. An answer that
is a number is judged by `number`, any other by `exact`. `verifier=gym` asks the task's own scorer, in the sandbox: the
only way for a task that gives no answers. `meta` has what it needs: the item's metadata, and under `gym` the task, its
settings, and the metadata once more where JSON alone would change it.
"""

from collections.abc import Iterator, Mapping, Sequence

from selftrain.backends.gym import GymTask
from selftrain.errors import DataError
from selftrain.problems import SPLITS, fill
from selftrain.records import JsonValue, Problem, seed_of
from selftrain.verification.answers import own_verifier

APART = 10**9
"""Indices between the beginnings of two splits."""


def load(
    *,
    train: int,
    valid: int,
    test: int,
    seed: int,
    what: str,
    verifier: str | None = None,
    **settings: JsonValue,
) -> Mapping[str, Sequence[Problem]]:
    """Return distinct problems of a task, held-out splits first; further settings are the task's own."""
    # Two seeds of ours must not be neighbours of reasoning-gym's, which would draw nearly the same problems.
    first = seed_of("gym", seed) % 2**30
    with GymTask(what, settings) as task:
        streams = {split: _drawn(task, first + at * APART, verifier, settings) for at, split in enumerate(SPLITS)}
        return fill(f"gym:{what}", streams, {"train": train, "valid": valid, "test": test})


def bundled() -> Sequence[Problem]:
    """Return a few sums."""
    return load(train=5, valid=0, test=0, seed=0, what="chain_sum")["train"]


def _drawn(task: GymTask, start: int, verifier: str | None, settings: Mapping[str, JsonValue]) -> Iterator[Problem]:
    about = {"task": task.name, "settings": dict(settings)}
    for item in task.items(start):
        if item.answer is None and verifier is None:
            raise DataError(
                f"gym:{task.name} gives no answers to compare with, only a scorer; name a verifier: gym asks the scorer"
            )
        kept = about if item.packed is None else {**about, "packed": item.packed}
        yield Problem.of(
            item.question,
            answer=item.answer,
            verifier=verifier or own_verifier(item.answer),
            meta={**item.metadata, "gym": kept},
        )
