"""FindThreshold: a quantile of all scores, over all shards and of one verifier."""

from pathlib import Path
from random import Random

import pytest

from selftrain.errors import RecipeError
from selftrain.recipe import FromData, Recipe
from selftrain.records import Pick, Verdict
from selftrain.rules import AtLeast
from selftrain.stages import Evaluate, FindThreshold, Generate, Select, Verify
from selftrain.testing import FakeBackends, adds, fake_run
from tests.pipelines.stored import read, settings


def wordy(prompt: str, skill: float, stream: Random) -> str:
    return "so " * stream.randrange(9) + adds(prompt, skill, stream)


def found(root: Path, share: float, by: str = "") -> float:
    stages = [
        Generate(n=4, max_new_tokens=60),
        Verify(by="mbr", blind=True),
        Verify(name="votes", by="vote", blind=True),
        FindThreshold(name="find", share=share, by=by, sets="line"),
        Select(of=("generate", "verify"), rules=(AtLeast(FromData("line"), "mbr"),)),
        Evaluate(max_new_tokens=60),
    ]
    fake_run(Recipe(paper="none", rounds=1, each_round=stages), root, backends=FakeBackends(wordy))
    return float(settings(root, "find")["line"])


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_so_many_lie_below_and_the_rest_reaches_it(tmp_path: Path, share: float) -> None:
    line = found(tmp_path, share, "mbr")
    scores = [v.score or 0.0 for v in read(tmp_path, Verdict, "verify")]
    assert len(scores) == 48
    assert sum(score < line for score in scores) == pytest.approx(share * 48, abs=4)
    kept = [p for p in read(tmp_path, Pick, "select") if p.side == "kept"]
    assert len(kept) == sum(score >= line for score in scores)
    assert {p.rule for p in kept} == {f"AtLeast({line!r}, by='mbr')"}


def test_without_a_name_every_score_counts_and_without_a_score_the_line_is_zero(tmp_path: Path) -> None:
    line = found(tmp_path / "all", 0.99)
    said = [*read(tmp_path / "all", Verdict, "verify"), *read(tmp_path / "all", Verdict, "votes")]
    assert line == max(v.score or 0.0 for v in said)
    assert found(tmp_path / "none", 0.5, "reward_model") == 0.0


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_that_leaves_nothing_is_refused(share: float) -> None:
    with pytest.raises(RecipeError, match="share is"):
        FindThreshold(share=share)
