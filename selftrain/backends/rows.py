"""Training rows on disk: checked before a training process starts, and read as columns inside it."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from selftrain import tables
from selftrain.errors import DataError
from selftrain.records import Row

PAIRED = frozenset({"reward", "dpo", "spin", "orpo", "simpo", "asft"})
"""Losses on pairs."""
KINDS = {
    "sft": {"example"},
    "poft": {"example"},
    "steps": {"example"},
    **{loss: {"chosen", "rejected"} for loss in (*sorted(PAIRED), "kto")},
}
"""Loss -> the kinds of rows that it trains on."""


def check(files: Sequence[Path], *, longest: int, model: Path, loss: str = "sft", reference: str = "") -> int:
    """Return how many rows there are; refuse none at all, and any that this loss could not be trained on as it is."""
    names_seen: Counter[str] = Counter()
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
        names_seen.update(names)
        long += list(names[np.bincount(row, lengths, count) > longest])
        untrained += list(names[np.bincount(row, lengths * train, count) == 0])
        foreign += list(names[np.unique(outside)])
    if not rows:
        raise DataError("there are no rows to train on")
    _refuse(long, rows, f"are longer than max_length {longest}; raise max_length or sample with fewer max_tokens")
    _refuse(untrained, rows, "have no token that is trained; look at what built them")
    _refuse(foreign, rows, f"hold ids outside {model}'s vocabulary of {vocabulary}; they are another tokenizer's")
    twice = [name for name, times in names_seen.items() if times > 1]
    _refuse(twice, rows, "are there more than once; name the stage to train on in Train's of=")
    _check_kinds(files, rows, loss)
    if reference not in ("", "start"):
        found = [row for file in files for row in tables.read_table(Row, file, ["id", "reference"]).to_pylist()]
        without = [row["id"] for row in found if reference not in json.loads(row["reference"])]
        _refuse(without, rows, f"have no log-probability under {reference!r}; put Reference before the Train")
    return rows


def _check_kinds(files: Sequence[Path], rows: int, loss: str) -> None:
    found = [row for f in files for row in tables.read_table(Row, f, ["id", "kind", "group"]).to_pylist()]
    strange = [row["id"] for row in found if row["kind"] not in KINDS[loss]]
    wanted = " and ".join(sorted(KINDS[loss]))
    _refuse(strange, rows, f"are not of kind {wanted}, which the {loss} loss trains on; name its stage in Train's of=")
    if loss in PAIRED:
        groups: dict[str, list[str]] = {}
        for row in found:
            groups.setdefault(row["group"], []).append(row["kind"])
        odd = {group for group, kinds in groups.items() if sorted(kinds) != ["chosen", "rejected"]}
        unpaired = [row["id"] for row in found if row["group"] in odd]
        _refuse(unpaired, rows, "are not one chosen and one rejected of a group")
    elif loss == "steps":
        labelled = [row for f in files for row in tables.read_table(Row, f, ["id", "segments", "labels"]).to_pylist()]
        wrong = [row["id"] for row in labelled if not _labelled(row)]
        _refuse(wrong, rows, "have not one label from 0 to 1 for each trained segment")


def _labelled(row: Mapping[str, Any]) -> bool:
    steps = [part["ids"] for part in row["segments"] if part["train"]]
    return len(row["labels"]) == len(steps) and all(steps) and all(0 <= label <= 1 for label in row["labels"])


def columns(files: Sequence[Path], *, reference: str = "") -> dict[str, list[Any]]:
    """Return the rows as columns: id, input_ids, labels (-100 where a token is not trained), weight.

    With the name of a reference also its log-probabilities, as they are stored in the rows.
    """
    found: dict[str, list[Any]] = {"id": [], "input_ids": [], "labels": [], "weight": []}
    if reference:
        found["reference"] = []
    for file in files:
        for row in tables.read_table(Row, file, ["id", "segments", "weight", "reference"]).to_pylist():
            if reference:
                found["reference"].append(float(json.loads(row["reference"])[reference]))
            found["id"].append(row["id"])
            found["weight"].append(row["weight"])
            found["input_ids"].append([token for part in row["segments"] for token in part["ids"]])
            found["labels"].append(
                [token if part["train"] else -100 for part in row["segments"] for token in part["ids"]]
            )
    return found


def pairs(files: Sequence[Path], *, end: int, tail: Sequence[int] = ()) -> dict[str, list[Any]]:
    """Return pairs as columns: chosen_ids, rejected_ids, weight (the chosen row's).

    Rows that end their turn are followed by `tail`: what the chat template writes behind the end of a turn, since a
    reward model reads conversations as the template has them.
    """
    found: dict[str, list[Any]] = {"chosen_ids": [], "rejected_ids": [], "weight": []}
    sides: dict[str, dict[str, Any]] = {}
    for file in files:
        for row in tables.read_table(Row, file, ["kind", "group", "segments", "weight"]).to_pylist():
            ids = [token for part in row["segments"] for token in part["ids"]]
            sides.setdefault(row["group"], {})[row["kind"]] = ids + list(tail if ids[-1:] == [end] else ())
            if row["kind"] == "chosen":
                sides[row["group"]]["weight"] = row["weight"]
    for pair in sides.values():
        found["chosen_ids"].append(pair["chosen"])
        found["rejected_ids"].append(pair["rejected"])
        found["weight"].append(pair["weight"])
    return found


def preferences(files: Sequence[Path], *, reference: str = "") -> dict[str, list[Any]]:
    """Return pairs as items of two sequences: ids, labels, reference (log-probabilities stored in the rows), weight.

    The chosen row's weight is the pair's.
    """
    sides: dict[str, dict[str, dict[str, Any]]] = {}
    for row in _sequences(files):
        sides.setdefault(row["group"], {})[row["kind"]] = row
    both = [(pair["chosen"], pair["rejected"]) for pair in sides.values()]
    return {
        "ids": [[row["ids"] for row in pair] for pair in both],
        "labels": [[row["labels"] for row in pair] for pair in both],
        "reference": [[float(row["reference"].get(reference, 0.0)) for row in pair] for pair in both],
        "weight": [pair[0]["weight"] for pair in both],
        "good": [True for _ in both],
    }


def singles(files: Sequence[Path]) -> dict[str, list[Any]]:
    """Return single rows as items of two sequences: the row, and its prompt with the last other prompt's response."""
    rows = list(_sequences(files))
    items: dict[str, list[Any]] = {"ids": [], "labels": [], "reference": [], "weight": [], "good": []}
    for at, row in enumerate(rows):
        before = (rows[at - back] for back in range(1, len(rows)))
        other = next((each for each in before if each["prompt"] != row["prompt"]), rows[at - 1])
        cut, from_there = len(row["prompt"]), len(other["prompt"])
        items["ids"].append([row["ids"], row["prompt"] + other["ids"][from_there:]])
        items["labels"].append([row["labels"], row["labels"][:cut] + other["labels"][from_there:]])
        items["reference"].append([0.0, 0.0])
        items["weight"].append(row["weight"])
        items["good"].append(row["kind"] == "chosen")
    return items


def _sequences(files: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """Rows with their ids and labels in one piece; the prompt is what comes before the first trained segment."""
    wanted = ["kind", "group", "segments", "weight", "reference"]
    for file in files:
        for row in tables.read_table(Row, file, wanted).to_pylist():
            parts = row["segments"]
            first = next(at for at, part in enumerate(parts) if part["train"])
            yield {
                **row,
                "ids": [token for part in parts for token in part["ids"]],
                "labels": [token if part["train"] else -100 for part in parts for token in part["ids"]],
                "prompt": [token for part in parts[:first] for token in part["ids"]],
                "reference": json.loads(row["reference"]),
            }


def steps(files: Sequence[Path]) -> dict[str, list[Any]]:
    """Return labelled rows as columns: input_ids, labels (1 at a step's last token, else -100), targets, weight."""
    found: dict[str, list[Any]] = {"input_ids": [], "labels": [], "targets": [], "weight": []}
    for file in files:
        for row in tables.read_table(Row, file, ["segments", "labels", "weight"]).to_pylist():
            ids: list[int] = []
            marks: list[int] = []
            targets: list[float] = []
            labels = iter(row["labels"])
            for part in row["segments"]:
                ids += part["ids"]
                marks += [-100] * len(part["ids"])
                targets += [0.0] * len(part["ids"])
                if part["train"]:
                    marks[-1], targets[-1] = 1, next(labels)
            for name, value in zip(found, (ids, marks, targets, row["weight"]), strict=True):
                found[name].append(value)
    return found


def vocabulary_of(model: Path) -> int:
    """How many token ids a model knows; 0 where its config does not say."""
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    return int((config.get("text_config") or config).get("vocab_size") or 0)


def _refuse(names: Sequence[str], rows: int, why: str) -> None:
    if names:
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        raise DataError(f"{len(names)} of {rows} rows ({shown}) {why}")
