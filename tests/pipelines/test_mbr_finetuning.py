"""MBR finetuning: the row of a problem is the sample that is most like its others."""

from pathlib import Path
from typing import Any

from selftrain.records import Verdict
from selftrain.testing import fake_run
from tests.pipelines.stored import kept, made, read, samples, unlabelled

SMALL: dict[str, Any] = {"samples": 5, "max_new_tokens": 40}


def test_the_kept_sample_has_the_highest_mean_likeness(tmp_path: Path) -> None:
    fake_run(made("mbr_finetuning", **SMALL), tmp_path)
    sampled = samples(tmp_path, "generate")
    scores = {v.sample: v.score or 0.0 for v in read(tmp_path, Verdict, "verify")}
    assert len(kept(tmp_path)) == 12
    for id in kept(tmp_path):
        assert scores[id] == max(scores[s.id] for s in sampled.values() if s.problem == sampled[id].problem)
    assert len(set(scores.values())) > 3


def test_gold_answers_change_nothing(tmp_path: Path) -> None:
    assert made("mbr_finetuning").labels == "none"
    assert unlabelled("mbr_finetuning", tmp_path, **SMALL)
