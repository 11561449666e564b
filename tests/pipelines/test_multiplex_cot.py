"""Multiplex CoT: every first chain gets a second one, which is learned and measured against the first."""

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from selftrain.recipe import Stage
from selftrain.records import Row
from selftrain.testing import FakeBackends, FakeTokens, adds, fake_run
from tests.pipelines.stored import made, problems, read, samples, unlabelled

SMALL: dict[str, Any] = {"rounds": 1, "samples": 2, "max_new_tokens": 60}


def answer(text: str, skill: float, draw: Random) -> str:
    """A second chain is right; the first is as the skill has it, greedy ones wrong."""
    return adds(text, 1.0 if "try again." in text else skill, draw)


def second_is_learned(root: Path) -> bool:
    """Whether each row is a second chain, under the prompt of the problem alone."""
    first, second, adopted = (samples(root, name) for name in ("generate", "second", "adopt"))
    assert {each.parents for each in second.values()} == {(id,) for id in first}
    prompts = {f"user: {p.text}\n" for p in problems(root).values()}
    rows = read(root, Row, "build")
    assert rows
    for row in rows:
        prompt, response = (FakeTokens().decode(part.ids) for part in row.segments)
        assert prompt in prompts
        sample = adopted.get(row.sources[0])
        if sample is None or response != second[sample.parents[0]].text:
            return False
    return True


def test_the_second_chain_is_learned_and_measured_against_the_first(tmp_path: Path) -> None:
    history = fake_run(made("multiplex_cot", **SMALL), tmp_path, backends=FakeBackends(answer))
    assert second_is_learned(tmp_path)
    for round in (0, 1):
        first, second = (history.metric(name, round=round) for name in ("accuracy", "second/accuracy"))
        assert first is not None
        assert second is not None
        assert second.value == 1.0 > first.value
        assert second.n == first.n


def test_a_recipe_that_learns_the_first_chain_is_seen(tmp_path: Path) -> None:
    def hasty(stage: Stage) -> Stage:
        return replace(stage, of=("generate",)) if stage.name == "select" else stage

    fake_run(made("multiplex_cot", **SMALL).changed(hasty), tmp_path, backends=FakeBackends(answer))
    assert not second_is_learned(tmp_path)


def test_gold_answers_change_nothing(tmp_path: Path) -> None:
    assert made("multiplex_cot").labels == "none"
    assert unlabelled("multiplex_cot", tmp_path, **SMALL)
