"""ASFT: right over wrong without a reference. PoFT: rows that know what another model thinks of them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from selftrain.lab import Scored
from selftrain.recipe import Recipe, Stage
from selftrain.records import Checkpoint, Row, Verdict
from selftrain.stages import ASFT, DPO, PoFT, Reference, Train
from selftrain.testing import FakeBackends, FakeSampler, adds, fake_run
from tests.pipelines.stored import made, read, samples, trained_on

SMALL: dict[str, Any] = {"rounds": 1, "samples": 6, "max_new_tokens": 40}


class Scoring(FakeSampler):
    """Finds every token as likely as it is skilled: two models differ."""

    def score(self, sequences: Sequence[Scored]) -> list[tuple[float, ...]]:
        return [(-1.0 - self.skill,) * len(each.completion_ids) for each in sequences]


class Backends(FakeBackends):
    """Opens such samplers."""

    def sampler(self, checkpoint: Path) -> FakeSampler:
        return Scoring(checkpoint, self.answer)


def run(root: Path, recipe: Recipe) -> Path:
    fake_run(recipe, root, backends=Backends(adds, gain=0.25))
    return root


def trains(recipe: Recipe) -> Train:
    train = next(stage for stage in recipe.given() if stage.name == "train")
    assert isinstance(train, Train)
    return train


def right_over_wrong_alone(root: Path, recipe: Recipe) -> bool:
    """Whether pairs are right over wrong, nothing refers to another model, and the loss takes each side by itself."""
    said = {v.sample: v.status for v in read(root, Verdict, "verify")}
    rows = read(root, Row, "build")
    sides = {(row.kind, said[row.sources[0]]) for row in rows}
    loss = trains(recipe).loss
    return (
        sides == {("chosen", "pass"), ("rejected", "fail")}
        and not any(row.reference for row in rows)
        and isinstance(loss, ASFT)
        and not hasattr(loss, "reference")
    )


def against_base(stage: Stage) -> Stage:
    return replace(stage, loss=DPO()) if isinstance(stage, Train) else stage


def test_asft_takes_right_and_wrong_without_a_reference(tmp_path: Path) -> None:
    recipe = made("asft", **SMALL)
    assert right_over_wrong_alone(run(tmp_path / "a", recipe), recipe)
    assert recipe.labels == "gold"
    sabotaged = recipe.changed(against_base)
    assert not right_over_wrong_alone(run(tmp_path / "b", sabotaged), sabotaged)


def knows_the_other_model(root: Path, skill: float = 0.55) -> bool:
    """Whether each row carries the log-probability of its response under the aligned model, of that skill."""
    rows = read(root, Row, "reference")
    assert rows
    lengths = [sum(len(part.ids) for part in row.segments if part.train) for row in rows]
    wanted = [round(-(1 + skill) * length, 6) for length in lengths]
    return [round(row.reference["aligned"], 6) for row in rows] == wanted


def by_itself(stage: Stage) -> Stage:
    return replace(stage, model="policy", trained="") if isinstance(stage, Reference) else stage


def test_poft_compares_with_the_aligned_model_not_with_itself(tmp_path: Path) -> None:
    recipe = made("poft", keep=9, **SMALL)
    root = run(tmp_path / "a", recipe)
    assert knows_the_other_model(root)
    said = {v.sample: v.status for v in read(root, Verdict, "verify")}
    assert {said[id] for id in trained_on(root, "reference")} == {"pass"}
    assert trained_on(root, "reference") & set(samples(root, "gold"))
    assert trained_on(root, "reference") & set(samples(root, "generate"))
    assert (trains(recipe).of, trains(recipe).loss) == (("reference",), PoFT(beta=1.0, reference="aligned"))
    assert not knows_the_other_model(run(tmp_path / "b", recipe.changed(by_itself)))


def test_the_aligned_model_is_fine_tuned_on_gold_first_unless_it_is_aligned_already(tmp_path: Path) -> None:
    root = run(tmp_path / "a", made("poft", **SMALL))
    (aligned,) = read(root, Checkpoint, "align", 0)
    assert aligned.role == "aligned"
    given = run(tmp_path / "b", made("poft", align=False, **SMALL))
    assert knows_the_other_model(given, 0.3)
