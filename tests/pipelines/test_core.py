"""Expert iteration, RFT and ReST-EM: caps, where training begins, which rounds' samples are learned."""

from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from selftrain.recipe import Recipe
from selftrain.records import Sample, Verdict
from selftrain.rules import normalised
from selftrain.stages import Select, Train
from selftrain.testing import FakeBackends, adds, fake_run
from tests.pipelines.stored import made, read, samples, second_starts_from, trained_on, with_stage, without

SMALL: dict[str, Any] = {"rounds": 2, "samples": 8, "keep": 2, "max_new_tokens": 60}
RFT: dict[str, Any] = {"samples": 8, "keep": 8, "max_new_tokens": 60}


def wordy(prompt: str, skill: float, stream: Random) -> str:
    """Answers in a few wordings, so that some are equal."""
    return f"{stream.randrange(4)}: {adds(prompt, skill, stream)}"


def ran(root: Path, recipe: Recipe) -> Path:
    fake_run(recipe, root, backends=FakeBackends(wordy))
    return root


def learned(root: Path, round: int) -> list[Sample]:
    """The samples that a round's rows are made of."""
    every = {**samples(root, "generate"), **samples(root, "generate", round=round)}
    return [every[id] for id in trained_on(root, round=round)]


def capped(root: Path) -> bool:
    """Whether no round learns more of a problem than its cap."""
    counts = [Counter(s.problem for s in learned(root, round)) for round in (1, 2)]
    most: int = SMALL["keep"]
    return max(count for found in counts for count in found.values()) == most


def only_right(root: Path, round: int = 1) -> bool:
    """Whether all that is learned is right."""
    status = {v.sample: v.status for at in range(1, round + 1) for v in read(root, Verdict, "verify", at)}
    assert "fail" in status.values()
    return {status[id] for id in trained_on(root, round=round)} == {"pass"}


def of_both_rounds(root: Path) -> bool:
    """Whether round 2 learns from the samples of round 1 too."""
    return bool(trained_on(root, round=2) & set(samples(root, "generate")))


@pytest.mark.parametrize(
    ("name", "start", "data"), [("expert_iteration", "latest", "union"), ("rest_em", "base", "fresh")]
)
def test_caps_starts_and_data_are_the_methods_own(tmp_path: Path, name: str, start: str, data: str) -> None:
    recipe = made(name, **SMALL)
    history = fake_run(recipe, tmp_path, backends=FakeBackends(wordy))
    assert capped(tmp_path)
    assert only_right(tmp_path, 2)
    assert second_starts_from(history) == start
    assert of_both_rounds(tmp_path) is (data == "union")


@pytest.mark.parametrize(
    ("name", "start", "data"), [("expert_iteration", "base", "fresh"), ("rest_em", "latest", "union")]
)
def test_what_another_method_would_do_is_found(tmp_path: Path, name: str, start: str, data: str) -> None:
    recipe = made(name, **SMALL)
    greedy = without(recipe, "AtMost")
    history = fake_run(with_stage(greedy, Train, start=start), tmp_path / "a", backends=FakeBackends(wordy))
    assert not capped(tmp_path / "a")
    assert second_starts_from(history) == start
    other = without(with_stage(recipe, Select, data=data), "passed")
    ran(tmp_path / "b", other)
    assert of_both_rounds(tmp_path / "b") is (data == "union")
    assert not only_right(tmp_path / "b", 2)


def distinct_right_and_gold(root: Path) -> bool:
    """Whether RFT's rows are all right, of each problem no two alike, with each gold solution among them."""
    every = samples(root, "generate", "gold")
    chosen = [every[id] for id in trained_on(root)]
    own = Counter((s.problem, normalised(s.text)) for s in chosen)
    gold = {s.problem for s in chosen if s.finish == "gold"}
    return max(own.values()) == 1 and only_right(root) and gold == {s.problem for s in every.values()}


def test_rft_learns_distinct_right_solutions_beside_the_gold_ones(tmp_path: Path) -> None:
    recipe = made("rft", **RFT)
    assert distinct_right_and_gold(ran(tmp_path / "a", recipe))
    assert len(trained_on(tmp_path / "a")) > 2 * 12


@pytest.mark.parametrize("rule", ["distinct", "passed"])
def test_rft_without_a_rule_is_found(tmp_path: Path, rule: str) -> None:
    assert not distinct_right_and_gold(ran(tmp_path, without(made("rft", **RFT), rule)))


def test_rft_with_fewer_gold_solutions_is_found(tmp_path: Path) -> None:
    assert not distinct_right_and_gold(ran(tmp_path, made("rft", gold=0.5, **RFT)))


def test_rft_begins_with_the_base_model(tmp_path: Path) -> None:
    recipe = made("rft", rounds=2, **RFT)
    assert second_starts_from(fake_run(recipe, tmp_path / "a")) == "base"
    assert second_starts_from(fake_run(with_stage(recipe, Train, start="latest"), tmp_path / "b")) == "latest"
