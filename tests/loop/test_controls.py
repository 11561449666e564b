"""Controls: what of a recipe they change, that their budget is the recipe's, and which a recipe can't have."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from selftrain.loop import config
from selftrain.loop.budget import spent
from selftrain.loop.controls import CONTROLS, Figures, LeftOut, transformed
from selftrain.pairings import RightWrong
from selftrain.recipe import Recipe, Stage
from selftrain.records import Pick, Row, Sample, Verdict
from selftrain.rules import AtMost, distinct, finished, passed
from selftrain.stages import (
    DPO,
    Evaluate,
    Gate,
    Generate,
    MakeExamples,
    MakePairs,
    Pair,
    Select,
    Train,
    Verify,
)
from selftrain.store import Store
from selftrain.testing import FakeBackends, adds, fake_run
from tests.front_door import call, refused

MEASURED = (Evaluate(max_new_tokens=40), Gate(patience=9))


def chosen(*, rounds: int = 2, **changes: Any) -> Recipe:
    rules = (passed, finished, distinct, AtMost(2))
    select = replace(Select(rules=rules), **changes)
    stages: list[Stage] = [Generate(n=4, max_new_tokens=40), Verify(), select, MakeExamples(), Train(), *MEASURED]
    return Recipe(paper="none", rounds=rounds, each_round=stages)


def paired() -> Recipe:
    pair = Pair(pairing=RightWrong(most=1))
    stages: list[Stage] = [Generate(n=4, max_new_tokens=40), Verify(), pair, MakePairs(), Train(loss=DPO()), *MEASURED]
    return Recipe(paper="none", rounds=2, each_round=stages)


def figures(root: Path) -> Figures:
    found = spent(Store(root))
    return Figures(
        rounds=found.rounds,
        sampled=found.sampled,
        trained=found.trained,
        kept=found.kept,
        steps=found.steps,
        row=found.row,
        gold=8.0,
        held_out=16,
        response=12.0,
        pool=12,
    )


def made(name: str, recipe: Recipe, tmp_path: Path) -> tuple[Store, Store]:
    """Run a recipe, then a control of it; their stores."""
    fake_run(recipe, tmp_path / "recipe", backends=FakeBackends(adds, gain=0.0))
    known = json.loads(json.dumps({"name": name, "figures": _plain(figures(tmp_path / "recipe"))}))
    fake_run(transformed(recipe, known), tmp_path / "control", backends=FakeBackends(adds, gain=0.0))
    return Store(tmp_path / "recipe"), Store(tmp_path / "control")


def _plain(found: Figures) -> dict[str, Any]:
    return {name: getattr(found, name) for name in Figures.__dataclass_fields__}


def rows(store: Store, number: int) -> int:
    return store.stages(number)["build"].count(Row)


def right(store: Store, number: int) -> tuple[int, int]:
    """How many of the kept samples are right, and how many there are."""
    folders = store.stages(number)
    said = {v.sample: v.status for s in folders["verify"].shards() for v in folders["verify"].read(Verdict, s)}
    picks = [p for s in folders["select"].shards() for p in folders["select"].read(Pick, s) if p.side == "kept"]
    return sum(said[pick.sample] == "pass" for pick in picks), len(picks)


@pytest.mark.parametrize("data", ["fresh", pytest.param("union", marks=pytest.mark.slow)])
def test_verifier_off_keeps_as_many_and_not_the_right_ones(tmp_path: Path, data: str) -> None:
    ours, theirs = made("verifier-off", chosen(data=data), tmp_path)
    for number in (1, 2):
        assert rows(ours, number) == rows(theirs, number) > 3
    assert right(ours, 1)[0] == right(ours, 1)[1]
    hit, kept = right(theirs, 1)
    # The fake model is right in 30 of 100: that all of a dozen are by chance is less likely than one in a million.
    assert hit < kept
    folder = theirs.stages(1)["select"]
    picks = [pick for shard in folder.shards() for pick in folder.read(Pick, shard)]
    assert {pick.rule for pick in picks} == {"distinct", "AtMost(2)", "drawn at random"}
    assert len(picks) == theirs.stages(1)["generate"].count(Sample) == 48


@pytest.mark.slow
def test_verifier_off_pairs_as_often_and_blindly(tmp_path: Path) -> None:
    ours, theirs = made("verifier-off", paired(), tmp_path)
    assert rows(ours, 1) == rows(theirs, 1) > 4
    folder = theirs.stages(1)["pair"]
    picks = [pick for shard in folder.shards() for pick in folder.read(Pick, shard) if pick.group]
    said = {v.sample: v.status for s in folder.shards() for v in theirs.stages(1)["verify"].read(Verdict, s)}
    assert {said[pick.sample] for pick in picks if pick.side == "chosen"} == {"pass", "fail"}


def test_shuffled_passes_as_many_of_each_problem_but_others(tmp_path: Path) -> None:
    ours, theirs = made("shuffled", chosen(rounds=1), tmp_path)

    def counts(store: Store) -> tuple[dict[str, int], set[str]]:
        verify, generate = store.stages(1)["verify"], store.stages(1)["generate"]
        problem = {s.id: s.problem for k in generate.shards() for s in generate.read(Sample, k)}
        good = {v.sample for k in verify.shards() for v in verify.read(Verdict, k) if v.status == "pass"}
        return {p: sum(problem[id] == p for id in good) for p in problem.values()}, good

    (before, right_ones), (after, others) = counts(ours), counts(theirs)
    assert before == after
    assert right_ones != others


def test_gold_only_trains_on_solutions_for_as_many_tokens(tmp_path: Path) -> None:
    known = Figures(rounds=2, trained=1_000, steps={"train": [5, 5]}, row=10.0, gold=20.0)
    recipe = CONTROLS["gold-only"].make(chosen(), known)
    (train,) = [stage for stage in recipe.given() if "trainer" in stage.uses]
    # 100 tokens a step are 10 rows of the recipe, or 200 tokens of gold.
    assert getattr(train, "settings", {})["max_steps"] == 5
    fake_run(recipe, tmp_path)
    folder = Store(tmp_path).stages(1)["gold"]
    assert {sample.model for shard in folder.shards() for sample in folder.read(Sample, shard)} == {"gold"}
    assert rows(Store(tmp_path), 1) == 12


def test_best_of_n_spends_the_budget_on_answers_and_trains_nothing(tmp_path: Path) -> None:
    known = Figures(rounds=2, sampled=16 * 12 * 6, held_out=16, response=12.0)
    recipe = CONTROLS["best-of-n"].make(chosen(), known)
    fake_run(recipe, tmp_path)
    folders = Store(tmp_path).stages(1)
    assert folders["best-of-n-sampled"].count(Sample) == 16 * 6
    assert not any("train" in name for name in folders)


def test_one_round_has_all_samples_and_steps(tmp_path: Path) -> None:
    known = Figures(rounds=3, steps={"train": [2, 3, 4]}, pool=12)
    recipe = CONTROLS["one-round"].make(chosen(rounds=3), known)
    stages = {stage.name: stage for stage in recipe.given()}
    assert getattr(stages["train"], "settings", {})["max_steps"] == 9
    fake_run(recipe, tmp_path)
    assert Store(tmp_path).stages(1)["generate"].count(Sample) == 12 * 4 * 3
    drawn = CONTROLS["one-round"].make(replace(chosen(rounds=3), draw=3), known)
    assert drawn.draw == 9
    assert getattr(drawn.given()[0], "n", 0) == 4


@pytest.mark.parametrize(
    ("control", "recipe", "known", "why"),
    [
        ("verifier-off", "gold_sft", {}, "no stage of it chooses by verdicts"),
        ("verifier-off", "star", {}, "stage 'rationalize' goes by verdicts too"),
        ("shuffled", "star", {"samples": 1}, "one sample a problem"),
        ("shuffled", "lmsi", {}, "all samples of a problem together"),
        ("gold-only", "rest_em", {}, "no gold solutions"),
        ("best-of-n", "rest_em", {"answers": False}, "reads no answers"),
        ("one-round", "rest_em", {"rounds": 1}, "one round itself"),
    ],
)
def test_a_control_that_a_recipe_cannot_have_says_why(
    control: str, recipe: str, known: dict[str, Any], why: str
) -> None:
    asked = {name: value for name, value in known.items() if name == "samples"}
    found = Figures(**{"rounds": 2, **{name: value for name, value in known.items() if name not in asked}})
    with pytest.raises(LeftOut, match=why):
        CONTROLS[control].make(config.load(recipe, asked).recipe, found)


@pytest.mark.slow
def test_every_control_of_every_recipe_is_a_recipe_or_left_out_with_a_reason() -> None:
    from selftrain import plugins

    known = Figures(rounds=2, sampled=10_000, trained=5_000, row=20.0, gold=20.0, held_out=20, response=20.0, pool=50)
    had = dict.fromkeys(CONTROLS, 0)
    reasons = set()
    for name in plugins.available("recipe"):
        recipe = config.load(name, {}).recipe
        for control, each in CONTROLS.items():
            try:
                each.make(recipe, known).check()
                had[control] += 1
            except LeftOut as reason:
                reasons.add(str(reason))
    assert all(len(reason) > 10 for reason in reasons)
    assert all(count > 15 for count in had.values()), had


SMALL = ("model=nano", "data=sums", "pool=12", "valid=8", "test=8", "samples=4", "max_new_tokens=48", "rounds=2")


def test_a_dry_run_says_what_controls_would_cost(tmp_path: Path) -> None:
    answer = call("run", "rest_em", *SMALL, "--controls", "--dry-run", "--out", tmp_path / "run")
    assert answer.code == 0, answer
    said = [line for line in answer.out.splitlines() if line.startswith("control")]
    assert [line.split()[1].rstrip(":") for line in said] == list(CONTROLS)
    assert all("tokens" in line or "left out" in line for line in said)
    assert list(tmp_path.iterdir()) == []
    assert "did you mean verifier-off" in refused("run", "rest_em", *SMALL, "control.name=verifier-of", "--dry-run")


@pytest.mark.slow
def test_controls_run_beside_a_real_run_and_are_resumed(tmp_path: Path) -> None:
    given = ("run", "rest_em", *SMALL, "learning_rate=0.003", "gate.patience=9", "--out", tmp_path / "run")
    plain = call(*given)
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.parquet")}
    answer = call(*given, "--controls")
    assert answer.code == plain.code, answer
    assert {path: path.read_bytes() for path in before} == before
    told = json.loads((tmp_path / "run" / "controls.json").read_text())
    assert [each["name"] for each in told["controls"]] == list(CONTROLS)
    assert told["failed"] == told["left_out"] == []
    by_name = {each["name"]: each for each in (told["recipe"], *told["controls"])}
    mine = by_name["rest_em"]
    assert by_name["verifier-off"]["rows"] == mine["rows"]
    for name, what in (("shuffled", "sampled"), ("one-round", "sampled"), ("best-of-n", "sampled")):
        other = by_name[name][f"{what}_tokens"]
        assert math.isclose(other, mine[f"{what}_tokens"], rel_tol=0.2), (name, other, mine)
    for each in told["controls"]:
        gap = mine["accuracy"]["value"] - each["accuracy"]["value"]
        assert math.isclose(each["difference"]["value"], gap, abs_tol=1e-9)
        assert each["difference"]["n"] == 8
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.parquet")}
    again = call(*given, "--controls")
    assert again.code == plain.code
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert "control verifier-off" in call("status", tmp_path / "run").out
    listed = json.loads(call("runs", tmp_path, "--json").out)
    assert [each["recipe"] for each in listed] == ["rest_em", *(f"rest_em ({name})" for name in sorted(CONTROLS))]
    assert call("export", tmp_path / "run/controls/gold-only", "--round", 1, "--to", tmp_path / "out").code == 0


@pytest.mark.parametrize("name", ["verifier-off", "shuffled", "one-round"])
def test_verdicts_do_not_steer_a_controls_sampling(name: str) -> None:
    waves = chosen().changed(lambda s: _in_waves(s) if isinstance(s, Generate) else s)
    made = CONTROLS[name].make(waves, Figures(rounds=2, kept={"select": [3, 3]}))
    made.check()
    assert [(s.waves, s.most, s.coolest) for s in made.given() if isinstance(s, Generate)] == [(1, 0, None)]


def _in_waves(stage: Generate) -> Generate:
    return replace(stage, waves=2, enough=1, most=6, coolest=0.1)
