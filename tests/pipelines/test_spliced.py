"""S3c-Math, reference-answer-based correction, batch-scheduled sampling: what a row was given is not in its loss."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from selftrain.recipe import Recipe, Stage
from selftrain.records import Row, Sample, Verdict
from selftrain.testing import FakeBackends, FakeTokens, adds, fake_run, sums
from tests.pipelines.stored import made, problems, read, samples

CUE = "\nThat is wrong. Try again.\n"
SUMS = [replace(p, solution=f"sum of {p.text}\nis what we want\nit is {p.answer}") for p in sums(12)]
PROBLEMS = {"train": SUMS, "valid": sums(8, "valid", 200), "test": sums(8, "test", 400)}

Check = Callable[[Sample, str, str], bool]


def in_lines(text: str, skill: float, draw: Random) -> str:
    """Sums in three lines."""
    said = adds(text.partition("sum of")[0].partition("\n")[0], skill, draw)
    return f"way {draw.randrange(99)}\n{said}\nso {said.rpartition(' ')[2]}"


def ran(root: Path, recipe: Recipe) -> None:
    fake_run(recipe, root, problems=PROBLEMS, backends=FakeBackends(in_lines))


def learned(root: Path, check: Check) -> bool:
    """Whether `check` holds for each spliced row: (the sample, what was given of it, what is in the loss)."""
    made_of = samples(root, "splice")
    given = {p.id: f"user: {p.text}\n" for p in problems(root).values()}
    rows = [row for row in read(root, Row, "build") if row.sources[0] in made_of]
    assert rows
    for row in rows:
        sample = made_of[row.sources[0]]
        before, own = (FakeTokens().decode(segment.ids) for segment in row.segments)
        prompt = next(text for text in given.values() if before.startswith(text))
        assert [segment.train for segment in row.segments] == [False, True]
        if not check(sample, before[len(prompt) :], own):
            return False
    return True


def unmasked(stage: Stage) -> Stage:
    """Sabotage: everything is in the loss."""
    return replace(stage, learn="all") if stage.name == "build" else stage  # type: ignore[call-arg]


@pytest.mark.parametrize("sabotaged", [False, True])
def test_s3c_math_corrects_a_wrong_step_and_goes_on(tmp_path: Path, sabotaged: bool) -> None:
    recipe = made("s3c_math", rounds=1, samples=4, max_new_tokens=60)
    ran(tmp_path, recipe.changed(unmasked) if sabotaged else recipe)
    right, wrong = samples(tmp_path, "generate"), samples(tmp_path, "corrupt")
    said = {v.sample: v.status for v in read(tmp_path, Verdict, "verify")}

    def corrects(sample: Sample, given: str, own: str) -> bool:
        error, solution = (wrong[sample.parents[0]].text, right[sample.parents[1]].text)
        lines = solution.splitlines()
        at = len(error.splitlines()) - 1
        assert said[sample.parents[1]] == "pass"
        assert error.splitlines()[:at] == lines[:at]
        assert error.splitlines()[at] != lines[at]
        return (given, own) == (error, CUE + "\n".join(lines[at:]))

    assert learned(tmp_path, corrects) is not sabotaged
    assert any(row.sources[0] in right for row in read(tmp_path, Row, "build"))


@pytest.mark.parametrize("sabotaged", [False, True])
def test_own_answers_are_given_and_the_gold_one_is_learned(tmp_path: Path, sabotaged: bool) -> None:
    recipe = made("reference_answer_correction", rounds=1, max_new_tokens=60)
    ran(tmp_path, recipe.changed(unmasked) if sabotaged else recipe)
    own = samples(tmp_path, "generate")
    gold = {s.problem: s.text for s in samples(tmp_path, "gold").values()}

    def corrects(sample: Sample, given: str, learned: str) -> bool:
        first = own[sample.parents[0]]
        return (given, learned) == (first.text + CUE, gold[first.problem])

    assert learned(tmp_path, corrects) is not sabotaged
    assert len(samples(tmp_path, "splice")) == len(own)


def test_wrong_answers_alone_are_corrected_where_asked(tmp_path: Path) -> None:
    ran(tmp_path, made("reference_answer_correction", rounds=1, wrong_only=True, max_new_tokens=60))
    said = {v.sample: v.status for v in read(tmp_path, Verdict, "verify")}
    assert {said[s.parents[0]] for s in samples(tmp_path, "splice").values()} == {"fail"}


@pytest.mark.parametrize("sabotaged", [False, True])
def test_own_steps_stand_in_the_context_of_gold_ones(tmp_path: Path, sabotaged: bool) -> None:
    recipe = made("batch_scheduled_sampling", rounds=1, max_new_tokens=60)
    ran(tmp_path, recipe.changed(unmasked) if sabotaged else recipe)
    own, gold = samples(tmp_path, "generate"), samples(tmp_path, "gold")

    def goes_on(sample: Sample, given: str, learned: str) -> bool:
        lines = gold[sample.parents[1]].text.splitlines()
        at = len(given.splitlines()) - 1
        if not given or not own[sample.parents[0]].text.startswith(given.rstrip("\n")):
            return False
        return given.splitlines()[:at] == lines[:at] and learned.splitlines() == lines[at + 1 :]

    assert learned(tmp_path, goes_on) is not sabotaged
    rows = read(tmp_path, Row, "build")
    assert {row.sources[0] for row in rows} == {*gold, *samples(tmp_path, "splice")}
    # About half of the two steps of twelve solutions.
    assert 6 < len(own) < 18
