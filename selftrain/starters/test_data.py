"""Tests of NAME.py; run them with `pytest`."""

from pathlib import Path

from selftrain.problems import load_problems
from selftrain.verification.verify import load_verifier

DATA = str(Path(__file__).with_name("NAME.py"))


def test_its_splits_are_as_large_as_asked_for_and_share_nothing() -> None:
    """Held-out problems must not be trained on."""
    splits = load_problems(DATA, train=40, valid=20, test=20, seed=1)
    assert (len(splits.train), len(splits.valid), len(splits.test)) == (40, 20, 20)
    assert len({p.text for p in (*splits.train, *splits.valid, *splits.test)}) == 80


def test_the_same_seed_gives_the_same_problems() -> None:
    """A run that is resumed finds what it began with."""
    first, second = (load_problems(DATA, train=10, valid=5, test=5, seed=seed) for seed in (1, 2))
    assert first == load_problems(DATA, train=10, valid=5, test=5, seed=1)
    assert first != second


def test_its_verifier_passes_its_answers() -> None:
    """Each problem names its verifier, which must take the gold answer for right."""
    for problem in load_problems(DATA, train=10, valid=0, test=0, seed=1).train:
        judged = load_verifier(problem.verifier).judge(problem=problem, response=f"#### {problem.answer}")
        assert judged.status == "pass"
