"""Programs and tests for them, both from a model, vouch for each other: CodeDPO's mutual credit (arXiv:2410.05605).

Both are samples of one problem. A sample is a test if its template is the one that `tests` names; where no sample of
the problem has it, if its code asserts at the top level, or defines `check` or functions named test_... . Every program
is run on every test in the sandbox. All begin with the credit 1; then, ten times, each keeps 1 - `damping` of its own
and gets `damping` of the credit of those it passes with. The score is the credit as a share of the highest among
programs, or among tests. Without a `threshold` the verdict is scored; with one a sample passes from that share on.

Unlike the paper we scale the credit, so that scores of different problems can be compared. `assert True` passes with
everything and takes credit for it; a test without an assertion passes with nothing. If nothing passes anything, or one
side is missing, all abstain; a program that the sandbox could not judge is an error and vouches for nothing. `meta` may
have `entry_point` and `prompt`, as for `python_tests`; code is found by the rule of
`selftrain/verification/programs.py`.
"""

import ast
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from selftrain.lab import Sandbox, Tested
from selftrain.records import Case, Problem, Sample, Score
from selftrain.verification.combine import checked_share
from selftrain.verification.consensus import verdict
from selftrain.verification.programs import code_in, completed, defined

_HALF = {"threshold": 0.5}
_ADD = "```python\ndef add(a, b):\n    return {}\n```"
_PROMPT = "Write add(a, b)."
cases = (
    Case(settings=_HALF, prompt=_PROMPT, response=_ADD.format("a + b"), expect="pass"),
    Case(settings=_HALF, prompt=_PROMPT, response=_ADD.format("b + a"), expect="pass"),
    Case(settings=_HALF, prompt=_PROMPT, response=_ADD.format("a - b"), expect="fail"),
    Case(settings=_HALF, prompt=_PROMPT, response="加法很容易。", expect="fail"),
    Case(settings=_HALF, prompt=_PROMPT, template="tests", response="assert add(1, 2) == 3", expect="pass"),
    Case(settings=_HALF, prompt=_PROMPT, template="tests", response="assert add(2, 2) == 4", expect="pass"),
    Case(settings=_HALF, prompt=_PROMPT, template="tests", response="assert add(2, 1) == 1", expect="fail"),
    Case(settings=_HALF, prompt=_PROMPT, template="tests", response="assert add(2, 1) ==", expect="fail"),
    Case(settings=_HALF, prompt=_PROMPT, template="tests", response="", expect="fail"),
    Case(prompt="Unmarked: add(a, b)", response=_ADD.format("a + b"), expect="scored"),
    Case(prompt="Unmarked: add(a, b)", response="assert add(1, 2) == 3", expect="scored"),
    Case(prompt="No tests: add(a, b)", response=_ADD.format("a + b"), expect="abstain"),
    Case(prompt="Nothing passes: add(a, b)", response=_ADD.format("a - b"), expect="abstain"),
    Case(prompt="Nothing passes: add(a, b)", response="assert add(1, 2) == 3", expect="abstain"),
)

ROUNDS = 10
"""How often credit is passed on; the paper's."""


