"""What a round of a recipe left in its folder, for the tests of recipes."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from selftrain import plugins
from selftrain.recipe import Recipe
from selftrain.records import Pick, Problem, Row, Sample
from selftrain.round import PROBLEMS
from selftrain.store import Store
from selftrain.testing import Answer, FakeBackends, adds, fake_run, sums

R = TypeVar("R")


def made(name: str, **arguments: Any) -> Recipe:
    """A recipe by its name."""
    recipe = plugins.load("recipe", name).recipe(**arguments)
    assert isinstance(recipe, Recipe)
    return recipe


def read(root: Path, kind: type[R], stage: str, round: int = 1) -> list[R]:
    """All records of a stage of a round."""
    folder = Store(root).stages(round)[stage]
    return [row for shard in folder.shards() for row in folder.read(kind, shard)]


def problems(root: Path) -> dict[str, Problem]:
    """The run's problems by id."""
    folder = Store(root).stages(0)[PROBLEMS]
    return {p.id: p for shard in folder.shards() for p in folder.read(Problem, shard)}


def kept(root: Path, stage: str = "select", round: int = 1) -> set[str]:
    """The samples that a selection kept."""
    return {pick.sample for pick in read(root, Pick, stage, round) if pick.side == "kept"}


def settings(root: Path, stage: str, round: int = 1) -> dict[str, Any]:
    """What a stage with a reduce found."""
    found: dict[str, Any] = json.loads((Store(root).stages(round)[stage].path / "settings.json").read_text())
    return found


def trained_on(root: Path, stage: str = "build", round: int = 1) -> set[str]:
    """The samples that rows were built from."""
    return {source for row in read(root, Row, stage, round) for source in row.sources}


def samples(root: Path, *stages: str, round: int = 1) -> dict[str, Sample]:
    """Samples by id."""
    return {s.id: s for stage in stages for s in read(root, Sample, stage, round)}


def unlabelled(name: str, root: Path, pool: Sequence[Problem] = (), answer: Answer = adds, **arguments: Any) -> bool:
    """Whether permuted gold answers leave every row and checkpoint of a recipe as it is, byte for byte."""
    recipe = made(name, **arguments)
    given = pool or sums(12)
    answers = [p.answer for p in given]
    moved = [replace(p, answer=a, solution=f"x={a}") for p, a in zip(given, [*answers[1:], answers[0]], strict=True)]
    found = [_run(recipe, root / folder, train, answer) for folder, train in (("a", given), ("b", moved))]
    assert found[0][0]
    return found[0] == found[1]


def _run(recipe: Recipe, root: Path, pool: Sequence[Problem], answer: Answer) -> tuple[dict[str, bytes], list[Any]]:
    held_out = {"valid": sums(8, "valid", 200), "test": sums(8, "test", 400)}
    history = fake_run(recipe, root, problems={"train": pool, **held_out}, backends=FakeBackends(answer))
    rows = {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("rows.parquet"))}
    return rows, [result.checkpoints for result in history.rounds]
