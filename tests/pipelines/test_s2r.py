"""S²R: harder problems have longer traces, a wrong attempt is not in the loss, verdicts are the checker's."""

from collections import Counter, defaultdict
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest

from selftrain.recipe import Recipe, Stage
from selftrain.records import Row, Verdict
from selftrain.stages import MakeExamples, Splice
from selftrain.testing import FakeBackends, FakeTokens, adds, fake_run, sums
from tests.pipelines.stored import made, problems, read, samples

POOL = {"train": sums(40), "valid": sums(8, "valid", 200), "test": sums(8, "test", 400)}
SMALL: dict[str, Any] = {"samples": 6, "tries": 6, "max_new_tokens": 60}


def answer(text: str, skill: float, draw: Random) -> str:
    """Says yes and no at random; how often a sum is right depends on it."""
    if text.rstrip().endswith("Answer yes or no."):
        return draw.choice(["yes", "no"])
    said = adds(text, (0.1, 0.5, 1.0)[sum(map(ord, text)) % 3], draw)
    right = said == adds(text, 1.0, draw)
    return f"{draw.randrange(99)}: {said if right else -draw.randrange(99)}"


def traces(root: Path, recipe: Recipe) -> dict[str, list[tuple[str, str]]]:
    """Problem -> its rows, what is given and what is learned, the shorter ones first."""
    fake_run(recipe, root, problems=POOL, backends=FakeBackends(answer))
    made_of = samples(root, "splice")
    asked = {p.id: p for p in problems(root).values()}
    by_text = {f"user: {p.text}\n": id for id, p in asked.items()}
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for row in read(root, Row, "build"):
        assert row.sources[0] in made_of
        shown, own = (FakeTokens().decode(segment.ids) for segment in row.segments)
        prompt = next(text for text in by_text if shown.startswith(text))
        found[by_text[prompt]].append((shown[len(prompt) :], own))
    assert found
    return {id: sorted(rows, key=lambda row: len(row[0])) for id, rows in found.items()}


def checks_out(root: Path, recipe: Recipe) -> bool:
    """Whether the rows of each problem are one growing trace: wrong attempts by its difficulty, then a right one."""
    rows = traces(root, recipe)
    attempts, given = samples(root, "generate"), problems(root)
    failures = Counter(attempts[v.sample].problem for v in read(root, Verdict, "verify") if v.status == "fail")
    for id, parts in rows.items():
        *wrong, (_, last) = parts
        said = {"".join(text.split()[-1:]) for text, _ in wrong}
        right, _, verdict = last.partition("\n[VERIFY] ")
        if (
            any(learned != "\n[VERIFY] wrong\n" for _, learned in wrong)
            or any(len(text) <= len(before + own) for (before, own), (text, _) in pairwise(wrong))
            or any(not text.startswith(before + own) for (before, own), (text, _) in pairwise(parts))
            or (given[id].answer in said or len(said) < len(wrong))
            or len(wrong) > sum(failures[id] >= count for count in (1, 2, 4))
            or (right.split()[-1], verdict) != (given[id].answer, "correct")
        ):
            return False
    return {len(parts) for parts in rows.values()} >= {1, 2, 3}


@pytest.mark.parametrize("sabotage", ["", "harder", "easier", "unmasked"])
def test_harder_problems_have_longer_traces_whose_wrong_attempts_are_not_learned(tmp_path: Path, sabotage: str) -> None:
    def changed(stage: Stage) -> Stage:
        if sabotage == "unmasked" and isinstance(stage, MakeExamples):
            return replace(stage, learn="all")
        if sabotage in ("harder", "easier") and isinstance(stage, Splice):
            how: Any = stage.how
            return replace(stage, how=replace(how, harder={"harder": (1, 1, 1), "easier": ()}[sabotage]))
        return stage

    assert checks_out(tmp_path, made("s2r", **SMALL).changed(changed)) is not bool(sabotage)
