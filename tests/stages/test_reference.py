"""Reference: rows with the log-probability of what is trained, pairs whole. And the settings of losses."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from selftrain.errors import RecipeError
from selftrain.records import Quarantined, Row, Segment
from selftrain.stages import ASFT, DPO, KTO, ORPO, SPIN, PoFT, Reference, SimPO, Train
from selftrain.testing import FakeBackends, FakeSampler, sums
from tests.stages.bench import BASE, Bench

TRAIN = sums(2)


def rows(count: int, group: str = "") -> list[Row]:
    segments = (
        Segment(ids=(1, 2), train=False),
        Segment(ids=(3, 4, 5), train=True),
        Segment(ids=(6,), train=False),
        Segment(ids=(7,), train=True),
    )
    return [Row(id=f"row{group}{n}", kind="chosen", segments=segments, group=group) for n in range(count)]


def test_it_writes_each_row_again_with_its_trained_tokens_log_probability(tmp_path: Path) -> None:
    made = rows(2)
    made[1] = replace(made[1], reference={"other": -1.5})
    found = Bench(tmp_path, TRAIN).run(Reference(which="previous"), {"build": made})
    # The fake gives every token -1: four are trained, the one between them and the prompt only condition.
    assert found[0] == replace(made[0], reference={"previous": -4.0})
    assert found[1] == replace(made[1], reference={"other": -1.5, "previous": -4.0})


def test_under_another_models_name_beside_what_is_there(tmp_path: Path) -> None:
    made = replace(rows(1)[0], reference={"base": -1.5})
    found = Bench(tmp_path, TRAIN).run(Reference(key="aligned", trained="policy"), {"build": [made]})
    assert found == [replace(made, reference={"base": -1.5, "aligned": -4.0})]


def test_rows_of_another_tokenizer_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeBackends, "tokens", lambda self, checkpoint: SimpleNamespace(id=checkpoint.name))
    bench = Bench(tmp_path, TRAIN)
    student = replace(BASE, role="student", path="elsewhere/student")
    bench.rounds = [replace(bench.rounds[0], checkpoints={"policy": BASE, "student": student})]
    with pytest.raises(RecipeError, match="in student's tokens, and policy has another tokenizer"):
        bench.run(Reference(key="aligned", trained="student"), {"build": rows(1)})


def test_a_train_asks_for_the_reference_of_its_loss() -> None:
    train = Train(of=("build",), loss=PoFT())
    with pytest.raises(RecipeError, match=r"put Reference\(key='aligned'\) before it"):
        train.fits((Reference(name="build"),))
    train.fits((Reference(name="build", key="aligned"),))
    with pytest.raises(RecipeError, match=r"put Reference\(which='base'\) before it"):
        Train(of=("build",), loss=DPO(reference="base")).fits((Reference(name="build", key="aligned"),))


def test_a_pair_that_does_not_fit_is_left_out_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeSampler, "context", 10)
    short, long = rows(2, "a"), rows(2, "b")
    long[0] = replace(long[0], segments=(*long[0].segments, Segment(ids=(8,) * 5, train=True)))
    found = Bench(tmp_path, TRAIN).run(Reference(), {"build": [*short, *long]})
    assert [each.id for each in found if isinstance(each, Row)] == [each.id for each in short]
    assert [type(each) for each in found[2:]] == [Quarantined] * 2
    assert "row rowb0: the row or its partner has 12 tokens, the context 10" in found[2].why


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (DPO, {"beta": 0}, "dpo: beta is 0"),
        (DPO, {"label_smoothing": 0.5}, "label_smoothing is 0.5"),
        (DPO, {"nll": -1}, "nll is -1"),
        (DPO, {"reference": "best"}, "it can be start, base or previous"),
        (SPIN, {"beta": -1}, "spin: beta is -1"),
        (ORPO, {"beta": 0}, "orpo: beta is 0"),
        (SimPO, {"beta": 0}, "simpo: beta is 0"),
        (ASFT, {"beta": 0}, "asft: beta is 0"),
        (PoFT, {"beta": 0}, "poft: beta is 0"),
        (PoFT, {"reference": "start"}, "name what a Reference stores"),
        (KTO, {"reference": "base"}, "only start"),
        (Reference, {"which": "start"}, "it can be base or previous"),
    ],
)
def test_settings_without_sense_are_refused(make: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make(**settings)
