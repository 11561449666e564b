import json
import re
from pathlib import Path

import pytest

from selftrain.errors import PluginError
from selftrain.records import Problem
from selftrain.verification.judging import pairs
from selftrain.verification.verify import load_verifier
from tests.verifiers.asked import Answering, judged

SUM = Problem.of("What is 2+2?", answer="4")
STRENGTH = {"weak": 1, "fair": 5, "good": 8, "long": 8}


def rating(text: str, vote: int) -> str:
    """Rates the response by its word."""
    return f"Rating: [[{STRENGTH[between(text, 'response')]}]]"


def between(text: str, tag: str) -> str:
    found = re.search(rf"<{tag}>\n(.*?)\n</{tag}>", text, re.DOTALL)
    assert found is not None
    return found[1]


def fair(text: str, vote: int) -> str:
    """Compares two responses by their words, in whichever order they come."""
    first, second = (STRENGTH[between(text, f"response_{side}")] for side in "ab")
    return "[[C]]" if first == second else "[[A]]" if first > second else "[[B]]"


def test_pointwise_takes_the_rating_and_a_threshold() -> None:
    scores = judged({"name": "judge"}, SUM, ["good", "weak"], model=Answering(rating))
    assert [(s.status, s.score) for s in scores] == [("scored", 8.0), ("scored", 1.0)]
    scores = judged({"name": "judge", "threshold": 8}, SUM, ["good", "weak"], model=Answering(rating))
    assert [(s.status, s.score) for s in scores] == [("pass", 8.0), ("fail", 1.0)]


def test_votes_are_averaged_and_what_cannot_be_read_abstains() -> None:
    model = Answering(lambda text, vote: ("7", "no idea", "Rating: 8", "11")[vote] if "good one" in text else "?")
    spec = {"name": "judge", "votes": 4, "temperature": 1.0}
    good, weak, again = judged(spec, SUM, ["good one", "weak", "good one"], model=model)
    assert (good.status, good.score, good.why) == ("scored", 7.5, "2 of 4 replies read: 7, 8")
    assert again == good
    assert (weak.status, weak.score, weak.why) == ("abstain", None, "none of 4 replies could be read")
    assert len(model.prompts) == 2  # equal texts are asked about once


def test_yes_and_no_are_one_and_zero_in_turns() -> None:
    model = Answering(lambda text, vote: "yes" if "2+2=4" in text else "no")
    scores = judged({"name": "judge", "mode": "yes_no", "threshold": 0.5}, SUM, ["2+2=4", "2+2=5"], model=model)
    assert [(s.status, s.score) for s in scores] == [("pass", 1.0), ("fail", 0.0)]
    assert [turn["role"] for turn in model.prompts[0]] == ["user", "assistant", "user"]
    assert [turn["content"] for turn in model.prompts[0]][:2] == ["What is 2+2?", "2+2=4"]


def test_gold_is_shown_only_by_a_template_that_asks_for_it() -> None:
    secret = Problem.of("What is it?", answer="the gold")
    for template, shown in (("", False), ("pointwise_with_answer", True)):
        model = Answering(lambda text, vote: "5")
        judged({"name": "judge", "template": template}, secret, ["x"], model=model)
        assert ("the gold" in str(model.prompts)) is shown
    blind = Problem.of("What is it?")
    (score,) = judged({"name": "judge", "template": "pointwise_with_answer"}, blind, ["x"], model=Answering())
    assert (score.status, score.why) == ("error", "the template shows the gold answer, and the problem has none")


def test_a_response_cannot_fill_a_place() -> None:
    model = Answering(lambda text, vote: "5")
    judged({"name": "judge", "template": "pointwise_with_answer"}, SUM, ["I say {answer} {prompt}"], model=model)
    assert "I say {answer} {prompt}" in model.prompts[0][-1]["content"]


def test_a_fair_judge_ranks_by_wins() -> None:
    scores = judged({"name": "judge", "mode": "pairwise"}, SUM, ["weak", "good", "fair", "long"], model=Answering(fair))
    assert [s.score for s in scores] == [0.0, pytest.approx(2.5 / 3), pytest.approx(1 / 3), pytest.approx(2.5 / 3)]
    assert scores[1].why == "2 wins, 1 ties, 0 losses"


def test_a_judge_that_goes_by_the_place_finds_only_ties() -> None:
    model = Answering(lambda text, vote: "[[A]]")
    scores = judged({"name": "judge", "mode": "pairwise", "threshold": 0.6}, SUM, ["weak", "good"], model=model)
    assert [(s.status, s.score) for s in scores] == [("fail", 0.5), ("fail", 0.5)]
    assert len(model.prompts) == 2


