"""RAFT: each row is the best-scored response of its problem, and training continues."""

from pathlib import Path
from typing import Any

from selftrain.recipe import Recipe
from selftrain.records import Verdict
from selftrain.rules import Random, finished
from selftrain.stages import Select, Train
from selftrain.testing import fake_run
from tests.pipelines.stored import made, read, samples, second_starts_from, trained_on, unlabelled, with_stage, without

SMALL: dict[str, Any] = {"samples": 4, "max_new_tokens": 40}


def learns_the_best(root: Path, recipe: Recipe) -> bool:
    """Whether of each problem exactly one response is learned, one with the highest reward."""
    fake_run(recipe, root)
    scores = {v.sample: v.score or 0.0 for v in read(root, Verdict, "verify")}
    assert len(set(scores.values())) > 1
    sampled = samples(root, "generate")
    best: dict[str, float] = {}
    for s in sampled.values():
        best[s.problem] = max(scores[s.id], best.get(s.problem, 0.0))
    return sorted((sampled[id].problem, scores[id]) for id in trained_on(root)) == sorted(best.items())


def test_each_learned_response_is_the_best_of_its_problem(tmp_path: Path) -> None:
    recipe = made("raft", rounds=1, **SMALL)
    assert learns_the_best(tmp_path / "a", recipe)
    assert not learns_the_best(tmp_path / "b", without(recipe, "Best"))
    assert not learns_the_best(tmp_path / "c", with_stage(recipe, Select, rules=(finished, Random(1))))


def test_training_continues_from_the_latest_weights(tmp_path: Path) -> None:
    recipe = made("raft", rounds=2, **SMALL)
    assert second_starts_from(fake_run(recipe, tmp_path / "a")) == "latest"
    assert second_starts_from(fake_run(with_stage(recipe, Train, start="base"), tmp_path / "b")) == "base"


def test_gold_answers_change_nothing_unless_the_reward_may_look(tmp_path: Path) -> None:
    assert made("raft").labels == "none"
    assert made("raft", gold=True).labels == "gold"
    assert unlabelled("raft", tmp_path, rounds=2, **SMALL)
