"""Take a round's checkpoint away: as a model folder with its card, checked against what was trained."""

from pathlib import Path

from selftrain import config
from selftrain.backends.checkpoints import serve_of
from selftrain.backends.models import HUB_IDS
from selftrain.backends.tokens import Tokenizer
from selftrain.card import model_card
from selftrain.export import Exported, export
from selftrain.launch import Run
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
    number = run.best if round is None else round
    checkpoint = run.root / run.checkpoint(number, model=model).path
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


def _prompts(run: Run, checkpoint: Path) -> list[Ids]:
    """Held-out prompts as the run asks them."""
    tokens = Tokenizer(serve_of(checkpoint))
    protocol = config.stored(run.root).protocol
    problems = Store(run.root).stage(0, 0, PROBLEMS)
    held_out = [p for shard in problems.shards() for p in problems.read(Problem, shard) if p.split != "train"]
    return [tokens.render(protocol.messages(problem)) for problem in held_out[:PROMPTS]]
