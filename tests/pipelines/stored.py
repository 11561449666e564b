"""What a round of a recipe left in its folder, for the tests of recipes."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from selftrain import plugins
from selftrain.lab import Lab
from selftrain.recipe import Recipe, Stage
from selftrain.records import Pick, Problem, Quarantined, Row, Sample
from selftrain.round import PROBLEMS, History, Part
from selftrain.rules import name_of
from selftrain.stages import MakeExamples, Select
from selftrain.store import Store
from selftrain.testing import Answer, FakeBackends, FakeTokens, adds, fake_run, sums

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


def texts(row: Row) -> tuple[str, str]:
    """A row's prompt and completion."""
    prompt, said = (FakeTokens().decode(segment.ids) for segment in row.segments)
    return prompt, said


def with_stage(recipe: Recipe, kind: type[Stage], name: str = "", **changes: Any) -> Recipe:
    """A sabotaged recipe: its stages of one kind (and name) with other settings."""

    def change(stage: Stage) -> Stage:
        return replace(stage, **changes) if isinstance(stage, kind) and name in ("", stage.name) else stage

    return recipe.changed(change)


def without(recipe: Recipe, rule: str) -> Recipe:
    """A sabotaged recipe: its selections lack the rule of this name."""
    found = []

    def change(stage: Stage) -> Stage:
        if not isinstance(stage, Select):
            return stage
        left = tuple(each for each in stage.rules if name_of(each).partition("(")[0] != rule)
        found.append(len(left) < len(stage.rules))
        return replace(stage, rules=left)

    changed = recipe.changed(change)
    changed.check()
    assert any(found), f"no selection has the rule {rule}"
    return changed


@dataclass(frozen=True, kw_only=True)
class AsAsked(MakeExamples):
    """Rows with the very prompts that the samples were given, so with their hints and examples."""

    def run(self, part: Part, lab: Lab) -> Iterator[Row | Quarantined]:
        """Give the rows those prompts."""
        asked = part.samples(pick.sample for pick in part.read(Pick))
        for row in super().run(part, lab):
            if isinstance(row, Row):
                prompt = replace(row.segments[0], ids=asked[row.sources[0]].sample.prompt_ids)
                yield replace(row, segments=(prompt, *row.segments[1:]))
            else:
                yield row


def as_asked(recipe: Recipe) -> Recipe:
    """A sabotaged recipe: its rows show what the samples were shown."""
    return recipe.changed(lambda stage: AsAsked(of=stage.of) if isinstance(stage, MakeExamples) else stage)


def second_starts_from(history: History) -> str:
    """Where the training of round 2 began: the base model's weights or the latest ones."""
    base, latest, made = (result.checkpoints["policy"] for result in history.rounds[:3])
    return {base.id: "base", latest.id: "latest"}.get(made.parent or "", "elsewhere")


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
