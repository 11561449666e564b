"""RAFT: each row is the best-scored response of its problem, and training continues."""

from pathlib import Path
from typing import Any

from selftrain.records import Verdict
from selftrain.testing import fake_run
from tests.pipelines.stored import kept, made, read, samples, trained_on, unlabelled

SMALL: dict[str, Any] = {"samples": 4, "max_new_tokens": 40}


def test_each_kept_response_is_the_best_of_its_problem(tmp_path: Path) -> None:
    fake_run(made("raft", rounds=1, **SMALL), tmp_path)
    scores = {v.sample: v.score or 0.0 for v in read(tmp_path, Verdict, "verify")}
    sampled = samples(tmp_path, "generate")
    best = kept(tmp_path)
    assert trained_on(tmp_path) == best
    assert sorted(sampled[id].problem for id in best) == sorted({s.problem for s in sampled.values()})
    for id in best:
        assert scores[id] == max(scores[s.id] for s in sampled.values() if s.problem == sampled[id].problem)
    assert len(set(scores.values())) > 1


def test_training_continues_from_the_latest_weights(tmp_path: Path) -> None:
    history = fake_run(made("raft", rounds=2, **SMALL), tmp_path)
    assert history.rounds[2].checkpoints["policy"].parent == history.rounds[1].checkpoints["policy"].id


def test_gold_answers_change_nothing_unless_the_reward_may_look(tmp_path: Path) -> None:
    assert made("raft").labels == "none"
    assert made("raft", gold=True).labels == "gold"
    assert unlabelled("raft", tmp_path, rounds=2, **SMALL)
