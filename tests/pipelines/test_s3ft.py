"""S3FT: a row is the model's own right answer, or else the gold solution."""

from pathlib import Path

from selftrain.records import Verdict
from selftrain.testing import fake_run
from tests.pipelines.stored import kept, made, read, samples, trained_on


def test_own_where_right_and_gold_where_wrong(tmp_path: Path) -> None:
    fake_run(made("s3ft", temperature=1.0, max_new_tokens=40), tmp_path)
    own, gold = samples(tmp_path, "generate"), samples(tmp_path, "gold")
    right = {own[v.sample].problem for v in read(tmp_path, Verdict, "verify") if v.status == "pass"}
    assert 0 < len(right) < 12
    by_problem = {sample.problem: sample for id, sample in {**own, **gold}.items() if id in kept(tmp_path)}
    assert len(by_problem) == len(kept(tmp_path)) == len(trained_on(tmp_path)) == 12
    assert {id for id, sample in by_problem.items() if sample.finish != "gold"} == right
