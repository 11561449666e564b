"""`selftrain eval`: the run's protocol on any model, alone and against another."""

import json
from pathlib import Path

import pytest

from selftrain.errors import ConfigError, ModelError
from selftrain.loop import measure
from tests.front_door import call

SIZE = ("test=24", "valid=8", "max_new_tokens=48")


def test_a_model_against_itself_gains_nothing() -> None:
    found = measure.evaluate("nano", {"test": 24, "valid": 0, "max_new_tokens": 48}, data="sums", against="nano")
    assert found.gain is not None
    assert (found.gain.value, found.gain.low, found.gain.high, found.gain.n) == (0.0, 0.0, 0.0, 24)
    accuracy = {m.name: m.value for m in found.metrics}["accuracy"]
    assert 0.0 < accuracy < 1.0
    assert "paired over 24 problems" in found.lines()[-1]


@pytest.mark.slow
def test_it_takes_the_protocol_of_a_run(tmp_path: Path) -> None:
    out = tmp_path / "run"
    code, _, error = call("run", "random_select", "--model", "nano", "--data", "sums", "--out", str(out), "pool=8",
                            "rounds=1", "samples=2", "keep=1", *SIZE)  # fmt: skip
    assert code in (0, 3), error
    stored = json.loads((out / "metrics.jsonl").read_text().splitlines()[0])
    code, printed, error = call("eval", "nano", "--like", str(out), "--split", "valid", "--json")
    assert code == 0, error
    assert json.loads(printed)["metrics"]["accuracy"]["value"] == stored["value"]
    assert stored["split"] == "valid"
    # Other problems by the same protocol: as many, asked alike.
    others = ("eval", "nano", "--data", "inference", "--split", "valid", "--json")
    like, alone = call(*others, "--like", str(out)), call(*others, "pool=8", *SIZE)
    assert (like.code, alone.code) == (0, 0), (like, alone)
    assert json.loads(like.out)["metrics"] == json.loads(alone.out)["metrics"] != json.loads(printed)["metrics"]


@pytest.mark.parametrize(("model", "split", "error"), [("nanoo", "test", ModelError), ("nano", "train", ConfigError)])
def test_wrong_input(model: str, split: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        measure.evaluate(model, {"test": 4}, data="sums", split=split)
