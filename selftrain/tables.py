"""Records as Arrow tables and back, by explicit schemas made from the dataclasses.

Inferred schemas break on empty and all-null columns, so every column's type comes from its field's type.
"""

import errno
import json
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, is_typeddict

import pyarrow as pa
import pyarrow.parquet as pq

from selftrain import seals
from selftrain.errors import StoreError
from selftrain.records import (
    Checkpoint,
    Decision,
    Metric,
    Outcome,
    Pick,
    Problem,
    Quarantined,
    Row,
    Sample,
    Setting,
    Verdict,
)

R = TypeVar("R")
Kind = type[Any]
"""A record type."""

NAMES: Mapping[Kind, str] = {
    Problem: "problems",
    Sample: "samples",
    Verdict: "verdicts",
    Pick: "picks",
    Row: "rows",
    Checkpoint: "checkpoints",
    Setting: "settings",
    Metric: "metrics",
    Outcome: "outcomes",
    Decision: "decisions",
    Quarantined: "quarantined",
}
"""Record type -> name of its table and file."""

_PLAIN: Mapping[object, pa.DataType] = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


class _Column(NamedTuple):
    """How a field's values are stored."""

    arrow: pa.DataType
    nullable: bool
    encode: Callable[[Any], Any] | None
    decode: Callable[[Any], Any] | None


def schema(kind: Kind) -> pa.Schema:
    """Return the Arrow schema of a record type."""
    return pa.schema(
        [pa.field(name, column.arrow, nullable=column.nullable) for name, column in _columns(kind).items()]
    )


def to_table(kind: type[R], records: Iterable[R]) -> pa.Table:
    """Return the records as a table with the type's own schema, also when there are none."""
    rows = list(records)
    arrays = []
    for name, column in _columns(kind).items():
        values: list[Any] = [getattr(row, name) for row in rows]
        if column.encode is not None:
            values = [None if value is None else column.encode(value) for value in values]
        arrays.append(pa.array(values, type=column.arrow))
    return pa.Table.from_arrays(arrays, schema=schema(kind))


def from_table(kind: type[R], table: pa.Table) -> list[R]:
    """Return the rows of a table as records, in order."""
    columns = []
    for name, column in _columns(kind).items():
        values: Sequence[Any] = table.column(name).to_pylist()
        if column.decode is not None:
            values = [None if value is None else column.decode(value) for value in values]
        columns.append(values)
    names = list(_columns(kind))
    return [kind(**dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]


def write(kind: type[R], records: Iterable[R], path: Path) -> int:
    """Write records to a Parquet file; return how many."""
    table = to_table(kind, records)
    pq.write_table(table, path, compression="zstd")
    return int(table.num_rows)


def read(kind: type[R], path: Path) -> list[R]:
    """Read a Parquet file of records of one type."""
    return from_table(kind, read_table(kind, path))


def read_table(kind: Kind, path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a Parquet file as a table, or some of its columns; raises StoreError for what cannot be read as such.

    Raises OSError where the file is what was written and the machine can't read it, for want of memory say.
    """
    wanted = schema(kind)
    if columns is not None:
        wanted = pa.schema([wanted.field(name) for name in columns])
    try:
        return pq.ParquetFile(path).read(columns=list(wanted.names), use_threads=False).cast(wanted)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        why = str(error).splitlines()[0]
        # Libraries tell want of memory and of threads by errors of many kinds, and damage by OSError too.
        if (isinstance(error, OSError | MemoryError) or type(error) is pa.ArrowException) and seals.whole(path):
            raise OSError(errno.EIO, f"{why}, though the file holds what was written to it", str(path)) from error
        raise StoreError(
            f"{path} cannot be read as {NAMES[kind]}: {why}; it is damaged, or another version of selftrain wrote it: "
            "use that version, or delete the round's folder, and the same command makes it again"
        ) from error


_known: dict[Kind, dict[str, _Column]] = {}


def _columns(kind: Kind) -> dict[str, _Column]:
    if kind not in _known:
        hints = typing.get_type_hints(kind)
        _known[kind] = {field.name: _column(hints[field.name]) for field in fields(kind)}
    return _known[kind]


def _column(hint: Any) -> _Column:
    if get_origin(hint) in (Union, types.UnionType) and type(None) in get_args(hint):
        (inner,) = (each for each in get_args(hint) if each is not type(None))
        return _column(inner)._replace(nullable=True)
    if hint in _PLAIN:
        return _Column(_PLAIN[hint], False, None, None)
    if get_origin(hint) is Literal:
        return _Column(pa.string(), False, None, None)
    if get_origin(hint) is tuple:
        item = _column(get_args(hint)[0])
        # Token ids are the bulk of a run; 32 bits hold every vocabulary.
        arrow = pa.int32() if item.arrow == pa.int64() else item.arrow
        return _Column(pa.list_(arrow), False, item.encode and _each(item.encode, list), _each(item.decode, tuple))
    if is_dataclass(hint) and isinstance(hint, type):
        return _struct(hint, typing.get_type_hints(hint))
    if is_typeddict(hint):
        return _struct(dict, typing.get_type_hints(hint))
    return _Column(pa.string(), False, lambda value: json.dumps(value, sort_keys=True, ensure_ascii=False), json.loads)


def _each(change: Callable[[Any], Any] | None, make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return make if change is None else lambda values: make(map(change, values))


def _struct(make: Callable[..., Any], hints: Mapping[str, Any]) -> _Column:
    parts = {name: _column(hint) for name, hint in hints.items()}

    def encode(value: Any) -> dict[str, Any]:
        get = value.__getitem__ if isinstance(value, dict) else lambda name: getattr(value, name)
        return {name: part.encode(get(name)) if part.encode else get(name) for name, part in parts.items()}

    def decode(value: Mapping[str, Any]) -> Any:
        return make(**{name: part.decode(value[name]) if part.decode else value[name] for name, part in parts.items()})

    arrow = pa.struct([pa.field(name, part.arrow, nullable=part.nullable) for name, part in parts.items()])
    return _Column(arrow, False, encode, decode)
