"""What verifiers made of verifiers make of their parts' verdicts."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selftrain.errors import PluginError
from selftrain.records import Problem, Score
from selftrain.verification.verify import load_verifier
from tests.verifiers.group import group

SAYS = """
from dataclasses import dataclass
from selftrain.records import Score

@dataclass(frozen=True, kw_only=True)
class Verifier:
    at: int = 0

    def verify(self, *, problem, response):
        word = response.split()[self.at]
        if word == "raise":
            raise ValueError("no such luck")
        if word[0] in "-0123456789":
            return Score(status="scored", score=float(word), answer=f"{self.at}")
        return Score(status=word, why=f"said {word}", answer=f"{self.at}")
"""
Says = Callable[[int], dict[str, Any]]
WORDS = st.sampled_from(["pass", "fail", "error", "timeout", "abstain", "raise", "0.5"])
MANY = st.lists(WORDS, min_size=1, max_size=4)
RANK = {"error": 0, "raise": 0, "0.5": 0, "timeout": 1, "abstain": 2}
STATUS = {"raise": "error", "0.5": "error"}
PROBLEM = Problem.of("?", answer="7")


@pytest.fixture(scope="module")
def says(tmp_path_factory: pytest.TempPathFactory) -> Says:
    """A verifier that says the word of the response at its place."""
    path = tmp_path_factory.mktemp("says") / "says.py"
    path.write_text(SAYS)
    return lambda at: {"name": str(path), "at": at}


# Loading takes longer than judging.
loaded = lru_cache(load_verifier)


def judged(spec: dict[str, Any] | str, response: str, problem: Problem = PROBLEM) -> Score:
    return loaded(spec if isinstance(spec, str) else json.dumps(spec)).judge(problem=problem, response=response)


def over(name: str, says: Says, words: Sequence[str], **settings: Any) -> Score:
    return judged({"name": name, "of": [says(at) for at in range(len(words))], **settings}, " ".join(words))


def gravest(words: Sequence[str]) -> str | None:
    unknown = [word for word in words if word in RANK]
    return STATUS.get(word := min(unknown, key=RANK.__getitem__), word) if unknown else None


@settings(deadline=None)
@given(MANY)
def test_all_of_fails_by_one_fail_and_never_by_an_error(says: Says, words: list[str]) -> None:
    score = over("all_of", says, words)
    assert score.status == ("fail" if "fail" in words else gravest(words) or "pass")
    assert score.answer == (None if words[0] == "raise" else "0")


@settings(deadline=None)
@given(MANY)
def test_any_of_passes_by_one_pass_and_never_by_an_error(says: Says, words: list[str]) -> None:
    score = over("any_of", says, words)
    assert score.status == ("pass" if "pass" in words else gravest(words) or "fail")
    assert score.answer == (None if words[0] == "raise" else "0")


@settings(deadline=None)
@given(MANY)
def test_de_morgan(says: Says, words: list[str]) -> None:
    parts = [says(at) for at in range(len(words))]
    opposite = [{"name": "inverted", "by": part} for part in parts]
    for one, other in (("all_of", "any_of"), ("any_of", "all_of")):
        left = judged({"name": "inverted", "by": {"name": one, "of": parts}}, " ".join(words))
        assert left.status == judged({"name": other, "of": opposite}, " ".join(words)).status


@settings(deadline=None)
@given(MANY, st.randoms())
def test_the_order_of_the_parts_changes_no_status(says: Says, words: list[str], random: Any) -> None:
    mixed = random.sample(words, len(words))
    for name in ("all_of", "any_of", "weighted"):
        assert over(name, says, words).status == over(name, says, mixed).status


@settings(deadline=None)
@given(WORDS | st.sampled_from(["-1.5", "0.0", "3"]))
def test_inverted_twice_is_what_it_was(says: Says, word: str) -> None:
    once = {"name": "inverted", "by": says(0)}
    plain, once_said = judged({"name": "all_of", "of": [says(0)]}, word), judged(once, word)
    twice = judged({"name": "inverted", "by": once}, word)
    if word != "raise":
        said = judged(says(0), word)
        assert (twice.status, twice.score, twice.answer) == (said.status, said.score, said.answer)
    if once_said.status in ("pass", "fail"):
        assert {once_said.status, plain.status} == {"pass", "fail"}
    assert (once_said.status == "error") == (word in ("error", "raise"))


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["pass", "fail", "0.25", "3"]), st.integers(0, 2)), min_size=1, max_size=3))
def test_weighted_is_the_weighted_mean(says: Says, weighed: list[tuple[str, int]]) -> None:
    words, weights = [word for word, _ in weighed], [weight for _, weight in weighed]
    if not sum(weights):
        with pytest.raises(PluginError, match="not all 0"):
            over("weighted", says, words, weights=weights)
        return
    value = {"pass": 1.0, "fail": 0.0, "0.25": 0.25, "3": 3.0}
    mean = sum(value[word] * weight for word, weight in weighed) / sum(weights)
    score = over("weighted", says, words, weights=weights)
    assert score.status == "scored"
    assert score.score == pytest.approx(mean)
    passes = over("weighted", says, words, weights=weights, threshold=1.0).status == "pass"
    assert score.score is not None
    assert passes == (score.score >= 1)


@pytest.mark.parametrize(
    ("words", "weights", "status"),
    [
        (["pass", "error"], [1, 1], "error"),
        (["pass", "raise"], [1, 1], "error"),
        (["abstain", "timeout"], [1, 1], "timeout"),
        (["fail", "abstain"], [1, 1], "abstain"),
        (["error", "pass"], [0, 1], "scored"),
    ],
)
def test_weighted_weighs_nothing_that_is_not_known(
    says: Says, words: list[str], weights: list[float], status: str
) -> None:
    assert over("weighted", says, words, weights=weights, threshold=None).status == status
    if status != "scored":
        assert over("weighted", says, words, weights=weights, threshold=0.0).status == status


@pytest.mark.parametrize(
    ("words", "settings", "status"),
    [
        ("abstain pass", {}, "pass"),
        ("abstain fail", {}, "fail"),
        ("abstain abstain error", {}, "error"),
        ("pass fail", {}, "pass"),
        ("fail pass", {}, "fail"),
        ("error pass", {}, "error"),
        ("raise pass", {}, "error"),
        ("timeout pass", {}, "timeout"),
        ("error pass", {"open": ["error", "timeout"]}, "pass"),
        ("raise fail", {"open": ["error", "timeout"]}, "fail"),
        ("pass fail", {"open": ["pass"]}, "fail"),
        ("fail raise", {"open": ["pass"]}, "fail"),
        ("pass raise", {"open": ["pass"]}, "error"),
        ("0.5 pass", {}, "scored"),
        ("0.5 pass", {"low": 0.4, "high": 0.6}, "pass"),
        ("0.4 fail", {"low": 0.4, "high": 0.6}, "fail"),
        ("0.7 raise", {"low": 0.4, "high": 0.6}, "pass"),
        ("0.3 raise", {"low": 0.4, "high": 0.6}, "fail"),
        ("0.5 0.5", {"low": 0.4, "high": 0.6}, "scored"),
        ("abstain 0.9 raise", {"low": 0.4, "high": 0.6}, "pass"),
    ],
)
def test_a_cascade_goes_on_where_the_matter_is_open(
    says: Says, words: str, settings: dict[str, Any], status: str
) -> None:
    score = over("cascade", says, words.split(), **settings)
    assert score.status == status
    assert score.answer == (None if words.startswith("raise") else "0")


@settings(deadline=None)
@given(st.sampled_from(["pass", "fail", "error", "timeout", "abstain", "0.5"]), st.integers(0, 3))
def test_noise_of_no_rate_is_what_it_was(says: Says, word: str, seed: int) -> None:
    assert judged({"name": "noisy", "by": says(0), "seed": seed}, word) == judged(says(0), word)


@pytest.mark.parametrize(("positive", "negative"), [(0.1, 0.0), (0.0, 0.3), (0.5, 0.2), (1.0, 1.0)])
def test_noise_has_the_rates_it_is_set_to(says: Says, positive: float, negative: float) -> None:
    spec = {"name": "noisy", "by": says(0), "false_positive": positive, "false_negative": negative}
    verifier = load_verifier(json.dumps(spec))
    for word, rate, turned in (("fail", positive, "pass"), ("pass", negative, "fail")):
        said: list[str] = [verifier.judge(problem=PROBLEM, response=f"{word} {at}").status for at in range(2000)]
        assert said == [verifier.judge(problem=PROBLEM, response=f"{word} {at}").status for at in range(2000)]
        # Four standard errors.
        assert said.count(turned) / 2000 == pytest.approx(rate, abs=4 * (rate * (1 - rate) / 2000) ** 0.5)
    other = load_verifier(json.dumps({**spec, "seed": 1}))
    if 0 < positive < 1:
        assert any(
            verifier.judge(problem=PROBLEM, response=f"fail {at}")
            != other.judge(problem=PROBLEM, response=f"fail {at}")
            for at in range(100)
        )


@settings(deadline=None)
@given(st.lists(WORDS, max_size=12), st.integers(0, 3))
def test_shuffling_keeps_how_many_get_what(says: Says, words: list[str], seed: int) -> None:
    shuffled = loaded(json.dumps({"name": "shuffled", "by": says(0), "seed": seed}))
    attempts = group(PROBLEM, words)
    scores = shuffled.judge_group(problem=PROBLEM, attempts=attempts)
    asked = {"raise": "error", "0.5": "scored"}
    assert Counter(score.status for score in scores) == Counter(asked.get(word, word) for word in words)
    assert scores == shuffled.judge_group(problem=PROBLEM, attempts=attempts)
    assert [score.answer for score in scores] == [None if word == "raise" else "0" for word in words]
    # Which sample gets which verdict depends on the samples, not on the order they come in.
    again = shuffled.judge_group(problem=PROBLEM, attempts=attempts[::-1])[::-1]
    assert again == scores


def test_shuffling_moves_verdicts_apart_from_what_is_right(says: Says) -> None:
    shuffled = load_verifier(json.dumps({"name": "shuffled", "by": says(0)}))
    words = ["pass", "fail"] * 8
    right = 0
    for at in range(100):
        problem = Problem.of(f"{at}?")
        scores = shuffled.judge_group(problem=problem, attempts=group(problem, words))
        right += sum(score.status == word for score, word in zip(scores, words, strict=True))
    # By chance half of 1600 keep theirs; four standard errors are 80.
    assert abs(right - 800) < 80


def test_the_problems_own_verifier_is_the_empty_name() -> None:
    problem = Problem.of("?", answer="7", verifier='{"name": "number", "tolerance": 1}')
    for name, status in (("all_of", "pass"), ("any_of", "pass"), ("cascade", "pass"), ("inverted", "fail")):
        assert judged(name, "7.5", problem).status == status
    assert load_verifier("noisy").judge(problem=problem, response="9").status == "fail"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "all_of", "of": []}, "at least one verifier"),
        ({"name": "any_of", "of": ["nummber"]}, "did you mean number"),
        ({"name": "weighted", "of": ["number"], "weights": [1, 2]}, "1 verifiers, but 2 weights"),
        ({"name": "weighted", "of": ["number"], "weights": [-1]}, "must be from 0"),
        ({"name": "cascade", "of": ["number"], "low": 0.5}, "give both"),
        ({"name": "cascade", "of": ["number"], "low": 0.5, "high": 0.1}, "low not above high"),
        ({"name": "noisy", "false_positive": 1.5}, "false_positive is 1.5; it must be from 0 to 1"),
        ({"name": "inverted", "by": {"name": "number", "tolerence": 1}}, "did you mean tolerance"),
    ],
)
def test_wrong_settings_are_named(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(PluginError, match=message):
        load_verifier(json.dumps(spec))


def test_the_why_names_the_part(says: Says, tmp_path: Path) -> None:
    assert over("all_of", says, ["pass", "fail"]).why.endswith('says.py"}: said fail')
    assert "ValueError: no such luck" in over("any_of", says, ["fail", "raise"]).why
    assert "give it a threshold" in over("all_of", says, ["0.5"]).why
