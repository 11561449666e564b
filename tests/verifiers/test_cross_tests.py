from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from selftrain import lab, plugins
from selftrain.backends.sandbox import open_sandbox
from selftrain.records import Problem, Score
from selftrain.verification.verify import load_verifier
from tests.verifiers.group import group

CROSS: Any = plugins.load("verifier", "cross_tests")
LINKS = st.tuples(st.integers(1, 5), st.integers(1, 5)).flatmap(
    lambda size: st.lists(
        st.lists(st.booleans(), min_size=size[1], max_size=size[1]), min_size=size[0], max_size=size[0]
    )
)
PROBLEM = Problem.of("Write median(values).", meta={"entry_point": "median"})
RIGHT = "def median(values):\n    values = sorted(values)\n    return values[len(values) // 2]"
ALSO = "import statistics\n\ndef median(values):\n    return statistics.median_high(values)"
WRONG = "def median(values):\n    return values[len(values) // 2]"
HANGS = "def median(values):\n    while True:\n        pass"
TESTS = ["assert median([3, 1, 2]) == 2", "assert median([9, 1, 5]) == 5", "assert median([3, 1, 2]) == 1"]


class Faulty:
    """The sandbox, but for one program that it always loses; it counts what it is asked."""

    def __init__(self, sandbox: Any, loses: str = "") -> None:
        self.sandbox = sandbox
        self.loses = loses
        self.asked = 0

    def test(self, program: str, **given: Any) -> lab.Tested:
        self.asked += 1
        if program == self.loses:
            return lab.Tested(outcome="lost", why="the sandbox is gone")
        tested: lab.Tested = self.sandbox.test(program, **given)
        return tested


@pytest.fixture(scope="module")
def sandbox() -> Iterator[object]:
    with open_sandbox() as opened:
        yield opened


def judged(
    texts: Sequence[str], sandbox: object, *, templates: Sequence[str] | None = None, **given: Any
) -> list[Score]:
    attempts = group(PROBLEM, texts, templates=templates)
    scores: list[Score] = CROSS.Verifier(**given).verify_group(problem=PROBLEM, attempts=attempts, sandbox=sandbox)
    return scores


@settings(deadline=None)
@given(LINKS, st.floats(0, 1), st.randoms())
def test_credit_is_a_share_and_follows_its_owner(links: list[list[bool]], damping: float, random: Any) -> None:
    assume(any(map(any, links)))
    given = CROSS.credit(links, damping=damping)
    assert max(given.programs) == max(given.tests) == 1
    assert min(given.programs + given.tests) >= 0
    rows = random.sample(range(len(links)), len(links))
    columns = random.sample(range(len(links[0])), len(links[0]))
    mixed = CROSS.credit([[links[row][column] for column in columns] for row in rows], damping=damping)
    assert mixed.programs == [given.programs[row] for row in rows]
    assert mixed.tests == [given.tests[column] for column in columns]


@settings(deadline=None)
@given(LINKS)
def test_who_passes_more_has_no_less_credit(links: list[list[bool]]) -> None:
    assume(any(map(any, links)))
    programs = CROSS.credit(links, damping=0.85).programs
    for one, first in zip(links, programs, strict=True):
        for other, second in zip(links, programs, strict=True):
            if all(a or not b for a, b in zip(one, other, strict=True)):
                assert first >= second


def test_ten_rounds_by_hand() -> None:
    # One program passes one of two tests: it and the test go from 1 to (0.15 + 0.85) each round, the other test decays.
    given = CROSS.credit([[True, False]], damping=0.85)
    assert given.programs == [1.0]
    assert given.tests == [1.0, pytest.approx(0.15**10)]


def test_programs_and_tests_vouch_for_each_other(sandbox: object) -> None:
    texts = [RIGHT, ALSO, WRONG, *TESTS]
    scores = judged(texts, sandbox, templates=["direct"] * 3 + ["tests"] * 3, threshold=0.5)
    assert [score.status for score in scores] == ["pass", "pass", "fail", "pass", "pass", "fail"]
    assert scores[0].why == "it passes with 2 of 3"
    assert scores == judged(texts, sandbox, threshold=0.5)


def test_a_program_that_hangs_gets_no_credit(sandbox: object) -> None:
    scores = judged([RIGHT, HANGS, "", *TESTS[:1]], sandbox, seconds=0.5)
    assert [score.status for score in scores] == ["scored"] * 4
    assert [round(score.score or 0, 3) for score in scores] == [1.0, 0.0, 0.0, 1.0]


def test_a_test_without_an_assertion_is_none(sandbox: object) -> None:
    texts = [RIGHT, "print('fine')", "assert median([1]) == 1"]
    scores = judged(texts, sandbox, templates=["direct", "tests", "tests"])
    assert [round(score.score or 0, 3) for score in scores] == [1.0, 0.0, 1.0]


def test_what_the_sandbox_could_not_judge_is_an_error(sandbox: object) -> None:
    test = "assert median([1]) == 1"
    scores = judged([RIGHT, WRONG, "", test], Faulty(sandbox, loses=WRONG))
    assert [score.status for score in scores] == ["scored", "error", "scored", "scored"]
    assert scores[1].why == "the sandbox is gone"
    assert scores[3].why == "it passes with 1 of 2"
    everything_lost = judged([WRONG, test], Faulty(sandbox, loses=WRONG))
    assert [score.status for score in everything_lost] == ["error", "abstain"]


def test_equal_tests_are_run_once(sandbox: object) -> None:
    test = "assert median([1]) == 1"
    counted = Faulty(sandbox)
    assert [score.score for score in judged([RIGHT, test, test, test], counted)] == [1.0] * 4
    assert counted.asked == 1


@pytest.mark.parametrize("texts", [[], [RIGHT], [TESTS[0]], [WRONG, TESTS[0]]])
def test_without_credit_to_give_all_abstain(texts: list[str], sandbox: object) -> None:
    assert [score.status for score in judged(texts, sandbox)] == ["abstain"] * len(texts)


@pytest.mark.parametrize(
    ("text", "test"),
    [
        ("assert median([1]) == 1", True),
        ("```python\ndef test_median():\n    assert median([1]) == 1\n```", True),
        ("def check(candidate):\n    assert candidate([1]) == 1", True),
        ("def checked(values):\n    return values", False),
        (RIGHT + "\n\nassert median([1]) == 1", False),
        ("no code", False),
        ("", False),
    ],
)
def test_which_samples_are_tests(text: str, test: bool) -> None:
    entry = "median"
    assert CROSS._asserts(CROSS.code_in(text), entry) == test


def test_it_loads_and_asks_for_a_sandbox() -> None:
    assert load_verifier("cross_tests").asks == {"sandbox"}
