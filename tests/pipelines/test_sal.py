"""SAL: a right response is the example for analogous problems; what many samples agree on is learned without it."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random

from selftrain.recipe import Recipe, Stage
from selftrain.records import Problem, Row, Verdict
from selftrain.stages import Select
from selftrain.testing import FakeBackends, adds, fake_run
from tests.pipelines.stored import kept, made, problems, read, samples, trained_on


def answer(text: str, skill: float, draw: Random) -> str:
    """Sums, better after an example."""
    return adds(text, 0.8 if "assistant: " in text else 0.5, draw)


def recipe() -> Recipe:
    return made("sal", max_new_tokens=60)


def agreed(root: Path) -> bool:
    """Whether half of the samples of each analogous problem that is trained on give the answer that is learned."""
    said = {v.sample: v.answer for v in read(root, Verdict, "vote")}
    own = samples(root, "adopt", "alone")
    assert kept(root, "select-analogues")
    found = True
    for id in kept(root, "select-analogues"):
        votes = Counter(said[s.id] for s in own.values() if s.problem == own[id].problem)
        found &= 2 * votes[said[id]] >= votes.total()
    return found


def test_solved_problems_are_examples_for_problems_like_them_and_the_rows_are_without(tmp_path: Path) -> None:
    fake_run(recipe(), tmp_path / "a", backends=FakeBackends(answer))
    root = tmp_path / "a"
    given, analogous = problems(root), {p.id: p for p in read(root, Problem, "vary")}
    right = {v.sample for v in read(root, Verdict, "verify") if v.status == "pass"}
    own = samples(root, "generate")
    asked = read(root, Problem, "propose")
    assert asked
    for problem in asked:
        assert problem.about[0] in right
        assert problem.prompt[1]["content"] == own[problem.about[0]].text
        assert analogous[problem.parent or ""].parent == own[problem.about[0]].problem
        assert problem.prompt[-1] == analogous[problem.parent or ""].prompt[-1]
    assert agreed(root)
    assert kept(root, "select-analogues") <= set(samples(root, "adopt"))
    assert trained_on(root) == kept(root) | kept(root, "select-analogues")
    assert kept(root) <= right
    prompts = {"".join(map(chr, row.segments[0].ids)) for row in read(root, Row, "build")}
    assert prompts <= {f"user: {p.text}\n" for p in (*given.values(), *analogous.values())}

    def credulous(stage: Stage) -> Stage:
        if isinstance(stage, Select) and stage.name == "select-analogues":
            return replace(stage, rules=stage.rules[1:])
        return stage

    fake_run(recipe().changed(credulous), tmp_path / "b", backends=FakeBackends(answer))
    assert not agreed(tmp_path / "b")
