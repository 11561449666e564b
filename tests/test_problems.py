import csv
import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftrain.errors import ConfigError, DataError, UserError
from selftrain.problems import Splits, divide, load_problems
from selftrain.records import Json, Problem
from selftrain.verification.answers import normal

ROWS = [{"question": f"What is {n} times {n}?", "final": n * n, "key": f"q{n}"} for n in range(30)]
MAPPING: Json = {"prompt": "question", "answer": "final"}


def write_jsonl(path: Path, rows: Sequence[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def load(path: Path, settings: Json = MAPPING, *, train: int = 10, valid: int = 5, test: int = 5) -> Splits:
    return load_problems(str(path), train=train, valid=valid, test=test, seed=0, settings=settings)


def test_jsonl_csv_and_parquet_give_the_same_problems(tmp_path: Path) -> None:
    jsonl = write_jsonl(tmp_path / "rows.jsonl", ROWS)
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["question", "final", "key"])
        writer.writeheader()
        writer.writerows(ROWS)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "rows.parquet")
    loaded = [load(path) for path in (jsonl, tmp_path / "rows.csv", tmp_path / "rows.parquet")]
    assert loaded[0].train == loaded[1].train == loaded[2].train
    assert loaded[0].test == loaded[1].test == loaded[2].test
    assert loaded[0].natural
    assert {problem.verifier for problem in loaded[0].train} == {"number"}


def test_the_order_of_the_rows_does_not_matter(tmp_path: Path) -> None:
    forward = load(write_jsonl(tmp_path / "a.jsonl", ROWS))
    backward = load(write_jsonl(tmp_path / "b.jsonl", ROWS[::-1]))
    assert (forward.train, forward.valid, forward.test) == (backward.train, backward.valid, backward.test)


def test_every_column_can_be_mapped(tmp_path: Path) -> None:
    row = {
        "q": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?"}],
        "a": "B",
        "s": "It is 4: B",
        "t": ["assert f() == 4"],
        "n": 7,
        "o": ["3", "4"],
        "v": "choice",
        "level": 3,
    }
    settings: Json = {
        "prompt": "q",
        "answer": "a",
        "solution": "s",
        "tests": "t",
        "id": "n",
        "choices": "o",
        "verifier": "v",
        "meta": ["level"],
    }
    problem = load(write_jsonl(tmp_path / "r.jsonl", [row]), settings, train=1, valid=0, test=0).train[0]
    assert problem.id == "7"
    assert [turn["role"] for turn in problem.prompt] == ["system", "user"]
    assert (problem.answer, problem.solution, problem.tests) == ("B", "It is 4: B", '["assert f() == 4"]')
    assert (problem.verifier, problem.meta) == ("choice", {"level": 3, "choices": ["3", "4"]})


def test_one_verifier_can_be_named_for_all_rows(tmp_path: Path) -> None:
    settings: Json = {**MAPPING, "verifier": "expression"}
    assert {p.verifier for p in load(write_jsonl(tmp_path / "r.jsonl", ROWS), settings).train} == {"expression"}


def test_repeated_rows_and_prompts_are_taken_once(tmp_path: Path) -> None:
    shouted = [{**row, "question": f"  {str(row['question']).upper()}"} for row in ROWS]
    with pytest.raises(DataError, match=r"has 30 distinct problems, too few for train 21"):
        load(write_jsonl(tmp_path / "r.jsonl", ROWS + ROWS + shouted), train=21)


GOOD = [json.dumps(row) for row in ROWS[:3]]
FAULTY: dict[str, tuple[bytes | None, str]] = {
    "missing.jsonl": (None, "there is no such file"),
    "empty.jsonl": (b"", "is empty"),
    "blank.jsonl": (b"\n\n", "is empty"),
    "latin.jsonl": (
        f"{GOOD[0]}\n".encode() + b'{"question": "\xe9"}',
        rf"line 2 is not UTF-8 \(byte {len(GOOD[0]) + 15} is 0xe9",
    ),
    "broken.jsonl": ("\n".join([*GOOD, '{"question": ']).encode(), "line 4 is not JSON"),
    "list.jsonl": ("\n".join([*GOOD, "[1]"]).encode(), "line 4 is not a JSON object but a list"),
    "column.jsonl": (
        "\n".join([*GOOD, '{"questions": "x", "final": 1}']).encode(),
        r"line 4 has no column 'question'; did you mean questions\? \(it has questions, final\)",
    ),
    "text.jsonl": ("\n".join([*GOOD, '{"question": 5}']).encode(), "line 4: 'question' must be a text"),
    "answer.jsonl": (
        "\n".join([*GOOD, '{"question": "x", "final": null}']).encode(),
        "line 4: 'final' must be a text or a number, not null",
    ),
    "ragged.csv": (b"question,final\na,1\nb,2,3\n", "line 3 has other fields than the header's 2"),
    "header.csv": (b"question,final\n", "is empty"),
    "not.parquet": (b"PAR1 not really", "is not Parquet"),
    "kind.txt": (b"x", "ends in .jsonl, .csv, .parquet"),
}


