"""Every verifier meets its own cases, and the contract."""

import contextlib
import functools
import json
from collections.abc import Iterator

import pytest

from selftrain.plugins import available
from selftrain.records import Case, Problem, Sample, Score, digest
from selftrain.verification.verify import Give, load_verifier, nothing


def problem_of(case: Case) -> Problem:
    return Problem.of(case.prompt, answer=case.answer, tests=case.tests, meta=case.meta)


def sample_of(case: Case, index: int) -> Sample:
    return Sample.given(
        problem_of(case), case.response, id=f"{index}", model="test", index=index, template=case.template
    )


def judged(name: str, given: Give) -> Iterator[tuple[Case, Score]]:
    """Judge a verifier's cases; for a group verifier the cases of one problem and of the same settings are a group."""
    groups: dict[str, list[Case]] = {}
    for case in load_verifier(name).cases:
        groups.setdefault(digest(dict(case.settings), dict(case.meta), problem_of(case).id), []).append(case)
    for cases in groups.values():
        problem, settings = problem_of(cases[0]), cases[0].settings
        verifier = load_verifier(json.dumps({"name": name, **settings}) if settings else name, given)
        if verifier.group:
            attempts = [sample_of(case, index) for index, case in enumerate(cases)]
            yield from zip(cases, verifier.judge_group(problem=problem, attempts=attempts), strict=True)
        else:
            for case in cases:
                yield case, verifier.judge(problem=problem, response=case.response)


@pytest.fixture(scope="module")
def given() -> Iterator[Give]:
    with contextlib.ExitStack() as opened:

        @functools.cache
        def give(resource: str) -> object:
            if resource != "sandbox":
                return nothing(resource)
            from selftrain.backends.sandbox import open_sandbox

            return opened.enter_context(open_sandbox())

        yield give


@pytest.mark.parametrize("name", sorted(available("verifier")))
def test_a_verifier_scores_its_own_cases(name: str, given: Give) -> None:
    verifier = load_verifier(name)
    if verifier.asks & {"model", "scorer"}:
        pytest.skip(f"{name} asks a model: what it says is tested with one in a test of its own")
    assert {"pass", "fail"} <= {case.expect for case in verifier.cases}
    wrong = [f"{case.response[:60]!r}: {score}" for case, score in judged(name, given) if score.status != case.expect]
    assert not wrong


@pytest.mark.parametrize("name", ["number", "expression", "exact", "choice"])
def test_the_answer_taken_does_not_depend_on_the_gold_answer(name: str) -> None:
    verifier = load_verifier(name)
    for case in verifier.cases:
        taken = set()
        for gold in (case.answer, None, "1", "B"):
            problem = Problem.of(case.prompt, answer=gold, meta=case.meta)
            taken.add(verifier.judge(problem=problem, response=case.response).answer)
        assert len(taken) == 1, case


def test_the_built_in_verifiers_are_there() -> None:
    assert {"number", "expression", "exact", "choice"} <= set(available("verifier"))
