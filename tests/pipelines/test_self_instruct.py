"""Self-Instruct: rows are problems that the model wrote, unlike the given ones, with its own answers."""

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from selftrain import plugins
from selftrain.proposals import Written
from selftrain.recipe import Recipe, Stage
from selftrain.records import Problem, Row
from selftrain.stages import Propose
from selftrain.testing import FakeBackends, FakeTokens, adds, fake_run
from tests.pipelines.stored import made, problems, read, samples, trained_on, unlabelled

SMALL: dict[str, Any] = {"samples": 4, "examples": 3, "max_new_tokens": 60}


def writes(text: str, skill: float, draw: Random) -> str:
    """Adds, and writes sums where asked for problems, some of them known ones."""
    if not text.rstrip().endswith("Write another problem like these."):
        return adds(text, skill, draw)
    if draw.random() < 0.5:
        return text.split("user: ")[1].split("\n")[0]
    return f"How many are {draw.randrange(90)} and {draw.randrange(90)} taken together, so 3+{draw.randrange(9)}= ?"


def run(root: Path, recipe: Recipe) -> Path:
    fake_run(recipe, root, backends=FakeBackends(writes))
    return root


def new_ones_alone(root: Path) -> bool:
    """Whether every row is an own answer to a written problem that is no given one."""
    given = {p.text for p in problems(root).values()}
    new = {p.id: p for p in read(root, Problem, "written")}
    answers = samples(root, "generate")
    rows = read(root, Row, "build")
    prompts = {FakeTokens().decode(row.segments[0].ids) for row in rows}
    assert trained_on(root) <= set(answers)
    assert prompts <= {f"user: {p.text}\n" for p in new.values()}
    return bool(rows) and not {p.text for p in new.values()} & given


def anything(stage: Stage) -> Stage:
    return replace(stage, make=Written()) if isinstance(stage, Propose) and stage.name == "written" else stage


def test_rows_are_written_problems_unlike_the_given_ones(tmp_path: Path) -> None:
    recipe = made("self_instruct", **SMALL)
    assert new_ones_alone(run(tmp_path / "a", recipe))
    asked = FakeTokens().decode(next(iter(samples(tmp_path / "a", "write").values())).prompt_ids)
    assert asked.count("=") == 3
    assert not new_ones_alone(run(tmp_path / "b", recipe.changed(anything)))


@pytest.mark.parametrize(
    ("one", "other", "score"),
    [("a b c d", "a b c d", 1.0), ("a b c", "d", 0.0), ("a x b c", "a b y c d", 6 / 9), ("", "", 0.0)],
)
def test_likeness_is_rouge_l(one: str, other: str, score: float) -> None:
    rouge_l = plugins.load("recipe", "self_instruct").rouge_l
    assert rouge_l(one.split(), other.split()) == rouge_l(other.split(), one.split()) == pytest.approx(score)


def test_gold_answers_change_nothing(tmp_path: Path) -> None:
    assert made("self_instruct").labels == "none"
    assert made("self_instruct", gate=True).labels == "gold"
    assert unlabelled("self_instruct", tmp_path, answer=writes, **SMALL)
