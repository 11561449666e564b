"""Read rows from JSONL, CSV and Parquet files; every fault is one DataError that names the file and the line."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from selftrain.errors import DataError


class FileRow(NamedTuple):
    """One row of a file, and where it stands there ('questions.jsonl line 7')."""

    where: str
    values: Mapping[str, object]


def read_rows(path: Path) -> Iterator[FileRow]:
    """Yield the rows of a .jsonl, .csv or .parquet file; raises DataError for a file without rows."""
    readers: dict[str, Callable[[Path], Iterator[FileRow]]] = {
        ".jsonl": _jsonl,
        ".csv": _csv,
        ".parquet": _parquet,
    }
    if path.suffix.lower() not in readers:
        raise DataError(f"{path}: a data file ends in {', '.join(readers)}")
    if path.is_dir():
        raise DataError(f"{path} is a folder; name a file in it")
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    found = False
    try:
        for row in readers[path.suffix.lower()](path):
            found = True
            yield row
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}") from error
    if not found:
        raise DataError(f"{path} is empty: it has no rows")


def _jsonl(path: Path) -> Iterator[FileRow]:
    for number, line in _lines(path):
        if not line.strip():
            continue
        where = f"{path} line {number}"
        try:
            values = json.loads(line, parse_constant=_no_number)
        except RecursionError:
            raise DataError(f"{where} is nested too deeply to be read") from None
        except ValueError as error:  # a number of thousands of digits is one too
            raise DataError(f"{where} is not JSON: {str(error).partition(';')[0]}") from error
        if not isinstance(values, dict):
            raise DataError(f"{where} is not a JSON object but {_kind(values)}")
        yield FileRow(where, values)


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _csv(path: Path) -> Iterator[FileRow]:
    reader = csv.DictReader((line for _, line in _lines(path)), strict=True)
    try:
        for values in reader:
            where = f"{path} line {reader.line_num}"
            if None in values or None in values.values():
                raise DataError(f"{where} has other fields than the header's {len(reader.fieldnames or ())}")
            yield FileRow(where, values)
    except csv.Error as error:
        raise DataError(f"{path} line {reader.line_num} is not CSV: {error}") from error


def _parquet(path: Path) -> Iterator[FileRow]:
    import pyarrow
    import pyarrow.parquet

    try:
        number = 0
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches():
            for values in batch.to_pylist():
                number += 1
                yield FileRow(f"{path} row {number}", values)
    except pyarrow.ArrowException as error:
        raise DataError(f"{path} is not Parquet: {str(error).splitlines()[0]}") from error


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the numbered lines of a text in UTF-8, with or without a byte order mark."""
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                byte = offset + error.start
                raise DataError(
                    f"{path} line {number} is not UTF-8 (byte {byte} is 0x{line[error.start]:02x})"
                ) from error
            offset += len(line)
            yield number, text


def _kind(value: object) -> str:
    names = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
