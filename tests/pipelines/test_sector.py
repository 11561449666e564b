"""SECToR: a window of levels moves with the round; the majority's answer becomes a row without its steps."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from selftrain.lab import Lab
from selftrain.recipe import Recipe, Stage
from selftrain.records import Problem, Row, Sample
from selftrain.round import Part
from selftrain.testing import fake_run, sums
from tests.pipelines.stored import made, problems, read, samples, texts, unlabelled

SMALL: dict[str, Any] = {"samples": 5, "first": 1, "width": 1, "max_new_tokens": 40}
LEVELS = [replace(p, meta={"digits": 1 + at % 3}) for at, p in enumerate(sums(12))]
PROBLEMS = {"train": LEVELS, "valid": sums(8, "valid", 200), "test": sums(8, "test", 400)}


def window_moves(root: Path, recipe: Recipe) -> bool:
    """Whether each round works on the problems of its own level, and on all of them."""
    fake_run(recipe, root, problems=PROBLEMS)
    level = {p.id: p.meta["digits"] for p in problems(root).values() if p.split == "train"}
    found = []
    for round in (1, 2, 3):
        copies = {p.id: p for p in read(root, Problem, "window", round)}
        assert {s.problem for s in samples(root, "generate", round=round).values()} == set(copies)
        found.append([level[p.parent or ""] for p in copies.values()])
    return found == [[1] * 4, [2] * 4, [3] * 4]


def test_the_window_moves_on_by_a_level_each_round(tmp_path: Path) -> None:
    assert window_moves(tmp_path / "a", made("sector", rounds=3, **SMALL))
    assert not window_moves(tmp_path / "fixed", made("sector", rounds=3, step=0, **SMALL))
    assert not window_moves(tmp_path / "wide", made("sector", rounds=3, **{**SMALL, "width": 2}))


@dataclass(frozen=True, kw_only=True)
class StepsLeftIn(Stage):
    """Sabotage: what is to be answered at once is answered with the steps."""

    inner: Stage

    @property
    def reads(self) -> tuple[type[Any], ...]:
        return self.inner.reads

    @property
    def writes(self) -> tuple[type[Any], ...]:
        return self.inner.writes

    def run(self, part: Part, lab: Lab) -> Iterator[Any]:
        for each in self.inner.run(part, lab):
            said = part.samples(each.parents) if isinstance(each, Sample) else {}
            yield replace(each, text=said[each.parents[0]].sample.text) if said else each


def with_steps(stage: Stage) -> Stage:
    return StepsLeftIn(name=stage.name, of=stage.of, inner=stage) if stage.name == "at-once" else stage


def at_once_without_steps(root: Path, recipe: Recipe) -> bool:
    """Whether exactly the rows that ask for the answer at once are a bare number."""
    fake_run(recipe, root, problems=PROBLEMS)
    slow, fast = samples(root, "generate"), samples(root, "at-once")
    rows = {row.sources[0]: texts(row) for row in read(root, Row, "build")}
    assert set(fast) < set(rows)
    assert set(rows) & set(slow)
    asked = [prompt.rstrip().endswith("Answer at once.") is (id in fast) for id, (prompt, _) in rows.items()]
    return all(asked) and all(said.isdigit() is (id in fast) for id, (_, said) in rows.items())


def test_an_answer_at_once_has_a_prompt_of_its_own_and_no_steps(tmp_path: Path) -> None:
    recipe = made("sector", rounds=1, **SMALL)
    assert at_once_without_steps(tmp_path, recipe)
    assert not at_once_without_steps(tmp_path / "steps", recipe.changed(with_steps))
    assert not at_once_without_steps(tmp_path / "unasked", made("sector", rounds=1, ask="", **SMALL))
    slow, fast = samples(tmp_path, "generate"), samples(tmp_path, "at-once")
    for made_of in fast.values():
        answers = {slow[id].text.rpartition(" ")[2] for id in made_of.parents}
        assert answers == {made_of.text}
        assert len(made_of.parents) >= 0.5 * 5


def test_a_problem_without_a_level_is_in_no_window(tmp_path: Path) -> None:
    fake_run(made("sector", rounds=1, **SMALL), tmp_path)
    assert read(tmp_path, Problem, "window") == []
    assert read(tmp_path, Row, "build") == []


def test_gold_answers_change_nothing(tmp_path: Path) -> None:
    assert made("sector").labels == "none"
    assert unlabelled("sector", tmp_path, LEVELS, **{**SMALL, "rounds": 2})
