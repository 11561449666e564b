"""A run on disk: rounds, stages, shards; what is done, by which settings, and nothing half-written.

    runs/NAME/run.yaml  environment.json  metrics.jsonl  events.jsonl
    runs/NAME/round-01/plan.json
    runs/NAME/round-01/01-generate/key.json                     by which settings; written first
    runs/NAME/round-01/01-generate/part-00000/samples.parquet   a finished shard, renamed into place at once
    runs/NAME/round-01/01-generate/part-00000/manifest.json     the hashes of its files
    runs/NAME/round-01/01-generate/stage.json                   the stage is done; written last, with its shards' hash

A shard that is there is whole: its files are fsynced before its folder gets its name, so a kill at any moment loses
at most the shards that were being worked on. One that has changed since is named and refused (`seals.py`).
"""

import fcntl
import json
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from selftrain import seals, tables
from selftrain.errors import StoreError
from selftrain.records import Json, digest

FORMAT = 1
"""Version of the folder's layout; a newer one is refused by name."""
VISIBLE_SECONDS = 30.0
"""How long a file may take to be seen under its new name."""
PATIENCE = 5
"""Times to try for the lock, a moment apart: somebody may be looking whether it is held."""

R = TypeVar("R")
Records = Mapping[type[Any], Sequence[Any]]
"""The records of a shard by type."""
_whole: set[bytes] = set()
"""Finished stages as they were met, with all the shards that they were finished with."""


class Store:
    """The folder of one run."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def open(cls, root: Path | str) -> "Store":
        """Return the store of a run that is there; raises StoreError if it isn't, or is of a newer format."""
        store = cls(Path(root))
        if not store.exists():
            raise StoreError(f"{root} is no run of selftrain: it has no run.yaml (`selftrain runs FOLDER` lists runs)")
        store.check_format()
        return store

    def exists(self) -> bool:
        """Return whether a run has begun here."""
        return (self.root / "run.yaml").is_file()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for this process alone; raises StoreError if another process has it or it can't be written."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            file = open(self.root / ".lock", "a+", opener=_unlinked)  # noqa: SIM115
        except OSError as error:
            raise StoreError(
                f"cannot write to the run folder {self.root}: {error.strerror}; choose another --out"
            ) from error
        with file:
            if not _taken(file):
                file.seek(0)
                owner = file.read().strip() or "another process"
                raise StoreError(
                    f"{self.root} is in use by another run ({owner}); wait for it, or choose another --out"
                )
            file.seek(0)
            file.truncate()
            file.write(f"process {os.getpid()}")
            file.flush()
            yield

    def check_format(self) -> None:
        """Raise StoreError if the folder holds something else than a run, or a run of a newer format."""
        if not self.root.is_dir():
            return
        if not self.exists():
            # A kill may have come before the very first file had its name.
            known = (".lock", "logs", "run.yaml.unfinished")
            strangers = [p.name for p in self.root.iterdir() if p.name not in known]
            if strangers:
                raise StoreError(
                    f"{self.root} is not empty and is not a run of selftrain (found {', '.join(sorted(strangers)[:3])})"
                    "; choose another --out"
                )
            return
        text = (self.root / "run.yaml").read_text(encoding="utf-8", errors="replace")
        found = re.search(r"^format: (\d+)", text, re.MULTILINE)
        if not found:
            raise StoreError(
                f"{self.root / 'run.yaml'} is damaged: it does not say its format; if the rest of the folder is a run,"
                f" write the line `format: {FORMAT}` into it, and the same command goes on"
            )
        if int(found[1]) > FORMAT:
            raise StoreError(
                f"{self.root} was made by a newer selftrain (folder format {found[1]}, this one reads up to {FORMAT});"
                " use that version, or choose another --out"
            )

    def round(self, number: int) -> Path:
        """Return the folder of a round; 0 is the base model."""
        return self.root / f"round-{number:02d}"

    def rounds(self) -> list[int]:
        """Return the numbers of the rounds that have begun, in order."""
        return _numbers(self.root, "round", 2)

    def stage(self, round: int, position: int, name: str) -> "StageFolder":
        """Return the folder of a stage."""
        return StageFolder(self.round(round) / f"{position:02d}-{name}")

    def stages(self, round: int) -> dict[str, "StageFolder"]:
        """Return the stages of a round that have begun, by name, in order."""
        folders = sorted(path for path in self.round(round).glob("[0-9][0-9]-*") if path.is_dir())
        return {path.name[3:]: StageFolder(path) for path in folders}

    def plan(self, round: int) -> list[dict[str, Any]]:
        """Return a round's stages as plain data, as its plan has them; raises StoreError for a damaged plan."""
        stages: list[dict[str, Any]] = self.plan_file(round).get("stages", [])
        return stages

    def plan_file(self, round: int) -> dict[str, Any]:
        """Return all that a round's plan says, {} where it has none; raises StoreError for a damaged plan."""
        path = self.round(round) / "plan.json"
        if not path.exists():
            return {}
        found = seals.read(path, f"delete it, if no stage of {path.parent.name} has begun, or else that whole folder")
        stages = found.get("stages")
        if not isinstance(stages, list) or not all(isinstance(each, dict) and "name" in each for each in stages):
            raise StoreError(f"{path} is damaged: it names no stages; delete that whole folder")
        return found

    def planned(self, round: int) -> list[str]:
        """Return the names of a round's stages as its plan has them; none of round 0, which has no plan."""
        return [str(stage["name"]) for stage in self.plan(round)]

    def own(self, round: int) -> dict[str, "StageFolder"]:
        """Return the stages of a round that its plan names, as far as they have begun; of round 0 all."""
        planned = self.planned(round)
        return {name: folder for name, folder in self.stages(round).items() if round == 0 or name in planned}

    def done(self, round: int) -> bool:
        """Return whether a round is complete, but for what comes after the last one."""
        own = self.own(round)
        planned = self.planned(round) if round else ["problems", "base"]
        return bool(planned) and len(own) >= len(planned) and all(folder.done() for folder in own.values())

    def check_lost(self, round: int) -> None:
        """Raise StoreError if a stage of a round is gone while what came after it is there."""
        for _ in range(2):
            # What is begun while the folder is listed may be missed beside what comes after it: look once more.
            later = any(number > round for number in self.rounds())
            there = list(self.stages(round)) if self.round(round).is_dir() else []
            lost = _before_last(self.planned(round) if round else ["problems", "base"], there, later)
            if round and there and not (self.round(round) / "plan.json").exists():
                lost = ["plan.json"]
            if not lost:
                return
        folder = self.round(round)
        raise StoreError(
            f"{folder} has lost {', '.join(lost)}, but what came after is there; put it back, or delete {folder} and"
            " the rounds after it, and the same command makes them again"
        )

    def append(self, name: str, line: Json) -> None:
        """Append one line to a .jsonl file of the run; half a line that a kill has left there goes.

        Raises StoreError for a file that is a link to another.
        """
        path = self.root / name
        if path.is_symlink():
            raise StoreError(f"{path} is a link, through which nothing is written; delete the link and go on")
        with open(path, "ab+", opener=_unlinked) as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read() != b"\n":
                    file.seek(0)
                    file.truncate(file.read().rfind(b"\n") + 1)
            file.write((json.dumps(line, ensure_ascii=False) + "\n").encode())

    def write_json(self, path: Path, content: Any) -> None:
        """Write a JSON file of the run at once."""
        write_text(path, json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True) + "\n")

    def write_sealed(self, path: Path, content: Mapping[str, Any]) -> None:
        """Write a JSON file that the run will go by: `seals.read` knows whether it is still what was written."""
        self.write_json(path, seals.sealed(content))


