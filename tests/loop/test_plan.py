"""The plan: what it says of a run before the run, and its estimate."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from selftrain.errors import StoreError
from selftrain.loop.launch import _check_disk
from selftrain.loop.plan import Plan, Size, duration, make_plan, words
from selftrain.recipe import Recipe, Stage
from selftrain.round import History
from selftrain.stages import (
    DPO,
    Evaluate,
    Gate,
    Generate,
    MakeExamples,
    MakePairs,
    Pair,
    Reference,
    Select,
    Train,
    Verify,
)

LOOP: list[Stage] = [
    Generate(n=4, max_new_tokens=100),
    Verify(),
    Select(),
    MakeExamples(),
    Train(),
    Evaluate(max_new_tokens=50),
    Gate(),
]
SIZE = Size(parameters=1_000_000, pool=10, held_out=6, cuda=False, cores=2)


def plan(stages: Sequence[Stage] = LOOP, size: Size = SIZE, rounds: int = 3) -> Plan:
    return make_plan(Recipe(paper="none", rounds=rounds, each_round=stages), size, {"model": "nano"})


def test_it_names_stages_splits_words_barriers_and_swaps() -> None:
    text = "\n".join(plan().lines)
    for name in ("generate", "verify", "select", "build", "train", "evaluate-greedy", "evaluate-verify", "gate"):
        assert re.search(rf"^  . {name}\b", text, re.MULTILINE)
    assert "model     nano" in text
    assert "[valid+test]" in text
    assert "4 x policy/latest, T=1.0, <= 100 new tokens" in text
    assert "words     data: fresh, start: base, draw: all problems, reference: none" in text
    assert "5 barriers a round; 3 weight swaps in all" in text
    assert "labels    gold: verify, gate see gold answers" in text


def test_the_most_tokens_are_those_of_all_rounds_and_of_the_base_models_evaluation() -> None:
    found = plan()
    assert f"(at most {3 * 10 * 4 * 100 + 4 * 6 * 50:,})" in found.lines[-1]
    assert found.tokens == (3 * 10 * 4 * 100 + 4 * 6 * 50) // 2


@pytest.mark.parametrize(
    "bigger",
    [
        replace(SIZE, pool=20),
        replace(SIZE, held_out=60),
        replace(SIZE, parameters=100_000_000),
    ],
)
def test_more_of_anything_never_takes_less(bigger: Size) -> None:
    before, after = plan(), plan(size=bigger)
    assert (after.tokens, after.seconds, after.bytes) >= (before.tokens, before.seconds, before.bytes)
    assert after != before


def test_rounds_add_up() -> None:
    one, two, three = (plan(rounds=n) for n in (1, 2, 3))
    assert three.bytes - two.bytes == pytest.approx(two.bytes - one.bytes)
    assert three.tokens - two.tokens == two.tokens - one.tokens > 0


def test_weights_that_are_stored_are_counted() -> None:
    # A float32 master and a bfloat16 copy for each of three trainings, and those of the base model.
    assert plan(size=replace(SIZE, parameters=10**9)).bytes > 10**9 * (3 * 6 + 2)


def test_words_follow_the_stages() -> None:
    stages = [replace(s, start="latest") if isinstance(s, Train) else s for s in LOOP]
    stages = [replace(s, data="union") if isinstance(s, Select) else s for s in stages]
    recipe = Recipe(paper="none", each_round=stages, draw=5)
    said = words(recipe.stages(History()), recipe)
    assert said == "data: union, start: latest, draw: 5 problems in turn, reference: none"


@pytest.mark.parametrize(("reference", "said"), [("start", "start (latest)"), ("base", "base")])
def test_the_words_name_the_reference(reference: Literal["start", "base"], said: str) -> None:
    stages = [Generate(), Verify(), Pair(), MakePairs(), Reference(of=("build",))]
    train = Train(of=("reference",), loss=DPO(reference=reference), start="latest")
    text = "\n".join(plan([*stages, train]).lines)
    assert f"data: fresh, start: latest, draw: all problems, reference: {said}" in text
    assert f"loss dpo, adapter lora, reference {said}" in text


def test_nothing_that_sees_gold_is_said_too() -> None:
    text = "\n".join(plan([Generate(), Evaluate()]).lines)
    assert "labels    none: no stage of the loop sees a gold answer" in text


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "1.5 h"), (86400, "24.0 h")]
)
def test_time_is_said_as_people_say_it(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_a_run_that_goes_on_needs_room_for_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(lines=(), tokens=0, seconds=0.0, bytes=1_000_000_000, memory=0)
    out = tmp_path / "run"
    monkeypatch.setattr("selftrain.places.free_disk", lambda path: 400_000_000)
    with pytest.raises(StoreError, match=r"needs about 1\.00 GB, but .* has 0\.40 GB free"):
        _check_disk(out, plan)
    (out / "round-01").mkdir(parents=True)
    (out / "controls/one").mkdir(parents=True)
    for name, size in (("round-01/weights", 500_000_000), ("controls/one/weights", 300_000_000)):
        with (out / name).open("wb") as file:
            file.truncate(size)
    with pytest.raises(StoreError, match=r"needs about 0\.50 GB"):
        _check_disk(out, plan)
    with (out / "round-01/weights").open("r+b") as file:
        file.truncate(700_000_000)
    _check_disk(out, plan)
