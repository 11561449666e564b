"""LMSI: rows are the samples with the commonest answer, and gold answers are never looked at."""

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from selftrain.recipe import Recipe
from selftrain.records import Verdict
from selftrain.testing import fake_run
from tests.pipelines.stored import kept, made, problems, read, samples, unlabelled, without

SMALL: dict[str, Any] = {"samples": 6, "max_new_tokens": 40}


def keeps_the_commonest(root: Path, recipe: Recipe) -> bool:
    """Whether all that is kept gives its problem's commonest answer, some of it for every problem."""
    fake_run(recipe, root)
    sampled = samples(root, "generate")
    answers = {v.sample: v.answer for v in read(root, Verdict, "verify")}
    votes: dict[str, Counter[str | None]] = defaultdict(Counter)
    for s in sampled.values():
        votes[s.problem][answers[s.id]] += 1
    counts = {id: votes[sampled[id].problem] for id in kept(root)}
    assert {sampled[id].problem for id in counts} == set(votes)
    return all(count[answers[id]] == max(count.values()) for id, count in counts.items())


def test_kept_samples_give_the_commonest_answer_right_or_wrong(tmp_path: Path) -> None:
    recipe = made("lmsi", **SMALL)
    assert keeps_the_commonest(tmp_path / "a", recipe)
    sampled, gold = samples(tmp_path / "a", "generate"), problems(tmp_path / "a")
    answers = {v.sample: v.answer for v in read(tmp_path / "a", Verdict, "verify")}
    assert any(answers[id] != gold[sampled[id].problem].answer for id in kept(tmp_path / "a"))
    assert not keeps_the_commonest(tmp_path / "b", without(recipe, "Majority"))


def keeps_clear_majorities(root: Path, recipe: Recipe) -> bool:
    """Whether all that is kept has three fifths of its problem's votes."""
    fake_run(recipe, root)
    scores = {v.sample: v.score or 0.0 for v in read(root, Verdict, "verify")}
    return all(scores[id] >= 0.6 for id in kept(root))


def test_a_share_leaves_out_problems_without_a_clear_majority(tmp_path: Path) -> None:
    assert keeps_clear_majorities(tmp_path, made("lmsi", share=0.6, **SMALL))
    assert not keeps_clear_majorities(tmp_path / "any", made("lmsi", **SMALL))
    left = {s.problem for id, s in samples(tmp_path, "generate").items() if id in kept(tmp_path)}
    assert 0 < len(left) < 12


def test_permuted_gold_answers_change_no_row_and_no_checkpoint(tmp_path: Path) -> None:
    assert made("lmsi").labels == "none"
    assert made("lmsi", gate=True).labels == "gold"
    assert unlabelled("lmsi", tmp_path, rounds=2, **SMALL)


def test_that_test_finds_a_recipe_that_looks(tmp_path: Path) -> None:
    assert not unlabelled("rft", tmp_path, gold=0.0, **SMALL)
