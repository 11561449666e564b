"""A Gate warns, rolls back or stops at the alarms of the monitors it names, and of no others."""

import random
from pathlib import Path

import pytest

from selftrain.errors import RecipeError
from selftrain.loop import config
from selftrain.loop.keys import decoded, encoded
from selftrain.monitors import available
from selftrain.recipe import Recipe
from selftrain.records import Decision
from selftrain.round import History
from selftrain.stages import Evaluate, Gate, Generate, MakeExamples, Select, Train, Verify
from selftrain.stages.gate import Steer
from selftrain.store import Store
from selftrain.testing import FakeBackends, adds, fake_run, sums
from tests.front_door import refused


def longer(prompt: str, skill: float, stream: random.Random) -> str:
    """Right as `adds` is, and the longer the more skill there is: 91 characters of padding, then 151."""
    return f"{adds(prompt, skill, stream)}, {'so ' * int(100 * skill)}{adds(prompt, 1.0, stream)}"


def run(root: Path, gate: Gate) -> History:
    recipe = Recipe(
        paper="none",
        rounds=2,
        each_round=[Generate(n=2), Verify(), Select(), MakeExamples(), Train(), Evaluate(), gate],
    )
    problems = {"train": sums(6), "valid": sums(20, "valid", 200), "test": sums(6, "test", 400)}
    return fake_run(recipe, root, problems=problems, backends=FakeBackends(longer), shard=20)


def decisions(root: Path, history: History) -> list[Decision]:
    found = [each.decision for each in history.rounds if each.decision is not None]
    stored = [d for each in history.rounds[1:] for d in Store(root).stages(each.number)["gate"].read(Decision, 0)]
    assert found == stored
    return found


def test_a_monitor_that_is_not_named_steers_nothing(tmp_path: Path) -> None:
    found = decisions(tmp_path, run(tmp_path, Gate(patience=9, monitors={"preference": "stop", "agent": "rollback"})))
    assert len(found) == 2
    assert not any("alarms" in each.why or each.outcome == "rolled_back" for each in found)


@pytest.mark.parametrize("steer", ["warn", "rollback", "stop"])
def test_an_alarm_warns_rolls_back_or_stops(steer: Steer, tmp_path: Path) -> None:
    history = run(tmp_path, Gate(patience=9, monitors={"length": steer}))
    first, *rest = decisions(tmp_path, history)
    assert "length alarms" in first.why
    assert f"({steer}): responses to valid problems have" in first.why
    assert (first.outcome == "rolled_back") is (steer == "rollback")
    assert first.stop is (steer == "stop")
    assert len(rest) == (0 if steer == "stop" else 1)
    assert first.best == 0


def test_it_does_not_look_at_test(tmp_path: Path) -> None:
    """The test split alone has long responses: the report may say so, the Gate must not."""

    def on_test(prompt: str, skill: float, stream: random.Random) -> str:
        plain = adds(prompt, 1.0, stream)
        held_out = any(f"{problem.text}" in prompt for problem in sums(6, "test", 400))
        return f"{'so ' * int(100 * skill)}{plain}" if held_out else plain

    recipe = Recipe(
        paper="none",
        rounds=1,
        each_round=[
            Generate(n=2),
            Verify(),
            Select(),
            MakeExamples(),
            Train(),
            Evaluate(),
            Gate(monitors=dict.fromkeys(available(), "stop")),
        ],
    )
    problems = {"train": sums(6), "valid": sums(20, "valid", 200), "test": sums(6, "test", 400)}
    history = fake_run(recipe, tmp_path, problems=problems, backends=FakeBackends(on_test), shard=20)
    (decision,) = decisions(tmp_path, history)
    assert "alarms" not in decision.why
    assert not decision.stop


def test_a_wrong_name_or_action_is_refused_with_the_near_ones() -> None:
    with pytest.raises(RecipeError, match=r"no monitor 'lenght'; did you mean length\?"):
        Gate(monitors={"lenght": "warn"})
    with pytest.raises(RecipeError, match=r"no monitor 'zzz' \(there are agent, balance, "):
        Gate(monitors={"zzz": "warn"})
    with pytest.raises(RecipeError, match=r"cannot 'rolback'; did you mean rollback\?"):
        Gate(monitors={"length": "rolback"})  # type: ignore[dict-item]


def test_it_is_set_from_the_command_line(tmp_path: Path) -> None:
    job = config.load("rest_em", {"model": "nano", "gate.monitors": {"tail": "warn"}, "gate.monitors.length": "stop"})
    (gate,) = [stage for stage in job.recipe.stages(History()) if isinstance(stage, Gate)]
    assert gate.monitors == {"tail": "warn", "length": "stop"}
    assert "alarm of tail: warn; alarm of length: stop" in gate.words()["gate"]
    line = refused("run", "rest_em", "--model", "nano", "--out", tmp_path / "run", "gate.monitors.lenght=stop")
    assert "no monitor 'lenght'; did you mean length?" in line
    line = refused("run", "rest_em", "--model", "nano", "--out", tmp_path / "run", "gate.monitors.length=halt")
    assert "gate.monitors.length" in line
    assert "'stop'" in line


def test_without_monitors_its_key_is_as_before() -> None:
    assert "monitors" not in encoded(Gate())
    assert decoded(encoded(Gate())) == Gate()
    named = Gate(monitors={"length": "stop"})
    assert encoded(named)["monitors"] == {"length": "stop"}
    assert decoded(encoded(named)) == named
