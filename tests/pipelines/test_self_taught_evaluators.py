"""Self-Taught Evaluators: known better responses, both orders, right and evened judgements, the judge's accuracy."""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, ClassVar

from selftrain.proposals import Asked
from selftrain.recipe import Recipe, Stage
from selftrain.records import Checkpoint, Outcome, Problem, Row, Verdict
from selftrain.stages import Propose, Select
from selftrain.testing import FakeBackends, adds, fake_run
from tests.pipelines.stored import kept, made, problems, read, samples, trained_on

QUESTION = "Is this right? Answer yes or no."


def answer(text: str, skill: float, draw: Random) -> str:
    """Sums, more often right than not; a judge that prefers the second attempt until it has learned."""
    if not text.rstrip().endswith(QUESTION):
        return adds(text, 0.8, draw)
    a, b = (int(n) for n in text.splitlines()[0].removeprefix("user: ").rstrip("=").split("+"))
    right = "yes" if text.split("user: ")[2].rstrip().endswith(str(a + b)) else "no"
    return right if draw.random() < skill else "yes" if draw.random() < 0.7 else "no"


@dataclass(frozen=True)
class Same:
    """No perturbation: the problem once more."""

    tried: ClassVar[bool] = False

    def __call__(self, asked: Asked) -> list[Problem]:
        return [replace(asked.problem, id=f"{asked.problem.id}-again", parent=asked.problem.id)]


def recipe(**arguments: Any) -> Recipe:
    return made("self_taught_evaluators", rounds=1, max_new_tokens=60, **arguments)


def opposed(root: Path) -> bool:
    """Whether each question is about a right attempt and a wrong one that was made for another problem."""
    given, own = problems(root), samples(root, "generate", "adopt")
    perturbed = {p.id: p for p in read(root, Problem, "perturb")}
    asked = read(root, Problem, "which")
    assert asked
    for question in asked:
        good, bad = question.about if question.answer == "no" else question.about[::-1]
        assert own[good].problem == own[bad].problem == question.parent
        assert own[good].text.endswith(f" {given[own[good].problem].answer}")
        source = samples(root, "perturbed")[own[bad].parents[0]]
        if perturbed[source.problem].text == given[own[bad].problem].text:
            return False
    return {q.about for q in asked} == {q.about[::-1] for q in asked}


def balanced(root: Path) -> bool:
    """Whether the rows hold equally many judgements of each verdict."""
    own = samples(root, "judge")
    counts = Counter(own[id].text for id in trained_on(root))
    assert len(counts) == 2
    return len(set(counts.values())) == 1


def test_the_worse_response_is_one_to_a_perturbed_problem_and_both_orders_are_asked(tmp_path: Path) -> None:
    fake_run(recipe(), tmp_path / "a", backends=FakeBackends(answer))
    assert opposed(tmp_path / "a")

    def same(stage: Stage) -> Stage:
        return replace(stage, make=Same()) if isinstance(stage, Propose) and stage.name == "perturb" else stage

    fake_run(recipe().changed(same), tmp_path / "b", backends=FakeBackends(answer))
    assert not opposed(tmp_path / "b")


def test_rows_are_right_judgements_evened_over_the_verdicts_for_the_judge_that_is_named(tmp_path: Path) -> None:
    fake_run(recipe(judgements=4), tmp_path / "a", backends=FakeBackends(answer))
    said = {v.sample: v.status for v in read(tmp_path / "a", Verdict, "verify-judged")}
    assert trained_on(tmp_path / "a") == kept(tmp_path / "a")
    assert {said[id] for id in kept(tmp_path / "a")} == {"pass"}
    assert balanced(tmp_path / "a")
    prompts = ["".join(map(chr, row.segments[0].ids)) for row in read(tmp_path / "a", Row, "build")]
    assert all(prompt.endswith(f"user: {QUESTION}\n") for prompt in prompts)
    checkpoint = read(tmp_path / "a", Checkpoint, "train")[0]
    assert (checkpoint.role, checkpoint.parent) == ("policy", checkpoint.base)

    def uneven(stage: Stage) -> Stage:
        return Select(of=stage.of, rules=stage.rules) if isinstance(stage, Select) else stage

    fake_run(recipe(judgements=1, judge="judge").changed(uneven), tmp_path / "b", backends=FakeBackends(answer))
    assert not balanced(tmp_path / "b")
    assert [c.role for c in read(tmp_path / "b", Checkpoint, "train")] == ["judge"]


def test_the_headline_is_the_judges_accuracy_and_the_responses_are_always_the_given_models(tmp_path: Path) -> None:
    history = fake_run(
        made("self_taught_evaluators", rounds=2, max_new_tokens=60), tmp_path, backends=FakeBackends(answer, gain=0.7)
    )
    outcomes = {o.problem: o.value for o in read(tmp_path, Outcome, "evaluate") if o.split == "test"}
    said = {v.sample: float(v.status == "pass") for v in read(tmp_path, Verdict, "evaluate-verify-judged")}
    asked = {p.id: p.parent for p in read(tmp_path, Problem, "evaluate-which") if p.split == "test"}
    judged = samples(tmp_path, "evaluate-judge")
    for problem, value in outcomes.items():
        mine = [said[s.id] for s in judged.values() if asked.get(s.problem) == problem]
        assert len(mine) == 2
        assert value == sum(mine) / 2
    first, last = (history.metric("accuracy", split="test", round=n) for n in (0, 1))
    assert first is not None
    assert last is not None
    assert last.value == 1.0 > first.value
    base = history.checkpoint("policy", "base").id
    assert {s.model for s in samples(tmp_path, "generate", "perturbed", round=2).values()} == {base}
    assert {s.model for s in samples(tmp_path, "judge", round=2).values()} != {base}
