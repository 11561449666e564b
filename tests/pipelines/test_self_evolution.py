"""SELF: meta-skill rows are in every round, and what else is learned has passed the model's own feedback."""

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from selftrain.recipe import Stage
from selftrain.records import Pick, Verdict
from selftrain.store import Store
from selftrain.testing import FakeBackends, adds, fake_run
from tests.pipelines.stored import made, read, samples, trained_on

SMALL: dict[str, Any] = {"samples": 2, "tries": 2, "max_new_tokens": 60}
META = ("select-feedback", "select-revised")


def answer(text: str, skill: float, draw: Random) -> str:
    """Says yes and no at random; revisions are mostly right."""
    if text.rstrip().endswith("Answer yes or no."):
        return draw.choice(["yes", "no", "perhaps"])
    return adds(text, 0.8 if "Try again." in text else skill, draw)


def meta(root: Path) -> set[str]:
    return {p.sample for name in META for p in read(root, Pick, name, 0) if p.side == "kept"}


def let_pass_by_itself(root: Path, round: int = 1) -> bool:
    """Whether of each row that is no meta-skill row the model has said yes."""
    said = {s.parents[0]: s.text for s in samples(root, "feedback", "feedback-revised", round=round).values()}
    adopted = samples(root, "adopt", round=round)
    rest = trained_on(root, round=round) - meta(root)
    assert rest & set(adopted)
    assert rest - set(adopted)
    return {said[adopted[id].parents[0] if id in adopted else id] for id in rest} == {"yes"}


def test_rows_are_what_the_model_let_pass_and_the_meta_skills(tmp_path: Path) -> None:
    fake_run(made("self_evolution", rounds=2, **SMALL), tmp_path, backends=FakeBackends(answer))
    assert meta(tmp_path)
    for round in (1, 2):
        assert let_pass_by_itself(tmp_path, round)
        assert meta(tmp_path) < trained_on(tmp_path, round=round)
        # Only what the model faulted is refined, and no verifier is asked before the evaluation.
        faulted = {v.sample for v in read(tmp_path, Verdict, "heed", round) if v.status == "fail"}
        assert {s.parents[0] for s in samples(tmp_path, "revise", round=round).values()} == faulted
        assert [name for name in Store(tmp_path).stages(round) if "verify" in name] == ["evaluate-verify"]


def test_a_round_that_does_not_filter_is_seen(tmp_path: Path) -> None:
    def unfiltered(stage: Stage) -> Stage:
        return replace(stage, rules=()) if stage.name in ("adopt", "select") else stage  # type: ignore[call-arg]

    fake_run(made("self_evolution", rounds=1, **SMALL).changed(unfiltered), tmp_path, backends=FakeBackends(answer))
    assert not let_pass_by_itself(tmp_path)


def test_meta_skill_rows_are_confirmed_by_the_verifier(tmp_path: Path) -> None:
    fake_run(made("self_evolution", rounds=1, **SMALL), tmp_path, backends=FakeBackends(answer))
    stages = ("verify-feedback", "verify-revised")
    said = {v.sample: v.status for name in stages for v in read(tmp_path, Verdict, name, 0)}
    assert {said[id] for id in meta(tmp_path)} == {"pass"}
    assert trained_on(tmp_path, "build-meta", 0) == meta(tmp_path)
