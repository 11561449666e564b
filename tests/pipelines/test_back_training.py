"""Back-training: gold solutions beside problems that an inverse model wrote, where the policy agrees."""

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from selftrain.recipe import Recipe, Stage
from selftrain.records import Checkpoint, Problem, Row, Verdict
from selftrain.rules import Attempts
from selftrain.stages import Select
from selftrain.testing import FakeBackends, adds, fake_run
from tests.pipelines.stored import kept, made, problems, read, samples

QUESTION = "What is the problem?"


def answer(text: str, skill: float, draw: Random) -> str:
    """The inverse model finds the problem of a solution, or another one."""
    if not text.rstrip().endswith(QUESTION):
        return adds(text, 0.9, draw)
    a, b = text.removeprefix("user: ").split("=")[0].split("+")
    return f"{a}+{b if draw.random() < 0.5 else int(b) + 1}="


def recipe(**arguments: Any) -> Recipe:
    return made("back_training", max_new_tokens=60, **arguments)


def gold_only(attempts: Attempts) -> Attempts:
    """The filter left out."""
    return [each for each in attempts if each.sample.finish == "gold"]


def consistent(root: Path) -> bool:
    """Whether the policy came to the solution of every problem that is trained on, most of the time."""
    right = {v.sample: v.status == "pass" for v in read(root, Verdict, "verify")}
    tried, gold = samples(root, "try"), samples(root, "gold")
    found = True
    assert kept(root)
    for id in kept(root):
        said = [right[s.id] for s in tried.values() if s.problem == gold[id].problem]
        found &= len(said) == 4 and sum(said) >= 2
    return found


def test_rows_are_the_gold_solutions_under_written_problems_that_the_policy_agrees_with(tmp_path: Path) -> None:
    fake_run(recipe(), tmp_path / "a", backends=FakeBackends(answer))
    root = tmp_path / "a"
    assert consistent(root)
    given, written = problems(root), {p.id: p for p in read(root, Problem, "write")}
    gold = samples(root, "gold")
    for row in read(root, Row, "build"):
        (source,) = row.sources
        problem = written[gold[source].problem]
        prompt, completion = ("".join(map(chr, segment.ids)) for segment in row.segments)
        assert prompt == f"user: {problem.text}\n"
        assert completion.rstrip("\0") == given[problem.parent or ""].solution

    def credulous(stage: Stage) -> Stage:
        if not isinstance(stage, Select) or stage.name != "select" or not stage.rules:
            return stage
        return replace(stage, rules=(gold_only,))

    fake_run(recipe().changed(credulous), tmp_path / "b", backends=FakeBackends(answer))
    assert not consistent(tmp_path / "b")


def test_the_inverse_model_learns_from_the_source_part_alone_and_writes_for_the_rest(tmp_path: Path) -> None:
    fake_run(recipe(), tmp_path, backends=FakeBackends(answer))
    known = read(tmp_path, Problem, "propose", 0)
    asked = read(tmp_path, Problem, "propose")
    given = problems(tmp_path)
    train = {id for id, problem in given.items() if problem.split == "train"}
    assert {p.parent for p in known} | {p.parent for p in asked} == train
    assert not {p.parent for p in known} & {p.parent for p in asked}
    assert all(p.solution == given[p.parent or ""].text for p in known)
    (inverse,) = read(tmp_path, Checkpoint, "train-inverse", 0)
    assert inverse.role == "inverse"
    assert {s.model for s in samples(tmp_path, "generate").values()} == {inverse.id}
    assert {s.model for s in samples(tmp_path, "try").values()} != {inverse.id}
    assert [c.role for c in read(tmp_path, Checkpoint, "train")] == ["policy"]
