"""Read what finished rounds left, from the store alone."""

import os

from selftrain.errors import StoreError
from selftrain.records import Checkpoint, Decision, Metric
from selftrain.round import History, RoundResult
from selftrain.store import Store


def read_round(store: Store, number: int, first: int | None = None) -> RoundResult:
    """Return a round's metrics, its gate's decision, and its checkpoints, as far as it has got.

    `first` is how many of its folders count, by their order; None takes all.
    """
    metrics: list[Metric] = []
    decision: Decision | None = None
    checkpoints: dict[str, Checkpoint] = {}
    given: dict[str, Checkpoint] = {}
    for folder in list(store.stages(number).values())[:first]:
        if not folder.done():
            continue
        metrics += folder.read(Metric, 0)
        decision = next(iter(folder.read(Decision, 0)), decision)
        written = {each.role: inside(store, each) for each in folder.read(Checkpoint, 0)}
        checkpoints |= written
        given = {**written, **given}
    return RoundResult(
        number=number,
        metrics=tuple(metrics),
        decision=decision,
        checkpoints=checkpoints,
        given=given if number == 0 else {},
    )


def inside(store: Store, checkpoint: Checkpoint) -> Checkpoint:
    """Refuse a checkpoint that lies outside its run: a run from elsewhere could have others' weights freed or taken."""
    place = os.path.normpath(checkpoint.path)
    home = os.path.realpath(store.root)
    real = os.path.realpath(os.path.join(home, checkpoint.path))
    # A link on the way can lead anywhere; selftrain makes none.
    if os.path.isabs(place) or place.startswith("..") or real != os.path.join(home, place):
        raise StoreError(
            f"{store.root} names the checkpoint {checkpoint.path!r}, which is outside of it or behind a link; do not"
            " trust this run, or put what the link leads to in its place"
        )
    return checkpoint


def read_history(store: Store, last: int | None = None) -> History:
    """Return the rounds of a run so far, an unfinished last one included; with `last`, those up to it.

    Raises StoreError where a stage is gone: what an earlier round has left would stand for its.
    """
    numbers = [number for number in store.rounds() if last is None or number <= last]
    for number in numbers:
        store.check_lost(number)
    return History(tuple(read_round(store, number) for number in numbers))
