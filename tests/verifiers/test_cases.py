"""Every verifier meets its own cases, and the contract."""

from collections.abc import Iterator

import pytest

from selftrain.plugins import available
from selftrain.records import Case, Problem, Sample, Score
from selftrain.verify import LoadedVerifier, load_verifier


def problem_of(case: Case) -> Problem:
    return Problem.of(case.prompt, answer=case.answer, tests=case.tests, meta=case.meta)


def sample_of(case: Case, index: int) -> Sample:
    return Sample(
        id=f"{index}",
        problem=problem_of(case).id,
        index=index,
        text=case.response,
        prompt_ids=(),
        completion_ids=(),
        tokenizer="",
        finish="stop",
        model="test",
    )


def judged(verifier: LoadedVerifier) -> Iterator[tuple[Case, Score]]:
    """Judge the cases one by one; for a group verifier the cases of equal problems are a group."""
    if not verifier.group:
        for case in verifier.cases:
            yield case, verifier.judge(problem=problem_of(case), response=case.response)
        return
    groups: dict[str, list[Case]] = {}
    for case in verifier.cases:
        groups.setdefault(problem_of(case).id, []).append(case)
    for cases in groups.values():
        attempts = [sample_of(case, index) for index, case in enumerate(cases)]
        yield from zip(cases, verifier.judge_group(problem=problem_of(cases[0]), attempts=attempts), strict=True)


@pytest.mark.parametrize("name", sorted(available("verifier")))
def test_a_verifier_scores_its_own_cases(name: str) -> None:
    verifier = load_verifier(name)
    if verifier.needs != "cpu":
        pytest.skip(f"{name} needs a {verifier.needs}")
    assert {"pass", "fail"} <= {case.expect for case in verifier.cases}
    wrong = [f"{case.response[:60]!r}: {score}" for case, score in judged(verifier) if score.status != case.expect]
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
