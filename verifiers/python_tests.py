"""The response is a Python program that passes the problem's tests, in the sandbox.

`tests` are HumanEval's `check(candidate)`, MBPP's or any other asserts, or functions named test_...; `meta` may have
`entry_point`, the function they call, and `prompt`, the code that the response is to complete. The tests run in
another sandbox than the program and call its functions from there. A program over its time limit fails; tests that
don't work are an error. Code is found by the rule of `selftrain/verification/programs.py`.
"""

from dataclasses import dataclass
from typing import get_args

from selftrain.lab import Outcome, Sandbox
from selftrain.records import Case, Problem, Score, Status
from selftrain.verification.programs import code_in, completed

_TESTS = "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(-3) == 9\n"
_PROMPT = 'def square(x):\n    """Return the square of x."""\n'
_META = {"entry_point": "square", "prompt": _PROMPT}

cases = (
    Case(tests=_TESTS, meta=_META, response="```python\ndef square(x):\n    return x * x\n```", expect="pass"),
    Case(tests=_TESTS, meta=_META, response="    return x * x", expect="pass"),
    Case(tests="assert add([1], [2]) == [1, 2]", response="def add(a, b):\n    return a + b", expect="pass"),
    Case(tests=_TESTS, meta=_META, response="def square(x):\n    return x + x", expect="fail"),
    Case(tests=_TESTS, meta=_META, response="import os\nprint('passed')\nos._exit(0)", expect="fail"),
    Case(tests=_TESTS, meta=_META, response="I don't know.", expect="fail"),
    Case(tests="assert f(1) == 1", response="def g(x):\n    return x", expect="fail"),
    Case(tests="assert f(1) ==", response="def f(x):\n    return x", expect="error"),
    Case(response="def f(x):\n    return x", expect="error"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """Runs tests against the response's functions."""

    seconds: float = 2.0
    """What a program may take, loading and all calls together."""

    @property
    def time_limit(self) -> float:
        """Room for the tests' own time, and for a sandbox that has to be started."""
        return self.seconds + 60.0

    def verify(self, *, problem: Problem, response: str, sandbox: Sandbox) -> Score:
        """Pass if all tests do."""
        if not problem.tests or not problem.tests.strip():
            return Score(status="error", why="the problem has no tests")
        entry, prompt = (str(problem.meta.get(key) or "") for key in ("entry_point", "prompt"))
        program = completed(prompt, code_in(response, defines=entry), entry)
        tested = sandbox.test(program, tests=problem.tests, entry=entry, prompt=prompt, seconds=self.seconds)
        assert tested.outcome in get_args(Outcome)
        return Score(status=_STATUS.get(tested.outcome, "fail"), why=tested.why)


_STATUS: dict[Outcome, Status] = {"passed": "pass", "tests": "error", "lost": "error"}
