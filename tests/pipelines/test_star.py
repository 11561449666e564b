"""STaR: what is unsolved is asked with a hint, and its rationales are learned as if there had been none."""

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from selftrain.recipe import Recipe
from selftrain.records import Row, Verdict
from selftrain.stages import Generate, Train, build
from selftrain.store import Store
from selftrain.templates import cites_hint
from selftrain.testing import FakeBackends, adds, fake_run
from tests.pipelines.stored import as_asked, made, read, samples, second_starts_from, texts, with_stage, without

SMALL: dict[str, Any] = {"rounds": 1, "samples": 2, "max_new_tokens": 60}


def candid(prompt: str, skill: float, stream: Random) -> str:
    """Says now and then where it has the answer from, if it was given one."""
    said = adds(prompt, skill, stream)
    return f"as given, {said}" if said.startswith("so it is") and stream.random() < 0.5 else said


def hides_the_hint(root: Path, recipe: Recipe) -> bool:
    """Whether no row holds the hint or speaks of it, though some rows are of hinted samples."""
    fake_run(recipe, root, backends=FakeBackends(candid))
    hinted = samples(root, "rationalize")
    assert any(cites_hint(sample.text) for sample in hinted.values())
    rows = read(root, Row, "build")
    assert {id for row in rows for id in row.sources} & set(hinted)
    return not any("The answer is" in part or cites_hint(part) for row in rows for part in texts(row))


def test_no_row_holds_the_hint_or_cites_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = made("star", **SMALL)
    assert hides_the_hint(tmp_path / "a", recipe)
    assert not hides_the_hint(tmp_path / "shown", as_asked(recipe))
    # Two guards, the rule and the stage that builds the rows: a citing rationale is learned where both are gone.
    uncaring = without(recipe, "uncited")
    assert hides_the_hint(tmp_path / "one", uncaring)
    monkeypatch.setattr(build, "cites_hint", lambda text: False)
    assert not hides_the_hint(tmp_path / "both", uncaring)


def hints_the_unsolved(root: Path, recipe: Recipe) -> bool:
    """Whether exactly the problems that no plain sample solved are asked with the hint."""
    fake_run(recipe, root)
    plain, hinted = samples(root, "generate"), samples(root, "rationalize")
    solved = {plain[v.sample].problem for v in read(root, Verdict, "verify") if v.status == "pass"}
    assert 0 < len(solved) < 12
    return {s.problem for s in hinted.values()} == {s.problem for s in plain.values()} - solved


def test_only_what_is_unsolved_is_hinted(tmp_path: Path) -> None:
    recipe = made("star", **SMALL)
    assert hints_the_unsolved(tmp_path / "a", recipe)
    assert not hints_the_unsolved(tmp_path / "b", with_stage(recipe, Generate, "rationalize", only="all"))


def test_the_base_model_is_trained_afresh_each_round(tmp_path: Path) -> None:
    recipe = made("star", **{**SMALL, "rounds": 2})
    assert second_starts_from(fake_run(recipe, tmp_path / "a")) == "base"
    assert second_starts_from(fake_run(with_stage(recipe, Train, start="latest"), tmp_path / "b")) == "latest"


def trains_longer(root: Path, recipe: Recipe) -> bool:
    """Whether the second round is trained for a fifth more epochs than the first, by the keys of what was stored."""
    fake_run(recipe, root)
    first, second = (
        json.loads((Store(root).stages(number)["train"].path / "key.json").read_text())["settings"]["settings"]
        for number in (1, 2)
    )
    return bool(second["num_train_epochs"] == pytest.approx(1.2 * first["num_train_epochs"]))


def test_training_grows_with_the_rounds(tmp_path: Path) -> None:
    assert trains_longer(tmp_path / "a", made("star", **{**SMALL, "rounds": 2}))
    assert not trains_longer(tmp_path / "b", made("star", **{**SMALL, "rounds": 2, "growth": 1.0}))
