"""MBR finetuning: the row of a problem is the sample that is most like its others."""

from pathlib import Path
from typing import Any

from selftrain.recipe import Recipe
from selftrain.records import Verdict
from selftrain.rules import Random, finished
from selftrain.stages import Select
from selftrain.testing import fake_run
from tests.pipelines.stored import kept, made, read, samples, unlabelled, with_stage

SMALL: dict[str, Any] = {"samples": 5, "max_new_tokens": 40}


def keeps_the_most_alike(root: Path, recipe: Recipe) -> bool:
    """Whether of each problem the sample with the highest mean likeness is kept."""
    fake_run(recipe, root)
    sampled = samples(root, "generate")
    scores = {v.sample: v.score or 0.0 for v in read(root, Verdict, "verify")}
    assert len(kept(root)) == 12
    assert len(set(scores.values())) > 3
    best: dict[str, float] = {}
    for s in sampled.values():
        best[s.problem] = max(scores[s.id], best.get(s.problem, 0.0))
    return all(scores[id] == best[sampled[id].problem] for id in kept(root))


def test_the_kept_sample_has_the_highest_mean_likeness(tmp_path: Path) -> None:
    recipe = made("mbr_finetuning", **SMALL)
    assert keeps_the_most_alike(tmp_path / "a", recipe)
    assert not keeps_the_most_alike(tmp_path / "b", with_stage(recipe, Select, rules=(finished, Random(1))))


def test_gold_answers_change_nothing(tmp_path: Path) -> None:
    assert made("mbr_finetuning").labels == "none"
    assert unlabelled("mbr_finetuning", tmp_path, **SMALL)
