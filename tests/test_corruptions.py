"""Corruptions: what they change, what they leave, and that nothing but the random stream decides."""

import random
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftrain.corruptions import Corruption, NumberSwap, OneOf, OperatorSwap, StepDrop, StepSwap
from selftrain.errors import RecipeError
from selftrain.proposals import NUMBER

ALL: list[Corruption] = [NumberSwap(), NumberSwap(3), OperatorSwap(), StepDrop(), StepSwap(), OneOf()]
LINES = st.text(alphabet="0123456789+-*/=#. ab\n", max_size=60)
SEEDS = st.integers(0, 1000)


def content(text: str) -> list[str]:
    """The lines with something on them."""
    return [line for line in text.splitlines() if line.strip()]


@given(LINES, SEEDS)
def test_changed_text_differs_and_the_same_stream_changes_it_in_the_same_way(text: str, seed: int) -> None:
    for each in ALL:
        changed = each(text, random.Random(seed))
        assert changed is None or changed != text
        assert changed == each(text, random.Random(seed))


@given(LINES, SEEDS, st.integers(1, 4))
def test_numbers_are_swapped_for_others_as_long(text: str, seed: int, count: int) -> None:
    changed = NumberSwap(count)(text, random.Random(seed))
    found = NUMBER.findall(text)
    assert (changed is None) is not bool(found)
    if changed is None:
        return
    assert len(changed) == len(text)
    assert NUMBER.sub("n", changed) == NUMBER.sub("n", text)
    pairs = list(zip(found, NUMBER.findall(changed), strict=True))
    assert sum(a != b for a, b in pairs) == min(count, len(found))
    assert all(len(a) == len(b) and (a == b or len(b) == 1 or b[0] != "0") for a, b in pairs)


@given(LINES, SEEDS)
def test_one_operator_is_swapped_for_another(text: str, seed: int) -> None:
    changed = OperatorSwap()(text, random.Random(seed))
    if changed is not None:
        assert len(changed) == len(text)
        (at,) = [at for at, (a, b) in enumerate(zip(text, changed, strict=True)) if a != b]
        assert {text[at], changed[at]} <= set("+-*/")


@pytest.mark.parametrize(
    "text", ["47+85=132", "(47 + 85) * 2", "x - y", "2*x", "f(3)/2", "3 * (4)"], ids=lambda text: str(text)
)
def test_operators_stand_between_operands(text: str) -> None:
    assert OperatorSwap()(text, random.Random(0)) is not None


@pytest.mark.parametrize(
    "text", ["", "a well-known sum", "and/or", "- 5 apples", "that is - so to say", "2-digit", "-5"]
)
def test_hyphens_and_dashes_are_no_operators(text: str) -> None:
    assert OperatorSwap()(text, random.Random(0)) is None


@given(LINES, SEEDS)
def test_a_step_is_dropped_but_never_the_last_line(text: str, seed: int) -> None:
    changed = StepDrop()(text, random.Random(seed))
    lines = content(text)
    assert (changed is None) is (len(lines) < 2)
    if changed is not None:
        assert len(content(changed)) == len(lines) - 1
        assert content(changed)[-1] == lines[-1]
        left = iter(lines)
        assert all(line in left for line in content(changed))


def test_an_empty_line_after_the_answer_does_not_make_the_answer_a_step() -> None:
    for seed in range(20):
        assert StepDrop()("1+2=3\n#### 3\n\n", random.Random(seed)) == "#### 3\n\n"
        assert StepSwap()("a\nb\n#### 3\n \n", random.Random(seed)) == "b\na\n#### 3\n \n"


@given(LINES, SEEDS)
def test_two_neighbouring_steps_are_swapped_but_never_the_last_line(text: str, seed: int) -> None:
    changed = StepSwap()(text, random.Random(seed))
    lines = text.splitlines()
    steps = content(text)[:-1]
    assert (changed is None) is all(a == b for a, b in pairwise(steps))
    if changed is not None:
        assert sorted(changed.splitlines()) == sorted(lines)
        assert content(changed)[-1] == content(text)[-1]
        assert sum(a != b for a, b in zip(content(changed), content(text), strict=True)) == 2


@given(LINES, SEEDS)
def test_one_of_several_changes_something_where_any_of_them_does(text: str, seed: int) -> None:
    each: tuple[Corruption, ...] = (NumberSwap(), OperatorSwap(), StepDrop())
    alone = [one(text, random.Random(seed)) for one in each]
    assert (OneOf(each)(text, random.Random(seed)) is None) is all(changed is None for changed in alone)


def test_which_of_several_is_drawn() -> None:
    text = "1+2=3\n3*2=6\n#### 6"
    found = {OneOf()(text, random.Random(seed)) for seed in range(40)}
    assert any(len(content(changed or "")) == 2 for changed in found)
    assert any(re.search(r"\n3[-+/]2", changed or "") for changed in found)


def test_a_number_too_long_for_an_int_is_swapped_too() -> None:
    text = "7" * 5000
    changed = NumberSwap()(text, random.Random(0))
    assert changed is not None
    assert changed != text
    assert len(changed) == 5000


def test_nothing_to_change_by_setting_is_refused() -> None:
    with pytest.raises(RecipeError, match="at least 1"):
        NumberSwap(0)
    with pytest.raises(RecipeError, match="at least one"):
        OneOf(())
