"""Data files: JSONL, CSV and Parquet, and the mapping of their columns."""

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.input.kinds import NANO, Kind, check, tabled

ROWS = "".join(f'{{"question": "what is {n}+{n}?", "gold": "{2 * n}"}}\n' for n in range(12))
TABLE = "question,gold\n" + "".join(f"what is {n}+{n}?,{2 * n}\n" for n in range(12))
COLUMNS = ("data.prompt=question", "data.answer=gold")


def parquet(columns: dict[str, Any]) -> bytes:
    """A Parquet file's bytes."""
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


GOOD = parquet({"question": [f"what is {n}+{n}?" for n in range(12)], "gold": [str(2 * n) for n in range(12)]})


def first(line: str) -> str:
    """A file whose first row is at fault."""
    return f"{line}\n{ROWS}"


FILES: dict[str, tuple[str, str | bytes, str]] = {
    "JSONL of nothing": ("a.jsonl", "", "is empty"),
    "JSONL cut off": ("a.jsonl", ROWS + '{"question": ', "line 13 is not JSON"),
    "JSONL of lists": ("a.jsonl", first("[1]"), "line 1 is not a JSON object but a list"),
    "JSONL in Latin-1": ("a.jsonl", b'{"question": "caf\xe9"}\n', "line 1 is not UTF-8"),
    "JSONL in UTF-16": ("a.jsonl", ROWS.encode("utf-16"), "line 1 is not UTF-8"),
    "JSONL with a zero byte": ("a.jsonl", first('{"question": "a\0b", "gold": "1"}'), "line 1 is not JSON"),
    "JSONL nested too deeply": ("a.jsonl", "[" * 100_000, "nested too deeply"),
    "a number of thousands of digits": ("a.jsonl", first(f'{{"question": "x", "gold": {"9" * 5000}}}'), "line 1"),
    "NaN as a number": ("a.jsonl", first('{"question": "x", "gold": NaN}'), "NaN is no number"),
    "a number beyond all": ("a.jsonl", first('{"question": "x", "gold": 1e999}'), "line 1: 'gold'"),
    "half a surrogate pair": ("a.jsonl", first('{"question": "\\ud800", "gold": "1"}'), "half a surrogate pair"),
    "an answer that is null": ("a.jsonl", first('{"question": "x", "gold": null}'), "line 1: 'gold'"),
    "an answer that is empty": ("a.jsonl", first('{"question": "x", "gold": ""}'), "'gold' is empty"),
    "an answer that is an object": ("a.jsonl", first('{"question": "x", "gold": {"a": 1}}'), "line 1: 'gold'"),
    "a prompt that is empty": ("a.jsonl", first('{"question": "", "gold": "1"}'), "line 1: 'question'"),
    "a conversation without contents": ("a.jsonl", first('{"question": [{"role": "user"}], "gold": 1}'), "{role, con"),
    "a conversation by a stranger": (
        "a.jsonl",
        first('{"question": [{"role": "wizard", "content": "x"}], "gold": 1}'),
        "it can be system, user, assistant, tool",
    ),
    "a row without the column": ("a.jsonl", first('{"qestion": "x", "gold": 1}'), "did you mean qestion?"),
    "a verifier that is a program": (
        "a.jsonl",
        first('{"question": "x", "gold": "1", "verifier": "{\\"name\\": \\"./evil.py\\"}"}'),
        "a program, which data can't",
    ),
    "one id for two problems": ("a.jsonl", ROWS.replace("{", '{"id": "same", '), "is that of another problem"),
    "too few rows": ("a.jsonl", ROWS.splitlines()[0], "ask for fewer"),
    "CSV of nothing": ("a.csv", "", "is empty"),
    "CSV of a header": ("a.csv", "question,gold\n", "is empty"),
    "CSV with a field too many": ("a.csv", "question,gold\na,1,2\n", "line 2 has other fields"),
    "CSV with an open quotation": ("a.csv", 'question,gold\n"a,1\n', "is not CSV"),
    "CSV with semicolons": ("a.csv", TABLE.replace(",", ";"), "has no column"),
    "CSV with two columns of a name": ("a.csv", "question,question\na,1\n", "has no column 'gold'"),
    "CSV with a field beyond all": ("a.csv", f"question,gold\n{'x' * 200_000},1\n", "is not CSV"),
    "CSV with an empty answer": ("a.csv", TABLE + "what,\n", "'gold' is empty"),
    "CSV in Latin-1": ("a.csv", "question,gold\ncafé,1\n".encode("latin-1"), "line 2 is not UTF-8"),
    "Parquet of nothing": ("a.parquet", b"", "is not Parquet"),
    "Parquet that is JSON": ("a.parquet", ROWS, "is not Parquet"),
    "Parquet cut off": ("a.parquet", GOOD[: len(GOOD) // 2], "is not Parquet"),
    "Parquet with damaged pages": ("a.parquet", GOOD[:30] + bytes(100) + GOOD[130:], "a.parquet"),
    "Parquet without rows": ("a.parquet", parquet({"question": [], "gold": []}), "is empty"),
    "Parquet with nulls": ("a.parquet", parquet({"question": ["a"], "gold": pa.array([None], pa.string())}), "row 1"),
    "Parquet with bytes": ("a.parquet", parquet({"question": [b"\xff"], "gold": ["1"]}), "row 1: 'question'"),
    "Parquet with numbers for prompts": ("a.parquet", parquet({"question": [1.5], "gold": ["1"]}), "row 1: 'question'"),
    "Parquet with another column": ("a.parquet", parquet({"qestion": ["a"], "gold": ["1"]}), "did you mean qestion?"),
    "a file of another kind": ("a.json", ROWS, "a data file ends in .jsonl, .csv, .parquet"),
}
MENDED: dict[str, str | bytes] = {"a.jsonl": ROWS, "a.csv": TABLE, "a.parquet": GOOD}
KINDS = [
    Kind(
        name=name,
        command=("run", "rest_em", *NANO, f"data=./{file}", *COLUMNS, "--dry-run"),
        said=said,
        files={file: content},
        mended={file: MENDED[file]} if file in MENDED else {},
    )
    for name, (file, content, said) in FILES.items()
]

MAPPINGS: dict[str, tuple[str, str]] = {
    "a misspelt setting of the mapping": ("data.promt=question", "did you mean prompt?"),
    "a prompt's column that is a number": ("data.prompt=3", "prompt"),
    "a column for the answer that is not there": ("data.answer=golden", "did you mean gold?"),
    "a column for the id that is not there": ("data.id=nosuch", "has no column 'nosuch'"),
    "a column for the solution that is not there": ("data.solution=nosuch", "has no column 'nosuch'"),
    "a column for the tests that is not there": ("data.tests=nosuch", "has no column 'nosuch'"),
    "a column of options that holds none": ("data.choices=gold", "a list of two options or more"),
    "a column to keep that is not there": ("data.meta=[nosuch]", "has no column 'nosuch'"),
    "columns to keep that are no list": ("data.meta=gold", "meta"),
    "a verifier for the rows that is not there": ("data.verifier=numbr", "did you mean number"),
    "a data set without its second part": ("data=gym", "needs a second part"),
    "a data set without a name": ("data=", "unknown data ''"),
    "a data file that is not there": ("data=./nosuch.jsonl", "there is no such file"),
    "a data file that is a folder": ("data=./folder.jsonl", "is a folder; name a file in it"),
    "held-out data that is not there": ("eval=./nosuch.jsonl", "there is no such file"),
    "held-out data with a second part": ("eval=sums:x", "has no second part"),
    "held-out data of an unknown name": ("eval=sumz", "did you mean sums?"),
}
KINDS += [
    Kind(
        name=name,
        command=("run", "rest_em", *NANO, "data=./a.jsonl", *COLUMNS, setting, "--dry-run"),
        said=said,
        files={"a.jsonl": ROWS, "folder.jsonl/": ""},
    )
    for name, (setting, said) in MAPPINGS.items()
]


@tabled(KINDS)
def test_a_data_file_with_a_fault(kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check(kind, tmp_path)
