"""`selftrain audit`: what a verifier's verdicts are worth, on rows whose labels are known."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.cells import cell_len

from selftrain.verification.audit import audit
from tests.front_door import call, refused

# Says pass to "+", fail to "-", abstains from "?", raises at "!"; the digits are its score.
SOURCE = """
from selftrain import Score
def verify(*, problem, response):
    if response[0] == "!":
        raise RuntimeError("no")
    status = {"+": "pass", "-": "fail", "?": "abstain"}[response[0]]
    return Score(status=status, score=float(response[1:]) if response[1:] else None)
"""


def written(folder: Path, rows: Sequence[tuple[str, object]]) -> tuple[Path, Path]:
    verifier, source = folder / "signs.py", folder / "rows.jsonl"
    verifier.write_text(SOURCE)
    lines = [
        {"id": n, "prompt": f"q{n}", "response": response, "label": label} for n, (response, label) in enumerate(rows)
    ]
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return verifier, source


def test_rates_are_counted_over_what_it_decided(tmp_path: Path) -> None:
    rows: Sequence[tuple[str, object]] = (
        [("+", True)] * 6 + [("-", "pass")] * 2 + [("+", False)] * 3 + [("-", "fail")] * 9
    )
    rows = [*rows, *[("?", True)] * 3, *[("!", False)] * 2]
    verifier, source = written(tmp_path, rows)
    found = audit(str(verifier), source)
    assert (found.right, found.wrong, found.problems) == (11, 14, 25)
    (one,) = found.verifiers
    values = {name: each.value for name, each in one.rates.items()}
    assert values == {
        "precision": pytest.approx(6 / 9),
        "recall": pytest.approx(6 / 8),
        "false positives": pytest.approx(3 / 12),
        "false negatives": pytest.approx(2 / 8),
    }
    assert [each.n for each in one.rates.values()] == [9, 8, 12, 8]
    assert all(each.low < each.value < each.high for each in one.rates.values())
    assert {name: each.value for name, each in one.undecided.items()} == {
        "error": pytest.approx(2 / 25),
        "timeout": 0.0,
        "abstain": pytest.approx(3 / 25),
    }
    assert one.first["error"].startswith("23: RuntimeError: no")
    assert one.auc is None
    # What passes wrongly comes first; what it left undecided is no mistake.
    assert [each.row.response.sample.id for each in found.differing] == ["8", "9", "10", "6", "7"]


def test_scores_are_ranked(tmp_path: Path) -> None:
    verifier, source = written(tmp_path, [("+9", True), ("-2", True), ("-2", False), ("+3", False), ("?1", False)])
    (one,) = audit(str(verifier), source).verifiers
    assert one.auc is not None
    assert one.auc.value == pytest.approx((3 + 0.5 + 1) / 6)


def test_two_verifiers_are_compared(tmp_path: Path) -> None:
    verifier, source = written(tmp_path, [("+", True)] * 4 + [("-", False)] * 3 + [("?", True), ("!", True)])
    other = tmp_path / "other.py"
    other.write_text("def verify(*, problem, response): return problem.text in ('q0', 'q1', 'q2', 'q4')")
    found = audit(str(verifier), source, against=str(other), out=tmp_path / "out.jsonl")
    assert found.agreement is not None
    assert found.kappa is not None
    assert found.agreement.value == pytest.approx(5 / 7)
    assert found.agreement.n == 7
    # 3 both pass, 1 and 1 apart, 2 both fail.
    assert found.kappa.value == pytest.approx((5 / 7 - 25 / 49) / (1 - 25 / 49))
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == ["3", "4", "7", "8"]
    assert lines[0]["label"] is True
    assert [verdict["status"] for verdict in lines[0]["verdicts"]] == ["pass", "fail"]
    assert "RuntimeError" in lines[3]["verdicts"][0]["why"]


def test_the_report_fits_a_terminal(tmp_path: Path) -> None:
    long: Sequence[tuple[str, object]] = [("+" + "1" * 200, False), ("+1 " + " " * 50, False), ("+1\n", False)] + [
        ("+2", False)
    ] * 30
    verifier, source = written(tmp_path, [*long, ("-3", True)])
    source.write_text(
        source.read_text()
        + json.dumps({"id": "\x1b[31m" + "答え" * 30, "response": "-4", "label": True, "answer": "\ud800"})
        + "\n"
    )
    answer = call("audit", verifier, "--labelled", source)
    assert answer.code == 0, answer
    table = answer.out[answer.out.index("that it and the label see differently") :].splitlines()
    assert len(table) == 23
    assert table[-1] == "and 15 more (--out FILE.jsonl has all, in full)"
    assert max(map(cell_len, table[1:])) <= 80
    assert "\x1b" not in answer.out
    said = [line.split()[0] for line in answer.out.splitlines() if line.startswith("  ")]
    assert said[:6] == ["precision", "recall", "false", "false", "AUC", "error"]


def test_json_has_it_all(tmp_path: Path) -> None:
    verifier, source = written(tmp_path, [("+", True), ("-", True)])
    told = json.loads(call("audit", verifier, "--labelled", source, "--against", verifier, "--json").out)
    assert (told["rows"], told["right"], told["differing"]) == (2, 2, [])
    first = told["verifiers"][0]
    assert first["recall"]["value"] == 0.5
    assert first["false_positives"]["value"] is None
    assert first["auc"] is None
    assert told["agreement"]["value"] == 1.0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"id": "x", "response": "+"}, "line 2 has no 'label' (it has id, response)"),
        ({"id": "x", "response": "+", "lable": True}, "line 2 has no 'label'; did you mean lable?"),
        (
            {"id": "x", "response": "+", "label": "right"},
            """line 2: 'label' must be true or false, "pass" or "fail", not""",
        ),
        ({"id": "x", "response": "+", "label": 1}, "not 1"),
        ({"id": "x", "response": "+", "label": None}, "not null"),
        ({"id": 0, "response": "+", "label": True}, "line 2: the id '0' is that of"),
        ({"response": "+", "label": True}, "line 2 has no 'id'"),
        ("{", "line 2 is not JSON"),
    ],
)
def test_a_wrong_row_is_one_line_with_its_number(line: object, message: str, tmp_path: Path) -> None:
    verifier, source = written(tmp_path, [("+", True)])
    source.write_text(source.read_text() + (line if isinstance(line, str) else json.dumps(line)) + "\n")
    said = refused("audit", verifier, "--labelled", source, "--out", tmp_path / "out.jsonl")
    assert message in said
    assert not list(tmp_path.glob("out*"))


def test_other_mistakes_are_one_line(tmp_path: Path) -> None:
    verifier, source = written(tmp_path, [("+", True)])
    assert "did you mean number" in refused("audit", verifier, "--labelled", source, "--against", "nummber")
    assert "there is no such file" in refused("audit", verifier, "--labelled", tmp_path / "none.jsonl")
    assert "can't be written" in refused("audit", verifier, "--labelled", source, "--out", tmp_path / "no" / "x.jsonl")