class Code(NamedTuple):
    """A sample's place in its group, and its code."""

    at: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """Passes credit between programs and tests."""

    tests: str = "tests"
    """The template of the samples that are tests."""
    damping: float = 0.85
    """The share of credit that comes from the other side."""
    threshold: float | None = None
    """The share of the highest credit from which a sample passes."""
    seconds: float = 2.0
    """What a program may take on one test."""

    def __post_init__(self) -> None:
        checked_share("threshold", self.threshold)
        checked_share("damping", self.damping)

    @property
    def time_limit(self) -> float:
        """Of each sample: a group of 32 programs and 32 tests has room for each pair to go to its limit."""
        return 60.0 + 16 * self.seconds

    def verify_group(self, *, problem: Problem, attempts: Sequence[Sample], sandbox: Sandbox) -> list[Score]:
        """Score each program and each test by its credit."""
        programs, tests = self._sides(problem, attempts)
        tested = {program.at: self._tested(problem, program, tests, sandbox) for program in programs}
        judged = [program for program in programs if all(each.outcome != "lost" for each in tested[program.at])]
        links = [[each.outcome == "passed" for each in tested[program.at]] for program in judged]
        scores = {program.at: _lost(tested[program.at]) for program in programs if program not in judged}
        if not any(any(row) for row in links):
            why = "no program passes any test" if programs and tests else "there are not both programs and tests"
            return [scores.get(at) or Score(status="abstain", why=why) for at in range(len(attempts))]
        given = credit(links, damping=self.damping)
        for side, shares, passed in (
            (judged, given.programs, [sum(row) for row in links]),
            (tests, given.tests, [sum(row[at] for row in links) for at in range(len(tests))]),
        ):
            others = len(tests) if side is judged else len(judged)
            for code, share, count in zip(side, shares, passed, strict=True):
                scores[code.at] = verdict(
                    share, threshold=self.threshold, why=f"it passes with {count} of {others}", answer=None
                )
        return [scores[at] for at in range(len(attempts))]

    def _sides(self, problem: Problem, attempts: Sequence[Sample]) -> tuple[list[Code], list[Code]]:
        """Return the programs, whole, and the tests."""
        entry, prompt = (str(problem.meta.get(key) or "") for key in ("entry_point", "prompt"))
        marked = any(sample.template == self.tests for sample in attempts)
        programs, tests = [], []
        for at, sample in enumerate(attempts):
            code = code_in(sample.text)
            if sample.template == self.tests if marked else _asserts(code, entry):
                tests.append(Code(at, code))
            else:
                programs.append(Code(at, completed(prompt, code_in(sample.text, defines=entry), entry)))
        return programs, tests

    def _tested(self, problem: Problem, program: Code, tests: Sequence[Code], sandbox: Sandbox) -> list[Tested]:
        entry, prompt = (str(problem.meta.get(key) or "") for key in ("entry_point", "prompt"))
        known: dict[str, Tested] = {}
        for test in tests:
            if test.text not in known:
                known[test.text] = (
                    sandbox.test(program.text, tests=test.text, entry=entry, prompt=prompt, seconds=self.seconds)
                    if _tests_something(test.text)
                    else Tested(outcome="tests", why="there is no test in it")
                )
        return [known[test.text] for test in tests]


class Credit(NamedTuple):
    """The credit of each program and of each test, as shares of their side's highest."""

    programs: list[float]
    tests: list[float]


def credit(links: Sequence[Sequence[bool]], *, damping: float) -> Credit:
    """Pass credit between programs (rows) and tests (columns) that pass together; something must."""
    columns = list(zip(*links, strict=True))
    programs, tests = [1.0] * len(links), [1.0] * len(columns)
    for _ in range(ROUNDS):
        programs, tests = _passed_on(programs, tests, links, damping), _passed_on(tests, programs, columns, damping)
    return Credit([each / max(programs) for each in programs], [each / max(tests) for each in tests])


def _passed_on(
    own: Sequence[float], others: Sequence[float], links: Sequence[Sequence[bool]], damping: float
) -> list[float]:
    # fsum: the order of the samples must not change a digit.
    return [
        (1 - damping) * kept + damping * math.fsum(each for each, linked in zip(others, row, strict=True) if linked)
        for kept, row in zip(own, links, strict=True)
    ]


def _lost(tested: Sequence[Tested]) -> Score:
    return Score(
        status="error", why=next(each.why for each in tested if each.outcome == "lost") or "the sandbox failed"
    )


def _body(code: str) -> list[ast.stmt]:
    try:
        return ast.parse(code).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def _asserts(code: str, entry: str) -> bool:
    """Whether code looks like a test: it asserts at the top level, or defines what tests are called."""
    body = _body(code)
    named = any(
        isinstance(each, ast.FunctionDef) and (each.name + "_").startswith(("check_", "test_")) for each in body
    )
    return (named or any(isinstance(each, ast.Assert) for each in body)) and not (entry and defined(code, entry))


def _tests_something(code: str) -> bool:
    """Whether there is an assertion in it: an empty test would pass with every program."""
    return any(isinstance(node, ast.Assert | ast.Raise) for statement in _body(code) for node in ast.walk(statement))
