import itertools
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selftrain.records import Problem, Score
from selftrain.verification.propositions import Formula, Operation, read_formula
from selftrain.verification.verify import load_verifier
from tests.verification.test_propositions import written

pytest.importorskip("z3")

NAMES = ("a", "b", "c")
FORMULAS = st.recursive(
    st.sampled_from([*NAMES, "true", "false"]),
    lambda inner: (
        st.builds(lambda each: Operation("not", (each,)), inner)
        | st.builds(
            lambda operator, left, right: Operation(operator, (left, right)),
            st.sampled_from(["and", "or", "xor", "implies", "iff"]),
            inner,
            inner,
        )
    ),
    max_leaves=5,
)
VERIFIER = load_verifier("logic")


def judged(meta: Mapping[str, Any], response: str) -> Score:
    return VERIFIER.judge(problem=Problem.of("?", meta=meta), response=response)


def holds(formula: Formula, values: Mapping[str, bool]) -> bool:
    if isinstance(formula, str):
        return formula == "true" or (formula != "false" and values[formula])
    said = [holds(each, values) for each in formula.operands]
    match formula.operator:
        case "not":
            return not said[0]
        case "and":
            return said[0] and said[1]
        case "or":
            return said[0] or said[1]
        case "implies":
            return not said[0] or said[1]
        case "iff":
            return said[0] == said[1]
        case _:
            return said[0] != said[1]


@settings(deadline=None, max_examples=60)
@given(st.lists(FORMULAS, max_size=3), FORMULAS)
def test_z3_says_what_the_truth_table_says(premises: list[Formula], conclusion: Formula) -> None:
    tables = [dict(zip(NAMES, row, strict=True)) for row in itertools.product([True, False], repeat=3)]
    worlds = [values for values in tables if all(holds(each, values) for each in premises)]
    said = {holds(conclusion, values) for values in worlds}
    right = "unknown" if len(said) > 1 else "entailed" if True in said else "contradicted"
    meta = {"premises": [written(each) for each in premises], "conclusion": written(conclusion)}
    for answer in ("entailed", "contradicted", "unknown"):
        status = "error" if not worlds else "pass" if answer == right else "fail"
        assert judged(meta, f"#### {answer}").status == status


@pytest.mark.parametrize(
    ("conclusion", "right"),
    [
        ("true", "entailed"),
        ("false", "contradicted"),
        ("(> x 2)", "entailed"),
        ("(= x 7)", "unknown"),
        ("(< x 0)", "no"),
    ],
)
def test_smtlib(conclusion: str, right: str) -> None:
    meta = {"smtlib": "(declare-const x Int)\n(assert (> x 3))", "conclusion": conclusion}
    assert judged(meta, right).status == "pass"


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("True", "entailed"),
        ("The answer is **False**.", "contradicted"),
        ("#### Neither", "unknown"),
        (r"\boxed{\text{Uncertain}}", "unknown"),
        ("So it follows", "entailed"),
        ("No, because it rains: the conclusion is true", "entailed"),
        ("It is not true", None),
        ("It isn't false", None),
        ("It can never be true", None),
        ("true or false", None),
        ("#### not true", None),
        ("maybe", None),
        ("", None),
    ],
)
def test_how_an_answer_is_read(response: str, answer: str | None) -> None:
    assert judged({"premises": ["a"], "conclusion": "a"}, response).answer == answer
    assert judged({}, response).answer == answer


def test_what_z3_cannot_decide_is_an_error() -> None:
    # Whether three cubes sum to 114 is an open question.
    cubes = " ".join(f"(* {name} {name} {name})" for name in "xyz")
    meta = {"smtlib": "".join(f"(declare-const {n} Int)" for n in "xyz"), "conclusion": f"(= (+ {cubes}) 114)"}
    score = load_verifier('{"name": "logic", "seconds": 0.2}').judge(problem=Problem.of("?", meta=meta), response="no")
    assert score.status == "error"
    assert "z3 can't decide it in 0.2 s" in score.why


@pytest.mark.parametrize("conclusion", ["(> x", "(> y 2)", "x", ""])
def test_smtlib_that_cannot_be_read_is_an_error(conclusion: str) -> None:
    score = judged({"smtlib": "(declare-const x Int)", "conclusion": conclusion}, "true")
    assert score.status == "error"
    assert "z3 can't read the SMT-LIB" in score.why


def test_without_z3_the_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['z3'] = None\n"
        "from selftrain.errors import PluginError\nfrom selftrain.verification.verify import load_verifier\n"
        "try:\n    load_verifier('logic')\nexcept PluginError as error:\n    print(error)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "pip install 'selftrain[logic]'" in said


def test_formulas_may_use_any_words() -> None:
    assert read_formula("Regen -> nass") == Operation("implies", ("Regen", "nass"))
    meta = {"premises": ["雨 → 濡れる", "雨"], "conclusion": "濡れる"}
    assert judged(meta, "true").status == "pass"
