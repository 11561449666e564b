import random
import re
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selftrain import plugins
from selftrain.backends.sandbox import open_sandbox
from selftrain.errors import DataError
from selftrain.lab import Sandbox
from selftrain.problems import load_problems
from selftrain.records import Problem
from selftrain.verification.verify import LoadedVerifier, load_verifier

programs = plugins.load("data", "programs")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with open_sandbox() as opened:
        yield opened


@pytest.fixture(scope="module")
def verifier(sandbox: Sandbox) -> LoadedVerifier:
    return load_verifier("python_tests", {"sandbox": sandbox}.__getitem__)


def drawn(count: int, seed: int, operations: tuple[int, int] = (1, 3)) -> list[tuple[tuple[object, ...], Problem]]:
    stream = random.Random(seed)
    both: list[tuple[tuple[object, ...], Problem]] = []
    while len(both) < count:
        steps = programs.draw(stream, operations)
        if (problem := programs.problem(steps)) is not None:
            both.append((steps, problem))
    return both


def test_every_operation_is_done_as_it_is_written() -> None:
    for name, operation in programs.OPERATIONS.items():
        for k in operation.numbers:
            for xs in ([], [3], [5, -2, 5, 0, 7, 1, 4, 4, 9, -15, 30]):
                written = eval(operation.written.format(k=k), {"xs": list(xs)})
                assert written == operation.does(list(xs), k), (name, k, xs)
        assert ("{k}" in operation.asked) == ("{k}" in operation.written) == (len(operation.numbers) > 1)


def test_solutions_pass_and_variants_fail(sandbox: Sandbox) -> None:
    everywhere = [random.Random(seed).choices(range(-40, 40), k=10) for seed in range(300)]
    told = untold = 0
    for steps, problem in drawn(12, seed=3):
        assert problem.solution is not None
        assert problem.tests is not None
        assert sandbox.test(problem.solution, tests=problem.tests, seconds=2.0).outcome == "passed"
        for variant in programs.variants(steps):
            if not variant or all(programs.outcome(variant, xs) == programs.outcome(steps, xs) for xs in everywhere):
                continue
            outcome = sandbox.test(programs.solution(variant), tests=problem.tests, seconds=2.0).outcome
            told, untold = told + (outcome == "wrong"), untold + (outcome == "passed")
    assert told > 200
    assert untold <= 0.02 * told


def test_the_verifier_takes_solutions_bare_and_fenced(verifier: LoadedVerifier) -> None:
    for _, problem in drawn(3, seed=5):
        assert problem.solution is not None
        said = f"Here it is:\n```python\n{problem.solution}\n```"
        for response in (problem.solution, said):
            assert verifier.judge(problem=problem, response=response).status == "pass"
        assert verifier.judge(problem=problem, response="def f(xs):\n    return None").status == "fail"
        assert verifier.judge(problem=problem, response="def f(xs):\n    return [").status == "fail"


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 3))
def test_tests_are_a_handful_and_begin_with_the_empty_list(seed: int, operations: int) -> None:
    problem = programs.problem(programs.draw(random.Random(seed), (operations, operations)))
    if problem is not None:
        lines = problem.tests.splitlines()
        assert lines[0].startswith("assert f([]) == ")
        assert 5 <= len(lines) <= 9
        assert len(set(lines)) == len(lines)
        assert all(re.fullmatch(r"assert f\(\[[-\d, ]*\]\) == (\[[-\d, ]*\]|-?\d+)", line) for line in lines)


def test_an_idle_operation_makes_no_problem() -> None:
    step = programs.Step
    idle = [
        (step("reverse", 0), step("sort", 0)),
        (step("sort", 0), step("sum", 0)),
        (step("first", 3), step("first", 4)),
        (step("multiply", 2), step("even", 0)),
        (step("multiply", 4), step("odd", 0)),
        (step("above", 5), step("below", 4), step("count", 0)),
    ]
    assert [programs.problem(steps) for steps in idle] == [None] * len(idle)
    assert programs.problem((step("sort", 0), step("first", 2), step("sum", 0))) is not None


def test_operations_are_as_many_as_asked_for() -> None:
    some = {"min_operations": 3, "max_operations": 3}
    splits = load_problems("programs", train=15, valid=5, test=5, seed=4, settings=some)
    assert {len(problem.meta["operations"]) for problem in (*splits.train, *splits.valid, *splits.test)} == {3}
    both = load_problems("programs", train=40, valid=0, test=0, seed=4)
    assert {len(problem.meta["operations"]) for problem in both.train} == {1, 2}


def test_splits_draw_from_different_programs_whatever_their_size() -> None:
    one, other = (
        load_problems("programs", train=train, valid=0, test=test, seed=7, settings={"max_operations": 1})
        for train, test in ((20, 0), (0, 8))
    )
    assert not {problem.text for problem in one.train} & {problem.text for problem in other.test}


def test_a_number_of_operations_that_cannot_be_is_refused() -> None:
    with pytest.raises(DataError, match="min_operations=3, max_operations=2; both at least 1 and in this order"):
        load_problems("programs", train=1, valid=0, test=0, seed=0, settings={"min_operations": 3})


def test_too_many_problems_are_refused_with_the_number_there_is() -> None:
    with pytest.raises(DataError, match=r"has \d+ distinct problems, too few for train 100"):
        load_problems("programs", train=100, valid=0, test=0, seed=0, settings={"max_operations": 1})
