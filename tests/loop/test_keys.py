"""Keys: stages as plain data, there and back, and what changes a key."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from selftrain.errors import RecipeError, StoreError
from selftrain.loop.keys import decoded, encoded
from selftrain.recipe import FromData, Recipe, Stage
from selftrain.round import Attempt
from selftrain.rules import AtMost, Random, Shortest, distinct, passed
from selftrain.stages import Evaluate, Gate, Generate, Gold, MakeExamples, Select, Train, Verify
from selftrain.store import Store
from selftrain.templates import Shot
from selftrain.testing import fake_run

STAGES: list[Stage] = [
    Generate(n=3, stop=("a", "b"), template="few-shot", shots=(Shot(prompt="1", response="2"),)),
    Generate(name="more", n=FromData("count")),
    Gold(share=0.5),
    Verify(by='{"name": "number", "tolerance": 0.1}', of=("generate",)),
    Select(rules=(passed, distinct, AtMost(4), Random(2, seed=3), Shortest()), data="union"),
    MakeExamples(),
    Train(start="latest", settings={"learning_rate": 1e-4, "num_train_epochs": 2}, lora={"r": 8}),
    Evaluate(samples=4, stages=(Generate(name="greedy", n=1), Verify())),
    Gate(patience=3),
]


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_a_stage_comes_back_from_json_as_it_was(stage: Stage) -> None:
    assert decoded(json.loads(json.dumps(encoded(stage)))) == stage


def test_what_cannot_be_written_down_is_refused() -> None:
    with pytest.raises(RecipeError, match="cannot be written down as plain data"):
        encoded(Train(settings={"learning_rate": object()}))


@pytest.mark.parametrize("name", ["selftrain.stages.nowhere:Generate", "selftrain.stages.generate:Generat"])
def test_a_name_that_is_gone_is_said(name: str) -> None:
    with pytest.raises(StoreError, match="which is not there any more"):
        decoded({"@": name})


def stages(**changes: Any) -> list[Stage]:
    made: list[Stage] = [Generate(n=2, max_new_tokens=40), Verify(), Select(), MakeExamples(), Train()]
    return [replace(s, **changes.get(s.name, {})) for s in made] + [Evaluate(max_new_tokens=40)]


def keys(root: Path, each_round: Sequence[Stage], rounds: int = 1) -> dict[str, Any]:
    fake_run(Recipe(paper="none", rounds=rounds, each_round=each_round), root)
    found = Store(root).stages(1)
    return {name: json.loads((folder.path / "key.json").read_text()) for name, folder in found.items()}


def test_a_key_says_all_that_the_records_depend_on(tmp_path: Path) -> None:
    key = keys(tmp_path, stages())
    assert key["generate"]["settings"]["n"] == 2
    assert key["generate"]["weights"].keys() == {"policy/latest"}
    assert {"tokenizer", "prompt", "sampler", "seed", "problems", "drawn", "version"} <= key["generate"].keys()
    assert key["verify"]["reads"].keys() == {"generate"}
    assert key["train"]["reads"].keys() == {"build"}
    assert "sampler" not in key["select"]


def test_a_change_reaches_the_stages_after_it_and_none_before(tmp_path: Path) -> None:
    one = keys(tmp_path / "a", stages())
    two = keys(tmp_path / "b", stages(select={"rules": (passed, distinct, AtMost(1))}))
    changed = {name for name in one if one[name] != two[name]}
    assert {"select", "build", "train"} <= changed
    assert not changed & {"generate", "verify"}


def test_the_number_of_rounds_is_no_part_of_a_key(tmp_path: Path) -> None:
    assert keys(tmp_path / "a", stages(), rounds=1) == keys(tmp_path / "b", stages(), rounds=2)


def test_the_source_of_a_users_rule_is_part_of_the_key(tmp_path: Path) -> None:
    def odd(attempts: Sequence[Attempt]) -> Sequence[Attempt]:
        return attempts[1::2]

    key = keys(tmp_path, stages(select={"rules": (passed, odd)}))["select"]
    assert any(name.endswith("odd") for name in key["rules"])
    assert "rules" not in keys(tmp_path / "own", stages())["select"]


def test_the_source_of_a_users_stage_is_part_of_the_key(tmp_path: Path) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Mine(Verify):
        name: str = "verify"

    one = keys(tmp_path / "a", [Mine() if s.name == "verify" else s for s in stages()])
    assert "source" in one["verify"]
    assert "source" not in keys(tmp_path / "b", stages())["verify"]
