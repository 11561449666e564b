"""ScPO: the commonest answer over the rarest, weighted by the difference of their shares of the votes."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from selftrain.recipe import Recipe, Stage
from selftrain.records import Problem, Row, Verdict
from selftrain.stages import DPO, MakePairs, Pair, Train
from selftrain.testing import FakeBackends, adds, fake_run
from tests.pipelines.stored import made, problems, read, samples, unlabelled

SMALL: dict[str, Any] = {"rounds": 1, "samples": 6, "threshold": 0.4, "max_new_tokens": 40}


def pairs(root: Path) -> list[tuple[Row, Row]]:
    rows = read(root, Row, "build")
    sides = {(row.group, row.kind): row for row in rows}
    return [(sides[group, "chosen"], sides[group, "rejected"]) for group in dict.fromkeys(row.group for row in rows)]


def weighed_by_votes(root: Path, *stages: str) -> bool:
    """Whether each pair is the commonest answer over the rarest one, and its weight the difference of their shares."""
    sampled = samples(root, *(stages or ("generate",)))
    answers = {v.sample: v.answer for v in read(root, Verdict, "verify")}
    votes: dict[str, list[str | None]] = {}
    for sample in sampled.values():
        votes.setdefault(sample.problem, []).append(answers[sample.id])
    for chosen, rejected in pairs(root):
        given = votes[sampled[chosen.sources[0]].problem]
        shares = {answer: count / len(given) for answer, count in Counter(given).items()}
        high, low = (shares[answers[row.sources[0]]] for row in (chosen, rejected))
        if (high, low) != (max(shares.values()), min(shares.values())) or high < SMALL["threshold"]:
            return False
        if chosen.weight != pytest.approx(high - low) or chosen.weight != rejected.weight:
            return False
    return bool(pairs(root))


def run(root: Path, recipe: Recipe | None = None) -> Path:
    fake_run(recipe or made("scpo", **SMALL), root)
    return root


def test_a_pairs_weight_is_the_margin_of_its_votes(tmp_path: Path) -> None:
    assert weighed_by_votes(run(tmp_path))
    assert len({row.weight for row in read(tmp_path, Row, "build")}) > 1
    assert len(pairs(tmp_path)) < 12


def evenly(stage: Stage) -> Stage:
    return replace(stage, weighted=False) if isinstance(stage, MakePairs) else stage


def by_chance(stage: Stage) -> Stage:
    return replace(stage, pairing=replace(stage.pairing, floor=0.0)) if isinstance(stage, Pair) else stage  # type: ignore[type-var]


@pytest.mark.parametrize("change", [evenly, by_chance])
def test_that_test_finds_weights_of_one_and_a_threshold_left_out(tmp_path: Path, change: Any) -> None:
    assert not weighed_by_votes(run(tmp_path, made("scpo", **SMALL).changed(change)))


def test_the_loss_is_dpo_with_nll_against_the_model_before_and_the_threshold_rises(tmp_path: Path) -> None:
    history = fake_run(made("scpo", **SMALL, later_threshold=0.9), tmp_path)
    recipe = made("scpo", **SMALL, later_threshold=0.9)
    stages = {stage.name: stage for stage in recipe.stages(history)}
    train, pair = stages["train"], stages["pair"]
    assert isinstance(train, Train)
    assert isinstance(pair, Pair)
    assert (train.start, train.loss) == ("latest", DPO(beta=0.5, nll=1.0, reference="start"))
    assert pair.words()["pairs"].startswith("ByScore('vote', floor=0.9)")


def writes(text: str, skill: float, draw: Random) -> str:
    """Adds, and writes sums where asked for problems."""
    if text.rstrip().endswith("Write another problem like these."):
        return f"{draw.randrange(90)}+{draw.randrange(90)}="
    return adds(text, skill, draw)


def test_written_problems_are_voted_on_and_paired_too(tmp_path: Path) -> None:
    recipe = made("scpo", **SMALL, written=1)
    fake_run(recipe, tmp_path, backends=FakeBackends(writes))
    assert weighed_by_votes(tmp_path, "generate", "generate-written")
    new = {p.id: p for p in read(tmp_path, Problem, "written")}
    assert new
    assert not {p.text for p in new.values()} & {p.text for p in problems(tmp_path).values() if p.split == "train"}
    sampled = samples(tmp_path, "generate", "generate-written")
    asked = {sampled[row.sources[0]].problem for row in read(tmp_path, Row, "build")}
    assert asked & set(new)
    assert asked - set(new)


def test_gold_answers_change_nothing(tmp_path: Path) -> None:
    assert made("scpo").labels == "none"
    assert made("scpo", gate=True).labels == "gold"
    assert unlabelled("scpo", tmp_path, **{**SMALL, "rounds": 2})
