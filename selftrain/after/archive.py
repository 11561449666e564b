"""Look records up in a run's store by one of their columns, without reading what is not asked for."""

from collections.abc import Collection, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from selftrain import tables
from selftrain.records import Checkpoint
from selftrain.round import PROBLEMS
from selftrain.store import StageFolder, Store

R = TypeVar("R")


class Place(NamedTuple):
    """Where a record is stored."""

    round: int
    stage: str
    shard: int


class Found(NamedTuple, Generic[R]):
    """A record and its place."""

    place: Place
    record: R


class Archive:
    """The finished shards of a run, which never change; the run may go on meanwhile."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.folders = [(n, folder) for n in store.rounds() for folder in store.stages(n).values()]

    def find(self, kind: type[R], column: str, values: Collection[str], *, shard: int | None = None) -> list[Found[R]]:
        """Return the records whose column is one of the values, or has one of them, by round, stage and shard.

        `shard` is where they must lie if they are there: what is made of a problem stays in the problem's shard, or in
        shard 0 where a stage works on the whole round.
        """
        if not values:
            return []
        wanted = pa.array(list(values), pa.string())
        return [found for each in self._files(kind, shard) for found in _matching(kind, column, wanted, *each)]

    def first(self, kind: type[R], id: str, *, shard: int | None = None) -> Found[R] | None:
        """Return the record with an id, looked for in a shard first where one is likely; the earliest of equal ones."""
        wanted = pa.array([id], pa.string())
        for hint in (shard, None) if shard is not None else (None,):
            for each in self._files(kind, hint):
                if found := _matching(kind, "id", wanted, *each):
                    return found[0]
        return None

    def example(self, kind: type[Any]) -> str | None:
        """Return the id of some stored record."""
        for _, path in self._files(kind, None):
            ids = tables.read_table(kind, path, ["id"]).column(0)
            if len(ids):
                return str(ids[0].as_py())
        return None

    @cached_property
    def models(self) -> dict[str, str]:
        """Checkpoint id -> what it is called: "policy as given", "policy after round 1 train"."""
        names = {"gold": "nobody: a gold solution"}
        for number, folder in self.folders:
            for each in folder.read(Checkpoint, 0):
                given = number == 0 and folder.name == "base"
                name = f"{each.role} as given" if given else f"{each.role} after round {number} {folder.name}"
                names.setdefault(each.id, name)
        return names

    def _files(self, kind: type[Any], shard: int | None) -> Iterator[tuple[Place, Path]]:
        """The files that may hold records of a type, later stages' last."""
        for number, folder in self.folders:
            if not _may_hold(folder, kind):
                continue
            for at in sorted({shard, 0}) if shard is not None else folder.shards():
                path = folder.file(kind, at)
                if path.exists():
                    yield Place(number, folder.name, at), path


def _may_hold(folder: StageFolder, kind: type[Any]) -> bool:
    """Whether a stage has stored such records, by its own summary; of an unfinished one nobody knows."""
    summary = folder.summary()
    if folder.name in (PROBLEMS, "base") or not summary:
        return True
    return bool(summary.get(kind.__name__.lower()))


def _matching(kind: type[R], column: str, wanted: "pa.Array[Any]", place: Place, path: Path) -> list[Found[R]]:
    """The records of a file whose column is, or where it holds lists has, one of the values."""
    stored = tables.read_table(kind, path, [column]).column(0)
    if pa.types.is_list(stored.type):
        sought = set(wanted.to_pylist())
        held = pa.array([not sought.isdisjoint(each or ()) for each in stored.to_pylist()], pa.bool_())
    else:
        held = pc.is_in(stored, value_set=wanted)
    if not pc.any(held).as_py():
        return []
    rows = tables.read_table(kind, path).filter(held)
    return [Found(place, record) for record in tables.from_table(kind, rows)]
