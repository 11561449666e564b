"""LeDex: rows are right solutions, explanations that led to right repairs, and those repairs, each under its prompt."""

from pathlib import Path
from random import Random

import pytest

from selftrain.recipe import Recipe
from selftrain.records import Problem, Row, Verdict
from selftrain.rules import finished
from selftrain.stages import Select
from selftrain.testing import FakeBackends, adds, fake_run
from tests.pipelines.stored import made, problems, read, samples, texts, with_stage


def answer(text: str, skill: float, draw: Random) -> str:
    """Sums as a rule wrong at first; an explanation says one of two things, and only one of them helps."""
    if text.rstrip().endswith("Which step is wrong first?"):
        return draw.choice(["Step 1 is wrong.", "No step is wrong."])
    if "Try again." in text:
        return adds(text, 1.0 if "Step 1" in text else 0.0, draw)
    return adds(text, skill, draw)


def debugged(recipe: Recipe, folder: Path) -> None:
    """Run it, and look at every row."""
    fake_run(recipe, folder, backends=FakeBackends(answer))
    first, explained, repaired = (samples(folder, name) for name in ("generate", "explain", "repair"))
    solved, mended = (
        {v.sample for v in read(folder, Verdict, name) if v.status == "pass"} for name in ("verify", "verify-repair")
    )
    asked = {p.id: p for name in ("ask", "ask-again") for p in read(folder, Problem, name)} | problems(folder)
    kinds = set()
    for row in read(folder, Row, "build"):
        (id,) = row.sources
        if id in first:
            assert id in solved
            kinds.add("solution")
        elif id in explained:
            mine = [each.id in mended for each in repaired.values() if each.parents[1] == id]
            assert sum(mine) / len(mine) >= 0.5
            kinds.add("explanation")
        else:
            assert id in mended
            attempt, explanation = repaired[id].parents
            assert attempt not in solved
            assert explanation in explained
            kinds.add("repair")
        prompt = asked[({**first, **explained, **repaired})[id].problem].prompt
        assert texts(row)[0] == "".join(f"{turn['role']}: {turn['content']}\n" for turn in prompt)
    assert kinds == {"solution", "explanation", "repair"}


def test_rows_are_what_execution_confirms_of_solutions_explanations_and_repairs(tmp_path: Path) -> None:
    debugged(made("ledex", rounds=1, samples=4, max_new_tokens=60), tmp_path)


@pytest.mark.parametrize("stage", ["select-explained", "select-repaired"])
def test_it_shows_where_unconfirmed_explanations_or_repairs_are_learned(stage: str, tmp_path: Path) -> None:
    recipe = made("ledex", rounds=1, samples=4, max_new_tokens=60)
    with pytest.raises(AssertionError):
        debugged(with_stage(recipe, Select, stage, rules=(finished,)), tmp_path)


def test_the_attempt_after_an_explanation_is_measured_beside_the_first(tmp_path: Path) -> None:
    history = fake_run(made("ledex", rounds=1, samples=4, max_new_tokens=60), tmp_path, backends=FakeBackends(answer))
    names = {metric.name for result in history.rounds for metric in result.metrics}
    assert {"accuracy", "repair/accuracy"} <= names