@pytest.mark.parametrize("name", sorted(FAULTY))
def test_a_faulty_file_is_one_clear_line(tmp_path: Path, name: str) -> None:
    content, message = FAULTY[name]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    settings = MAPPING if name != "text.jsonl" else {"prompt": "question"}
    with pytest.raises(DataError, match=message) as raised:
        load(tmp_path / name, settings, train=1, valid=0, test=0)
    assert "\n" not in str(raised.value)
    assert name in str(raised.value)


def test_one_id_with_two_contents_names_both_places(tmp_path: Path) -> None:
    rows = [*ROWS, {"question": "Another?", "final": 1, "key": "q3"}]
    with pytest.raises(DataError, match=r"line 31: the id 'q3' is that of another problem at .*line 4"):
        load(write_jsonl(tmp_path / "r.jsonl", rows), {**MAPPING, "id": "key"})


def test_too_few_rows_says_how_many_there_are(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"30 distinct problems, too few for train 21, valid 5, test 5: train gets 20 of 21"
    ):
        load(write_jsonl(tmp_path / "r.jsonl", ROWS), train=21)


@pytest.mark.parametrize(
    ("spec", "settings", "message"),
    [
        ("suns", {}, "unknown data 'suns'; did you mean sums"),
        ("sums:easy", {}, "has no second part"),
        ("sums", {"max_digit": 1}, "no setting 'max_digit'; did you mean max_digits"),
        ("sums", {"max_digits": "many"}, "max_digits: Input should be a valid integer"),
        ("sums", {"max_digits": 0}, "max_digits=0"),
        ("./nowhere.py", {}, "there is no file"),
        ("gsm8k", {"path": "nowhere"}, "has neither train.jsonl nor gsm8k_train.jsonl"),
    ],
)
def test_a_wrong_spec_or_setting_is_the_users_error(spec: str, settings: Json, message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        load_problems(spec, train=1, valid=1, test=0, seed=0, settings=settings)
    assert "\n" not in str(raised.value)


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(ConfigError, match="valid=-1"):
        load_problems("sums", train=1, valid=-1, test=1, seed=0)


def test_a_users_own_data_file_is_held_to_the_contract(tmp_path: Path) -> None:
    source = (
        "from selftrain.records import Problem\n"
        "def load(*, train, valid, test, seed, step: int = 1):\n"
        "    numbers = {'train': range(train), 'valid': range(100, 100 + valid), 'test': range(test)}\n"
        "    return {s: [Problem.of(f'{n * step}?', answer=str(n)) for n in ns] for s, ns in numbers.items()}\n"
    )
    (tmp_path / "mine.py").write_text(source)
    spec = str(tmp_path / "mine.py")
    loaded = load_problems(spec, train=3, valid=2, test=0, seed=0, settings={"step": 5})
    assert [problem.text for problem in loaded.train] == ["0?", "5?", "10?"]
    assert not loaded.natural
    with pytest.raises(DataError, match="two problems, in test and in train, have the id"):
        load_problems(spec, train=3, valid=2, test=1, seed=0)


@given(
    prompts=st.lists(st.text(min_size=1), max_size=30),
    counts=st.tuples(st.integers(0, 8), st.integers(0, 8), st.integers(0, 8)),
    seed=st.integers(0, 3),
)
def test_divided_splits_are_disjoint_and_complete(prompts: list[str], counts: tuple[int, int, int], seed: int) -> None:
    asked = dict(zip(("train", "valid", "test"), counts, strict=True))
    distinct = {normal(prompt) for prompt in prompts}
    problems = [Problem.of(prompt) for prompt in prompts]
    if sum(counts) > len(distinct):
        with pytest.raises(DataError, match=f"has {len(distinct)} distinct"):
            divide("rows", problems, asked, seed=seed)
        return
    splits = divide("rows", problems, asked, seed=seed)
    assert {split: len(found) for split, found in splits.items()} == asked
    keys = [normal(problem.text) for found in splits.values() for problem in found]
    assert len(set(keys)) == len(keys)
    assert splits == divide("rows", problems[::-1], asked, seed=seed) or len(distinct) < len(prompts)
