"""Prompts: the run's own protocol, shots and hints of a stage, and what counts as citing a hint."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftrain.errors import RecipeError
from selftrain.records import Problem
from selftrain.templates import TEMPLATES, Protocol, Shot, cites_hint

PROBLEM = Problem.of("1+1=", answer="2", solution="1 and 1 make 2")
PROTOCOL = Protocol(suffix=" Think.", system="Be brief.", examples=(Shot(prompt="2+2=", response="4"),))
SHOT = Shot(prompt="3+3=", response="6")


def said(template: str, problem: Problem = PROBLEM) -> list[tuple[str, str]]:
    return [(m["role"], m["content"]) for m in TEMPLATES[template](PROTOCOL, problem, (SHOT,))]


DIRECT = [("system", "Be brief."), ("user", "2+2= Think."), ("assistant", "4"), ("user", "1+1= Think.")]


def test_direct_is_the_protocol_alone() -> None:
    assert said("direct") == DIRECT


def test_shots_stand_between_the_protocols_examples_and_the_problem() -> None:
    assert said("few-shot") == [*DIRECT[:3], ("user", "3+3= Think."), ("assistant", "6"), DIRECT[3]]


def test_a_hint_stands_last() -> None:
    assert said("hint")[-1] == ("user", "1+1= Think.\n(The answer is 2.)")


def test_a_hint_needs_an_answer() -> None:
    with pytest.raises(RecipeError, match="has no answer to give as a hint"):
        said("hint", Problem.of("1+1="))


def test_earlier_turns_stay_and_the_suffix_is_for_the_last_alone() -> None:
    turns = Problem.of(
        [
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": "hi"},
            {"role": "user", "content": "1+1="},
        ]
    )
    assert said("direct", turns)[3:] == [("user", "hello"), ("assistant", "hi"), ("user", "1+1= Think.")]


@pytest.mark.parametrize("template", TEMPLATES)
@given(answer=st.text(st.characters(codec="ascii", exclude_characters="{}"), min_size=6))
def test_only_the_hint_shows_gold(template: str, answer: str) -> None:
    gold = f"<{answer}>"
    problem = Problem.of("1+1=", answer=gold, solution=gold, tests=gold)
    shown = any(gold in content for _, content in said(template, problem))
    assert shown is (template == "hint")


@pytest.mark.parametrize(
    "text",
    [
        "The given answer is 5",
        "the PROVIDED answer",
        "we use the known result",
        "By the hint,",
        "hints suggest 5",
        "as stated, 5",
        "The answer is given as 5",
        "the result was provided",
        "(The answer is 5.)",
    ],
)
def test_these_cite_a_hint(text: str) -> None:
    assert cites_hint(text)


@pytest.mark.parametrize("text", ["The answer is 5", "2+3=5", "so it is 5", "Given 2 apples, we have 5", "chintz"])
def test_these_do_not(text: str) -> None:
    assert not cites_hint(text)


def test_an_example_that_is_the_problem_itself_is_left_out() -> None:
    problem = Problem.of("3+3=")
    shots = [Shot(prompt="1+2=", response="3"), Shot(prompt="3+3=", response="6")]
    turns = TEMPLATES["few-shot"](Protocol(), problem, shots)
    assert [turn["content"] for turn in turns] == ["1+2=", "3", "3+3="]