class StageFolder:
    """What one stage of one round has stored."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name[3:]

    @property
    def hidden(self) -> bool:
        """Whether no stage may read it: the audit beside the loop."""
        return self.name.startswith("audit")

    def begin(self, key: Json) -> None:
        """Take the folder for a stage of these settings; raises StoreError if it was made with others, or damaged."""
        path = self.path / "key.json"
        if path.exists() and not self._empty():
            stored = self.settings()
            if stored != json.loads(json.dumps(key)):
                raise StoreError(
                    f"{self.path.parent.name}/{self.path.name} was made with other settings:"
                    f" {'; '.join(differences(stored, key))}; use a new run folder (--out),{self._fork()} or"
                    " delete this stage and what comes after it to redo them"
                )
        else:
            self.path.mkdir(parents=True, exist_ok=True)
            write_text(path, json.dumps(key, indent=1, ensure_ascii=False, sort_keys=True) + "\n")
        for leftover in self.path.glob("*.unfinished"):
            if leftover.is_dir():
                shutil.rmtree(leftover)
            else:
                leftover.unlink()
        self.check()

    def _empty(self) -> bool:
        """Whether nothing is stored yet: a wrong setting that stopped the stage at its start may be mended."""
        return all(path.name == "key.json" or path.name.endswith(".unfinished") for path in self.path.iterdir())

    def check(self) -> None:
        """Raise StoreError if a finished shard is not what was written, or one of a finished stage is gone."""
        bare = [shard for shard in self._parts() if not self._check_part(shard)]
        wanted = self._finished().get("content")
        if wanted is not None and wanted != self._content():
            lost = f"{self._part(bare[0]).name} has lost its {seals.MANIFEST}" if bare else "its shards are not those"
            raise StoreError(f"{self.path} is damaged: {lost} that its stage.json tells of; {self._remedy}")

    def settings(self) -> dict[str, Any]:
        """Return what this stage was made with: its key, as plain data."""
        return seals.read(self.path / "key.json", self._remedy)

    def key(self) -> str:
        """Return the hash of the settings this stage was made with."""
        return digest(self.settings())

    def done(self) -> bool:
        """Return whether the stage is complete."""
        return (self.path / "stage.json").exists()

    def summary(self) -> dict[str, Any]:
        """Return what the finished stage said of itself: counts and seconds."""
        return {name: value for name, value in self._finished().items() if name != "content"}

    def finish(self, summary: Json) -> None:
        """Mark the stage complete."""
        said = {**summary, "content": content} if (content := self._content()) else summary
        write_text(self.path / "stage.json", json.dumps(seals.sealed(said), indent=1, sort_keys=True) + "\n")

    def shards(self) -> list[int]:
        """Return the numbers of the finished shards, in order; raises StoreError if a finished stage has lost one."""
        self._check_whole()
        return self._parts()

    def write(self, shard: int, records: Records) -> dict[str, int]:
        """Store a shard's records, all or nothing; return how many of each type."""
        part = self._part(shard)
        unfinished = part.with_name(part.name + ".unfinished")
        if unfinished.exists():
            shutil.rmtree(unfinished)
        unfinished.mkdir(parents=True)
        counts = {}
        for kind, rows in records.items():
            name = tables.NAMES[kind]
            counts[name] = tables.write(kind, rows, unfinished / f"{name}.parquet")
            _fsync(unfinished / f"{name}.parquet")
        hashes = {file.name: seals.hashed(file) for file in sorted(unfinished.iterdir())}
        write_text(unfinished / seals.MANIFEST, json.dumps(seals.sealed(hashes), indent=1) + "\n")
        rename(unfinished, part)
        _fsync(self.path)
        return counts

    def drop(self, shards: Sequence[int]) -> None:
        """Take finished shards away, all or nothing each, of a stage that nothing has read yet."""
        for shard in shards:
            unfinished = self._part(shard).with_suffix(".unfinished")
            rename(self._part(shard), unfinished)
            shutil.rmtree(unfinished)

    def read(self, kind: type[R], shard: int) -> list[R]:
        """Return a shard's records of one type; none if the shard has none."""
        path = self.file(kind, shard)
        return tables.read(kind, path) if path.exists() else []

    def files(self, kind: type[Any]) -> list[Path]:
        """Return the Parquet files of one record type, by shard."""
        return [path for shard in self.shards() if (path := self.file(kind, shard)).exists()]

    def columns(self, kind: type[Any], names: Sequence[str]) -> pa.Table:
        """Return some columns of all of the stage's records of one type."""
        found = [tables.read_table(kind, path, names) for path in self.files(kind)]
        if found:
            return pa.concat_tables(found)
        return tables.to_table(kind, []).select(list(names))

    def tally(self, kind: type[Any], column: str) -> Counter[str]:
        """Return how often each text of a column stands in the stage; a shard at a time, as a round may be large."""
        found: Counter[str] = Counter()
        for path in self.files(kind):
            found.update(map(str, tables.read_table(kind, path, [column]).column(0).to_pylist()))
        return found

    def length(self, kind: type[Any], column: str) -> int:
        """Return how many items the lists of a column have in all; a shard at a time."""
        lists = (tables.read_table(kind, path, [column]).column(0) for path in self.files(kind))
        return sum(pc.sum(pc.list_value_length(each)).as_py() or 0 for each in lists)

    def file(self, kind: type[Any], shard: int) -> Path:
        """Return the Parquet file of a shard's records of one type; raises StoreError if the shard is damaged."""
        # No manifest: an earlier selftrain's shard, none of this stage's, or one that is lost.
        if not self._check_part(shard):
            self._check_whole()
        return self._part(shard) / f"{tables.NAMES[kind]}.parquet"

    def count(self, kind: type[Any], shard: int | None = None) -> int:
        """Return how many records of one type the stage, or one shard of it, has stored."""
        paths = self.files(kind) if shard is None else [self.file(kind, shard)]
        return sum(pq.ParquetFile(path).metadata.num_rows for path in paths)

    def _finished(self) -> dict[str, Any]:
        """What stage.json holds."""
        return seals.read(self.path / "stage.json", self._remedy) if self.done() else {}

    def _check_part(self, shard: int) -> bool:
        """Raise StoreError if a shard is not what was written; return whether its manifest is there to tell."""
        part = self._part(shard)
        if not (part / seals.MANIFEST).exists():
            return False
        seals.check(part, seals.read(part / seals.MANIFEST, self._remedy), self._remedy)
        return True

    def _check_whole(self) -> None:
        """Raise StoreError if a finished stage has not the shards that it was finished with."""
        try:
            told, folder = (self.path / "stage.json").stat(), self.path.stat()
        except FileNotFoundError:
            return
        met = seals.as_met(self.path, told.st_size, told.st_mtime_ns, told.st_ino, folder.st_mtime_ns)
        if met in _whole:
            return
        if self._finished().get("content") not in (None, self._content()):
            self.check()
        if len(_whole) >= seals.MOST:
            _whole.clear()
        _whole.add(met)

    def _content(self) -> str:
        """The hash of all shards' manifests; '' where a shard of an earlier selftrain has none."""
        manifests = {shard: self._part(shard) / seals.MANIFEST for shard in self._parts()}
        if not all(path.exists() for path in manifests.values()):
            return ""
        return digest({str(shard): seals.hashed(path) for shard, path in manifests.items()})

    @property
    def _remedy(self) -> str:
        return (
            f"delete {self.path.parent} and the rounds after it, and the same command makes them again, or fork the"
            " run from the round before"
        )

    def _fork(self) -> str:
        """How a new run could keep the rounds before this one: round 0 holds what all rounds are measured by."""
        round, run = int(self.path.parent.name.removeprefix("round-")), self.path.parent.parent
        if not round:
            return ""
        return f" or keep the rounds before in a new one (selftrain fork {run} --from-round {round - 1} --out NEW ...),"

    def _parts(self) -> list[int]:
        return _numbers(self.path, "part", 5)

    def _part(self, shard: int) -> Path:
        return self.path / f"part-{shard:05d}"


