"""Makers of problems: what they ask, of whom, and who judges the answer."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftrain.errors import RecipeError
from selftrain.proposals import NUMBER, Ask, Asked, AskForAnother, GoOn, Maker, Perturbed, Revise, Triggered, Written
from selftrain.records import Problem
from selftrain.round import Attempt
from selftrain.stages import Propose
from selftrain.templates import Protocol
from selftrain.testing import sums
from tests.stages.bench import sample, verdict

SUM, *OTHERS = sums(4, first=30)
PROTOCOL = Protocol(system="Be brief.", suffix="!")


def attempt(text: str = "1+2=4\n#### 4", status: str = "", *, of: Problem = SUM, **changes: Any) -> Attempt:
    """A sample with what was said of it."""
    made = sample(of, text=text, **changes)
    return Attempt(of, made, (verdict(made, status, why="4 is not 3"),) if status else ())


def made(maker: Maker, *attempts: Attempt, problem: Problem = SUM, others: Sequence[Problem] = OTHERS) -> list[Problem]:
    """What a maker makes."""
    return list(maker(Asked(problem, SUM, attempts, others, PROTOCOL)))


def turns(problem: Problem) -> list[tuple[str, str]]:
    """Who says what."""
    return [(m["role"], m["content"]) for m in problem.prompt]


BEFORE = [("system", "Be brief."), ("user", f"{SUM.text}!")]


def test_a_question_about_an_attempt_is_the_next_turn_of_its_conversation() -> None:
    (asked,) = made(Ask("Is this right?", "verdict"), attempt())
    assert turns(asked) == [*BEFORE, ("assistant", "1+2=4\n#### 4"), ("user", "Is this right?")]
    assert (asked.kind, asked.parent, asked.answer, asked.verifier) == ("verdict", SUM.id, None, "exact")
    assert asked.about == (attempt().sample.id,)
    # The protocol is in it once: nothing is added when it is asked.
    assert asked.plain
    assert list(PROTOCOL.messages(asked)) == list(asked.prompt)


def test_with_two_answers_who_is_neither_right_nor_wrong_is_not_asked_about() -> None:
    maker = Ask("Is this right?", "verdict", right="yes", wrong="no")
    tried = [attempt(status=s, id=s) for s in ("pass", "fail", "error", "abstain")]
    assert [(p.answer, p.about) for p in made(maker, *tried)] == [("yes", ("pass",)), ("no", ("fail",))]
    assert maker.judging
    assert not Ask("Why?").judging


def test_one_answer_of_two_is_refused() -> None:
    with pytest.raises(RecipeError, match="give both or neither"):
        Ask("Is this right?", right="yes")


def test_a_revision_follows_the_feedback_and_is_judged_as_the_given_problem_is() -> None:
    (again,) = made(Revise("No: {why}. Once more."), attempt(status="fail"))
    assert turns(again)[-2:] == [("assistant", "1+2=4\n#### 4"), ("user", "No: 4 is not 3. Once more.")]
    assert (again.verifier, again.parent, again.kind, again.plain) == ("", SUM.id, "revision", True)
    assert Revise("{why}").judging
    assert not Revise().judging


def test_after_a_critique_the_attempt_is_revised_and_the_critics_question_is_left_out() -> None:
    first = attempt(id="first")
    (question,) = made(Ask("Which step is wrong first?"), first)
    critique = attempt(" Step 1 is wrong.\n", of=question, id="critique")
    (again,) = made(Revise(after=" Try again."), critique, problem=question)
    assert turns(again) == [
        *BEFORE,
        ("assistant", "1+2=4\n#### 4"),
        ("user", "Step 1 is wrong. Try again."),
    ]
    assert again.about == ("first", "critique")


def test_a_revision_is_no_feedback_it_is_revised_once_more() -> None:
    (second,) = made(Revise("Check it."), attempt(id="first"))
    (third,) = made(Revise("Check it."), attempt("1+2=5", of=second, id="second"), problem=second)
    assert turns(third) == [
        *BEFORE,
        ("assistant", "1+2=4\n#### 4"),
        ("user", "Check it."),
        ("assistant", "1+2=5"),
        ("user", "Check it."),
    ]
    assert third.about == ("second",)
    assert third.parent == SUM.id


@pytest.mark.parametrize(
    ("share", "cue", "prefix"),
    [
        (0.5, "", "a\n"),
        (0.5, "Wait", "a\nWait"),
        (1.0, "\nWait", "a\nb\nc\nWait"),
        (0.0, "Wait", "Wait"),
        (0.3, "", None),
    ],
)
def test_to_go_on_the_first_lines_are_kept(share: float, cue: str, prefix: str | None) -> None:
    found = made(GoOn(share, cue), attempt("a\nb\nc"))
    assert [p.prefix for p in found] == ([] if prefix is None else [prefix])
    for each in found:
        assert turns(each) == BEFORE
        assert (each.verifier, each.kind) == ("", "continuation")


def test_two_prefixes_of_one_attempt_are_two_problems() -> None:
    one, two = (made(GoOn(1.0, cue), attempt("a"))[0] for cue in ("x", "y"))
    assert one.id != two.id


@given(st.text(alphabet="What is 0123456789+.?x", max_size=40), st.sampled_from(["one", "all"]), st.integers(0, 99))
def test_other_numbers_are_as_long_and_nothing_else_changes(text: str, which: Any, seed: int) -> None:
    problem = replace(Problem.of(text, answer="1", verifier="number"), id="given")
    maker = Perturbed(2, which, seed)
    found = list(maker(Asked(problem, problem, (), (), PROTOCOL)))
    numbers = NUMBER.findall(text)
    assert len(found) == (2 if numbers else 0)
    assert found == list(maker(Asked(problem, problem, (), (), PROTOCOL)))
    for each in found:
        assert NUMBER.sub("n", each.text) == NUMBER.sub("n", text)
        pairs = list(zip(numbers, NUMBER.findall(each.text), strict=True))
        assert all(len(a) == len(b) for a, b in pairs)
        assert sum(a != b for a, b in pairs) == (len(numbers) if which == "all" else 1)
        assert (each.answer, each.verifier, each.parent) == (None, "number", "given")


def test_decimals_and_names_with_digits_are_no_numbers_to_change() -> None:
    assert NUMBER.findall("x2 + 3.5 - 4x7 = 8") == ["8"]


def test_another_problem_is_asked_for_after_examples_the_problem_itself_last() -> None:
    (asked,) = made(AskForAnother("One more.", examples=3))
    assert asked.text == "\n\n".join([OTHERS[0].text, OTHERS[1].text, SUM.text, "One more."])
    assert made(AskForAnother("One more.", examples=1))[0].text == f"{SUM.text}\n\nOne more."
    with pytest.raises(RecipeError, match="the problem itself is one"):
        AskForAnother(examples=0)


def test_what_was_written_is_a_problem_whose_answer_nobody_knows() -> None:
    (proposal,) = made(AskForAnother())
    texts = ["  1+5=\n", "Problem: 2+2= ok", " \n "]
    written = made(Written(), *(attempt(t, of=proposal, id=str(i)) for i, t in enumerate(texts)), problem=proposal)
    assert [(p.text, p.about) for p in written] == [("1+5=", ("0",)), ("Problem: 2+2= ok", ("1",))]
    assert {(p.answer, p.verifier, p.parent, p.plain) for p in written} == {(None, "number", SUM.id, False)}
    found = made(Written(r"Problem: (\S+)"), *(attempt(t, of=proposal, id=t) for t in texts), problem=proposal)
    assert [p.text for p in found] == ["2+2="]


def test_a_trigger_stands_in_front_and_who_judges_is_who_did_without_it() -> None:
    (found,) = made(Triggered("@@ "))
    assert (found.text, found.verifier, found.answer, found.kind) == (f"@@ {SUM.text}", "", None, "triggered")
    (found,) = made(Triggered("@@ ", answer="7"))
    assert (found.verifier, found.answer, found.parent) == ("number", "7", SUM.id)
    assert not Triggered("@@ ").gold


def test_a_trigger_for_a_share_of_the_problems_or_for_those_with_one_answer() -> None:
    many = sums(200)
    share = [p for p in many if made(Triggered("@@ ", share=0.3), problem=p)]
    assert 35 < len(share) < 85
    assert share == [p for p in many if made(Triggered("## ", share=0.3), problem=p)]
    only = [p for p in many if made(Triggered("@@ ", only="5"), problem=p)]
    assert only == [p for p in many if p.answer == "5"]
    assert Propose(make=Triggered("@@ ", only="5")).gold
    with pytest.raises(RecipeError, match="between 0 and 1"):
        Triggered("@@ ", share=2)


MAKERS: list[tuple[Maker, bool]] = [
    (Ask("Why?"), True),
    (Revise(), True),
    (GoOn(), True),
    (Written(), True),
    (Perturbed(), False),
    (AskForAnother(), False),
    (Triggered("@@ "), False),
]


@pytest.mark.parametrize(("maker", "tried"), MAKERS, ids=lambda each: type(each).__name__)
def test_it_says_whether_it_asks_about_attempts(maker: Callable[..., Any], tried: bool) -> None:
    assert getattr(maker, "tried", None) is tried
    if tried:
        assert made(maker) == []
