import io
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from selftrain.errors import DataError, PluginError
from selftrain.verification.verify_file import verify_file


def write(folder: Path, lines: Sequence[object]) -> Path:
    path = folder / "in.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def read(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_verdicts_come_in_the_files_order_with_the_agreed_fields(tmp_path: Path) -> None:
    rows = [{"id": f"r{n}", "response": f"so {n % 5}", "answer": "3", "prompt": "?"} for n in range(300)]
    summary = verify_file("number", write(tmp_path, rows), tmp_path / "out.jsonl", workers=2)
    verdicts = read(tmp_path / "out.jsonl")
    assert [verdict["id"] for verdict in verdicts] == [row["id"] for row in rows]
    assert list(verdicts[3]) == ["id", "by", "status", "score", "why", "seconds"]
    assert (verdicts[3]["by"], verdicts[3]["status"], verdicts[4]["status"]) == ("number", "pass", "fail")
    assert (summary.rows, summary.counts) == (300, {"pass": 60, "fail": 240})
    assert str(summary).startswith("number: 300 rows in ")


def test_errors_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    rows = [
        {"id": 1, "response": "5", "answer": 5},
        {"id": 2, "response": "5", "answer": "five"},
        {"id": 3, "response": "5"},
    ]
    out = io.StringIO()
    summary = verify_file("number", write(tmp_path, rows), out, workers=1)
    assert summary.counts == {"pass": 1, "error": 2}
    assert summary.first == {"error": "2: the gold answer 'five' is not a number"}
    assert len(out.getvalue().splitlines()) == 3


def test_a_group_verifier_sees_rows_of_the_same_problem_together(tmp_path: Path) -> None:
    (tmp_path / "majority.py").write_text(
        "from collections import Counter\n"
        "def verify_group(*, problem, attempts):\n"
        "    top = Counter(a.text for a in attempts).most_common(1)[0][0]\n"
        "    return [a.text == top for a in attempts]\n"
    )
    rows = [{"id": f"{p}-{n}", "prompt": p, "response": "x" if n < 2 else p} for n in range(3) for p in ("a", "b")]
    out = io.StringIO()
    summary = verify_file(str(tmp_path / "majority.py"), write(tmp_path, rows), out, workers=1)
    assert summary.counts == {"pass": 4, "fail": 2}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 is not JSON"),
        ({"response": "x"}, r"line 2 has no 'id' \(it has response\)"),
        ({"id": "a", "respnse": "x"}, "line 2 has no 'response'; did you mean respnse"),
        ({"id": "a", "response": None}, "line 2 has no 'response'"),
        ({"id": "a", "response": 5}, "line 2: 'response' must be a text, not 5"),
        ({"id": "0", "response": "x"}, "line 2: the id '0' is that of .*line 1 too"),
        ({"id": "a", "response": "x", "prompt": [{"role": "user"}]}, "line 2: 'prompt' must be a text or a list"),
        ({"id": "a", "response": "x", "meta": [1]}, "line 2: 'meta' must be an object"),
    ],
)
def test_a_wrong_row_is_named_by_its_line_and_no_output_is_left(tmp_path: Path, line: object, message: str) -> None:
    path = write(tmp_path, [{"id": "0", "response": "1", "answer": "1"}, line])
    with pytest.raises(DataError, match=message) as raised:
        verify_file("number", path, tmp_path / "out.jsonl", workers=1)
    assert "\n" not in str(raised.value)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["in.jsonl"]


def test_an_unknown_verifier_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="did you mean number"):
        verify_file("nummber", write(tmp_path, [{"id": "0", "response": "1"}]), workers=1)


def test_an_output_that_cannot_be_written_is_the_users_error(tmp_path: Path) -> None:
    path = write(tmp_path, [{"id": "0", "response": "1", "answer": "1"}])
    with pytest.raises(DataError, match="can't be written: No such file"):
        verify_file("number", path, tmp_path / "nowhere" / "out.jsonl", workers=1)


def test_strange_texts_survive(tmp_path: Path) -> None:
    text = "\ud800 \u0000 é 数字 7"
    summary = verify_file(
        "exact", write(tmp_path, [{"id": text, "response": text, "answer": text}]), tmp_path / "out.jsonl", workers=1
    )
    assert summary.counts == {"pass": 1}
    assert read(tmp_path / "out.jsonl")[0]["id"] == text
