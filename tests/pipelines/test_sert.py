"""SERT: own rationales pass the filters and are trained on first, the teacher's after them."""

from pathlib import Path
from random import Random
from typing import Any

import pytest

from selftrain import plugins
from selftrain.recipe import Recipe
from selftrain.records import Checkpoint, Verdict
from selftrain.round import Attempt
from selftrain.stages import Train
from selftrain.testing import adds, fake_run, sums
from tests.pipelines.stored import kept, made, read, samples, settings, trained_on, unlabelled, with_stage, without
from tests.pipelines.test_iwsi import Backends
from tests.stages.bench import sample

SMALL: dict[str, Any] = {"samples": 6, "least": 10, "max_new_tokens": 60}


def mixed(prompt: str, skill: float, stream: Random) -> str:
    """Reasons, gives a bare number, or repeats itself."""
    said = adds(prompt, skill, stream)
    return [f"well\n{said}", said.rpartition(" ")[2], f"{said}\n{said}"][stream.randrange(3)]


def test_repeated_lines_are_found() -> None:
    unrepeated = plugins.load("recipe", "sert").unrepeated
    texts = ["one\ntwo", "one\n\n ONE ", "one", "a\n\n\nb"]
    attempts = [Attempt(sums(1)[0], sample(sums(1)[0], at, text)) for at, text in enumerate(texts)]
    assert [each.sample.index for each in unrepeated(attempts)] == [0, 2, 3]


def keeps_reasoning(root: Path, recipe: Recipe) -> bool:
    """Whether all that is kept is long and likely and says no line twice."""
    fake_run(recipe, root, backends=Backends(mixed))
    sampled = samples(root, "generate")
    scores = {v.sample: v.score or 0.0 for v in read(root, Verdict, "verify")}
    line = settings(root, "find")["likely"]
    assert kept(root)
    assert any(score < line for score in scores.values())
    long = all(len(sampled[id].completion_ids) >= 10 for id in kept(root))
    likely = all(scores[id] >= line for id in kept(root))
    return long and likely and all(sampled[id].text.startswith("well") for id in kept(root))


def test_what_is_kept_is_long_likely_and_not_repeated(tmp_path: Path) -> None:
    assert keeps_reasoning(tmp_path, made("sert", **SMALL))


@pytest.mark.parametrize("rule", ["Long", "unrepeated", "AtLeast"])
def test_a_recipe_without_one_of_the_filters_is_found(tmp_path: Path, rule: str) -> None:
    assert not keeps_reasoning(tmp_path, without(made("sert", **SMALL), rule))


def teacher_goes_on(root: Path, recipe: Recipe) -> bool:
    """Whether the first training starts from the base model and the teacher's goes on from it."""
    history = fake_run(recipe, root, backends=Backends(mixed))
    own, teacher = (read(root, Checkpoint, stage)[0] for stage in ("train", "distil"))
    return (own.parent, teacher.parent) == (history.rounds[0].checkpoints["policy"].id, own.id)


def test_the_teacher_comes_second_and_goes_on_from_the_first_training(tmp_path: Path) -> None:
    recipe = made("sert", **SMALL)
    assert teacher_goes_on(tmp_path, recipe)
    assert not teacher_goes_on(tmp_path / "base", with_stage(recipe, Train, "distil", start="base"))
    assert trained_on(tmp_path, "build") == kept(tmp_path)
    assert trained_on(tmp_path, "build-gold") == set(samples(tmp_path, "gold"))


def test_its_first_stage_alone_needs_no_label(tmp_path: Path) -> None:
    assert made("sert", distil=False, gate=False).labels == "none"
    assert unlabelled("sert", tmp_path, distil=False, gate=False, **SMALL)
