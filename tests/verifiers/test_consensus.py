"""Votes, agreement and likeness: what a problem's samples say of each other."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selftrain.backends.pool import VerifierPool
from selftrain.errors import PluginError
from selftrain.records import Problem, Score
from selftrain.verification.verify import load_verifier
from tests.verifiers.group import group

loaded = lru_cache(load_verifier)
RESPONSES = st.lists(st.sampled_from(["7", "#### 7.0", "8", "1/2", r"\boxed{0.5}", "none", ""]), max_size=7)


def spec(name: str, **given: Any) -> str:
    return json.dumps({"name": name, **given})


def judged(spec: str, texts: Sequence[str], *, problem: Problem | None = None, **sides: Sequence[str]) -> list[Score]:
    problem = problem or Problem.of("?")
    return loaded(spec).judge_group(problem=problem, attempts=group(problem, texts, **sides))


def shares(scores: Sequence[Score]) -> list[float | None]:
    return [score.score if score.status == "scored" else None for score in scores]


def test_answers_are_compared_by_the_verifier_not_as_texts() -> None:
    scores = judged(spec("vote", by="number"), ["7", "so #### 7.0", "8", r"\boxed{\frac{14}{2}}", "no idea"])
    assert shares(scores) == [0.6, 0.6, 0.2, 0.6, None]
    assert [score.answer for score in scores] == ["7", "7", "8", "7", None]
    assert scores[4] == Score(status="abstain", why="number reads no answer")


def test_a_vote_on_expressions() -> None:
    texts = [
        r"\boxed{(x+1)^2}",
        r"\boxed{x^2+2x+1}",
        r"So \boxed{1 + 2x + x^2}.",
        r"\boxed{x^2+1}",
        r"\boxed{\frac{1}{2}}",
    ]
    assert shares(judged(spec("vote", by="expression"), texts)) == [0.6, 0.6, 0.6, 0.2, 0.2]


def test_a_vote_on_choices_sees_the_options() -> None:
    problem = Problem.of("Sky?\nA. red\nB. blue", verifier="choice", answer="A")
    scores = judged("vote", ["B", "The sky is blue.", "(A)"], problem=problem)
    assert shares(scores) == [pytest.approx(2 / 3), pytest.approx(2 / 3), pytest.approx(1 / 3)]


@settings(deadline=None)
@given(RESPONSES, st.randoms(), st.sampled_from([None, 0.5]))
def test_mixing_the_samples_mixes_the_scores(texts: list[str], random: Any, threshold: float | None) -> None:
    order = random.sample(range(len(texts)), len(texts))
    sides = [f"{at % 2}" for at in range(len(texts))]
    for name in ("vote", "agreement", "mbr"):
        by = {} if name == "mbr" else {"by": "number"}
        verifier = spec(name, threshold=threshold, **by)
        straight = judged(verifier, texts, templates=sides)
        mixed = judged(verifier, [texts[at] for at in order], templates=[sides[at] for at in order])
        assert mixed == [straight[at] for at in order]


@settings(deadline=None)
@given(RESPONSES, st.sampled_from([None, "7", "8", "no number"]))
def test_the_gold_answer_changes_nothing(texts: list[str], gold: str | None) -> None:
    problem = Problem.of("?", verifier="number", answer="1/2", solution="#### 1/2")
    other = replace(problem, answer=gold, solution=None)
    for name in ("vote", "agreement", "mbr"):
        assert judged(name, texts, problem=problem) == judged(name, texts, problem=other)


@settings(deadline=None)
@given(RESPONSES)
def test_shares_are_shares(texts: list[str]) -> None:
    scores = judged(spec("vote", by="number"), texts)
    said = [score.answer for score in scores]
    for score, answer in zip(scores, said, strict=True):
        if score.status == "scored":
            assert score.score == pytest.approx(said.count(answer) / len(texts))
        else:
            assert score.status == "abstain"
            assert answer is None or len([each for each in said if each]) < 2


@pytest.mark.parametrize(
    ("texts", "threshold", "statuses"),
    [
        (["7", "7", "8"], 0.5, ["pass", "pass", "fail"]),
        (["7", "7", "8"], 0.9, ["fail", "fail", "fail"]),
        (["7", "8"], 0.5, ["abstain", "abstain"]),
        (["7", "7", "8", "8", "9"], 0.3, ["abstain"] * 4 + ["fail"]),
        (["7", "x", "x"], 0.1, ["abstain"] * 3),
        (["7", "7.0", "x", "x"], 0.5, ["pass", "pass", "abstain", "abstain"]),
        ([], 0.5, []),
    ],
)
def test_ties_and_silence_abstain(texts: list[str], threshold: float, statuses: list[str]) -> None:
    scores = judged(spec("vote", by="number", threshold=threshold), texts)
    assert [score.status for score in scores] == statuses


RAISES = """
from selftrain.records import Score