def _numbers(folder: Path, word: str, digits: int) -> list[int]:
    """Return the numbers of a folder's subfolders that are named as selftrain does it, in order.

    What somebody has put beside them (round-02.bak) is none.
    """
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        names = {entry.name for entry in entries if entry.is_dir()}
    numbers = {int(name[len(word) + 1 :]) for name in names if re.fullmatch(rf"{word}-[0-9]+", name)}
    return sorted(number for number in numbers if f"{word}-{number:0{digits}d}" in names)


def _before_last(planned: Sequence[str], there: Sequence[str], later: bool) -> list[str]:
    """Return the planned stages that are not there though a later one is, or a later round."""
    last = max((at for at, name in enumerate(planned) if name in there), default=-1)
    return [name for name in (planned if later else planned[: last + 1]) if name not in there]


def differences(stored: Json, asked: Json, prefix: str = "") -> list[str]:
    """Return a line for each leaf in which two keys differ: 'n was 32, is 8'."""
    lines: list[str] = []
    for name in [*stored, *(name for name in asked if name not in stored)]:
        old, new = stored.get(name), asked.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            # Users know a stage's fields and a trainer's arguments by their own names.
            lines += differences(old, new, prefix if name == "settings" else f"{prefix}{name}.")
        elif json.dumps(old, sort_keys=True) != json.dumps(new, sort_keys=True):
            was, now = ("not set" if value is None else json.dumps(value) for value in (old, new))
            lines.append(f"{prefix}{name} was {was}, is {now}")
    return lines


