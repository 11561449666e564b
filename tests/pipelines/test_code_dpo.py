"""CodeDPO: programs with more credit from the model's own tests are preferred; gold tests are not looked at."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from selftrain.backends.sandbox import open_sandbox
from selftrain.pairings import ByScore
from selftrain.recipe import Recipe, Stage
from selftrain.records import Checkpoint, Pick, Problem, Row, Verdict
from selftrain.stages import Pair
from selftrain.testing import FakeBackends, fake_run
from tests.pipelines.stored import made, read, samples, trained_on

POOL = [
    Problem.of(f"Write f(xs): add {k} to each.", tests=f"assert f([1]) == [{1 + k}]", verifier="python_tests")
    for k in range(1, 5)
]


def answer(text: str, skill: float, draw: Random) -> str:
    """Programs and tests, two in three of them right."""
    k = int(text.split("add ")[1].split(" ")[0]) + (0 if draw.random() < 0.67 else draw.randrange(1, 9))
    if "assert statements" in text:
        return f"assert f([1, 2]) == [{1 + k}, {2 + k}]"
    return f"def f(xs):\n    return [x + {k} for x in xs]"


def ran(root: Path, recipe: Recipe, train: Sequence[Problem] = POOL) -> None:
    held_out = {split: [replace(p, id=f"{p.id}-{split}") for p in POOL[:2]] for split in ("valid", "test")}
    with open_sandbox() as sandbox:
        backends = FakeBackends(answer, resources={"sandbox": sandbox})
        fake_run(recipe, root, problems={"train": train, **held_out}, backends=backends)


def recipe(**arguments: Any) -> Recipe:
    return made("code_dpo", samples=4, max_new_tokens=120, **arguments)


def only_programs(root: Path) -> bool:
    """Whether no test is trained on."""
    found = trained_on(root)
    assert found
    return found <= set(samples(root, "generate"))


def test_the_program_with_more_credit_is_chosen_and_no_test_is_in_a_row(tmp_path: Path) -> None:
    ran(tmp_path / "a", recipe(tests=4))
    root = tmp_path / "a"
    scores = {v.sample: v.score for v in read(root, Verdict, "verify")}
    tests = samples(root, "adopt")
    assert {s.template for s in tests.values()} == {"tests"}
    assert set(tests) <= set(scores)
    assert {v.by for v in read(root, Verdict, "verify")} == {"cross_tests"}
    chosen = {p.group: p.sample for p in read(root, Pick, "pair") if p.side == "chosen"}
    rejected = {p.group: p.sample for p in read(root, Pick, "pair") if p.side == "rejected"}
    assert chosen
    for group, id in chosen.items():
        assert (scores[id] or 0) > (scores[rejected[group]] or 0) + 0.1
    assert only_programs(root)
    (checkpoint,) = read(root, Checkpoint, "train")
    assert checkpoint.parent == checkpoint.base

    def mixed(stage: Stage) -> Stage:
        # All that has a score, down to the smallest difference: tests are among them.
        return replace(stage, rules=(), pairing=ByScore("cross_tests", most=8)) if isinstance(stage, Pair) else stage

    ran(tmp_path / "b", recipe(tests=4).changed(mixed))
    assert not only_programs(tmp_path / "b")


def test_where_asked_each_program_is_a_test_of_the_others(tmp_path: Path) -> None:
    ran(tmp_path, recipe(tests=1, agree=True))
    own, agreed = samples(tmp_path, "generate"), samples(tmp_path, "agree")
    assert {s.parents[0] for s in agreed.values()} == set(own)
    scores = {v.sample: v.score for v in read(tmp_path, Verdict, "verify")}
    for test in agreed.values():
        mine = [s.text for s in own.values() if s.problem == test.problem]
        alike = {text: mine.count(text) for text in mine}
        best = max(scores[s.id] or 0 for s in own.values() if s.problem == test.problem)
        assert best == 1.0
        if alike[own[test.parents[0]].text] > len(mine) / 2:
            assert scores[test.parents[0]] == 1.0
    assert only_programs(tmp_path)


def test_gold_tests_change_nothing(tmp_path: Path) -> None:
    moved = [replace(p, tests=other.tests) for p, other in zip(POOL, [*POOL[1:], POOL[0]], strict=True)]
    ran(tmp_path / "a", recipe(tests=4))
    ran(tmp_path / "b", recipe(tests=4), moved)
    assert recipe().labels == "none"
    found = [read(tmp_path / each, Row, "build") for each in ("a", "b")]
    assert found[0]
    assert found[0] == found[1]
    assert recipe(gate=True).labels == "gold"
