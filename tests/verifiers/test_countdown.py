import ast
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selftrain.records import Problem, Score
from selftrain.verification.verify import load_verifier

GAME: dict[str, Any] = {"numbers": [3, 4, 6, 8], "target": 24}


def judged(response: str, *, meta: dict[str, Any] = GAME, spec: str = "countdown") -> Score:
    return load_verifier(spec).judge(problem=Problem.of("?", meta=meta), response=response)


@pytest.mark.parametrize(
    ("response", "why"),
    [
        ("4 * 6", "doesn't use 3, 8"),
        ("3 * 8 + 4 - 4", "it uses 4, which it doesn't have"),
        ("3 + 4 + 6 + 8", "it makes 21, not 24"),
        ("(8 - 6) * 3 * 4 = 25", "doesn't hold"),
        ("8 / (6 - 3 - 3) * 4", "divides by zero"),
        ("-3 + 4", "not a number, + - * / or parentheses"),
        ("3 % 4", "Mod"),
        ("3.0 * 8", "not a number"),
        ("[3][0] * 8", "not a number"),
        ("(lambda: 24)()", "not a number"),
        ("I don't know", "no expression"),
        ("3*4*(8-6)" + " " * 2000 + "+0", "too long"),
    ],
)
def test_why_an_expression_fails(response: str, why: str) -> None:
    score = judged(response)
    assert score.status == "fail"
    assert why in score.why


def test_the_answer_is_one_form_of_the_expression() -> None:
    forms = ("3*4*(8-6)", r"\boxed{3 \times 4 \times (8-6) = 24}", "<answer> 3 * 4*(8 - 6)</answer>")
    assert {judged(form).answer for form in forms} == {"3 * 4 * (8 - 6)"}
    without = Problem.of("?")
    assert load_verifier("countdown").judge(problem=without, response=forms[0]).answer == "3 * 4 * (8 - 6)"


def test_the_game_of_24_is_a_setting() -> None:
    spec = '{"name": "countdown", "target": 24, "numbers": [3, 3, 8, 8]}'
    assert judged("8 / (3 - 8 / 3)", meta={}, spec=spec).status == "pass"
    assert judged("8 * 3 * (8 / 8)", meta={}, spec=spec).status == "fail"


TREES = st.recursive(
    st.integers(1, 20).map(str),
    lambda inner: st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda each: f"({' '.join(each)})"),
    max_leaves=6,
)


@settings(deadline=None)
@given(TREES, st.booleans())
def test_every_expression_makes_its_own_value(text: str, spoilt: bool) -> None:
    numbers = [node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)]
    try:
        # The same expression with exact fractions, computed by Python instead.
        value = eval("".join(f"Fraction({part})" if part.isdigit() else part for part in _tokens(text)))
    except ZeroDivisionError:
        assert judged(text, meta={"numbers": numbers, "target": 1}).status == "fail"
        return
    meta = {"numbers": numbers, "target": str(value + spoilt)}
    assert judged(text, meta=meta).status == ("fail" if spoilt else "pass")


def _tokens(text: str) -> list[str]:
    return text.replace("(", "( ").replace(")", " )").split()


def test_fractions_are_exact() -> None:
    assert judged("1 / 3 + 1 / 3 + 1 / 3", meta={"numbers": [1, 3, 1, 3, 1, 3], "target": 1}).status == "pass"
    assert Fraction(1, 3) != 1 / 3
