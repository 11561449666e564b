"""B-STaR: the balance score, and that a round samples and selects by what it found."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from selftrain import plugins
from selftrain.lab import Completion, Request
from selftrain.recipe import Recipe
from selftrain.records import Metric, Pick, Setting, Verdict
from selftrain.round import Attempt
from selftrain.rules import AtLeast, distinct
from selftrain.stages import Generate, Select
from selftrain.testing import FakeBackends, FakeSampler, adds, fake_run, sums
from tests.pipelines.stored import kept, made, read, samples, with_stage, without
from tests.stages.bench import sample, verdict

SMALL: dict[str, Any] = {"rounds": 1, "samples": 4, "share": 0.6, "temperatures": (0.5, 1.0), "max_new_tokens": 40}


def attempts(right: int, wrong: int) -> list[Attempt]:
    problem = sums(1)[0]
    found = []
    for at in range(right + wrong):
        one = sample(problem, at, f"text {at}")
        said = (verdict(one, "pass" if at < right else "fail"), verdict(one, "scored", by="r", score=1.0))
        found.append(Attempt(problem, one, said))
    return found


@pytest.mark.parametrize(("right", "wrong", "score"), [(4, 0, 0.5), (4, 4, 0.25), (8, 0, 1), (16, 16, 0.5), (0, 3, 0)])
def test_the_balance_score_is_quantity_times_quality(right: int, wrong: int, score: float) -> None:
    balance = plugins.load("recipe", "b_star").Balance(by="r", thresholds=(0.0,), wanted=8, rules=(distinct,))
    assert balance._score(attempts(right, wrong), 0.0) == pytest.approx(score)
    assert balance._score(attempts(right, wrong), 1.1) == 0


def test_equal_texts_count_once() -> None:
    balance = plugins.load("recipe", "b_star").Balance(by="r", thresholds=(0.0,), wanted=2, rules=(distinct,))
    twice = [
        Attempt(each.problem, sample(each.problem, at, "same"), each.verdicts) for at, each in enumerate(attempts(2, 0))
    ]
    assert balance._score(twice, 0.0) == pytest.approx(0.5)


class ByTemperature(FakeSampler):
    """Is right at one temperature only, there mostly, and says it in many ways."""

    def sample(self, requests: Sequence[Request], *, seed: int) -> Iterator[Completion]:
        for request in requests:
            self.skill = 0.7 if request.sampling.temperature == 1.0 else 0.0
            yield from super().sample([request], seed=seed)


def wordy(prompt: str, skill: float, stream: Random) -> str:
    return f"{stream.randrange(99)}, {adds(prompt, skill, stream)}"


class Backends(FakeBackends):
    """Opens such samplers."""

    def sampler(self, checkpoint: Path) -> FakeSampler:
        return ByTemperature(checkpoint, self.answer)


def goes_by_its_subset(root: Path, recipe: Recipe) -> bool:
    """Whether a round is sampled at the temperature and selected by the threshold that its subset says."""
    fake_run(recipe, root, backends=Backends(wordy))
    found = {s.name: s.value["value"] for s in read(root, Setting, "balance")}
    sampled = samples(root, "generate")
    rewards = {v.sample: v.score or 0.0 for v in read(root, Verdict, "reward")}
    assert min(rewards.values()) < found["threshold"]
    assert {p.sample for p in read(root, Pick, "select")} == set(sampled)
    temperatures = {s.settings["temperature"] for s in sampled.values()}
    chosen = [rewards[id] for id in kept(root)]
    return temperatures == {found["temperature"]} and bool(chosen) and min(chosen) >= found["threshold"]


def test_a_round_is_sampled_and_selected_by_what_its_subset_says(tmp_path: Path) -> None:
    assert goes_by_its_subset(tmp_path, made("b_star", **SMALL))
    found = {s.name: s.value["value"] for s in read(tmp_path, Setting, "balance")}
    assert found["temperature"] == 1.0
    assert found["threshold"] > 0
    scores = {m.name: m.value for m in read(tmp_path, Metric, "balance")}
    assert scores["balance/T=1"] > scores["balance/T=0.5"] == 0


def test_settings_that_are_not_from_the_data_are_found(tmp_path: Path) -> None:
    recipe = made("b_star", **SMALL)
    assert not goes_by_its_subset(tmp_path / "a", with_stage(recipe, Generate, "generate", temperature=0.5))
    assert not goes_by_its_subset(tmp_path / "b", without(recipe, "AtLeast"))
    (rules,) = [stage.rules for stage in recipe.given() if isinstance(stage, Select)]
    lax = tuple(replace(rule, score=0.0) if isinstance(rule, AtLeast) else rule for rule in rules)
    assert not goes_by_its_subset(tmp_path / "c", with_stage(recipe, Select, rules=lax))


def test_only_the_share_is_tried_and_the_same_at_each_temperature(tmp_path: Path) -> None:
    fake_run(made("b_star", **SMALL), tmp_path)
    tried = [{s.problem for s in samples(tmp_path, f"try-{at}").values()} for at in (0, 1)]
    assert tried[0] == tried[1]
    assert 0 < len(tried[0]) < 12


def test_a_share_without_a_problem_samples_plainly_and_selects_strictly(tmp_path: Path) -> None:
    fake_run(made("b_star", **{**SMALL, "share": 0.0}), tmp_path)
    assert {s.name: s.value["value"] for s in read(tmp_path, Setting, "balance")} == {
        "temperature": 1.0,
        "threshold": 1.0,
    }
    assert {s.settings["temperature"] for s in samples(tmp_path, "generate").values()} == {1.0}


def test_a_resumed_run_reads_the_same_settings(tmp_path: Path) -> None:
    fake_run(made("b_star", **SMALL), tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*.parquet")}
    fake_run(made("b_star", **SMALL), tmp_path)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*.parquet")} == before
