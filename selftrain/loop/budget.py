"""What a run has spent on its train problems, by its own records: evaluations and audits are everyone's."""

from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from selftrain import tables
from selftrain.records import Metric, Pick, Row, Sample
from selftrain.store import StageFolder, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """Counts over all rounds, or by stage and round."""

    rounds: int
    sampled: int
    """Tokens."""
    trained: int
    """Tokens in the loss, over all epochs."""
    rows: int
    steps: dict[str, list[int]]
    """Stage -> optimizer steps of each round."""
    kept: dict[str, list[int]]
    """Stage -> samples it kept, or pairs it made, in each round."""
    row: float
    """Mean tokens in the loss of a row."""


def spent(store: Store) -> Spent:
    """Add up what the finished rounds have spent."""
    rounds = [number for number in store.rounds() if number and store.done(number)]
    sampled = trained = rows = lossy = 0
    steps: dict[str, list[int]] = {}
    kept: dict[str, list[int]] = {}
    for number in rounds:
        for name, folder in store.stages(number).items():
            if folder.hidden or not _on_train(folder):
                continue
            if folder.files(Sample):
                sampled += int(folder.summary().get("tokens", 0))
            if folder.files(Pick):
                kept.setdefault(name, []).append(_chosen(folder))
            for path in folder.files(Row):
                count, tokens = _size(folder, int(path.parent.name[5:]))
                rows, lossy = rows + count, lossy + tokens
            figures = {each.name: each.value for each in folder.read(Metric, 0) if not each.step}
            if f"{name}/steps" in figures:
                steps.setdefault(name, []).append(int(figures[f"{name}/steps"]))
                trained += int(figures[f"{name}/tokens"])
    return Spent(
        rounds=len(rounds),
        sampled=sampled,
        trained=trained,
        rows=rows,
        steps=steps,
        kept=kept,
        row=lossy / rows if rows else 0.0,
    )


def _on_train(folder: StageFolder) -> bool:
    settings: dict[str, Any] = folder.settings().get("settings", {})
    return "train" in settings.get("splits", ())


def _chosen(folder: StageFolder) -> int:
    """Samples kept, or pairs: each has one that is chosen."""
    sides = folder.tally(Pick, "side")
    return sides["kept"] + sides["chosen"]


def _size(folder: StageFolder, shard: int) -> tuple[int, int]:
    """Rows of a shard, and their tokens in the loss."""
    table = tables.read_table(Row, folder.file(Row, shard), ["segments"])
    segments = pc.list_flatten(table.column(0))
    lengths = pc.list_value_length(pc.struct_field(segments, "ids"))
    return table.num_rows, sum(lengths.filter(pc.struct_field(segments, "train")).to_pylist())
