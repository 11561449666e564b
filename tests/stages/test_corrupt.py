"""Corrupt: wrong copies that know what they are copies of."""

from pathlib import Path

import pytest

from selftrain.corruptions import NumberSwap, StepDrop
from selftrain.errors import RecipeError
from selftrain.pairings import OverChanged
from selftrain.records import Pick, Sample, Verdict
from selftrain.rules import passed
from selftrain.stages import Corrupt, Pair
from selftrain.testing import sums
from tests.stages.bench import Bench, sample, verdict

TRAIN = sums(3, first=30)
STEPS = "1+2=3\n3+4=7\n#### 7"


def test_copies_differ_from_the_sample_and_from_each_other_and_name_it(tmp_path: Path) -> None:
    first = sample(TRAIN[0], text=STEPS)
    found = Bench(tmp_path, TRAIN).run(Corrupt(how=NumberSwap(), n=4), {"generate": [first]})
    texts = [s.text for s in found]
    assert 2 <= len(found) <= 4
    assert len({*texts, STEPS}) == len(found) + 1
    for each in found:
        assert (each.problem, each.parents, each.model, each.template) == (
            first.problem,
            (first.id,),
            "base",
            "corrupt",
        )
        assert each.completion_ids == ()
    again = Bench(tmp_path / "again", TRAIN).run(Corrupt(how=NumberSwap(), n=4), {"generate": [first]})
    assert found == again


def test_equal_copies_are_one_and_nothing_to_change_is_none(tmp_path: Path) -> None:
    tried = [sample(TRAIN[0], 0, "only\nthis"), sample(TRAIN[1], 0, "a line")]
    found = Bench(tmp_path, TRAIN).run(Corrupt(how=StepDrop(), n=5), {"generate": tried})
    assert [(s.problem, s.text) for s in found] == [(TRAIN[0].id, "this")]


def test_rules_say_which_samples(tmp_path: Path) -> None:
    tried = [sample(p, 0, STEPS) for p in TRAIN]
    said = [verdict(s, status) for s, status in zip(tried, ("pass", "fail", "error"), strict=True)]
    stage = Corrupt(rules=(passed,))
    assert stage.reads == (Sample, Verdict)
    assert Corrupt().reads == (Sample,)
    found = Bench(tmp_path, TRAIN).run(stage, {"generate": tried, "verify": said})
    assert {s.problem for s in found} == {TRAIN[0].id}


def test_what_was_cut_off_or_hinted_is_so_in_its_copy_and_gold_is_gold_no_more(tmp_path: Path) -> None:
    tried = [
        sample(TRAIN[0], 0, STEPS, finish="length"),
        sample(TRAIN[1], 0, STEPS, template="hint"),
        sample(TRAIN[2], 0, STEPS, finish="gold", model="gold", template="gold"),
    ]
    found = Bench(tmp_path, TRAIN).run(Corrupt(), {"generate": tried})
    assert [s.finish for s in found] == ["length", "stop", "stop"]
    assert [s.template for s in found] == ["corrupt", "hint", "corrupt"]


def test_a_copy_is_rejected_for_what_it_was_made_from(tmp_path: Path) -> None:
    tried = [sample(p, 0, STEPS) for p in TRAIN]
    copies = Bench(tmp_path / "a", TRAIN).run(Corrupt(), {"generate": tried})
    picks = Bench(tmp_path / "b", TRAIN).run(Pair(pairing=OverChanged()), {"generate": tried, "corrupt": copies})
    sides = {(pick.sample, pick.side) for pick in picks if type(pick) is Pick}
    assert sides == {(s.id, "chosen") for s in tried} | {(s.id, "rejected") for s in copies}


def test_no_copies_at_all_are_refused() -> None:
    with pytest.raises(RecipeError, match="at least 1 copy"):
        Corrupt(n=0)
