"""Training rows on disk: checked before a training process starts, and read as columns inside it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from selftrain import tables
from selftrain.errors import DataError
from selftrain.records import Row


def check(files: Sequence[Path], *, longest: int, model: Path) -> int:
    """Return how many rows there are; refuse none at all, and any that could not be trained on as it is."""
    rows = 0
    long: list[str] = []
    untrained: list[str] = []
    foreign: list[str] = []
    vocabulary = vocabulary_of(model) or np.iinfo(np.int32).max
    for file in files:
        table = tables.read_table(Row, file, ["id", "segments"]).combine_chunks()
        count, names = table.num_rows, np.array(table.column("id").to_pylist(), dtype=object)
        segments = pc.list_flatten(table.column("segments"))
        row = pc.list_parent_indices(table.column("segments")).to_numpy()
        ids, train = pc.struct_field(segments, "ids"), pc.struct_field(segments, "train").to_numpy()
        lengths = pc.list_value_length(ids).to_numpy()
        tokens = pc.list_flatten(ids).to_numpy()
        outside = np.repeat(row, lengths)[(tokens < 0) | (tokens >= vocabulary)]
        rows += count
        long += list(names[np.bincount(row, lengths, count) > longest])
        untrained += list(names[np.bincount(row, lengths * train, count) == 0])
        foreign += list(names[np.unique(outside)])
    if not rows:
        raise DataError("there are no rows to train on")
    _refuse(long, rows, f"are longer than max_length {longest}; raise max_length or sample with fewer max_tokens")
    _refuse(untrained, rows, "have no token that is trained; look at what built them")
    _refuse(foreign, rows, f"hold ids outside {model}'s vocabulary of {vocabulary}; they are another tokenizer's")
    return rows


def columns(files: Sequence[Path]) -> dict[str, list[Any]]:
    """Return the rows as columns: id, input_ids, labels (-100 where a token is not trained), weight."""
    found: dict[str, list[Any]] = {"id": [], "input_ids": [], "labels": [], "weight": []}
    for file in files:
        for row in tables.read_table(Row, file, ["id", "segments", "weight"]).to_pylist():
            found["id"].append(row["id"])
            found["weight"].append(row["weight"])
            found["input_ids"].append([token for part in row["segments"] for token in part["ids"]])
            found["labels"].append(
                [token if part["train"] else -100 for part in row["segments"] for token in part["ids"]]
            )
    return found


def vocabulary_of(model: Path) -> int:
    """How many token ids a model knows; 0 where its config does not say."""
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    return int((config.get("text_config") or config).get("vocab_size") or 0)


def _refuse(names: Sequence[str], rows: int, why: str) -> None:
    if names:
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        raise DataError(f"{len(names)} of {rows} rows ({shown}) {why}")
