"""Every record survives its table: property tests over all record types."""

import dataclasses
import types
import typing
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, is_typeddict

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selftrain import tables
from selftrain.errors import StoreError
from selftrain.records import Problem, Row, Segment, Verdict

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)


def values(hint: Any, *, in_tuple: bool = False) -> st.SearchStrategy[Any]:
    """Values of a record's field, by its type."""
    if get_origin(hint) in (Union, types.UnionType):
        return st.one_of(
            *(st.none() if each is type(None) else values(each) for each in get_args(hint)),
        )
    if hint is str:
        return TEXT
    if hint is bool:
        return st.booleans()
    if hint is int:
        bound = 2**31 if in_tuple else 2**63
        return st.integers(-bound, bound - 1)
    if hint is float:
        return st.floats(allow_nan=False)
    if get_origin(hint) is Literal:
        return st.sampled_from(get_args(hint))
    if get_origin(hint) is tuple:
        return st.lists(values(get_args(hint)[0], in_tuple=True), max_size=3).map(tuple)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return records(hint)
    if is_typeddict(hint):
        return st.fixed_dictionaries({name: values(each) for name, each in typing.get_type_hints(hint).items()})
    return st.dictionaries(TEXT, JSON, max_size=3)


def records(kind: type[Any]) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(kind)
    return st.builds(kind, **{f.name: values(hints[f.name]) for f in dataclasses.fields(kind)})


@pytest.mark.parametrize("kind", tables.NAMES, ids=lambda kind: kind.__name__)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_records_round_trip_through_a_table(kind: type[Any], data: st.DataObject) -> None:
    rows = data.draw(st.lists(records(kind), max_size=4))
    table = tables.to_table(kind, rows)
    assert table.schema == tables.schema(kind)
    table.validate(full=True)
    assert tables.from_table(kind, table) == rows


@pytest.mark.parametrize("kind", tables.NAMES, ids=lambda kind: kind.__name__)
def test_records_round_trip_through_a_file_and_none_keep_the_schema(kind: type[Any], tmp_path: Path) -> None:
    @settings(max_examples=5, deadline=None)
    @given(rows=st.lists(records(kind), max_size=3))
    def round_trip(rows: list[Any]) -> None:
        assert tables.write(kind, rows, tmp_path / "file") == len(rows)
        assert tables.read(kind, tmp_path / "file") == rows

    round_trip()
    tables.write(kind, [], tmp_path / "empty")
    assert tables.read_table(kind, tmp_path / "empty").schema == tables.schema(kind)


def test_every_record_type_has_a_table_and_no_two_share_one() -> None:
    from selftrain.records import Record

    assert set(get_args(Record)) == set(tables.NAMES)
    assert len(set(tables.NAMES.values())) == len(tables.NAMES)


def test_a_column_that_is_none_throughout_keeps_its_type() -> None:
    problem = Problem.of("1+1")
    table = tables.to_table(Problem, [problem, problem])
    assert table.schema.field("answer").type == pa.string()
    assert tables.from_table(Problem, table) == [problem, problem]


def test_only_optional_fields_may_be_null() -> None:
    fields = {f.name: f.nullable for f in tables.schema(Problem)}
    assert {name for name, nullable in fields.items() if nullable} == {"answer", "solution", "tests", "parent"}


def test_some_columns_are_read_alone(tmp_path: Path) -> None:
    row = Row(id="a", kind="example", segments=(Segment(ids=(1, 2), train=True),))
    tables.write(Row, [row], tmp_path / "rows")
    assert tables.read_table(Row, tmp_path / "rows", ["weight", "id"]).to_pylist() == [{"weight": 1.0, "id": "a"}]


def test_a_token_id_beyond_32_bits_is_refused_not_cut() -> None:
    row = Row(id="a", kind="example", segments=(Segment(ids=(2**40,), train=True),))
    with pytest.raises((pa.ArrowInvalid, OverflowError)):
        tables.to_table(Row, [row])


def test_a_file_that_is_cut_off_or_of_another_version_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    tables.write(Problem, [Problem.of("1+1=", answer="2")], path)
    assert tables.read_table(Problem, path).num_rows == 1
    with pytest.raises(StoreError, match=r"rows.parquet cannot be read as verdicts.*another version"):
        tables.read_table(Verdict, path)
    whole = path.read_bytes()
    for cut in (0, 3, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(StoreError, match=r"rows.parquet cannot be read as problems.*damaged"):
            tables.read_table(Problem, path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        tables.read_table(Problem, path)
