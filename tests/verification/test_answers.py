import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftrain.verification.answers import marked, normal, number_in, own_verifier, read_number


@given(st.integers(-(10**12), 10**12), st.sampled_from(["{}", "{:,}", "{:,}.00", "${:,}", "{}%", "{:+}", " {}. "]))
def test_an_integer_reads_back_however_it_is_written(value: int, form: str) -> None:
    text = form.format(value)
    assert read_number(text.replace("$-", "-$")) == value


@given(st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9))
def test_a_decimal_reads_back_and_is_found_in_a_sentence(value: object) -> None:
    written = number_in(f"We had 5 of them, so the answer is {value}.")
    assert written is not None
    assert read_number(written) == Fraction(str(value))


@given(st.fractions(min_value=-1000, max_value=1000))
def test_a_fraction_reads_back(value: Fraction) -> None:
    sign = "-" if value < 0 else ""
    assert read_number(str(value)) == value
    assert read_number(f"{sign}\\frac{{{abs(value.numerator)}}}{{{value.denominator}}}") == value


@given(st.text())
def test_any_text_is_read_without_an_exception(text: str) -> None:
    written = number_in(text)
    assert written is None or read_number(written) is None or isinstance(read_number(written), Fraction)
    marked(text)
    assert normal(normal(text)) == normal(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12-7", "7"),
        ("12 - 7", "7"),
        ("12 - 19 = -7", "-7"),
        ("= −7", "-7"),
        ("(-7)", "-7"),
        ("$-3.50 or -$4.25", "-$4.25"),
        ("1,234,567 people", "1,234,567"),
        ("in 1,2 and 3,45", "45"),
        ("about .5", ".5"),
        ("it is 19.", "19"),
        ("3.2e-5 m", "3.2e-5"),
        ("12km", "12"),
        ("H2O", None),
        ("x2", None),
        ("no digits", None),
        (r"it costs \$1{,}000\%", "$1,000"),
    ],
)
def test_the_last_number_of_a_text(text: str, number: str | None) -> None:
    assert number_in(text) == number


@pytest.mark.parametrize("text", ["", "-", "1/0", "12 apples", "1 2", "1e99999", "9" * 2000, "x", "0x10", "²"])
def test_what_is_not_a_number(text: str) -> None:
    assert read_number(text) is None


def test_the_last_mark_counts_and_braces_nest() -> None:
    assert marked("#### 5\n\\boxed{\\frac{1}{2}} so") == r"\frac{1}{2}"
    assert marked("\\boxed{5} \n#### 6 dollars\nmore") == "6 dollars"
    assert marked("\\boxed{5} and \\boxed{never closed") == "5"
    assert marked("plain 5") is None


@pytest.mark.parametrize("unit", ["\\boxed{", "####", "#### ", "\\boxed{ }", "\\boxed{{}", "####\n"])
def test_marks_without_end_are_read_once(unit: str) -> None:
    started = time.process_time()
    marked(unit * (2**20 // len(unit)))
    # One by one, each to the text's end, they would take minutes.
    assert time.process_time() - started < 5


def test_a_number_is_judged_by_number_and_words_by_exact() -> None:
    assert [own_verifier(answer) for answer in ("12", "-1/2", "blue", None)] == ["number", "number", "exact", "exact"]
