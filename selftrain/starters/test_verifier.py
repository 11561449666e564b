"""Tests of NAME.py; run them with `pytest`."""

from pathlib import Path

from selftrain.records import Problem
from selftrain.verification.conformance import check
from selftrain.verification.verify import load_verifier

VERIFIER = str(Path(__file__).with_name("NAME.py"))


def test_it_keeps_the_contract() -> None:
    """Its cases, awkward responses, repetition, time: what `selftrain verify --check` tests."""
    report = check(VERIFIER)
    assert report.passed, str(report)


def test_what_it_must_never_get_wrong() -> None:
    """Write down each mistake that it once made."""
    verifier = load_verifier(VERIFIER)
    problem = Problem.of("What is 6 * 3?", answer="18")
    assert verifier.judge(problem=problem, response="It is not 17.\n#### 18").status == "pass"
    assert verifier.judge(problem=problem, response="It is not 18.\n#### 17").status == "fail"
