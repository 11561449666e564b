"""Rules: what they keep, and what holds of all of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selftrain.errors import RecipeError
from selftrain.records import Problem, Sample, Status, Verdict
from selftrain.round import Attempt
from selftrain.rules import (
    AtLeast,
    AtMost,
    Best,
    Majority,
    Random,
    Rule,
    Shortest,
    distinct,
    failed,
    finished,
    judging,
    name_of,
    normalised,
    passed,
    uncited,
)

PROBLEM = Problem.of("1+1=", answer="2")


def attempt(
    index: int,
    text: str = "2",
    *,
    said: Sequence[Any] = (),
    finish: Any = "stop",
    tokens: int = 1,
    template: str = "direct",
) -> Attempt:
    sample = Sample(
        id=f"s{index}",
        problem=PROBLEM.id,
        index=index,
        text=text,
        prompt_ids=(1,),
        completion_ids=(0,) * tokens,
        tokenizer="t",
        finish=finish,
        model="m",
        template=template,
    )
    verdicts = tuple(Verdict(sample=sample.id, by=f"v{i}", status=status) for i, status in enumerate(said))
    return Attempt(PROBLEM, sample, verdicts)


def scored(index: int, score: float | None) -> Attempt:
    said = Verdict(sample=f"s{index}", by="v", status="abstain" if score is None else "scored", score=score)
    return replace(attempt(index), verdicts=(said,))


@st.composite
def attempts(draw: st.DrawFn) -> list[Attempt]:
    texts = st.sampled_from(["2", "two", "TWO", " two ", "the given answer is 2", "ｔｗｏ"]) | st.text(max_size=4)
    return [
        attempt(
            index,
            draw(texts),
            said=draw(st.lists(st.sampled_from(get_args(Status)), max_size=3)),
            finish=draw(st.sampled_from(["stop", "length", "gold"])),
            tokens=draw(st.integers(0, 5)),
            template=draw(st.sampled_from(["direct", "hint"])),
        )
        for index in range(draw(st.integers(0, 8)))
    ]


RULES: list[Rule] = [
    passed,
    failed,
    finished,
    distinct,
    uncited,
    AtMost(1),
    AtMost(3),
    Shortest(),
    Shortest(3),
    Best(),
    AtLeast(1.0),
]
RULES += [Random(2), Random(2, seed=7)]


@pytest.mark.parametrize("rule", RULES, ids=name_of)
@settings(max_examples=60, deadline=None)
@given(given_attempts=attempts())
def test_a_rule_keeps_a_part_in_order_and_twice_is_once(rule: Rule, given_attempts: list[Attempt]) -> None:
    before = list(given_attempts)
    kept = list(rule(given_attempts))
    assert given_attempts == before
    places = [given_attempts.index(each) for each in kept]
    assert places == sorted(set(places))
    assert list(rule(kept)) == kept
    assert list(rule(list(before))) == kept


@settings(max_examples=100, deadline=None)
@given(given_attempts=attempts(), count=st.integers(1, 9), seed=st.integers(0, 3))
def test_caps_hold_and_take_as_many_as_there_are(given_attempts: list[Attempt], count: int, seed: int) -> None:
    wanted = min(count, len(given_attempts))
    assert len(AtMost(count)(given_attempts)) == wanted
    assert len(Shortest(count)(given_attempts)) == wanted
    assert len(Random(count, seed)(given_attempts)) == wanted


@settings(max_examples=100, deadline=None)
@given(given_attempts=attempts())
def test_what_is_neither_right_nor_wrong_is_in_neither(given_attempts: list[Attempt]) -> None:
    right, wrong = passed(given_attempts), failed(given_attempts)
    for each in given_attempts:
        statuses = {v.status for v in each.verdicts}
        assert (each in wrong) == ("fail" in statuses)
        assert (each in right) == ("pass" in statuses and "fail" not in statuses)
        if statuses <= {"error", "timeout", "abstain", "scored"}:
            assert each not in right
            assert each not in wrong


@settings(max_examples=100, deadline=None)
@given(given_attempts=attempts(), count=st.integers(1, 4), stranger=attempts())
def test_a_random_choice_depends_on_ids_alone(given_attempts: list[Attempt], count: int, stranger: Any) -> None:
    chosen = {each.sample.id for each in Random(count)(given_attempts)}
    assert {each.sample.id for each in Random(count)(list(reversed(given_attempts)))} == chosen


def test_random_choices_differ_by_seed_and_are_fair() -> None:
    many = [attempt(i) for i in range(10)]
    counts = [0] * 10
    for seed in range(500):
        for each in Random(2, seed)(many):
            counts[each.sample.index] += 1
    assert sum(counts) == 1000
    assert min(counts) > 60
    assert max(counts) < 145


@settings(max_examples=100, deadline=None)
@given(given_attempts=attempts())
def test_distinct_leaves_one_of_each_text(given_attempts: list[Attempt]) -> None:
    kept = [normalised(each.sample.text) for each in distinct(given_attempts)]
    assert len(kept) == len(set(kept))
    assert set(kept) == {normalised(each.sample.text) for each in given_attempts}


def test_distinct_looks_through_case_width_and_space() -> None:
    texts = ["So it is 2", "so  it\nis 2 ", "ＳＯ it is 2", "so it is 3"]
    kept = distinct([attempt(i, text) for i, text in enumerate(texts)])
    assert [each.sample.index for each in kept] == [0, 3]


@settings(max_examples=100, deadline=None)
@given(given_attempts=attempts(), count=st.integers(1, 4))
def test_nothing_left_out_is_shorter_than_the_shortest(given_attempts: list[Attempt], count: int) -> None:
    kept = Shortest(count)(given_attempts)
    out = [each for each in given_attempts if each not in kept]
    longest = max((len(each.sample.completion_ids) for each in kept), default=0)
    assert all(len(each.sample.completion_ids) >= longest for each in out)


def test_of_equally_short_ones_the_first() -> None:
    kept = Shortest(2)([attempt(0, tokens=3), attempt(1, tokens=1), attempt(2, tokens=3), attempt(3, tokens=4)])
    assert [each.sample.index for each in kept] == [0, 1]


def test_finished_leaves_out_what_was_cut_off() -> None:
    cut = [attempt(0, finish="length"), attempt(1), attempt(2, finish="gold")]
    assert [each.sample.index for each in finished(cut)] == [1, 2]


def test_uncited_looks_at_hinted_samples_only() -> None:
    text = "the given answer is 2"
    kept = uncited([attempt(0, text), attempt(1, text, template="hint"), attempt(2, "1+1=2", template="hint")])
    assert [each.sample.index for each in kept] == [0, 2]


@given(st.lists(st.none() | st.floats(-3, 3)), st.integers(1, 4), st.floats(-3, 3))
def test_scores_decide_whatever_the_order(scores: list[float | None], count: int, least: float) -> None:
    given_attempts = [scored(index, score) for index, score in enumerate(scores)]
    known = sorted((score for score in scores if score is not None), reverse=True)
    for order in (given_attempts, given_attempts[::-1]):
        assert sorted((each.score() or 0.0 for each in Best(count)(order)), reverse=True) == known[:count]
        assert {each.sample.id for each in AtLeast(least)(order)} == {
            f"s{index}" for index, score in enumerate(scores) if score is not None and score >= least
        }


def voted(index: int, answer: str | None, share: float | None) -> Attempt:
    status: Status = "abstain" if share is None else "scored"
    said = Verdict(sample=f"s{index}", by="vote", status=status, score=share, answer=answer)
    return replace(attempt(index), verdicts=(said,))


def test_a_majority_is_of_one_answer_and_of_the_first_where_two_are_level() -> None:
    votes = [voted(0, "7", 0.2), voted(1, "8", 0.4), voted(2, "9", 0.4), voted(3, "8", 0.4), voted(4, None, None)]
    assert [each.sample.index for each in Majority()(votes)] == [1, 3]
    assert Majority(share=0.4)(votes)
    assert Majority(share=0.5)(votes) == []
    assert Majority()([]) == Majority()(votes[4:]) == []


def test_a_rule_says_that_it_needs_verdicts() -> None:
    @dataclass(frozen=True)
    class Own:
        judging: ClassVar[bool] = True

    assert all(judging(rule) for rule in (passed, failed, Best(), AtLeast(0.5), Majority(), Own()))  # type: ignore[arg-type]
    assert not any(judging(rule) for rule in (distinct, finished, AtMost(1), Shortest(), Random(1)))


def test_a_score_is_found_by_its_verifiers_name_or_spec() -> None:
    spec = '{"name": "vote", "by": "number"}'
    verdicts = (
        Verdict(sample="s0", by=spec, status="scored", score=0.5),
        Verdict(sample="s0", by="number", status="pass"),
        Verdict(sample="s0", by="mbr", status="scored", score=0.25),
    )
    both = replace(attempt(0), verdicts=verdicts)
    assert [both.score(by) for by in ("", "vote", spec, "mbr", "number", "other")] == [0.25, 0.5, 0.5, 0.25, None, None]
    assert (Best(by="vote")([both]), AtLeast(0.4, by="mbr")([both])) == ([both], [])


@pytest.mark.parametrize("make", [AtMost, Shortest, Random, Best])
@pytest.mark.parametrize("count", [0, -1])
def test_a_cap_below_one_is_refused(make: Any, count: int) -> None:
    with pytest.raises(RecipeError, match="at least 1"):
        make(count)


def test_rules_are_named_as_they_are_written() -> None:
    rules: list[Rule] = [passed, AtMost(4), Random(2), Random(2, seed=3)]
    assert [name_of(rule) for rule in rules] == ["passed", "AtMost(4)", "Random(2)", "Random(2, seed=3)"]