def write_text(path: Path, text: str) -> None:
    """Write a text file that is either there as a whole or not at all."""
    unfinished = path.with_name(path.name + ".unfinished")
    # What a kill has left there goes, and a link that somebody has put there leads nowhere.
    unfinished.unlink(missing_ok=True)
    with unfinished.open("x", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    rename(unfinished, path)
    _fsync(path.parent)


def rename(source: Path, target: Path) -> None:
    """Rename, and wait until the new name is seen: on a network file system that may take a moment.

    One that asks twice may say that the source is gone because the first time did it.
    """
    moved = source.stat().st_ino
    with suppress(FileNotFoundError):
        source.rename(target)
    end = time.monotonic() + VISIBLE_SECONDS
    while not (target.exists() and target.stat().st_ino == moved):
        if time.monotonic() > end:
            raise StoreError(
                f"{target} did not appear within {VISIBLE_SECONDS:.0f} s of its writing; run the same command again"
                " when the file system is well"
            )
        time.sleep(0.05)


def _unlinked(path: str, flags: int) -> int:
    """Open a file that is no link to another: a run from elsewhere could have us overwrite what it leads to."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def _taken(file: IO[str]) -> bool:
    """Try to take the lock."""
    for _ in range(PATIENCE):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)
        else:
            return True
    return False


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
