"""The gate on constructed outcomes."""

from pathlib import Path
from typing import Any

import pytest

from selftrain.errors import RecipeError
from selftrain.records import Decision
from selftrain.stages import Gate
from selftrain.testing import sums
from tests.stages.bench import Bench, outcomes

VALID = sums(40, "valid")


def decided(root: Path, *rounds: list[float], best: int = 0, gate: Gate | None = None) -> Decision:
    """The decision on the last of these rounds; `best` is the best of those before."""
    bench = Bench(root, VALID)
    for number, values in enumerate(rounds[:-1]):
        decision = Decision(outcome="undecided", best=best, stop=False, why="") if number else None
        bench.past("evaluate", outcomes(values, VALID), decision)
    (found,) = bench.run(gate or Gate(), {"evaluate": outcomes(rounds[-1], VALID)})
    assert isinstance(found, Decision)
    return found


def right(count: int) -> list[float]:
    return [1.0] * count + [0.0] * (40 - count)


def test_a_gain_whose_interval_is_above_0_is_accepted(tmp_path: Path) -> None:
    found = decided(tmp_path, right(10), right(25))
    assert (found.outcome, found.best, found.stop) == ("accepted", 1, False)
    assert "+37.5 points against round 0" in found.why
    assert "40 problems" in found.why


def test_a_loss_whose_interval_is_below_0_is_rolled_back(tmp_path: Path) -> None:
    found = decided(tmp_path, right(25), right(10))
    assert (found.outcome, found.best, found.stop) == ("rolled_back", 0, False)


@pytest.mark.parametrize("after", [10, 11, 9, 12, 8])
def test_what_could_be_chance_is_undecided(tmp_path: Path, after: int) -> None:
    # Two problems more or fewer of 40: the interval holds 0.
    found = decided(tmp_path, right(10), right(after))
    assert (found.outcome, found.best, found.stop) == ("undecided", 0, False)


def test_equal_outcomes_are_undecided_even_with_an_interval_of_no_width(tmp_path: Path) -> None:
    assert decided(tmp_path, right(40), right(40)).outcome == "undecided"


def test_it_compares_with_the_best_not_with_the_last(tmp_path: Path) -> None:
    # Better than round 1 by far, but round 0 is the best and no worse.
    found = decided(tmp_path, right(25), right(5), right(25), best=0)
    assert (found.outcome, found.best, found.stop) == ("undecided", 0, True)
    assert "against round 0" in found.why


def test_it_is_paired_by_problem(tmp_path: Path) -> None:
    # The same shares, but other problems: the gain is 0 with a wide interval, not a certain one.
    found = decided(tmp_path, right(20), list(reversed(right(20))))
    assert found.outcome == "undecided"
    assert "+0.0 points" in found.why


@pytest.mark.parametrize(("patience", "stop"), [(1, True), (2, True), (3, False)])
def test_it_stops_after_as_many_rounds_without_a_new_best(tmp_path: Path, patience: int, stop: bool) -> None:
    found = decided(tmp_path, right(10), right(10), right(10), gate=Gate(patience=patience))
    assert found.stop is stop


def test_a_new_best_never_stops(tmp_path: Path) -> None:
    assert not decided(tmp_path, right(5), right(5), right(30), gate=Gate(patience=1)).stop


def test_a_round_that_was_not_measured_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="'pass@1' on 'valid' was not measured"):
        decided(tmp_path, right(10), right(10), gate=Gate(metric="pass@1"))


def test_other_splits_and_metrics_have_no_say(tmp_path: Path) -> None:
    test = sums(40, "test", 300)
    bench = Bench(tmp_path, [*VALID, *test])
    bench.past("evaluate", [*outcomes(right(10), VALID), *outcomes(right(40), test)])
    now: list[Any] = [*outcomes(right(25), VALID), *outcomes(right(0), test), *outcomes(right(0), VALID, "pass@1")]
    assert bench.run(Gate(), {"evaluate": now})[0].outcome == "accepted"


def test_the_test_split_is_not_for_the_gate() -> None:
    with pytest.raises(RecipeError, match="test split is for the report"):
        Gate(split="test")


def test_problems_that_only_one_of_the_rounds_measured_have_no_say(tmp_path: Path) -> None:
    bench = Bench(tmp_path, VALID)
    bench.past("evaluate", outcomes(right(10), VALID)[:30])
    (found,) = bench.run(Gate(), {"evaluate": outcomes(right(25), VALID)[5:]})
    assert found.outcome == "accepted"
    assert "25 problems" in found.why
