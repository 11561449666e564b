from pathlib import Path

import pytest

from selftrain.backends.pool import VerifierPool
from selftrain.errors import PluginError
from selftrain.records import Problem
from selftrain.verification.verify import load_verifier
from tests.verifiers.group import group


def test_a_pattern_that_takes_for_ever_is_a_timeout_of_that_response_only(tmp_path: Path) -> None:
    problem = Problem.of("?", meta={"pattern": "(a+)+"})
    items = [(problem, each) for each in group(problem, ["aaa", "a" * 60 + "b", "b"])]
    with VerifierPool(workers=1, log=tmp_path / "log", time_limit=1.0) as pool:
        statuses = {verdict.sample: verdict.status for verdict in pool.verify("regex", items)}
    assert [statuses[each.id] for _, each in items] == ["pass", "timeout", "fail"]


def test_a_wrong_setting_is_named() -> None:
    with pytest.raises(PluginError, match="match: Input should be 'full' or 'search'"):
        load_verifier('{"name": "regex", "match": "fully"}')


def test_the_answer_is_what_the_response_marks() -> None:
    verifier = load_verifier("regex")
    for pattern in ("a", "(", None):
        problem = Problem.of("?", meta={"pattern": pattern})
        assert verifier.judge(problem=problem, response="#### a").answer == "a"
