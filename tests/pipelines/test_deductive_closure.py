"""Deductive closure training: one answer's statements are learned, those that are together likeliest to be true."""

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from selftrain.recipe import Recipe, Stage
from selftrain.records import Row, Verdict
from selftrain.rules import Majority
from selftrain.stages import Select
from selftrain.testing import FakeBackends, adds, fake_run, sums
from tests.pipelines.stored import kept, made, problems, read, samples, trained_on


def answer(text: str, skill: float, draw: Random) -> str:
    """Sums, mostly one too high; the model knows what is right when it is asked, most of the time."""
    if text.rstrip().endswith("Answer yes or no."):
        a, b = (int(n) for n in text.splitlines()[0].removeprefix("user: ").rstrip("=").split("+"))
        right = text.split("user: ")[1].rstrip().endswith(f" {a + b}")
        return "yes" if right is (draw.random() < 0.9) else "no"
    right_one = adds(text, 1.0, draw)
    first, last = right_one.rsplit(" ", 1)
    return right_one if draw.random() < 0.3 else f"{first} {int(last) + 1}"


def recipe(**arguments: Any) -> Recipe:
    return made("deductive_closure", max_new_tokens=60, **arguments)


def ran(root: Path, recipe: Recipe, moved: bool = False) -> None:
    # Both terms differ, so that each problem implies another.
    train = [replace(p, answer="0") if moved else p for p in sums(9, first=102)]
    held_out = {"valid": sums(2, "valid", 300), "test": sums(2, "test", 500)}
    fake_run(recipe, root, problems={"train": train, **held_out}, backends=FakeBackends(answer))


def likeliest(root: Path) -> bool:
    """Whether each problem's rows are all responses of one answer, and no other answer has more behind it."""
    worth = {v.sample: v.score or 0.0 for v in read(root, Verdict, "credit")}
    said = {v.sample: v.answer for v in read(root, Verdict, "verify")}
    own = samples(root, "generate", "adopt")
    assert kept(root)
    found = True
    for problem in {own[id].problem for id in kept(root)}:
        (answer,) = {said[id] for id in kept(root) if own[id].problem == problem}
        believed = [worth[id] for id, s in own.items() if s.problem == problem and said[id] == answer]
        found &= sum(believed) / len(believed) > 0.5
    return found


def test_what_is_learned_is_one_answer_that_the_model_holds_to_be_true(tmp_path: Path) -> None:
    ran(tmp_path / "a", recipe())
    root = tmp_path / "a"
    assert likeliest(root)
    given, own = problems(root), samples(root, "generate", "adopt")
    assert trained_on(root) == kept(root)
    prompts = {"".join(map(chr, row.segments[0].ids)) for row in read(root, Row, "build")}
    assert prompts <= {f"user: {p.text}\n" for p in given.values()}
    # What the model says of the problem with its terms exchanged stands beside what it says of the problem.
    adopted = samples(root, "adopt")
    asked = samples(root, "follow")
    for sample in adopted.values():
        a, b = given[sample.problem].text.rstrip("=").split("+")
        assert "".join(map(chr, asked[sample.parents[0]].prompt_ids)) == f"user: {b}+{a}=\n"
    assert kept(root) & set(adopted)
    assert {own[id].problem for id in kept(root)} <= set(given)

    def by_vote(stage: Stage) -> Stage:
        return replace(stage, rules=(Majority(), *stage.rules[1:])) if isinstance(stage, Select) else stage

    ran(tmp_path / "b", recipe().changed(by_vote))
    assert not likeliest(tmp_path / "b")


def test_gold_answers_change_nothing(tmp_path: Path) -> None:
    assert recipe().labels == "none"
    ran(tmp_path / "a", recipe())
    ran(tmp_path / "b", recipe(), moved=True)
    found = [read(tmp_path / each, Row, "build") for each in ("a", "b")]
    assert found[0]
    assert found[0] == found[1]
