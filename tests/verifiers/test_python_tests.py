"""HumanEval: what is right passes, what is broken fails, and nothing talks its way through."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from selftrain import plugins
from selftrain.backends.pool import VerifierPool
from selftrain.backends.sandbox import BoxedSandbox, open_sandbox
from selftrain.records import Problem, Sample, Score, Verdict
from selftrain.verification.programs import code_in, completed
from selftrain.verification.verify import load_verifier
from tests.attacks.spoofing import SPOOFS
from tests.verifiers.broken import KINDS, broken

FOLDER = os.environ.get("SELFTRAIN_GSM8K")
BUNDLED: list[Problem] = list(plugins.load("data", "humaneval").bundled())
HELPED = {"HumanEval/32": "poly", "HumanEval/38": "encode_cyclic", "HumanEval/50": "encode_shift"}
"""All of HumanEval whose tests call a helper function of the prompt; none passes a callable."""
EQUIVALENT = {
    ("wrong constant", "HumanEval/35"): "the greatest element may begin at the second as well as at the first",
    ("wrong constant", "HumanEval/74"): "both totals begin at 1 instead of 0, and only their order counts",
    ("wrong constant", "HumanEval/115"): "its only constant is its description, which stands after an import",
}
"""Broken variants that are as right as the reference, each with the reason."""


def all_problems() -> list[Problem]:
    if FOLDER is None or not any(Path(FOLDER).glob("HumanEval.jsonl*")):
        pytest.skip("SELFTRAIN_GSM8K names no folder with HumanEval.jsonl.gz")
    loaded = plugins.load("data", "humaneval").load(train=0, valid=0, test=164, seed=0, path=FOLDER)
    return list(loaded["test"])


@pytest.fixture(scope="module")
def sandbox() -> Iterator[BoxedSandbox]:
    with open_sandbox() as opened:
        yield opened


def judged(problem: Problem, response: str, sandbox: BoxedSandbox) -> Score:
    return load_verifier("python_tests", lambda _: sandbox).judge(problem=problem, response=response)


def reference(problem: Problem) -> str:
    return code_in(problem.solution or "")


def entry_of(problem: Problem) -> str:
    return str(problem.meta["entry_point"])


def spoofed(problem: Problem) -> Iterator[tuple[str, str]]:
    """A wrong variant of the reference, behind each spoof; behind and before it where the spoof is a function."""
    wrong = broken(reference(problem), entry_of(problem), "early return")
    for spoof in SPOOFS:
        program = spoof.program.replace("@ENTRY@", entry_of(problem))
        after = f"\n{program}\n" if "@ENTRY@" in spoof.program else ""
        yield spoof.name, f"{program}\n\n{wrong}\n{after}"


def in_pool(cases: Sequence[tuple[Problem, str]]) -> list[Verdict]:
    """Judge responses in the pool; their verdicts in the same order."""
    items = [(problem, sample(problem, str(at), response)) for at, (problem, response) in enumerate(cases)]
    with VerifierPool(2) as pool:
        verdicts = {verdict.sample: verdict for verdict in pool.verify("python_tests", items)}
    return [verdicts[str(at)] for at in range(len(cases))]


def sample(problem: Problem, id: str, text: str) -> Sample:
    return Sample.given(problem, text, id=id, model="test")


@pytest.mark.parametrize("problem", BUNDLED, ids=lambda problem: str(problem.meta["task_id"]))
def test_a_bundled_reference_passes_and_its_broken_variants_fail(problem: Problem, sandbox: BoxedSandbox) -> None:
    assert judged(problem, problem.solution or "", sandbox).status == "pass"
    for kind in set(KINDS) - {"endless loop"}:
        variant = broken(reference(problem), entry_of(problem), kind)
        if variant is not None:
            assert judged(problem, variant, sandbox).status == "fail", kind


def test_a_completion_of_the_prompt_passes_too(sandbox: BoxedSandbox) -> None:
    for problem in BUNDLED:
        body = reference(problem).removeprefix(str(problem.meta["prompt"]))
        assert judged(problem, body, sandbox).status == "pass", problem.meta["task_id"]


def test_an_endless_loop_fails_at_its_limit(sandbox: BoxedSandbox) -> None:
    variant = broken(reference(BUNDLED[0]), entry_of(BUNDLED[0]), "endless loop")
    score = judged(BUNDLED[0], variant or "", sandbox)
    assert (score.status, score.why) == ("fail", "over its time limit of 2 s")


def test_no_spoof_makes_a_wrong_program_pass(sandbox: BoxedSandbox) -> None:
    for name, program in spoofed(BUNDLED[0]):
        assert judged(BUNDLED[0], program, sandbox).status == "fail", name


def test_a_right_program_behind_a_harmless_spoof_still_passes(sandbox: BoxedSandbox) -> None:
    # Or the spoofs above might fail for being spoofs.
    for name in ("print", "proc-1-mem", "atexit", "kill-server"):
        program = next(spoof.program for spoof in SPOOFS if spoof.name == name)
        assert judged(BUNDLED[0], f"{program}\n{reference(BUNDLED[0])}", sandbox).status == "pass", name


def test_helpers_of_the_prompt_are_the_judges_own(sandbox: BoxedSandbox) -> None:
    bundled = {str(problem.meta["task_id"]): problem for problem in BUNDLED}
    for name, helper in HELPED.items():
        problem = bundled[name]
        assert f"{helper}(" in (problem.tests or "")
        # A program that brings its own helper changes nothing for the tests.
        liar = f"{reference(problem)}\ndef {helper}(*args):\n    raise ValueError('mine')\n"
        if helper not in reference(problem).partition(f"def {entry_of(problem)}")[2]:
            assert judged(problem, liar, sandbox).status == "pass", name


def test_tests_that_do_not_work_are_an_error(sandbox: BoxedSandbox) -> None:
    for tests in ("assert (", "raise ValueError('broken tests')", "x = 1", "import nothing_of_this_name"):
        problem = Problem.of("?", tests=tests, verifier="python_tests")
        assert judged(problem, "def f(x):\n    return x", sandbox).status == "error", tests


@pytest.mark.slow
def test_all_references_of_humaneval_pass() -> None:
    problems = all_problems()
    verdicts = in_pool([(problem, problem.solution or "") for problem in problems])
    assert len(verdicts) == 164
    assert {verdict.status for verdict in verdicts} == {"pass"}


def test_the_list_of_helped_problems_is_whole() -> None:
    for problem in all_problems():
        whole = completed(str(problem.meta["prompt"]), "    pass", entry_of(problem))
        helpers = [name for name in HELPED.values() if f"def {name}(" in whole and name != entry_of(problem)]
        called = [name for name in helpers if f"{name}(" in (problem.tests or "")]
        assert called == [name for task, name in HELPED.items() if task == problem.meta["task_id"]]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_no_broken_variant_of_humaneval_passes(kind: str) -> None:
    made = {str(p.meta["task_id"]): (p, broken(reference(p), entry_of(p), kind)) for p in all_problems()}
    cases = {task: (problem, variant) for task, (problem, variant) in made.items() if variant is not None}
    # Some functions have no constant, or no condition.
    assert len(cases) >= {"wrong constant": 140, "swapped branch": 110}.get(kind, 164)
    verdicts = dict(zip(cases, in_pool(list(cases.values())), strict=True))
    assert {verdict.status for verdict in verdicts.values()} <= {"pass", "fail"}
    assert {task for task, verdict in verdicts.items() if verdict.status == "pass"} == {
        task for other, task in EQUIVALENT if other == kind
    }
    if kind == "endless loop":
        assert {verdict.why for verdict in verdicts.values()} == {"over its time limit of 2 s"}


@pytest.mark.slow
def test_no_spoof_makes_a_wrong_variant_of_humaneval_pass() -> None:
    cases = [(problem, program, name) for problem in all_problems() for name, program in spoofed(problem)]
    verdicts = in_pool([(problem, program) for problem, program, _ in cases])
    passed = [(p.meta["task_id"], name) for (p, _, name), v in zip(cases, verdicts, strict=True) if v.status != "fail"]
    assert len(cases) == 164 * len(SPOOFS)
    assert passed == [], json.dumps(passed[:20])
