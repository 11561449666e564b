import math

import pytest

from selftrain import plugins
from selftrain.records import Problem
from tests.verifiers.asked import Answering, judged

SUM = Problem.of("What is 2+2?", answer="4")
LIKELIHOOD = plugins.load("verifier", "likelihood")


@pytest.mark.parametrize(
    ("response", "rationale", "answer"),
    [
        ("2+2=5\n#### 5", "2+2=5\n####", " 4"),
        ("#### 3\n2+2=5\n####5 \n", "#### 3\n2+2=5\n####", " 4"),
        (r"So it is $\boxed{5}$.", r"So it is $\boxed{", "4}"),
        ("Two and two. The answer is 5.", "Two and two. The answer is", " 4"),
        ("Answer: 5", "Answer:", " 4"),
        ("2 + 2 = 5", "2 + 2 =", " 4"),
        ("It costs\n$1,200.50", "It costs\n", "4"),
        ("I do not know", "I do not know\n####", " 4"),
        ("", "####", " 4"),
    ],
)
def test_the_final_answer_is_cut_off(response: str, rationale: str, answer: str) -> None:
    assert LIKELIHOOD.cut(response, "4", "\n#### ") == (rationale, answer)


@pytest.mark.parametrize(
    ("settings", "score", "status"),
    [
        ({}, -1.5, "scored"),
        ({"number": "sum"}, -3.0, "scored"),
        ({"number": "perplexity"}, math.exp(1.5), "scored"),
        ({"threshold": -2}, -1.5, "pass"),
        ({"threshold": -1}, -1.5, "fail"),
        ({"number": "perplexity", "threshold": 5}, math.exp(1.5), "pass"),
        ({"number": "perplexity", "threshold": 4}, math.exp(1.5), "fail"),
    ],
)
def test_the_figure_that_is_asked_for_is_the_score(settings: dict[str, object], score: float, status: str) -> None:
    model = Answering()
    model.likely = lambda prompt, text: (-1.0, -2.0)
    (found,) = judged({"name": "likelihood", **settings}, SUM, ["ab"], model=model)
    assert found.status == status
    assert found.score == pytest.approx(score)
    assert found.why == "mean -1.5, sum -3, perplexity 4.482 over 2 tokens"


def test_the_answers_tokens_alone_are_counted() -> None:
    model = Answering()
    model.likely = lambda prompt, text: tuple(-0.5 if place == "4" else -float(at) for at, place in enumerate(text))
    spec = {"name": "likelihood", "of": "answer", "number": "sum"}
    (found,) = judged(spec, SUM, ["####5"], model=model)
    assert (found.score, found.why) == (-4.5, "mean -2.25, sum -4.5, perplexity 9.488 over 2 tokens")


def test_a_token_across_the_border_counts_as_the_difference() -> None:
    model = Answering()
    # A vocabulary with a token "####_4": the rationale's own token is not one of the whole.
    model.likely = lambda prompt, text: (-3.0,) if text == "####" else (-5.0,)
    (found,) = judged({"name": "likelihood", "of": "answer"}, SUM, ["#### 5"], model=model)
    assert found.score == -2.0


def test_an_answer_that_is_not_there_is_an_error_and_an_empty_response_abstains() -> None:
    (found,) = judged({"name": "likelihood", "of": "answer"}, Problem.of("?"), ["5"], model=Answering())
    assert (found.status, found.why) == ("error", "the problem has no gold answer")
    empty, other = judged({"name": "likelihood"}, SUM, ["", "a"], model=Answering())
    assert (empty.status, other.status) == ("abstain", "scored")


def test_a_response_that_does_not_fit_costs_itself_only() -> None:
    for of in ("response", "answer"):
        scores = judged({"name": "likelihood", "of": of}, SUM, ["a 3", "b" * 90, "c 3"], model=Answering(context=50))
        assert [s.status for s in scores] == ["scored", "error", "scored"]
