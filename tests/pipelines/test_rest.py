"""ReST: the threshold rises with each Improve step on the same samples, and each step goes on from the one before."""

from pathlib import Path
from typing import Any

import pytest

from selftrain.errors import RecipeError
from selftrain.records import Checkpoint, Verdict
from selftrain.testing import fake_run
from tests.pipelines.stored import kept, made, read, settings, trained_on, unlabelled

SMALL: dict[str, Any] = {"rounds": 1, "samples": 6, "quantiles": (0.0, 0.5, 0.9), "max_new_tokens": 40}
STEPS = ("-1", "-2", "")


def test_the_threshold_rises_and_fewer_are_trained_on_each_step(tmp_path: Path) -> None:
    fake_run(made("rest", **SMALL), tmp_path)
    thresholds = [settings(tmp_path, f"find{step}")[f"threshold{step}"] for step in STEPS]
    assert thresholds == sorted(thresholds)
    assert thresholds[0] < thresholds[-1]
    scores = {v.sample: v.score or 0.0 for v in read(tmp_path, Verdict, "verify")}
    for step, threshold in zip(STEPS, thresholds, strict=True):
        assert min(scores[id] for id in kept(tmp_path, f"select{step}")) >= threshold
        assert trained_on(tmp_path, f"build{step}") == kept(tmp_path, f"select{step}")
    counts = [len(trained_on(tmp_path, f"build{step}")) for step in STEPS]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1]


def test_each_step_continues_from_the_step_before(tmp_path: Path) -> None:
    history = fake_run(made("rest", **SMALL), tmp_path)
    made_by = [read(tmp_path, Checkpoint, f"train{step}")[0] for step in STEPS]
    base = history.rounds[0].checkpoints["policy"].id
    assert [each.parent for each in made_by] == [base, made_by[0].id, made_by[1].id]
    assert history.rounds[1].checkpoints["policy"].id == made_by[-1].id


def test_quantiles_that_do_not_rise_are_refused() -> None:
    with pytest.raises(RecipeError, match="each above the one before"):
        made("rest", quantiles=(0.5, 0.5))


def test_gold_answers_change_nothing(tmp_path: Path) -> None:
    assert made("rest").labels == "none"
    assert unlabelled("rest", tmp_path, **SMALL)
