"""Which of an evaluation's own stages is measured, and which of them the Gate reads as the headline."""

import pytest

from selftrain.errors import RecipeError
from selftrain.proposals import Perturbed
from selftrain.stages import Adopt, Evaluate, Gate, Generate, Propose, Verify

STAGES = (
    Propose(make=Perturbed()),
    Generate(name="attempt", of=("propose",), n=1),
    Adopt(of=("attempt",)),
    Generate(name="judge", n=1),
    Verify(),
)


def test_the_first_that_samples_is_the_headline_also_where_problems_are_made_before_it() -> None:
    assert Evaluate(stages=STAGES).outcomes == ("accuracy", "adopt/accuracy", "judge/accuracy")


def test_those_named_are_measured_in_that_order() -> None:
    evaluate = Evaluate(stages=STAGES, measure=("judge", "attempt"))
    assert evaluate.outcomes == ("accuracy", "attempt/accuracy")
    Gate(metric="attempt/accuracy").fits([evaluate])
    with pytest.raises(RecipeError, match="does not measure 'adopt/accuracy'"):
        Gate(metric="adopt/accuracy").fits([evaluate])


def test_what_does_not_sample_is_not_measured() -> None:
    with pytest.raises(RecipeError, match=r"measure names 'verify', no stage of its own that samples.*attempt, adopt"):
        Evaluate(stages=STAGES, measure=("verify",))
