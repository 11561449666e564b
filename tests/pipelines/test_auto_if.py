"""AutoIF: checkers that tests bear out judge responses; SFT on what they pass, DPO against what they fail."""

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from selftrain.backends.sandbox import open_sandbox
from selftrain.recipe import Recipe, Stage
from selftrain.records import Checkpoint, Metric, Pick, Problem, Row, Verdict
from selftrain.stages import Propose
from selftrain.testing import FakeBackends, fake_run, sums
from tests.pipelines.stored import kept, made, read, samples, trained_on

ANY = "def follows(response):\n    return True"
FOLLOWS = {
    "Answer in at most 24 characters.": lambda text: len(text) <= 24,
    "Answer in at least three lines.": lambda text: len(text.splitlines()) >= 3,
    "Answer without the digit 1.": lambda text: "1" not in text,
}


def answer(text: str, skill: float, draw: Random) -> str:
    """Checkers that pass everything, tests that are none, and responses that follow an instruction or not."""
    if "Write follows" in text:
        return ANY
    if "Write tests" in text:
        return "assert follows('x') == 'a"
    return draw.choice(["#### 7", "1+1=2\n3+4=7\n#### 72 and so on and on"])


def ran(root: Path, recipe: Recipe, moved: bool = False) -> list[Metric]:
    train = [replace(p, answer="0") for p in sums(6)] if moved else sums(6)
    with open_sandbox() as sandbox:
        history = fake_run(
            recipe,
            root,
            problems={"train": train, "valid": sums(1, "valid", 200), "test": sums(1, "test", 400)},
            backends=FakeBackends(answer, resources={"sandbox": sandbox}),
        )
    return list(history.rounds[-1].metrics)


def recipe(**arguments: Any) -> Recipe:
    return made("auto_if", samples=4, checkers=1, tests=1, max_new_tokens=120, **arguments)


def borne_out(root: Path) -> bool:
    """Whether no program that disagrees with the tests checks anything."""
    made = read(root, Problem, "instruct")
    assert made
    return not any(ANY in problem.meta["checkers"] for problem in made)


def test_what_follows_by_checkers_that_tests_bear_out_is_learned_and_preferred(tmp_path: Path) -> None:
    # Of two tests the program that passes everything passes one: its credit is lower, and the threshold says how low.
    metrics = ran(tmp_path / "a", recipe(threshold=0.9))
    root = tmp_path / "a"
    assert borne_out(root)
    instructed = {p.id: p for p in read(root, Problem, "instruct")}
    own = samples(root, "generate")
    said = {v.sample: v.status == "pass" for v in read(root, Verdict, "verify")}
    for id, sample in own.items():
        assert said[id] == FOLLOWS[instructed[sample.problem].meta["instruction"]](sample.text)
    assert len(set(said.values())) == 2
    assert trained_on(root) == kept(root) <= {id for id, right in said.items() if right}
    prompts = {"".join(map(chr, row.segments[0].ids)) for row in read(root, Row, "build")}
    assert prompts <= {f"user: {p.text}\n" for p in instructed.values()}
    sides = {(pick.side, said[pick.sample]) for pick in read(root, Pick, "pair") if pick.group}
    assert sides == {("chosen", True), ("rejected", False)}
    (tuned,), (preferred,) = read(root, Checkpoint, "train"), read(root, Checkpoint, "train-dpo")
    assert preferred.parent == tuned.id
    assert {m.name for m in metrics} >= {"accuracy", "plain/accuracy"}

    def credulous(stage: Stage) -> Stage:
        if isinstance(stage, Propose) and stage.name == "instruct":
            return replace(stage, rules=stage.rules[1:])
        return stage

    ran(tmp_path / "b", recipe(threshold=0.9).changed(credulous))
    assert not borne_out(tmp_path / "b")


def test_gold_answers_change_nothing(tmp_path: Path) -> None:
    ran(tmp_path / "a", recipe())
    ran(tmp_path / "b", recipe(), moved=True)
    assert recipe().labels == "none"
    found = [read(tmp_path / each, Row, "build") for each in ("a", "b")]
    assert found[0]
    assert found[0] == found[1]
