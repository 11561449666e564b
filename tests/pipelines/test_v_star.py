"""V-STaR: the verifier learns from right and wrong solutions of all rounds, and chooses among the candidates."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from selftrain.lab import Scored
from selftrain.recipe import Recipe, Stage
from selftrain.records import Checkpoint, Outcome, Row, Sample, Verdict
from selftrain.stages import DPO, Evaluate, Pair, Train
from selftrain.store import Store
from selftrain.testing import FakeBackends, FakeSampler, adds, fake_run
from tests.pipelines.stored import made, read, samples, trained_on

SMALL: dict[str, Any] = {"rounds": 2, "samples": 6, "pairs": 9, "candidates": 5, "max_new_tokens": 40}


class Scoring(FakeSampler):
    """Finds some texts likelier than others; another model finds others likelier."""

    def score(self, sequences: Sequence[Scored]) -> list[tuple[float, ...]]:
        by = round(100 * self.skill)
        return [(-0.5 - sum(each.completion_ids) * by % 7,) * len(each.completion_ids) for each in sequences]


class Backends(FakeBackends):
    """Opens such samplers."""

    def sampler(self, checkpoint: Path) -> FakeSampler:
        return Scoring(checkpoint, self.answer)


def run(root: Path, recipe: Recipe | None = None) -> Path:
    fake_run(recipe or made("v_star", **SMALL), root, backends=Backends(adds, gain=0.15))
    return root


def all_samples(root: Path) -> dict[str, Sample]:
    return {**samples(root, "gold", "generate"), **samples(root, "gold", "generate", round=2)}


def from_all_rounds(root: Path) -> bool:
    """Whether the second round's pairs are right over wrong solutions of both rounds' policies."""
    sampled = all_samples(root)
    said = {v.sample: v.status for round in (1, 2) for v in read(root, Verdict, "verify", round)}
    rows = read(root, Row, "build-pairs", 2)
    right = {"chosen": "pass", "rejected": "fail"}
    assert all(said[row.sources[0]] == right[row.kind] for row in rows)
    rejected = {sampled[row.sources[0]].model for row in rows if row.kind == "rejected"}
    first, second = ({s.model for s in samples(root, "generate", round=round).values()} for round in (1, 2))
    return rejected == first | second and len(rejected) == 2


def chosen_by_verifier(root: Path) -> bool:
    """Whether each test problem came out as the candidate did that the verifier finds likeliest."""
    candidates = samples(root, "evaluate-sampled")
    said = {v.sample: v.status == "pass" for v in read(root, Verdict, "evaluate-verify")}
    scores = {v.sample: v.score or 0.0 for v in read(root, Verdict, "evaluate-rank")}
    assert len(set(scores.values())) > 3
    groups: dict[str, list[str]] = {}
    for sample in candidates.values():
        groups.setdefault(sample.problem, []).append(sample.id)
    outcomes = {o.problem: o.value for o in read(root, Outcome, "evaluate") if o.name == "accuracy"}
    assert set(outcomes) == set(groups)
    return all(outcomes[problem] == float(said[max(ids, key=lambda id: scores[id])]) for problem, ids in groups.items())


def test_the_verifier_learns_from_all_rounds_and_chooses(tmp_path: Path) -> None:
    run(tmp_path)
    assert from_all_rounds(tmp_path)
    assert chosen_by_verifier(tmp_path)


def forgetful(stage: Stage) -> Stage:
    return replace(stage, earlier=0) if isinstance(stage, Pair) else stage


def voting(stage: Stage) -> Stage:
    return replace(stage, combine="vote") if isinstance(stage, Evaluate) else stage


def test_that_test_finds_a_verifier_that_forgets_and_one_that_does_not_choose(tmp_path: Path) -> None:
    assert not from_all_rounds(run(tmp_path / "forgets", made("v_star", **SMALL).changed(forgetful)))
    assert not chosen_by_verifier(run(tmp_path / "votes", made("v_star", **SMALL).changed(voting)))


def test_the_verifier_is_another_model_begun_from_gold_each_round_and_the_generator_from_base(tmp_path: Path) -> None:
    run(tmp_path)
    base = {c.role: c.id for c in Store(tmp_path).stage(0, 1, "base").read(Checkpoint, 0)}
    for round in (1, 2):
        (start,), (verifier,), (policy,) = (
            read(tmp_path, Checkpoint, name, round) for name in ("train-start", "train-verifier", "train")
        )
        assert (start.role, start.parent) == ("verifier", base["verifier"])
        assert (verifier.role, verifier.parent) == ("verifier", start.id)
        assert (policy.role, policy.parent) == ("policy", base["policy"])
        assert trained_on(tmp_path, "build-gold", round) == set(samples(tmp_path, "gold", round=round))
    train = next(stage for stage in made("v_star").given() if stage.name == "train-verifier")
    assert isinstance(train, Train)
    assert train.loss == DPO(beta=0.1, reference="start")


@pytest.mark.parametrize("round", [1, 2])
def test_the_generator_learns_the_right_ones_alone(tmp_path: Path, round: int) -> None:
    run(tmp_path)
    said = {v.sample: v.status for n in (1, 2) for v in read(tmp_path, Verdict, "verify", n)}
    rows = trained_on(tmp_path, round=round)
    assert {said[id] for id in rows} == {"pass"}
    assert rows & set(samples(tmp_path, "generate")) if round == 1 else len(rows) > 12


def test_a_finished_run_goes_on_to_more_rounds(tmp_path: Path) -> None:
    run(tmp_path, made("v_star", **{**SMALL, "rounds": 1}))
    run(tmp_path)
    assert from_all_rounds(tmp_path)
