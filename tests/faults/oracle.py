"""What must hold of a finished run, told from its files alone: DuckDB and hashes, none of the store's code."""

import hashlib
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

UNREADABLE = "events.jsonl has a line that is no JSON"
VOLATILE = {"verdicts": ("seconds",)}
"""Columns that two equal runs differ in."""


class File(NamedTuple):
    """A file as it was: a stage that is done again writes it anew."""

    inode: int
    modified: int
    content: str


def wrong(root: Path, reference: Path | None = None, *, strict: bool = True) -> list[str]:
    """Return what is wrong with a finished run, beside an undisturbed one; not `strict`, only keys are compared."""
    found = [*_files(root), *_leftovers(root), *_keys(root), *_events(root)]
    if reference is not None:
        found += _compared(root, reference, strict)
    return found


def done_files(root: Path) -> dict[str, File]:
    """The files of stages that are done, and of finished shards of others."""
    stages = [path.parent for path in root.glob("round-*/*/key.json")]
    parts = [path for stage in stages for path in stage.glob("part-*") if path.suffix != ".unfinished"]
    found = [file for part in parts for file in part.iterdir()]
    found += [file for stage in stages if (file := stage / "stage.json").exists()]
    return {str(file.relative_to(root)): _file(file) for file in found}


def redone(before: dict[str, File], root: Path) -> list[str]:
    """Return what was finished and is gone, changed, or written once more."""
    after = done_files(root)
    return [
        f"{name} was finished, and {_fate(file, after.get(name))}"
        for name, file in before.items()
        if file != after.get(name)
    ]


def _fate(before: File, after: File | None) -> str:
    if after is None:
        return "is gone"
    return "was written again" if after.content == before.content else "is another"


def _file(path: Path) -> File:
    about = path.stat()
    return File(about.st_ino, about.st_mtime_ns, _hash(path))


def _hash(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


def _files(root: Path) -> list[str]:
    """Every shard holds what its manifest says, every stage that has begun is done, every checkpoint is whole."""
    found = []
    for key in sorted(root.glob("round-*/*/key.json")):
        if not (key.parent / "stage.json").exists():
            found.append(f"{key.parent.relative_to(root)} is not done")
        for part in sorted(key.parent.glob("part-*")):
            manifest = json.loads((part / "manifest.json").read_text())
            there = {file.name: _hash(file) for file in part.iterdir() if file.name != "manifest.json"}
            if there != {name: value for name, value in manifest.items() if name != "seal"}:
                found.append(f"{part.relative_to(root)} is not what its manifest says")
    for told in sorted(root.glob("round-*/*/checkpoint*/checkpoint.json")):
        for name, value in json.loads(told.read_text()).get("files", {}).items():
            if _hash(told.parent / name) != value:
                found.append(f"{(told.parent / name).relative_to(root)} is not what checkpoint.json says")
    return found


def _leftovers(root: Path) -> list[str]:
    """Nothing half-written is left."""
    names = ("*.unfinished", ".*.partial", "work")
    return [f"{path.relative_to(root)} is left over" for name in names for path in root.rglob(name)]


def _tables(root: Path, name: str) -> list[Path]:
    return sorted(root.glob(f"round-*/*/part-*/{name}.parquet"))


def _rows(query: str, files: list[Path]) -> list[tuple[Any, ...]]:
    if not files:
        return []
    with duckdb.connect() as database:
        stage = "regexp_extract(filename, 'round-[0-9]+/[^/]+') AS stage"
        read = f"read_parquet({[str(file) for file in files]}, filename=true, hive_partitioning=false)"
        source = f"(SELECT *, {stage} FROM {read})"
        return database.execute(query.replace("STORED", source)).fetchall()


def _keys(root: Path) -> list[str]:
    """Each sample, verdict, pick and row once; each verdict and pick of a sample that is there."""
    found = []
    for name, key in (
        ("samples", 'problem, "index"'),
        ("verdicts", 'sample, "by"'),
        ("rows", "id"),
        ("picks", 'sample, side, "group"'),
    ):
        twice = _rows(
            f"SELECT stage, {key}, count(*) FROM STORED GROUP BY ALL HAVING count(*) > 1", _tables(root, name)
        )
        found += [f"{name} holds {row} more than once" for row in twice]
    samples = {id for (id,) in _rows("SELECT id FROM STORED", _tables(root, "samples"))}
    for name in ("verdicts", "picks"):
        strangers = {id for (id,) in _rows("SELECT DISTINCT sample FROM STORED", _tables(root, name))} - samples
        found += [f"{name} speaks of {len(strangers)} samples that are not there"] if strangers else []
    judged = {id for (id,) in _rows("SELECT DISTINCT sample FROM STORED", _tables(root, "verdicts"))}
    found += [f"{len(samples - judged)} samples were not judged"] if samples - judged else []
    return found


def _events(root: Path) -> list[str]:
    """Each line is whole, and each stage is told to be done at most once."""
    path = root / "events.jsonl"
    found, told = [], Counter[tuple[int, str]]()
    for line in path.read_text(errors="replace").splitlines() if path.exists() else []:
        try:
            event = json.loads(line)
        except ValueError:
            found.append(f"{UNREADABLE}: {line[:100]}")
            continue
        if "stage" in event:
            told[event["round"], event["stage"]] += 1
    return found + [
        f"events.jsonl tells {times} times that {stage} is done" for stage, times in told.items() if times > 1
    ]


def _compared(root: Path, reference: Path, strict: bool) -> list[str]:
    """Every table has the same lines; not strict, the same samples were asked for, had or quarantined."""
    found = []
    names = sorted({path.stem for each in (root, reference) for path in each.glob("round-*/*/part-*/*.parquet")})
    if not strict:
        names = ["problems", "asked"]
    for name in names:
        ours, theirs = (_lines(each, name, strict) for each in (root, reference))
        lost, more = theirs - ours, ours - theirs
        if lost or more:
            example = next(iter(lost or more))
            found.append(
                f"{name}: {lost.total()} lines are lost, {more.total()} are others, such as {str(example)[:200]}"
            )
    return found


def _lines(root: Path, name: str, strict: bool) -> Counter[tuple[Any, ...]]:
    if not strict and name == "asked":
        query = "SELECT stage, problem, \"index\" FROM STORED WHERE stage LIKE '%generate' OR stage LIKE '%greedy'"
        return Counter(row for each in ("samples", "quarantined") for row in _rows(query, _tables(root, each)))
    left_out = ", ".join(("filename", *VOLATILE.get(name, ())))
    return Counter(_rows(f"SELECT COLUMNS(* EXCLUDE ({left_out}))::VARCHAR FROM STORED", _tables(root, name)))


def finished(root: Path) -> bool:
    """Whether the run says that it is finished."""
    state = root / "state.json"
    return state.exists() and os.path.getsize(state) > 0 and json.loads(state.read_text()).get("state") == "finished"
