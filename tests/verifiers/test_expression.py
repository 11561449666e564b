"""`expression` against math-verify's own test tables."""

import json
from pathlib import Path
from typing import Any

import pytest

from selftrain.records import Problem
from selftrain.verification.verify import load_verifier

TABLES = Path(__file__).parent / "math_verify" / "tables.jsonl"
ROWS: list[dict[str, Any]] = [json.loads(line) for line in TABLES.read_text(encoding="utf-8").splitlines()]

NUMBERS_ONLY = "their test reads numbers only; `number` is for those, here 1 000 is a product and 1,22 a pair"
LINE_BREAKS = "math-verify itself passes it: only its fallback once refused line breaks in inline formulas"
DISAGREEMENTS = {
    ("1000", "1 000"): ("fail", NUMBERS_ONLY),
    ("1000.99", "1000,99"): ("fail", NUMBERS_ONLY),
    ("1,22", "1.22"): ("fail", NUMBERS_ONLY),
    ("$9$", "Answer $ \n 9 \n $"): ("pass", LINE_BREAKS),
    ("$9$", "Answer \\( \n 9 \n \\)"): ("pass", LINE_BREAKS),
    ("$12:00$", "$1:00$"): ("error", "12:00 is read as 12/0, which math-verify can't compute: an error is no answer"),
}
"""(gold, response) -> what `expression` says otherwise, and why."""


@pytest.mark.parametrize("row", ROWS, ids=[f"{at}-{row['test'].partition('::')[2]}" for at, row in enumerate(ROWS)])
def test_it_agrees_with_math_verifys_tables(row: dict[str, Any]) -> None:
    verifier = load_verifier(json.dumps({"name": "expression", **row.get("settings", {})}))
    expected, _ = DISAGREEMENTS.get((row["gold"], row["response"]), ("pass" if row["equal"] else "fail", ""))
    try:
        status: str = verifier.judge(problem=Problem.of("?", answer=row["gold"]), response=row["response"]).status
    except ValueError:
        # What the pool makes of it.
        status = "error"
    assert status == expected


def test_every_disagreement_is_still_one() -> None:
    listed = {(row["gold"], row["response"]): "pass" if row["equal"] else "fail" for row in ROWS}
    assert all(listed[pair] != status and why for pair, (status, why) in DISAGREEMENTS.items())


@pytest.mark.parametrize("row", ROWS[:: len(ROWS) // 60], ids=str)
def test_what_it_takes_as_an_answer_is_that_answer_again(row: dict[str, Any]) -> None:
    verifier = load_verifier(json.dumps({"name": "expression", **row.get("settings", {})}))
    first = verifier.judge(problem=Problem.of("?", answer="0"), response=row["response"])
    if first.answer is not None:
        again = verifier.judge(problem=Problem.of("?", answer=first.answer), response=f"\\boxed{{{first.answer}}}")
        assert again.status == "pass", first.answer