def verify(*, problem, response):
    if "bad" in response:
        raise ValueError("can't read that")
    if problem.answer is not None and len(problem.answer) > 3:
        raise ValueError("can't take that as gold")
    said = response.removeprefix("\\\\boxed{").removesuffix("}").lower()
    return Score(status="pass" if said == problem.answer else "fail", answer=response)
"""


def test_what_raises_is_an_error_of_that_sample(tmp_path: Path) -> None:
    path = tmp_path / "raises.py"
    path.write_text(RAISES)
    scores = judged(spec("vote", by=str(path)), ["a", "a", "bad", "longer", "longer", "LONGER"])
    assert [score.status for score in scores] == ["scored", "scored", "error", "scored", "scored", "scored"]
    assert "ValueError: can't read that" in scores[2].why
    # Answers that aren't accepted as gold are compared as texts.
    assert shares(scores)[3:] == [pytest.approx(1 / 3), pytest.approx(1 / 3), pytest.approx(1 / 6)]


def test_a_vote_within_a_vote_is_an_error() -> None:
    with pytest.raises(PluginError, match="judges all of a problem's samples, not one response"):
        load_verifier(spec("vote", by=spec("vote", by="number")))
    scores = judged("vote", ["7", "7"], problem=Problem.of("?", verifier="vote"))
    assert [score.status for score in scores] == ["error", "error"]
    assert scores[0].why.startswith("the problem's own verifier: TypeError")


def test_agreement_counts_the_other_side_only() -> None:
    texts = ["7", "7", "8", "7.0", "8", "x"]
    templates = ["direct"] * 3 + ["few-shot"] * 3
    scores = judged(spec("agreement", by="number"), texts, templates=templates)
    third = pytest.approx(1 / 3)
    assert shares(scores) == [third, third, third, pytest.approx(2 / 3), third, None]
    by_model = spec("agreement", by="number", apart="model")
    assert shares(judged(by_model, texts, models=["a"] * 5 + ["b"])) == [None] * 6
    assert shares(judged(by_model, texts, models=["a"] * 4 + ["b"] * 2)) == [0.0, 0.0, 0.5, 0.0, 0.25, None]


def test_the_sample_most_like_the_others_scores_highest() -> None:
    texts = [
        "Rain falls in the hills.",
        "Rain falls on the hills.",
        "Rain is falling on the hills.",
        "Das weiß ich nicht.",
    ]
    scores = [score.score for score in judged("mbr", texts)]
    assert scores.index(max(scores, key=lambda each: each or 0)) == 1
    assert scores.index(min(scores, key=lambda each: each or 0)) == 3


def test_equal_texts_are_as_like_as_can_be() -> None:
    assert shares(judged("mbr", ["雨が降る", "雨が降る"])) == [1.0, 1.0]
    assert shares(judged("mbr", ["", "rain"])) == [0.0, 0.0]
    assert shares(judged(spec("mbr", likeness="exact"), ["Rain ", "rain", "snow"])) == [0.5, 0.5, 0.0]


@pytest.mark.parametrize("name", ["vote", "agreement", "mbr"])
def test_a_threshold_is_a_share(name: str) -> None:
    with pytest.raises(PluginError, match=r"threshold is 1\.5; it must be from 0 to 1"):
        load_verifier(spec(name, threshold=1.5))


def test_a_vote_through_the_pool(tmp_path: Path) -> None:
    problems = [Problem.of(f"{at}?", answer="9", verifier="number") for at in range(3)]
    items = [
        (problem, sample) for problem in problems for sample in group(problem, ["7", "#### 7", "8", "a " * 200_000])
    ]
    with VerifierPool(workers=1, log=tmp_path / "log") as pool:
        said = {verdict.sample: verdict for verdict in pool.verify(spec("vote", threshold=0.5), items)}
    assert [said[sample.id].status for _, sample in items] == ["pass", "pass", "fail", "abstain"] * 3
