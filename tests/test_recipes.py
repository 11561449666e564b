"""Every recipe there is: built, checked, planned, run on the bundled model, killed and resumed."""

import contextlib
import inspect
import shlex
from pathlib import Path
from typing import Any

import pytest

import selftrain
from selftrain import plugins
from selftrain.errors import Blocked
from selftrain.loop import config, launch
from selftrain.records import Row, seed_of
from selftrain.round import History
from selftrain.store import Store
from selftrain.tables import read
from tests.killing import Launched, stored, unchanged

RECIPES = sorted(plugins.available("recipe"))
SMALL = {"samples": 4, "keep": 2, "max_new_tokens": 32}
UNCONTROLLED = {"random_select", "gold_sft", "self_taught_evaluators", "auto_if", "perils", "bot"}
"""Controls, and what is not measured by the accuracy of the policy on the run's own problems."""
RUN = {"model": "nano", "data": "sums", "pool": 24, "valid": 12, "test": 12}


def settings(name: str) -> dict[str, Any]:
    """The run's size, and the small values of those arguments that the recipe has."""
    accepted = inspect.signature(plugins.load("recipe", name).recipe).parameters
    return {**RUN, **{key: value for key, value in SMALL.items() if key in accepted}}


@pytest.mark.parametrize("name", RECIPES)
def test_its_docstring_names_paper_and_differences(name: str) -> None:
    module = plugins.load("recipe", name)
    text = " ".join((module.__doc__ or "").split())
    assert "Different" in text or name == "gold_sft"
    paper = config.load(name, {}).recipe.paper
    assert paper.startswith("none") or paper in text


@pytest.mark.parametrize("name", RECIPES)
def test_it_is_in_the_table_with_its_command(name: str) -> None:
    table = Path(plugins.find("recipe", name).path).with_name("README.md").read_text(encoding="utf-8")
    assert f"| `{name}` |" in table


@pytest.mark.parametrize("name", RECIPES)
def test_its_control_is_there_and_in_the_table(name: str) -> None:
    control = config.load(name, {}).recipe.control
    if not control:
        assert name in UNCONTROLLED
        return
    table = Path(plugins.find("recipe", name).path).with_name("README.md").read_text(encoding="utf-8")
    (line,) = [line for line in table.splitlines() if line.startswith(f"| `{name}` |")]
    assert f"control: `{control}`" in line
    other, *words = shlex.split(control)
    assert config.load(other, dict(word.split("=", 1) for word in words)).recipe.rounds >= 1


@pytest.mark.parametrize("name", RECIPES)
def test_it_builds_and_plans(name: str, tmp_path: Path) -> None:
    plan = launch.prepare(config.load(name, {**settings(name), "out": str(tmp_path / "run")})).plan
    text = "\n".join(plan.lines)
    assert "start:" in text
    assert plan.bytes > 0
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", RECIPES)
def test_one_round_from_the_front_door(name: str, tmp_path: Path) -> None:
    run = selftrain.run(name, rounds=1, out=str(tmp_path / "run"), **settings(name))
    assert [result.number for result in run.history.rounds] == [0, 1]
    assert run.metric("accuracy", split="test", round=1) is not None
    rows = [row for path in Store(run.root).stages(1)["build"].files(Row) for row in read(Row, path)]
    for row in rows:
        assert [segment.train for segment in row.segments] == [False, True]
        assert row.sources


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_two_rounds_killed_and_resumed(name: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    given = [f"{key}={value}" for key, value in {**settings(name), "rounds": 2, "shard": 8}.items()]
    names = [stage.name for stage in config.load(name, {}).recipe.stages(History())]
    # One blow a recipe, at one of its places: over all recipes each kind of place is met many times.
    places: list[str] = [stage for stage in ("generate", "train") if stage in names] or ["gold"]
    place = places[seed_of(name) % len(places)]
    run = Launched(out, name, given)
    struck = run.strike(1, place)
    run.wait(600)
    assert run.gone(), run.family()
    # A stage that takes milliseconds (no row to train on) may be over before the blow falls.
    quick = not struck and Store(out).stages(1)[place].summary()["wall_seconds"] < 1
    assert struck or quick, run.log.read_text()[-2000:]
    before = stored(out)
    # In this process, where torch is imported already; that the same command goes on is test_kill.py's matter.
    with contextlib.suppress(Blocked):
        selftrain.run(name, rounds=2, shard=8, out=str(out), **settings(name))
    assert unchanged(out, before)
    assert Store(out).rounds() == [0, 1, 2]
