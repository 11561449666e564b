"""IWSI: of the majority's samples the share whose loss is nearest to that of the held-out solutions is kept."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from selftrain import plugins
from selftrain.lab import Scored
from selftrain.recipe import Recipe
from selftrain.records import Verdict
from selftrain.testing import FakeBackends, FakeSampler, adds, fake_run
from tests.pipelines.stored import kept, made, read, samples, settings, without

SMALL: dict[str, Any] = {"samples": 6, "max_new_tokens": 40}


class Scoring(FakeSampler):
    """Finds some texts likelier than others."""

    def score(self, sequences: Sequence[Scored]) -> list[tuple[float, ...]]:
        return [(-0.5 - sum(each.completion_ids) % 7,) * len(each.completion_ids) for each in sequences]


class Backends(FakeBackends):
    """Opens such samplers."""

    def sampler(self, checkpoint: Path) -> FakeSampler:
        return Scoring(checkpoint, self.answer)


def test_the_weight_is_least_where_the_losses_are_equal() -> None:
    weight = plugins.load("recipe", "iwsi").weight
    assert weight(-2.0, 2.0) == 1
    assert weight(-4.0, 2.0) == weight(-1.0, 2.0) == 2


def weighed(root: Path) -> dict[str, float]:
    """The DS weights of the majorities' samples, counted here anew."""
    scores = {v.sample: v.score or 0.0 for v in read(root, Verdict, "loss")}
    votes = {v.sample: v.score or 0.0 for v in read(root, Verdict, "vote")}
    sampled = samples(root, "generate")
    most = {p: max(votes[o] for o in sampled if sampled[o].problem == p) for p in {s.problem for s in sampled.values()}}
    weight = plugins.load("recipe", "iwsi").weight
    loss = settings(root, "findshift")["loss"]
    return {id: weight(scores[id], loss) for id, s in sampled.items() if votes[id] == most[s.problem]}


def keeps_near_majorities(root: Path, recipe: Recipe) -> bool:
    """Whether all that is kept is of a majority and not further from the held-out loss than the shift."""
    fake_run(recipe, root, backends=Backends(adds))
    weights, shift = weighed(root), settings(root, "findshift")["shift"]
    assert kept(root)
    return all(id in weights and weights[id] <= shift for id in kept(root))


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_the_nearest_of_the_majority_are_kept(tmp_path: Path, share: float) -> None:
    recipe = made("iwsi", share=share, **SMALL)
    assert keeps_near_majorities(tmp_path, recipe)
    held_out = [v.score or 0.0 for v in read(tmp_path, Verdict, "held-out-loss")]
    found = settings(tmp_path, "findshift")
    assert len(held_out) == 8
    assert found["loss"] == pytest.approx(-fmean(held_out))
    assert (found["shift"] == max(weighed(tmp_path).values())) is (share == 1)


@pytest.mark.parametrize("rule", ["Near", "Majority"])
def test_a_recipe_without_either_filter_is_found(tmp_path: Path, rule: str) -> None:
    assert not keeps_near_majorities(tmp_path, without(made("iwsi", share=0.5, **SMALL), rule))


def test_what_is_held_out_is_never_trained_on(tmp_path: Path) -> None:
    fake_run(made("iwsi", **SMALL), tmp_path, backends=Backends(adds))
    assert not kept(tmp_path) & set(samples(tmp_path, "held-out"))
    assert made("iwsi").labels == "gold"


def test_without_held_out_solutions_it_runs(tmp_path: Path) -> None:
    fake_run(made("iwsi", held_out=0.0, **SMALL), tmp_path, backends=Backends(adds))
    assert kept(tmp_path)
