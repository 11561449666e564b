"""SSR: rows of earlier rounds are made-up problems with the model's own answers, never what was given then."""

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from selftrain.recipe import Recipe, Stage
from selftrain.records import Checkpoint, Problem
from selftrain.stages import Select
from selftrain.testing import FakeBackends, adds, fake_run
from tests.pipelines.stored import made, problems, read, samples, trained_on

SMALL: dict[str, Any] = {"rounds": 3, "samples": 2, "keep": 9, "ratio": 1.0, "max_new_tokens": 40}


def writes(text: str, skill: float, draw: Random) -> str:
    """Adds, and writes sums where asked for problems."""
    if text.rstrip().endswith("Write another problem like these."):
        return f"{draw.randrange(90)}+{draw.randrange(90)}="
    return adds(text, skill, draw)


def run(root: Path, recipe: Recipe) -> Path:
    fake_run(replace(recipe, draw=4), root, backends=FakeBackends(writes))
    return root


def rehearses(root: Path) -> bool:
    """Whether the third round learns its own gold and, of both rounds before, own answers to made-up problems alone."""
    rows, gold = trained_on(root, "build", 3), samples(root, "gold", round=3)
    old = [samples(root, "generate", round=round) for round in (1, 2)]
    rehearsed = trained_on(root, "build-rehearsal", 3)
    return rows == set(gold) and rehearsed <= set(old[0]) | set(old[1]) and all(rehearsed & set(part) for part in old)


def all_of(stage: Stage) -> Stage:
    return replace(stage, rules=()) if isinstance(stage, Select) and stage.name == "rehearse" else stage


def test_made_up_problems_are_rehearsed_and_given_ones_are_not(tmp_path: Path) -> None:
    recipe = made("ssr", **SMALL)
    root = run(tmp_path / "a", recipe)
    assert rehearses(root)
    assert not trained_on(root, "build-rehearsal", 1)
    new = read(root, Problem, "make-up")
    given = problems(root)
    assert new
    assert all(p.text != given[p.parent or ""].text and p.answer is None for p in new)
    (first,), (second,) = (read(root, Checkpoint, "train", round) for round in (1, 2))
    assert second.parent == first.id
    # The answers are those of the model that has just learned the round.
    assert {s.model for s in samples(root, "generate").values()} == {first.id}
    assert not rehearses(run(tmp_path / "b", recipe.changed(all_of)))


def test_without_a_ratio_nothing_is_rehearsed(tmp_path: Path) -> None:
    root = run(tmp_path, made("ssr", **{**SMALL, "ratio": 0.0}))
    assert not trained_on(root, "build-rehearsal", 3)


def test_the_base_model_may_write_the_problems(tmp_path: Path) -> None:
    root = run(tmp_path, made("ssr", write=True, **SMALL))
    assert rehearses(root)
    base = read(root, Checkpoint, "train")[0].parent
    assert {s.model for round in (1, 2, 3) for s in samples(root, "write", round=round).values()} == {base}
