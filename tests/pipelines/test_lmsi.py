"""LMSI: rows are the samples with the commonest answer, and gold answers are never looked at."""

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from selftrain.records import Verdict
from selftrain.testing import fake_run
from tests.pipelines.stored import kept, made, problems, read, samples, unlabelled

SMALL: dict[str, Any] = {"samples": 6, "max_new_tokens": 40}


def test_kept_samples_give_the_commonest_answer_right_or_wrong(tmp_path: Path) -> None:
    fake_run(made("lmsi", **SMALL), tmp_path)
    sampled = samples(tmp_path, "generate")
    answers = {v.sample: v.answer for v in read(tmp_path, Verdict, "verify")}
    votes: dict[str, Counter[str | None]] = defaultdict(Counter)
    for s in sampled.values():
        votes[s.problem][answers[s.id]] += 1
    chosen = kept(tmp_path)
    assert {sampled[id].problem for id in chosen} == set(votes)
    for id in chosen:
        count = votes[sampled[id].problem]
        assert count[answers[id]] == max(count.values())
    gold = problems(tmp_path)
    assert any(answers[id] != gold[sampled[id].problem].answer for id in chosen)


def test_a_share_leaves_out_problems_without_a_clear_majority(tmp_path: Path) -> None:
    fake_run(made("lmsi", share=0.6, **SMALL), tmp_path)
    scores = {v.sample: v.score for v in read(tmp_path, Verdict, "verify")}
    assert all((scores[id] or 0) >= 0.6 for id in kept(tmp_path))
    left = {s.problem for id, s in samples(tmp_path, "generate").items() if id in kept(tmp_path)}
    assert 0 < len(left) < 12


def test_permuted_gold_answers_change_no_row_and_no_checkpoint(tmp_path: Path) -> None:
    assert made("lmsi").labels == "none"
    assert made("lmsi", gate=True).labels == "gold"
    assert unlabelled("lmsi", tmp_path, rounds=2, **SMALL)


def test_that_test_finds_a_recipe_that_looks(tmp_path: Path) -> None:
    assert not unlabelled("rft", tmp_path, gold=0.0, **SMALL)
