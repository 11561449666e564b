"""Take a round's training rows away as a data set with its card, which `datasets.load_dataset` reads."""

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from selftrain.after import summary
from selftrain.after.archive import Archive
from selftrain.after.export import check_asked, push_folder
from selftrain.backends.checkpoints import serve_of
from selftrain.backends.tokens import Tokenizer
from selftrain.errors import StoreError
from selftrain.loop import config
from selftrain.loop.launch import Run
from selftrain.loop.plan import words
from selftrain.records import Checkpoint, Row, Sample
from selftrain.round import History
from selftrain.store import StageFolder, Store

IDS = pa.list_(pa.int32())
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("kind", pa.string()),
        ("group", pa.string()),
        ("prompt", pa.string()),
        ("completion", pa.string()),
        ("input_ids", IDS),
        ("labels", IDS),
        ("step_labels", pa.list_(pa.float64())),
        ("weight", pa.float64()),
        ("reference", pa.string()),
        ("problems", pa.list_(pa.string())),
        ("samples", pa.list_(pa.string())),
        ("models", pa.list_(pa.string())),
        ("reencoded", pa.bool_()),
    ]
)
MEANINGS = {
    "id": "the row's id: `selftrain explain RUN ID` tells its whole way",
    "kind": "example, or of a pair chosen or rejected",
    "group": "joins the two rows of a pair",
    "prompt": "the text of the prompt's tokens, the chat template's special tokens written out",
    "completion": "the text of the tokens in the loss, special tokens left out",
    "input_ids": "the tokens that were trained on",
    "labels": "the same, -100 where a token is not in the loss",
    "step_labels": "for process models: of each step the probability that it is right",
    "weight": "of the row in the loss",
    "reference": "log-probabilities under other models by name, as JSON",
    "problems": "ids of the problems it answers",
    "samples": "ids of the samples it was built from",
    "models": "ids of the checkpoints that said them; `gold` is a gold solution",
    "reencoded": "whether the completion was encoded again from text instead of taken as sampled",
}
IGNORED = -100


class RowSet(NamedTuple):
    """What was written."""

    path: Path
    rows: dict[str, int]
    """The stage that built them -> how many."""
    url: str | None


def export_rows(root: Path, to: Path, *, round: int | None = None, push: str | None = None) -> RowSet:
    """Write the rows that a round (by default the best) was trained on, with their card; push them if asked.

    Raises StoreError for a run or round that isn't there or has trained on nothing, and for a folder that is.
    """
    run = Run.open(root)
    number = run.best if round is None else round
    run.checkpoint(number)
    if to.exists():
        raise StoreError(f"{to} is there already; export to a new folder")
    check_asked(to)
    stages = _trained_on(Store(root), number)
    if not stages:
        known = [str(n) for n in Store(root).rounds() if _trained_on(Store(root), n)]
        raise StoreError(
            f"round {number} of {root} was trained on no rows; rounds with rows: {', '.join(known) or 'none'}"
        )
    archive = Archive(Store(root))
    partial = to.with_name(f".{to.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        counts = {folder.name: _write(run, archive, folder, partial / folder.name) for folder in stages}
        (partial / "README.md").write_text(_card(run, number, counts), encoding="utf-8")
        partial.rename(to)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return RowSet(to, counts, push_folder(to, push, kind="dataset") if push else None)


def _trained_on(store: Store, number: int) -> list[StageFolder]:
    """The stages of a round whose rows a training has read."""
    folders = store.stages(number)
    read = {
        name
        for folder in folders.values()
        if number and folder.done() and folder.files(Checkpoint)
        for name in folder.settings().get("reads", {})
    }
    return [folder for name, folder in folders.items() if name in read and folder.count(Row)]


def _write(run: Run, archive: Archive, folder: StageFolder, to: Path) -> int:
    """Write a stage's rows to one Parquet file, shard by shard."""
    role = str(folder.settings().get("settings", {}).get("model", "policy"))
    tokens = Tokenizer(serve_of(run.root / run.checkpoint(0, model=role).path))
    to.mkdir(parents=True)
    count = 0
    with pq.ParquetWriter(to / "train-00000.parquet", SCHEMA, compression="zstd") as writer:
        for shard in folder.shards():
            rows = folder.read(Row, shard)
            if rows:
                told = list(_told(rows, archive, shard, tokens))
                writer.write_table(pa.Table.from_pylist(told, SCHEMA))
            count += len(rows)
    return count


def _told(rows: Sequence[Row], archive: Archive, shard: int, tokens: Tokenizer) -> Iterator[dict[str, Any]]:
    wanted = sorted({id for row in rows for id in row.sources})
    samples = {each.record.id: each.record for each in archive.find(Sample, "id", wanted, shard=shard)}
    for row in rows:
        sources = [samples[id] for id in row.sources if id in samples]
        prompt = [id for part in row.segments if not part.train for id in part.ids]
        completion = [id for part in row.segments if part.train for id in part.ids]
        yield {
            "id": row.id,
            "kind": row.kind,
            "group": row.group,
            "prompt": tokens.written(prompt),
            "completion": tokens.decode(completion),
            "input_ids": [id for part in row.segments for id in part.ids],
            "labels": [id if part.train else IGNORED for part in row.segments for id in part.ids],
            "step_labels": list(row.labels),
            "weight": row.weight,
            "reference": json.dumps(dict(row.reference), sort_keys=True),
            "problems": [each.problem for each in sources],
            "samples": list(row.sources),
            "models": [each.model for each in sources],
            "reencoded": row.reencoded,
        }


def _card(run: Run, number: int, counts: dict[str, int]) -> str:
    """The data set's README.md, with the hub's metadata at its head."""
    job = config.stored(run.root)
    # A file is called by its name: where it lies is nobody's business.
    model, data = (
        Path(name).name if name.startswith((".", "/", "~")) else name
        for name in (str(job.file.model["policy"]), str(job.file.data["name"]))
    )
    configs = [
        {
            "config_name": name,
            **({"default": True} if at == 0 else {}),
            "data_files": [{"split": "train", "path": f"{name}/*.parquet"}],
        }
        for at, name in enumerate(counts)
    ]
    head = {
        "configs": configs,
        "license": "other",
        "task_categories": ["text-generation"],
        "tags": ["selftrain", "self-training", job.file.recipe],
    }
    rows = ", ".join(f"{count:,} rows built by `{name}`" for name, count in counts.items())
    columns = "\n".join(f"| `{name}` | {meaning} |" for name, meaning in MEANINGS.items())
    return (
        "\n\n".join(
            [
                f"---\n{yaml.safe_dump(head, sort_keys=False)}---",
                f"# What round {number} of {job.file.recipe} on {model} was trained on",
                f"{rows}, by selftrain's recipe `{job.file.recipe}` ({job.recipe.paper})."
                f" {summary.sentence(run, number)}",
                f"Each round: {words(job.recipe.stages(History()), job.recipe)}. Gold labels in the loop:"
                f" {job.recipe.labels}.",
                f"| column | meaning |\n|---|---|\n{columns}",
                f"## Sources and licence\n\nProblems: `{data}`. Responses: `{model}` and what was trained from it, by"
                " checkpoint in `models`. The licences of both, the problems and the model, hold for these rows: look"
                " them up before you pass the rows on, and write them into `license` above.",
            ]
        )
        + "\n"
    )
