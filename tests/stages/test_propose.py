"""Propose, Adopt, Credit: problems are made in the shard of their parents, and what came of them is brought back."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from selftrain.errors import RecipeError
from selftrain.proposals import Ask, AskForAnother, Perturbed, Revise
from selftrain.records import Problem, Quarantined, Sample, Verdict
from selftrain.rules import AtMost, failed
from selftrain.stages import Adopt, Credit, Generate, Propose, Verify
from selftrain.testing import sums
from tests.stages.bench import Bench, sample, verdict

TRAIN = sums(3, first=30)


def revision(of: Problem, *about: str, verifier: str = "") -> Problem:
    """The problem asked again after something was said about a sample."""
    turns = [*of.prompt, {"role": "user", "content": "Try again."}]
    return Problem.of(
        turns,  # type: ignore[arg-type]
        kind="revision",
        parent=of.id,
        about=about,
        verifier=verifier,
        plain=True,
    )


def test_attempts_that_the_rules_leave_are_asked_about(tmp_path: Path) -> None:
    tried = [sample(p, i) for p in TRAIN for i in range(2)]
    said = [verdict(s, "fail" if s.problem == TRAIN[1].id else "pass") for s in tried]
    stage = Propose(of=("generate", "verify"), make=Ask("Why?"), rules=(failed, AtMost(1)))
    found = Bench(tmp_path, TRAIN).run(stage, {"generate": tried, "verify": said})
    assert [(p.parent, p.about) for p in found] == [(TRAIN[1].id, (f"{TRAIN[1].id}-0",))]
    # The run's protocol is in the question, where the attempt was asked with it.
    assert found[0].prompt[0]["content"] == f"{TRAIN[1].text}!"
    assert stage.reads == (Sample, Verdict)
    assert Propose(make=Ask("Why?")).reads == (Sample,)
    assert Propose(make=Perturbed()).reads == (Problem,)
    assert not stage.gold


def test_problems_are_made_of_problems_without_any_attempt_and_equal_ones_once(tmp_path: Path) -> None:
    found = Bench(tmp_path, TRAIN).run(Propose(make=Perturbed(60)))
    assert {p.parent for p in found} == {p.id for p in TRAIN}
    assert len({p.id for p in found}) == len(found) < 180


def test_examples_for_a_new_problem_differ_from_problem_to_problem(tmp_path: Path) -> None:
    many = sums(12, first=30)
    found = Bench(tmp_path, many).run(Propose(make=AskForAnother(examples=2)))
    first = [p.text.split("\n\n")[0] for p in found]
    assert [p.text.split("\n\n")[1] for p in found] == [p.text for p in many]
    assert len(set(first)) > 3


def test_a_made_problem_without_a_verifier_has_its_parents_and_the_answer_for_those_who_may_see_it(
    tmp_path: Path,
) -> None:
    again = revision(TRAIN[0])

    class Seen(Generate):
        """Looks at its problems."""

        def run(self, part: Any, lab: Any) -> Any:
            return part.problems()

    class Judging(Seen):
        gold = True

    (blind,) = Bench(tmp_path / "a", TRAIN).run(Seen(of=("propose",)), {"propose": [again]})
    assert (blind.id, blind.verifier, blind.answer, blind.solution) == (again.id, "number", None, None)
    (judge,) = Bench(tmp_path / "b", TRAIN).run(Judging(of=("propose",)), {"propose": [again]})
    assert (judge.verifier, judge.answer, judge.solution) == ("number", TRAIN[0].answer, TRAIN[0].solution)
    # One that has its own verifier keeps it, and has no answer but its own.
    own = revision(TRAIN[0], verifier="exact")
    (other,) = Bench(tmp_path / "c", TRAIN).run(Judging(of=("propose",)), {"propose": [own]})
    assert (other.verifier, other.answer) == ("exact", None)


def test_responses_to_a_made_problem_are_judged_by_its_parents_answer(tmp_path: Path) -> None:
    again = revision(TRAIN[0])
    tried = [sample(again, 0, TRAIN[0].answer or ""), sample(again, 1, "7777")]
    found = Bench(tmp_path, TRAIN).run(Verify(of=("revise",)), {"propose": [again], "revise": tried})
    assert [v.status for v in found] == ["pass", "fail"]


def test_an_adopted_response_is_the_given_problems_and_names_what_it_comes_from(tmp_path: Path) -> None:
    first = sample(TRAIN[0])
    again = revision(TRAIN[0], first.id)
    tried = [sample(again, i, f"try {i}", parents=(first.id,), logprob=-1.0) for i in range(2)]
    other = sample(TRAIN[1])
    stage = Adopt(of=("generate", "revise"))
    before: dict[str, list[Any]] = {"generate": [first, other], "propose": [again], "revise": tried}
    found = Bench(tmp_path, TRAIN).run(stage, before)
    assert [(s.problem, s.index, s.text) for s in found] == [(TRAIN[0].id, 0, "try 0"), (TRAIN[0].id, 1, "try 1")]
    assert [s.parents for s in found] == [(t.id, first.id) for t in tried]
    for adopted, was in zip(found, tried, strict=True):
        assert adopted.completion_ids == was.completion_ids
        # Neither the prompt nor its probability is the given problem's.
        assert (adopted.prompt_ids, adopted.logprob, adopted.template) == ((), None, "adopted")
    assert not {s.id for s in found} & {s.id for s in [*tried, first, other]}


def test_adopted_with_the_attempt_in_front_it_is_a_response_that_corrects_itself(tmp_path: Path) -> None:
    first = sample(TRAIN[0], text="1+2=4\n")
    again = revision(TRAIN[0], first.id)
    tried = sample(again, 0, "1+2=3", parents=(first.id,))
    before: dict[str, list[Any]] = {"generate": [first], "propose": [again], "revise": [tried]}
    (found,) = Bench(tmp_path, TRAIN).run(Adopt(of=("revise",), after="\nWait, no.\n"), before)
    assert found.text == "1+2=4\nWait, no.\n1+2=3"
    assert (found.completion_ids, found.tokenizer, found.problem) == ((), "", TRAIN[0].id)


def test_what_saw_a_hint_is_still_known_to_have_seen_it(tmp_path: Path) -> None:
    again = revision(TRAIN[0])
    before: dict[str, list[Any]] = {"propose": [again], "revise": [sample(again, template="hint")]}
    (found,) = Bench(tmp_path, TRAIN).run(Adopt(of=("revise",)), before)
    assert found.template == "hint"


def credit(root: Path, statuses: list[str], **changes: Any) -> list[Verdict]:
    """The credit of a critique after which revisions had these statuses."""
    first, critique = sample(TRAIN[0]), sample(TRAIN[0], 1, "Step 1 is wrong.")
    again = revision(TRAIN[0], first.id, critique.id)
    tried = [sample(again, i, f"try {i}") for i in range(len(statuses))]
    said = [verdict(s, status) for s, status in zip(tried, statuses, strict=True)]
    before: dict[str, list[Any]] = {"generate": [first, critique], "propose": [again], "revise": tried, "verify": said}
    return Bench(root, TRAIN).run(Credit(of=("revise", "verify"), **changes), before)


@pytest.mark.parametrize(("how", "worth"), [("mean", 2 / 3), ("all", 0.0), ("any", 1.0)])
def test_credit_is_what_came_of_the_feedback(tmp_path: Path, how: str, worth: float) -> None:
    (found,) = credit(tmp_path, ["pass", "fail", "pass", "error", "abstain"], how=how)
    assert (found.sample, found.by, found.status) == (f"{TRAIN[0].id}-1", "credit", "scored")
    assert found.score == pytest.approx(worth)


def test_credit_may_go_to_the_attempt(tmp_path: Path) -> None:
    (found,) = credit(tmp_path, ["pass"], to=0)
    assert found.sample == f"{TRAIN[0].id}-0"


@pytest.mark.parametrize(("threshold", "status"), [(0.5, "pass"), (0.51, "fail")])
def test_credit_with_a_threshold_is_right_or_wrong(tmp_path: Path, threshold: float, status: str) -> None:
    (found,) = credit(tmp_path, ["pass", "fail"], threshold=threshold)
    assert (found.status, found.score) == (status, 0.5)


def test_credit_of_what_could_not_be_judged_is_an_abstention(tmp_path: Path) -> None:
    (found,) = credit(tmp_path, ["error", "timeout"], threshold=0.5)
    assert (found.status, found.score) == ("abstain", None)


def test_a_wrong_way_to_count_is_refused() -> None:
    with pytest.raises(RecipeError, match="how is 'median'"):
        Credit(how="median")  # type: ignore[arg-type]


def test_revisions_of_two_critiques_of_one_attempt_are_two_problems(tmp_path: Path) -> None:
    first = sample(TRAIN[0])
    question = replace(revision(TRAIN[0], first.id, verifier="exact"), kind="critique")
    said = [sample(question, i, "Step 1 is wrong.", parents=(first.id,)) for i in range(2)]
    before: dict[str, list[Any]] = {"generate": [first], "ask": [question], "critique": said}
    found = Bench(tmp_path, TRAIN).run(Propose(of=("ask", "critique"), make=Revise()), before)
    assert [p.about for p in found] == [(first.id, s.id) for s in said]
    assert len({p.id for p in found}) == 2


def test_what_is_made_for_training_and_is_held_out_word_for_word_is_quarantined(tmp_path: Path) -> None:
    every = Bench(tmp_path / "free", TRAIN).run(Propose(make=Perturbed(60)))
    held = replace(every[0], split="valid", parent=None, kind="task", prompt=Problem.of(every[0].text.upper()).prompt)
    bench = Bench(tmp_path / "held", [*TRAIN, held])
    found = bench.run(Propose(make=Perturbed(60)))
    made = [each for each in found if isinstance(each, Problem)]
    (lost,) = [each for each in found if isinstance(each, Quarantined)]
    assert held.id in lost.why
    assert {p.id for p in made} == {p.id for p in every} - {every[0].id}
