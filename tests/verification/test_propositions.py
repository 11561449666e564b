import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selftrain.errors import DataError
from selftrain.verification.propositions import Formula, Operation, read_formula

NAMES = st.sampled_from(["a", "b", "rain", "is-wet", "x.y", "true", "雨"])
FORMULAS = st.recursive(
    NAMES,
    lambda inner: (
        st.builds(lambda each: Operation("not", (each,)), inner)
        | st.builds(
            lambda operator, left, right: Operation(operator, (left, right)),
            st.sampled_from(["and", "or", "xor", "implies", "iff"]),
            inner,
            inner,
        )
    ),
    max_leaves=8,
)


def written(formula: Formula) -> str:
    if isinstance(formula, str):
        return formula
    inner = [written(each) for each in formula.operands]
    return f"(not {inner[0]})" if formula.operator == "not" else f"({inner[0]} {formula.operator} {inner[1]})"


@settings(deadline=None)
@given(FORMULAS)
def test_what_is_written_is_read(formula: Formula) -> None:
    assert read_formula(written(formula)) == formula


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("not a and b", "((not a) and b)"),
        ("a and b or c and d", "((a and b) or (c and d))"),
        ("a or b xor c", "(a or (b xor c))"),
        ("a or b -> c", "((a or b) implies c)"),
        ("a -> b -> c", "(a implies (b implies c))"),
        ("a <-> b -> c", "(a iff (b implies c))"),
        ("a and b and c", "((a and b) and c)"),
        ("~~a & !b | ¬c", "(((not (not a)) and (not b)) or (not c))"),
        ("a /\\ b \\/ c => d <=> e", "((((a and b) or c) implies d) iff e)"),
        ("a∧b∨c→d↔e", "((((a and b) or c) implies d) iff e)"),
        ("A AND Not b", "(A and (not b))"),
        ("a^b && c || d", "((a xor (b and c)) or d)"),
    ],
)
def test_operators_bind_in_their_order(text: str, same: str) -> None:
    assert written(read_formula(text)) == same


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "its end"),
        ("a ->", "its end"),
        ("a b", "'b' where the formula could end"),
        ("(a", "isn't closed"),
        ("a)", "where the formula could end"),
        ("and a", "'and' where a name"),
        ("a + b", "is no part of a formula"),
        ("(" * 10_000, "nested too deep"),
        ("not " * 10_000 + "a", "nested too deep"),
        ("a -> " * 10_000 + "a", "nested too deep"),
    ],
)
def test_what_is_no_formula_is_refused(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_formula(text)
