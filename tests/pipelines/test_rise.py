"""RISE: a right solution over its copy with one error, and over sampled wrong ones."""

import re
from collections import defaultdict
from dataclasses import replace
from difflib import SequenceMatcher
from pathlib import Path
from random import Random
from typing import Any

import pytest

from selftrain.pairings import RightWrong
from selftrain.recipe import Stage
from selftrain.records import Pick, Row, Verdict
from selftrain.stages import DPO, Train
from selftrain.testing import FakeBackends, adds, fake_run
from tests.pipelines.stored import made, read, samples

SMALL: dict[str, Any] = {"rounds": 1, "samples": 6, "max_new_tokens": 60}


def in_steps(text: str, skill: float, draw: Random) -> str:
    """Sums in three lines, never twice in the same words."""
    said = adds(text, skill, draw)
    total = said.rpartition(" ")[2]
    return f"way {'xyz'[draw.randrange(3)]}, try {draw.randrange(999)}:\n{said}\nis {total}"


def pairs(root: Path, stage: str) -> list[tuple[str, str]]:
    """The texts of what a stage has paired, chosen first."""
    texts = {id: s.text for id, s in samples(root, "generate", "corrupt").items()}
    sides: dict[str, dict[str, str]] = defaultdict(dict)
    for pick in read(root, Pick, stage):
        if pick.group:
            sides[pick.group][pick.side] = texts[pick.sample]
    return [(both["chosen"], both["rejected"]) for both in sides.values()]


def one_error(chosen: str, rejected: str) -> bool:
    """Whether two texts differ in one place: a number or operator is another one, or a line is not there."""
    if (lines := chosen.splitlines()) and rejected.splitlines() in [lines[:i] + lines[i + 1 :] for i in range(3)]:
        return True
    one, other = (re.findall(r"\d+|\D", text) for text in (chosen, rejected))
    changes = [each for each in SequenceMatcher(None, one, other, autojunk=False).get_opcodes() if each[0] != "equal"]
    return [each[0] for each in changes] == ["replace"] and changes[0][2] - changes[0][1] == 1


def test_an_edited_pair_differs_in_the_injected_error_alone(tmp_path: Path) -> None:
    fake_run(made("rise", edits=2, **SMALL), tmp_path, backends=FakeBackends(in_steps))
    edited = pairs(tmp_path, "pair-edited")
    assert edited
    assert all(one_error(*pair) for pair in edited)
    said = {v.sample: v.status for v in read(tmp_path, Verdict, "verify")}
    copies = samples(tmp_path, "corrupt")
    assert {said[s.parents[0]] for s in copies.values()} == {"pass"}

    # Pairs of two samples are no such pairs: a recipe that makes these in their place is seen.
    def sabotaged(stage: Stage) -> Stage:
        if stage.name != "pair-edited":
            return stage
        return replace(stage, of=("generate", "verify"), pairing=RightWrong())  # type: ignore[call-arg]

    fake_run(made("rise", **SMALL).changed(sabotaged), tmp_path / "other", backends=FakeBackends(in_steps))
    assert not any(one_error(*pair) for pair in pairs(tmp_path / "other", "pair-edited"))


def test_both_kinds_are_trained_on_together_with_an_nll(tmp_path: Path) -> None:
    recipe = made("rise", nll=0.2, **SMALL)
    fake_run(recipe, tmp_path, backends=FakeBackends(in_steps))
    said = {v.sample: v.status for v in read(tmp_path, Verdict, "verify")}
    rows = read(tmp_path, Row, "build")
    rejected = {row.sources[0] for row in rows if row.kind == "rejected"}
    assert {said.get(id, "edited") for id in rejected} == {"edited", "fail"}
    assert {said[row.sources[0]] for row in rows if row.kind == "chosen"} == {"pass"}
    (train,) = [stage for stage in recipe.given() if isinstance(stage, Train)]
    assert train.loss == DPO(beta=0.1, nll=0.2, reference="start")


@pytest.mark.parametrize(("off", "kind"), [("pairs", "edited"), ("edited", "fail")])
def test_one_kind_alone(tmp_path: Path, off: str, kind: str) -> None:
    fake_run(made("rise", **{off: 0}, **SMALL), tmp_path, backends=FakeBackends(in_steps))
    said = {v.sample: v.status for v in read(tmp_path, Verdict, "verify")}
    rows = read(tmp_path, Row, "build")
    assert {said.get(row.sources[0], "edited") for row in rows if row.kind == "rejected"} == {kind}
