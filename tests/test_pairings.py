"""Pairings: who is preferred to whom, and what holds of all of them."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selftrain.errors import RecipeError
from selftrain.pairings import ByScore, GoldOwn, LengthMatched, OverChanged, Pairing, RightWrong
from selftrain.records import Verdict
from selftrain.round import Attempt
from selftrain.rules import normalised
from tests.test_rules import attempt, attempts

PAIRINGS: list[Pairing] = [RightWrong(1), RightWrong(), ByScore(), ByScore(most=3), GoldOwn(), OverChanged()]
PAIRINGS += [LengthMatched(RightWrong()), LengthMatched(ByScore(most=2), 1.0)]


def scored(index: int, score: float | None, text: str = "") -> Attempt:
    said = Verdict(sample=f"s{index}", by="v", status="abstain" if score is None else "scored", score=score)
    return replace(attempt(index, text or str(index)), verdicts=(said,))


@pytest.mark.parametrize("pairing", PAIRINGS, ids=str)
@given(given_attempts=attempts())
@settings(deadline=None)
def test_pairs_are_of_different_attempts_with_different_texts(pairing: Pairing, given_attempts: list[Attempt]) -> None:
    pairs = pairing(given_attempts)
    assert len({(pair.chosen.sample.id, pair.rejected.sample.id) for pair in pairs}) == len(pairs)
    for pair in pairs:
        assert pair.chosen in given_attempts
        assert pair.rejected in given_attempts
        assert normalised(pair.chosen.sample.text) != normalised(pair.rejected.sample.text)


@given(attempts(), st.integers(1, 9))
@settings(deadline=None)
def test_only_what_was_found_wrong_is_rejected(given_attempts: list[Attempt], most: int) -> None:
    pairs = RightWrong(most)(given_attempts)
    assert all(pair.chosen.passed and pair.rejected.failed for pair in pairs)
    assert len(pairs) <= most


def test_pairs_go_round_both_sides() -> None:
    right = [attempt(n, f"right {n}", said=["pass"]) for n in range(3)]
    wrong = [attempt(10 + n, f"wrong {n}", said=["fail"]) for n in range(2)]
    unsure = [attempt(20, "unsure", said=["error"]), attempt(21, "late", said=["timeout"])]
    pairs = [(c.sample.index, r.sample.index) for c, r, _ in RightWrong(9)([*right, *wrong, *unsure])]
    assert pairs == [(0, 10), (1, 11), (2, 10), (0, 11), (1, 10), (2, 11)]
    assert RightWrong(2)([*right, *unsure]) == []


@given(st.lists(st.none() | st.floats(-2, 2), max_size=9), st.integers(1, 4), st.floats(0, 2))
def test_pairs_by_score_are_the_ends_of_the_order(scores: list[float | None], most: int, least: float) -> None:
    pairs = ByScore(least=least, most=most)([scored(n, score) for n, score in enumerate(scores)])
    known = sorted(score for score in scores if score is not None)
    wanted = [(known[-1 - at], known[at]) for at in range(min(most, len(known) // 2))]
    assert [(c.score(), r.score()) for c, r, _ in pairs] == [(b, w) for b, w in wanted if b - w > least]
    assert all(
        pair.margin == pytest.approx((pair.chosen.score() or 0) - (pair.rejected.score() or 0)) for pair in pairs
    )


def test_gold_is_preferred_to_the_models_own() -> None:
    own = [attempt(0, "2", said=["pass"]), attempt(1, "3", said=["fail"]), attempt(2, "1+1=2")]
    gold = attempt(9, "1+1=2", finish="gold")
    pairs = GoldOwn(5)([*own, gold])
    assert [(c.sample.index, r.sample.index) for c, r, _ in pairs] == [(9, 0), (9, 1)]
    assert GoldOwn()(own) == []


def test_a_changed_copy_is_rejected_for_the_one_it_was_made_from() -> None:
    first, second = attempt(0, "a"), attempt(1, "b")
    changed = replace(second, sample=replace(second.sample, id="x", text="c", parents=("s1",)))
    stranger = replace(second, sample=replace(second.sample, id="y", text="d", parents=("nobody",)))
    assert [(c.sample.id, r.sample.id) for c, r, _ in OverChanged()([first, second, changed, stranger])] == [
        ("s1", "x")
    ]


def test_lengths_can_be_matched() -> None:
    right = [attempt(n, f"right {n}", said=["pass"], tokens=10) for n in range(2)]
    wrong = [attempt(5, "short", said=["fail"], tokens=4), attempt(6, "like", said=["fail"], tokens=14)]
    pairs = LengthMatched(RightWrong())([*right, *wrong])
    assert {r.sample.index for _, r, _ in pairs} == {6}


@pytest.mark.parametrize("make", [RightWrong, GoldOwn, OverChanged])
def test_no_pairs_at_all_is_refused(make: type) -> None:
    with pytest.raises(RecipeError, match="at least 1 pair"):
        make(0)


def test_a_ratio_below_one_is_refused() -> None:
    with pytest.raises(RecipeError, match="at least 1"):
        LengthMatched(RightWrong(), 0.5)


def test_a_floor_is_asked_of_the_chosen_alone() -> None:
    known = [scored(n, score) for n, score in enumerate([0.2, 0.5, 0.1, 0.6])]
    assert [(c.score(), r.score()) for c, r, _ in ByScore(most=2, floor=0.6)(known)] == [(0.6, 0.1)]
    assert len(ByScore(most=2, floor=0.5)(known)) == 2
    assert ByScore(floor=0.7)(known) == []
