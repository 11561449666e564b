from pathlib import Path

import pytest

from selftrain.backends import rows
from selftrain.errors import DataError
from selftrain.records import Row, Segment
from tests.backends import tiny


def test_rows_become_columns_with_what_is_not_trained_masked(tmp_path: Path) -> None:
    segments = (Segment(ids=(5, 6), train=False), Segment(ids=(7,), train=True), Segment(ids=(8,), train=False))
    file = tiny.write([Row(id="a", kind="example", segments=segments, weight=0.5)], tmp_path / "rows.parquet")
    assert rows.columns([file]) == {
        "id": ["a"], "input_ids": [[5, 6, 7, 8]], "labels": [[-100, -100, 7, -100]], "weight": [0.5],
    }  # fmt: skip


def test_rows_that_fit_are_counted(tiny_model: Path, tmp_path: Path) -> None:
    made = tiny.sums(7)
    parts = {"first": made[:3], "none": [], "last": made[3:]}
    files = [tiny.write(part, tmp_path / f"{name}.parquet") for name, part in parts.items()]
    assert rows.check(files, longest=64, model=tiny_model) == 7


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([tiny.row("long", [5] * 60, [6] * 5), tiny.row("longer", [5] * 90, [6])], r"2 of 4 rows \(long, longer\) are"),
        ([tiny.row("blank", [5], [])], r"1 of 3 rows \(blank\) have no token that is trained"),
        ([tiny.row("foreign", [5], [9999])], r"1 of 3 rows \(foreign\) hold ids outside .* vocabulary of 260"),
    ],
)
def test_rows_that_cannot_be_trained_on_are_refused_with_a_count(
    tiny_model: Path, tmp_path: Path, bad: list[Row], message: str
) -> None:
    file = tiny.write([*tiny.sums(2), *bad], tmp_path / "rows.parquet")
    with pytest.raises(DataError, match=message):
        rows.check([file], longest=64, model=tiny_model)


def test_no_rows_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no rows to train on"):
        rows.check([tiny.write([], tmp_path / "rows.parquet")], longest=64, model=tiny_model)
