"""What was asked and with what it ran: the plan with the words of each round, settings, versions."""

import yaml

from selftrain.after.card import PACKAGES
from selftrain.loop.controller import segments
from selftrain.loop.plan import words
from selftrain.recipe import Recipe
from selftrain.records import Checkpoint
from selftrain.report.parts import Code, Section, Table, Text
from selftrain.report.view import View
from selftrain.round import History

SHORT = 12
"""Digits of a checkpoint's id that are shown."""


def plan(view: View) -> Section:
    """Stages, the words of the rounds, and what each round was trained from."""
    parts: list[Text | Table] = []
    recipe = view.recipe
    if isinstance(recipe, Recipe):
        parts.append(Text(text=f"Each round: {words(recipe.stages(History()), recipe)}."))
        gold = "some stage sees gold answers" if recipe.labels == "gold" else "no stage of the loop sees a gold answer"
        parts.append(Text(text=f"Labels: {recipe.labels} ({gold}). Paper: {recipe.paper}."))
    else:
        parts.append(Text(text=f"{recipe[:1].upper()}{recipe[1:]}.", tone="bad"))
    parts.append(_lineage(view))
    numbers = [number for number in view.store.rounds() if view.stages(number)]
    if numbers:
        parts += _stages(view, numbers[-1])
    return Section(id="plan", title="Plan, and what was trained from what", parts=parts)


def _lineage(view: View) -> Table:
    rows = []
    for result in view.run.history.rounds:
        for role, checkpoint in result.checkpoints.items():
            rows.append(
                (
                    result.number,
                    role,
                    checkpoint.id[:SHORT],
                    _from(view, checkpoint),
                    _sampled(view, result.number, "train"),
                    _trained_rows(view, result.number),
                    checkpoint.path,
                )
            )
    head = ("round", "model", "weights", "trained from", "samples came from", "rows", "folder")
    return Table(head=head, rows=rows, caption="Checkpoints")


def _from(view: View, checkpoint: Checkpoint) -> str:
    if checkpoint.parent is None:
        return "given"
    return _named(view, checkpoint.parent)


def _named(view: View, id: str) -> str:
    """A checkpoint's id with the round that wrote it first."""
    for result in view.run.history.rounds:
        for each in (*result.given.values(), *result.checkpoints.values()):
            if each.id == id:
                return f"{'base' if result.number == 0 else f'round {result.number}'} ({id[:SHORT]})"
    return id[:SHORT]


def _sampled(view: View, number: int, split: str) -> str:
    """Which weights the round's samples on train problems came from."""
    found = view.database.rows(
        "SELECT DISTINCT model FROM samples WHERE round = ?"
        " AND stage IN (SELECT DISTINCT stage FROM attempts WHERE round = ? AND split = ?) ORDER BY 1",
        number,
        number,
        split,
    )
    return ", ".join(_named(view, model) if model != "gold" else "gold solutions" for (model,) in found)


def _trained_rows(view: View, number: int) -> int | None:
    return int(view.database.one("SELECT count(*) FROM rows WHERE round = ?", number)) or None


def _stages(view: View, number: int) -> list[Text | Table]:
    stages = view.stages(number)
    if isinstance(stages, str):
        return [Text(text=f"The stages of round {number} can't be shown: {stages}.", tone="bad")]
    rows = [
        (
            place + 1,
            stage.name,
            type(stage).__name__,
            "+".join(stage.splits) if stage.scope == "problem" else "all",
            "; ".join(f"{name}: {said}" for name, said in stage.words().items() if said),
            "sees gold" if stage.gold else "",
        )
        for place, segment in enumerate(segments(stages))
        for stage in segment
    ]
    head = ("pipeline", "stage", "kind", "split", "words", "gold")
    caption = f"Stages of round {number}; those of one pipeline stream shard by shard"
    return [Table(head=head, rows=rows, caption=caption)]


def settings(view: View) -> Section:
    """run.yaml as it stands, and the versions that it ran with."""
    asked = yaml.safe_dump(dict(view.file), sort_keys=False, allow_unicode=True)
    parts: list[Text | Code] = [Code(title="run.yaml: everything that was asked, resolved", text=asked, open=True)]
    about = view.environment
    if about:
        packages = about.get("packages", {})
        named = ", ".join(f"{name} {packages[name]}" for name in PACKAGES if name in packages)
        machine = f"{about.get('cores')} cores, {'CUDA' if about.get('cuda') else 'no CUDA device'}"
        parts.append(Text(text=f"Python {about.get('python')}; {named}. {machine}, {about.get('platform')}."))
        parts.append(Text(text=f"Command: {' '.join(map(str, about.get('command', [])))}"))
        every = "\n".join(f"{name} {version}" for name, version in packages.items())
        parts.append(Code(title=f"All {len(packages)} packages", text=every))
    return Section(id="settings", title="Settings and versions", parts=parts)
