"""Critique in the loop: wrong attempts are criticised, a critique earns what its revisions do, both models learn."""

from pathlib import Path
from random import Random

from selftrain.records import Checkpoint, Problem, Row, Verdict
from selftrain.testing import FakeBackends, adds, fake_run
from tests.pipelines.stored import kept, made, problems, read, samples, trained_on


def answer(text: str, skill: float, draw: Random) -> str:
    """Sums as a rule wrong at first; a critique says one of two things, and only one of them helps."""
    if text.rstrip().endswith("Which step is wrong first?"):
        return draw.choice(["Step 1 is wrong.", "No step is wrong."])
    if "Try again." in text:
        return adds(text, 1.0 if "Step 1" in text else 0.0, draw)
    return adds(text, skill, draw)


def test_rows_are_right_first_attempts_and_right_revisions_under_the_problems_own_prompt(tmp_path: Path) -> None:
    recipe = made("critique_in_the_loop", rounds=1, samples=4, max_new_tokens=60)
    fake_run(recipe, tmp_path, backends=FakeBackends(answer))
    given = problems(tmp_path)
    first, revised = samples(tmp_path, "generate"), samples(tmp_path, "revise")
    critiques, adopted = samples(tmp_path, "critique"), samples(tmp_path, "adopt")
    said = {v.sample: v.status for v in read(tmp_path, Verdict, "verify")}
    revisions = {v.sample: v.status for v in read(tmp_path, Verdict, "verify-revised")}

    asked = {p.id: p for p in read(tmp_path, Problem, "ask")}
    assert asked
    assert all(said[problem.about[0]] == "fail" for problem in asked.values())

    # A revision has two parents, the attempt and the critique of that attempt, and is of the attempt's problem.
    for sample in revised.values():
        attempt, critique = sample.parents
        assert critiques[critique].parents == (attempt,)
        assert asked[critiques[critique].problem].parent == first[attempt].problem
    assert adopted
    for sample in adopted.values():
        assert revisions[sample.parents[0]] == "pass"
        assert sample.problem == first[revised[sample.parents[0]].parents[0]].problem

    rows = read(tmp_path, Row, "build")
    right = {id for id, status in said.items() if status == "pass"} | set(adopted)
    assert trained_on(tmp_path) == kept(tmp_path) <= right
    assert trained_on(tmp_path) & set(adopted)
    prompts = {"".join(map(chr, row.segments[0].ids)) for row in rows}
    assert prompts <= {f"user: {p.text}\n" for p in given.values()}


def test_a_critique_is_worth_the_share_of_its_revisions_that_are_right_and_the_critic_learns_the_worthy(
    tmp_path: Path,
) -> None:
    recipe = made("critique_in_the_loop", rounds=1, samples=4, revisions=3, max_new_tokens=60)
    fake_run(recipe, tmp_path, backends=FakeBackends(answer))
    revised, critiques = samples(tmp_path, "revise"), samples(tmp_path, "critique")
    right = {v.sample: float(v.status == "pass") for v in read(tmp_path, Verdict, "verify-revised")}
    credit = {v.sample: v.score for v in read(tmp_path, Verdict, "credit")}
    for id, score in credit.items():
        mine = [right[r.id] for r in revised.values() if r.parents[1] == id]
        assert len(mine) == 3
        assert score == sum(mine) / 3
    assert set(credit) == set(critiques)
    learned = {critiques[id].text for id in trained_on(tmp_path, "build-critiques")}
    assert learned == {"Step 1 is wrong."}
    roles = {c.role for stage in ("train", "train-critic") for c in read(tmp_path, Checkpoint, stage)}
    assert roles == {"policy", "critic"}


def test_without_critic_rounds_the_critic_stays_the_base_model(tmp_path: Path) -> None:
    fake_run(
        made("critique_in_the_loop", rounds=1, samples=4, critic_rounds=0, max_new_tokens=60),
        tmp_path,
        backends=FakeBackends(answer),
    )
    assert not list(tmp_path.glob("round-01/*train-critic"))
