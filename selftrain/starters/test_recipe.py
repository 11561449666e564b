"""Tests of NAME.py; run them with `pytest`."""

from pathlib import Path

from selftrain.loop import config, launch

RECIPE = str(Path(__file__).with_name("NAME.py"))
SMALL = {"model": "nano", "data": "sums", "pool": 16, "valid": 8, "test": 8, "max_new_tokens": 48}


def test_it_can_be_planned(tmp_path: Path) -> None:
    """What `selftrain run NAME.py --model nano --data sums --dry-run` checks."""
    prepared = launch.prepare(config.load(RECIPE, {**SMALL, "out": str(tmp_path / "run")}))
    assert "generate" in "\n".join(prepared.plan.lines)


def test_it_runs(tmp_path: Path) -> None:
    """One round on the bundled model, which takes about half a minute."""
    settings = {**SMALL, "rounds": 1, "samples": 4, "out": str(tmp_path / "run")}
    run = launch.prepare(config.load(RECIPE, settings)).execute(launch.Quiet())
    assert run.metric("accuracy", round=1) is not None
