"""CREST: rationales whose follow-ups come out right are learned, and preferred to other right ones."""

from dataclasses import replace
from pathlib import Path
from random import Random

from selftrain.recipe import Recipe, Stage
from selftrain.records import Checkpoint, Pick, Problem, Row, Verdict
from selftrain.stages import Select, Train
from selftrain.testing import FakeBackends, adds, fake_run, sums
from tests.pipelines.stored import kept, made, problems, read, samples, trained_on


def answer(text: str, skill: float, draw: Random) -> str:
    """Sums by reasoning or by luck; after luck every number seems to be the answer."""
    if not text.rstrip().endswith("Answer yes or no."):
        return draw.choice(["by reasoning ", "by luck "]) + adds(text, 0.6, draw)
    a, b = (int(n) for n in text.splitlines()[0].removeprefix("user: ").rstrip("=").split("+"))
    return "yes" if "by luck" in text or f"Is {a + b} the" in text else "no"


def recipe() -> Recipe:
    return made("crest", rounds=1, samples=8, max_new_tokens=60)


def credit(root: Path) -> dict[str, float]:
    return {v.sample: v.score or 0.0 for v in read(root, Verdict, "credit")}


def consistent(root: Path) -> bool:
    """Whether the rows are of right rationales whose follow-ups came out right."""
    said = {v.sample: v.status for v in read(root, Verdict, "verify")}
    worth = credit(root)
    assert trained_on(root) == kept(root)
    assert kept(root)
    return all(said[id] == "pass" and worth[id] >= 0.75 for id in kept(root))


def test_rows_are_right_rationales_that_hold_up_to_follow_ups(tmp_path: Path) -> None:
    fake_run(recipe(), tmp_path / "a", backends=FakeBackends(answer))
    root = tmp_path / "a"
    assert consistent(root)
    said = {v.sample: v.status for v in read(root, Verdict, "verify")}
    assert {said[p.about[0]] for p in read(root, Problem, "propose")} == {"pass"}
    own = samples(root, "generate")
    assert {score for id, score in credit(root).items() if "luck" in own[id].text} == {0.25}
    assert {score for id, score in credit(root).items() if "reasoning" in own[id].text} == {1.0}
    prompts = {"".join(map(chr, row.segments[0].ids)) for row in read(root, Row, "build")}
    assert prompts <= {f"user: {p.text}\n" for p in problems(root).values()}

    def unfiltered(stage: Stage) -> Stage:
        return replace(stage, rules=(stage.rules[0], *stage.rules[3:])) if isinstance(stage, Select) else stage

    fake_run(recipe().changed(unfiltered), tmp_path / "b", backends=FakeBackends(answer))
    assert not consistent(tmp_path / "b")


def after_fine_tuning(root: Path) -> bool:
    """Whether DPO goes on from what was fine-tuned in the same round."""
    (tuned,), (preferred,) = read(root, Checkpoint, "train"), read(root, Checkpoint, "train-dpo")
    return preferred.parent == tuned.id != tuned.base == tuned.parent


def test_pairs_are_right_over_wrong_and_consistent_over_inconsistent_in_one_dpo(tmp_path: Path) -> None:
    fake_run(recipe(), tmp_path / "a", backends=FakeBackends(answer))
    root = tmp_path / "a"
    said, worth = {v.sample: v.status for v in read(root, Verdict, "verify")}, credit(root)
    for stage in ("pair", "pair-followed"):
        picks = [pick for pick in read(root, Pick, stage) if pick.group]
        sides = [{p.group: p.sample for p in picks if p.side == side} for side in ("chosen", "rejected")]
        assert sides[0]
        for group, chosen in sides[0].items():
            rejected = sides[1][group]
            if stage == "pair":
                assert (said[chosen], said[rejected]) == ("pass", "fail")
            else:
                assert (said[chosen], said[rejected]) == ("pass", "pass")
                assert worth[chosen] > worth[rejected]
    rows = read(root, Row, "build-pairs")
    groups = {p.group for stage in ("pair", "pair-followed") for p in read(root, Pick, stage) if p.group}
    assert {row.group for row in rows} == groups
    assert len(rows) == 2 * len(groups)
    assert after_fine_tuning(root)

    def from_base(stage: Stage) -> Stage:
        return replace(stage, start="base") if isinstance(stage, Train) else stage

    fake_run(recipe().changed(from_base), tmp_path / "b", backends=FakeBackends(answer))
    assert not after_fine_tuning(tmp_path / "b")


def test_options_are_a_problems_choices_where_it_has_some(tmp_path: Path) -> None:
    given = [replace(p, meta={"choices": ["7", p.answer, "two"]}) for p in sums(8, first=20)]
    held_out = {"valid": sums(4, "valid", 200), "test": sums(4, "test", 400)}
    fake_run(recipe(), tmp_path, problems={"train": given, **held_out}, backends=FakeBackends(answer))
    asked = read(tmp_path, Problem, "propose")
    assert asked
    wanted = {p.id: p.answer for p in given}
    for problem in asked:
        option = problem.prompt[-1]["content"].removeprefix("Is ").split(" ")[0]
        assert option in ("7", "two", wanted[problem.parent or ""])
        assert problem.answer == ("yes" if option == wanted[problem.parent or ""] else "no")
