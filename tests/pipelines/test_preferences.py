"""What makes the preference recipes the methods they are, on their stored rows; a sabotaged recipe is seen."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from selftrain import plugins
from selftrain.errors import RecipeError
from selftrain.recipe import Recipe, Stage
from selftrain.records import Checkpoint, Row, Sample, Verdict
from selftrain.round import History, RoundResult
from selftrain.stages import DPO, SPIN, Train
from selftrain.store import Store
from selftrain.testing import FakeBackends, adds, fake_run

R = TypeVar("R")
Change = Callable[[Stage], Stage]


def same(stage: Stage) -> Stage:
    return stage


def changed(name: str, **fields: Any) -> Change:
    """Sabotage: another setting of one stage."""
    return lambda stage: replace(stage, **fields) if stage.name == name else stage


def ran(root: Path, name: str, change: Change = same, **arguments: Any) -> History:
    """Run a recipe with a model that learns everything in its first training."""
    recipe: Recipe = plugins.load("recipe", name).recipe(**arguments)
    return fake_run(recipe.changed(change), root, backends=FakeBackends(adds, gain=0.35))


def read(root: Path, kind: type[R], stage: str, round: int = 1) -> list[R]:
    """All records of a stage of a round."""
    folder = Store(root).stages(round)[stage]
    return [row for shard in folder.shards() for row in folder.read(kind, shard)]


def sources(root: Path, kind: str, stage: str = "build", round: int = 1) -> list[Sample]:
    """The samples that the rows of one kind were built from."""
    found: dict[str, Sample] = {}
    for number in range(round + 1):
        for folder in Store(root).stages(number).values():
            found |= {s.id: s for shard in folder.shards() for s in folder.read(Sample, shard)}
    return [found[row.sources[0]] for row in read(root, Row, stage, round) if row.kind == kind]


def train_of(name: str, stage: str = "train", **arguments: Any) -> Train:
    recipe: Recipe = plugins.load("recipe", name).recipe(**arguments)
    found = next(each for each in recipe.given() if each.name == stage)
    assert isinstance(found, Train)
    return found


def written(root: Path, stage: str = "train", round: int = 1) -> Checkpoint:
    (checkpoint,) = read(root, Checkpoint, stage, round)
    return checkpoint


def test_iterative_dpo_prefers_right_to_wrong_of_the_latest_policy(tmp_path: Path) -> None:
    ran(tmp_path, "iterative_dpo", rounds=2, samples=6)
    for round in (1, 2):
        said = {v.sample: v.status for v in read(tmp_path, Verdict, "verify", round)}
        chosen, rejected = (sources(tmp_path, side, round=round) for side in ("chosen", "rejected"))
        assert chosen
        assert {said[s.id] for s in chosen} == {"pass"}
        assert {said[s.id] for s in rejected} == {"fail"}
        assert {s.model for s in chosen + rejected} == {written(tmp_path, round=round).parent}
    assert written(tmp_path, round=2).parent == written(tmp_path).id
    train = train_of("iterative_dpo")
    assert (train.start, train.loss) == ("latest", DPO(beta=0.1, reference="start"))


@pytest.mark.parametrize("which", ["base", "previous"])
def test_iterative_dpo_trains_on_rows_that_hold_the_reference_it_names(tmp_path: Path, which: str) -> None:
    ran(tmp_path, "iterative_dpo", rounds=1, samples=6, reference=which)
    rows = read(tmp_path, Row, "reference")
    assert rows
    for row in rows:
        assert row.reference == {which: -len(row.segments[1].ids)}
    assert not any(row.reference for row in read(tmp_path, Row, "build"))
    with pytest.raises(RecipeError, match=f"the reference of its loss is '{which}'; put Reference"):
        ran(tmp_path / "other", "iterative_dpo", changed("train", of=("build",)), reference=which)


def test_iterative_rpo_heats_up_and_has_an_nll(tmp_path: Path) -> None:
    recipe: Recipe = plugins.load("recipe", "iterative_rpo").recipe()
    found = []
    for number in range(1, 5):
        stages = recipe.stages(History(tuple(RoundResult(number=n) for n in range(number))))
        found.append(stages[0].temperature)  # type: ignore[attr-defined]
    assert found == [0.8, 0.8, 1.3, 1.3]
    assert train_of("iterative_rpo").loss == DPO(beta=0.1, nll=1.0, reference="start")
    assert train_of("iterative_rpo").start == "latest"
    ran(tmp_path, "iterative_rpo", rounds=1, samples=8, pairs=3)
    chosen = sources(tmp_path, "chosen")
    assert max(sum(s.problem == each.problem for s in chosen) for each in chosen) == 3
    assert {s.settings["temperature"] for s in chosen} == {0.8}


def opponents(root: Path, round: int) -> set[str]:
    """The models whose responses are rejected in a round."""
    assert {(s.model, s.finish) for s in sources(root, "chosen", round=round)} == {("gold", "gold")}
    return {s.model for s in sources(root, "rejected", round=round)}


def test_spin_plays_gold_against_the_policies_of_the_last_two_rounds(tmp_path: Path) -> None:
    history = ran(tmp_path, "spin", rounds=3)
    base = history.checkpoint("policy", "base").id
    first, second = written(tmp_path, round=1), written(tmp_path, round=2)
    assert opponents(tmp_path, 1) == {base} == {first.parent}
    assert opponents(tmp_path, 2) == {base, first.id}
    assert opponents(tmp_path, 3) == {first.id, second.id}
    assert second.parent == first.id
    train = train_of("spin")
    assert (train.start, train.loss) == ("latest", SPIN(beta=0.1, reference="start"))
    # A recipe whose opponent stays the base model is another method, and is seen.
    ran(tmp_path / "stale", "spin", changed("generate", which="base"), rounds=3)
    assert opponents(tmp_path / "stale", 3) == {base}


def test_spin_alone_reads_no_verdict(tmp_path: Path) -> None:
    ran(tmp_path, "spin", rounds=1)
    assert "verify" not in Store(tmp_path).stages(1)
    # The fake model is right in a third of its responses: those are rejected too.
    rejected = sources(tmp_path, "rejected")
    assert len(rejected) == 12


def test_spin_warms_up_on_gold_where_asked(tmp_path: Path) -> None:
    ran(tmp_path, "spin", rounds=1, warm_up=True)
    assert opponents(tmp_path, 1) == {written(tmp_path, "warm-up", 0).id}


def restarts(root: Path) -> bool:
    """Whether the fine-tuning of a round begins with the model given."""
    return written(root, "train").parent == Store(root).stage(0, 1, "base").read(Checkpoint, 0)[0].id


def test_dpo_st_trains_twice_from_different_starts_on_different_data(tmp_path: Path) -> None:
    history = ran(tmp_path, "dpo_st", rounds=2, samples=8)
    warm, dpo, sft = written(tmp_path, "warm-up", 0), written(tmp_path, "train-dpo"), written(tmp_path)
    assert dpo.parent == warm.id
    assert restarts(tmp_path)
    assert written(tmp_path, "train-dpo", 2).parent == sft.id
    assert history.checkpoint("policy", "base").id == sft.parent
    assert history.rounds[1].checkpoints["policy"] == sft
    assert {s.model for s in sources(tmp_path, "rejected", "build-pairs")} == {warm.id}
    assert {s.model for s in sources(tmp_path, "chosen", "build-pairs")} == {warm.id, "gold"}
    assert {s.model for s in sources(tmp_path, "example")} == {dpo.id, "gold"}
    assert train_of("dpo_st", "train-dpo").loss == DPO(beta=0.1)
    ran(tmp_path / "on", "dpo_st", changed("train", start="latest"), rounds=1)
    assert not restarts(tmp_path / "on")
