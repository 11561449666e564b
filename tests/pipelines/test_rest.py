"""ReST: the threshold rises with each Improve step on the same samples, and each step goes on from the one before."""

from pathlib import Path
from typing import Any

import pytest

from selftrain.errors import RecipeError
from selftrain.recipe import Recipe
from selftrain.records import Checkpoint, Verdict
from selftrain.stages import Train
from selftrain.stages.find import FindThreshold
from selftrain.testing import fake_run
from tests.pipelines.stored import made, read, settings, trained_on, unlabelled, with_stage, without

SMALL: dict[str, Any] = {"rounds": 1, "samples": 6, "quantiles": (0.0, 0.5, 0.9), "max_new_tokens": 40}
STEPS = ("-1", "-2", "")


def rises(root: Path, recipe: Recipe) -> bool:
    """Whether the threshold rises with the steps and nothing below it is learned, so that fewer are learned."""
    fake_run(recipe, root)
    thresholds = [settings(root, f"find{step}")[f"threshold{step}"] for step in STEPS]
    scores = {v.sample: v.score or 0.0 for v in read(root, Verdict, "verify")}
    learned = [trained_on(root, f"build{step}") for step in STEPS]
    above = [min(scores[id] for id in ids) >= line for ids, line in zip(learned, thresholds, strict=True)]
    counts = [len(ids) for ids in learned]
    falls = counts == sorted(counts, reverse=True) and counts[0] > counts[-1]
    return thresholds == sorted(thresholds) and thresholds[0] < thresholds[-1] and all(above) and falls


def test_the_threshold_rises_and_fewer_are_trained_on_each_step(tmp_path: Path) -> None:
    recipe = made("rest", **SMALL)
    assert rises(tmp_path / "a", recipe)
    assert not rises(tmp_path / "b", with_stage(recipe, FindThreshold, share=0.5))
    assert not rises(tmp_path / "c", without(recipe, "AtLeast"))


def goes_on(root: Path, recipe: Recipe) -> bool:
    """Whether each step begins with the weights of the step before."""
    history = fake_run(recipe, root)
    steps = [read(root, Checkpoint, f"train{step}")[0] for step in STEPS]
    base = history.rounds[0].checkpoints["policy"].id
    assert history.rounds[1].checkpoints["policy"].id == steps[-1].id
    return [each.parent for each in steps] == [base, steps[0].id, steps[1].id]


def test_each_step_continues_from_the_step_before(tmp_path: Path) -> None:
    recipe = made("rest", **SMALL)
    assert goes_on(tmp_path / "a", recipe)
    assert not goes_on(tmp_path / "b", with_stage(recipe, Train, start="base"))


def test_quantiles_that_do_not_rise_are_refused() -> None:
    with pytest.raises(RecipeError, match="each above the one before"):
        made("rest", quantiles=(0.5, 0.5))


def test_gold_answers_change_nothing(tmp_path: Path) -> None:
    assert made("rest").labels == "none"
    assert unlabelled("rest", tmp_path, **SMALL)
