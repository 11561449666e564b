"""Kill any process of a run at any stage: nothing survives, nothing stored changes, the same command finishes."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from selftrain.records import Sample
from selftrain.store import Store
from tests.killing import Launched, stored, unchanged

pytestmark = pytest.mark.slow

PROBLEMS, SAMPLES, HELD_OUT = 48, 4, 48
SETTINGS = ("model=nano", "data=sums", f"pool={PROBLEMS}", "valid=24", "test=24", f"samples={SAMPLES}", "keep=2")
MORE = ("rounds=2", "max_new_tokens=64", "shard=8")
Target = tuple[int, str]

CONTROLLER: Sequence[Target] = (
    (0, "evaluate-greedy"),
    (1, "generate"),
    (1, "verify"),
    (1, "train"),
    (1, "evaluate-greedy"),
    (2, "generate"),
    (2, "train"),
    (2, "evaluate-verify"),
)
OTHERS: Sequence[tuple[str, Target]] = (
    ("engine", (0, "evaluate-greedy")),
    ("engine", (1, "generate")),
    ("engine", (1, "evaluate-greedy")),
    ("engine", (2, "generate")),
    ("worker", (1, "verify")),
    ("worker", (2, "verify")),
    ("trainer", (1, "train")),
    ("trainer", (2, "train")),
)


def launch(out: Path, *more: str) -> Launched:
    return Launched(out, "rest_em", (*SETTINGS, *MORE, *more))


def finish(out: Path, *more: str) -> None:
    last = launch(out, *more)
    assert last.wait() in (0, 3), last.log.read_text()[-3000:]
    for number in Store(out).rounds():
        for name, folder in Store(out).stages(number).items():
            if name in ("generate", "evaluate-greedy"):
                pairs = Counter((s.problem, s.index) for k in folder.shards() for s in folder.read(Sample, k))
                quarantined = json.loads((folder.path / "stage.json").read_text())["quarantined"]
                assert set(pairs.values()) == {1}
                assert len(pairs) + quarantined == (PROBLEMS * SAMPLES if name == "generate" else HELD_OUT)


def kill_all(out: Path, targets: Sequence[Target], *more: str) -> None:
    for number, stage in targets:
        run = launch(out, *more)
        assert run.strike(number, stage), (
            f"{stage} of round {number} was never under way: {run.log.read_text()[-2000:]}"
        )
        run.wait(30)
        assert run.gone(), run.family()
        before = stored(out)
    finish(out, *more)
    assert unchanged(out, before)


def test_a_killed_controller_takes_everything_with_it_and_loses_no_shard(tmp_path: Path) -> None:
    """8 kills, one after the other, in one run."""
    kill_all(tmp_path / "run", CONTROLLER)


def test_the_same_with_vllm(tmp_path: Path) -> None:
    """4 kills of a run that samples with vLLM."""
    pytest.importorskip("vllm")
    kill_all(tmp_path / "run", (CONTROLLER[0], CONTROLLER[1], CONTROLLER[3], CONTROLLER[4]), "sampler=vllm", "rounds=1")


@pytest.mark.parametrize("role", ["engine", "worker", "trainer"])
def test_a_killed_part_is_replaced_or_ends_the_run_in_order(tmp_path: Path, role: str) -> None:
    """8 kills in all; a lost engine or worker is replaced, a lost trainer ends the run with exit code 1.

    An engine that is lost while it starts ends the run too: what ended one start would end the next.
    """
    out = tmp_path / "run"
    for number, stage in [target for kind, target in OTHERS if kind == role]:
        run = launch(out)
        struck = run.strike(number, stage, role)
        before = stored(out)
        code = run.wait()
        assert run.gone(), run.family()
        assert struck, f"no {role} was there to kill in {stage} of round {number}: {run.log.read_text()[-2000:]}"
        fatal = role == "trainer" or (role == "engine" and number == 0)
        assert code in ((0, 1, 3) if fatal else (0, 3)), run.log.read_text()[-3000:]
        assert unchanged(out, before)
        if code != 1:
            # The run is over: the next target needs one of its own.
            finish(out)
            out = tmp_path / f"run-after-{number}-{stage}"
    if out.exists():
        finish(out)
