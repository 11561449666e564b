"""Verify: who is judged, by whom, and what a judge may see."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from selftrain.records import Problem
from selftrain.round import Part
from selftrain.stages import Verify
from selftrain.testing import sums
from tests.stages.bench import Bench, sample, verdict

TRAIN = sums(3)


def test_each_sample_is_judged_by_its_problems_own_verifier_in_order(tmp_path: Path) -> None:
    samples = [sample(p, i, text) for p in TRAIN for i, text in enumerate((f"it is {p.answer}", "it is 999"))]
    found = Bench(tmp_path, TRAIN).run(Verify(), {"generate": samples})
    assert [v.sample for v in found] == [s.id for s in samples]
    assert [v.status for v in found] == ["pass", "fail"] * 3
    assert {v.by for v in found} == {"number"}
    assert [v.answer for v in found if v.status == "pass"] == [p.answer for p in TRAIN]


def test_another_verifier_may_be_named(tmp_path: Path) -> None:
    samples = [sample(p, 0, str(p.answer)) for p in TRAIN]
    assert {v.by for v in Bench(tmp_path, TRAIN).run(Verify(by="exact"), {"generate": samples})} == {"exact"}


def test_what_the_same_verifier_has_judged_is_left_alone(tmp_path: Path) -> None:
    samples = [sample(p, 0, f"it is {p.answer}") for p in TRAIN]
    before: dict[str, Sequence[Any]] = {
        "generate": samples,
        "verify": [verdict(samples[0], "fail"), verdict(samples[1], "pass", by="exact")],
    }
    found = Bench(tmp_path, TRAIN).run(Verify(name="second", of=("generate",)), before)
    assert [v.sample for v in found] == [samples[1].id, samples[2].id]


def test_one_that_asks_a_model_judges_anew(tmp_path: Path) -> None:
    samples = [sample(TRAIN[0], 0, f"it is {TRAIN[0].answer}")]
    stage = Verify(name="second", of=("generate",), model="policy")
    found = Bench(tmp_path, TRAIN).run(stage, {"generate": samples, "verify": [verdict(samples[0], "fail")]})
    assert [(v.sample, v.status) for v in found] == [(samples[0].id, "pass")]


def test_a_blind_verifier_sees_no_gold_answer(tmp_path: Path) -> None:
    samples = [sample(p, 0, f"it is {p.answer}") for p in TRAIN]
    verifier = tmp_path / "peeks.py"
    verifier.write_text(
        "def verify(*, problem, response):\n    return any((problem.answer, problem.solution, problem.tests))\n"
    )
    seen = {}
    for blind in (False, True):
        stage = Verify(by=str(verifier), blind=blind)
        found = Bench(tmp_path / str(blind), TRAIN).run(stage, {"generate": samples})
        seen[blind] = {v.status for v in found}
        assert stage.gold is not blind
    # The same verifier does see the answer where the stage lets it, so the test could fail.
    assert seen == {False: {"pass"}, True: {"fail"}}


def test_gold_that_is_not_taken_away_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verifier = tmp_path / "peeks.py"
    verifier.write_text("def verify(*, problem, response):\n    return problem.answer is not None\n")
    samples = [sample(p) for p in TRAIN]
    stage = Verify(by=str(verifier), blind=True)
    sound = Bench(tmp_path / "sound", TRAIN).run(stage, {"generate": samples})
    monkeypatch.setattr(Part, "_visible", lambda self, problems: problems)
    sabotaged = Bench(tmp_path / "sabotaged", TRAIN).run(stage, {"generate": samples})
    assert ({v.status for v in sound}, {v.status for v in sabotaged}) == ({"fail"}, {"pass"})


def test_a_problem_without_a_readable_answer_is_an_error_not_a_fail(tmp_path: Path) -> None:
    odd: Problem = replace(TRAIN[0], answer="many")
    (found,) = Bench(tmp_path, [odd]).run(Verify(), {"generate": [sample(odd)]})
    assert found.status == "error"
    assert "many" in found.why