def test_equal_texts_tie_without_being_compared() -> None:
    model = Answering(fair)
    scores = judged({"name": "judge", "mode": "pairwise"}, SUM, ["good", "good", "weak"], model=model)
    assert [s.score for s in scores] == [0.75, 0.75, 0.0]
    assert len(model.prompts) == 2


def test_comparisons_that_cannot_be_read_are_left_out() -> None:
    model = Answering(lambda text, vote: "hm" if "weak" in text else fair(text, vote))
    scores = judged({"name": "judge", "mode": "pairwise"}, SUM, ["weak", "good", "fair"], model=model)
    assert [(s.status, s.score) for s in scores] == [("abstain", None), ("scored", 1.0), ("scored", 0.0)]
    assert scores[1].why == "1 wins, 0 ties, 0 losses, 1 not read"
    (alone,) = judged({"name": "judge", "mode": "pairwise"}, SUM, ["good"], model=model)
    assert alone.status == "abstain"


def test_a_response_that_does_not_fit_costs_itself_only() -> None:
    problem, texts = SUM, ["good", "good" * 1000, "weak"]
    scores = judged({"name": "judge"}, problem, texts, model=Answering(lambda text, vote: "5", context=2000))
    assert [s.status for s in scores] == ["scored", "error", "scored"]
    assert scores[1].why == "a question is longer than the model's context"
    spec = {"name": "judge", "mode": "pairwise"}
    scores = judged(spec, problem, texts, model=Answering(lambda text, vote: "[[C]]", context=2000))
    assert [s.status for s in scores] == ["scored", "error", "scored"]


def test_a_stated_number_of_opponents() -> None:
    assert pairs(4, None) == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    assert pairs(4, 1) == [(0, 1), (0, 3), (1, 2), (2, 3)]
    assert pairs(2, 5) == [(0, 1)]
    assert pairs(1, None) == []
    for count in range(2, 9):
        for opponents in range(1, 5):
            met = pairs(count, opponents)
            assert len(set(met)) == len(met)
            least = min(sum(one in pair for pair in met) for one in range(count))
            assert least >= min(opponents, count - 1)


def test_a_template_of_ones_own(tmp_path: Path) -> None:
    own = tmp_path / "own.txt"
    own.write_text("[system]\nBe strict.\n[user]\nQ: {prompt}\nR: {response}\nReply {{as}} a number up to {high}.\n")
    model = Answering(lambda text, vote: "3")
    (score,) = judged({"name": "judge", "template": str(own), "scale": [0, 3]}, SUM, ["4"], model=model)
    assert score.score == 3
    assert model.prompts[0] == [
        {"role": "system", "content": "Be strict."},
        {"role": "user", "content": "Q: What is 2+2?\nR: 4\nReply {as} a number up to 3."},
    ]


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ('"votes": 3', "votes is 3"),
        ('"scale": [5, 5]', "its first number must be the smaller one"),
        ('"opponents": 0', "opponents is 0"),
        ('"template": "pointwize"', r"'pointwize' cannot be read.*did you mean pointwise"),
        ('"mode": "pairwise", "template": "pointwise"', r"lacks \{first\}, \{second\}"),
        ('"mode": "pairwize"', "mode"),
    ],
)
def test_wrong_settings_are_refused_when_it_is_loaded(settings: str, why: str) -> None:
    with pytest.raises(PluginError, match=why):
        load_verifier(f'{{"name": "judge", {settings}}}')


def test_a_place_that_nothing_fills_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("{prompt} {respones} {response}")
    with pytest.raises(PluginError, match=r"has a place \{respones\}; did you mean response"):
        load_verifier(f'{{"name": "judge", "template": "{tmp_path / "own.txt"}"}}')


def test_it_can_be_a_part_of_another_verifier() -> None:
    part = {"name": "judge", "threshold": 5}
    spec = json.dumps({"name": "cascade", "of": [{"name": "regex", "pattern": ".{1,9}"}, part], "open": ["pass"]})
    verifier = load_verifier(spec, {"model": Answering(rating)}.__getitem__)
    assert verifier.asks == {"model"}
    found = [verifier.judge(problem=SUM, response=text).status for text in ("good", "weak", "good" * 9)]
    assert found == ["pass", "fail", "fail"]
    (score,) = judged({"name": "judge", "mode": "pairwise"}, SUM, ["good"], model=Answering(fair))
    pairwise = load_verifier('{"name": "judge", "mode": "pairwise"}', {"model": Answering(fair)}.__getitem__)
    assert pairwise.judge(problem=SUM, response="good") == score
