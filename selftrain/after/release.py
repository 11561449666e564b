"""Take a round's checkpoint away: as a model folder with its card, checked against what was trained."""

from pathlib import Path

from selftrain.after.card import model_card
from selftrain.after.export import Exported, check_asked, export
from selftrain.after.retention import collected
from selftrain.backends.checkpoints import read, serve_of
from selftrain.backends.models import HUB_IDS
from selftrain.backends.tokens import Tokenizer
from selftrain.errors import StoreError
from selftrain.loop import config
from selftrain.loop.launch import Run
from selftrain.records import Ids, Problem
from selftrain.round import PROBLEMS
from selftrain.store import Store

PROMPTS = 32
"""Held-out problems on which the exported weights must say what the trained ones say."""


def export_round(
    folder: Path,
    to: Path,
    *,
    round: int | None = None,
    merge: bool = True,
    push: str | None = None,
    model: str = "policy",
    dtype: str = "auto",
) -> Exported:
    """Export a round's checkpoint (by default the best) to a new folder, and to a hub repository if asked.

    Raises StoreError for a run or round that isn't there, and Blocked for a merge that changes what the model says.
    """
    run = Run.open(folder)
    check_asked(to, dtype)
    number = run.best if round is None else round
    checkpoint = run.root / run.checkpoint(number, model=model).path
    _check_weights(run, number, checkpoint)
    file = config.stored(run.root).file
    given = file.model.get(model, file.model["policy"])
    return export(
        checkpoint,
        to,
        merge=merge,
        card=model_card(run, number, merged=merge),
        push=push,
        dtype=dtype,
        prompts=_prompts(run, checkpoint),
        base=HUB_IDS.get(given, given),
    )


def _check_weights(run: Run, number: int, checkpoint: Path) -> None:
    """Refuse a round whose weights, or those it was trained from, were freed: a merge is compared with both."""
    if told := collected(checkpoint):
        there = [
            str(result.number)
            for result in run.history.rounds
            if not collected(run.root / run.checkpoint(result.number).path)
        ]
        raise StoreError(
            f"the weights of round {number} of {run.root} {told}; weights are there of rounds {', '.join(there)}:"
            " export one of these, or train it again in a fork"
        )
    contents = read(checkpoint)
    start = Path(contents.start).parent if contents.start else None
    if contents.adapter and start and (told := collected(start)):
        raise StoreError(
            f"round {number} of {run.root} was trained from weights that {told}, so that its merge can't be compared"
            " with its adapter; export another round"
        )


def _prompts(run: Run, checkpoint: Path) -> list[Ids]:
    """Held-out prompts as the run asks them."""
    tokens = Tokenizer(serve_of(checkpoint))
    protocol = config.stored(run.root).protocol
    problems = Store(run.root).stage(0, 0, PROBLEMS)
    held_out = [p for shard in problems.shards() for p in problems.read(Problem, shard) if p.split != "train"]
    return [tokens.render(protocol.messages(problem)) for problem in held_out[:PROMPTS]]
