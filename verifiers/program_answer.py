"""The response is a Python program whose result is the gold answer; it runs in the sandbox (program-aided reasoning).

The result is, first come: the variable `answer` if the program ends with one; the value of its last statement, if that
is an expression; what its function `solution()` returns, if it has one that nothing calls; the last line it prints. It
is compared like `number` does where the gold answer is a number, else as text but for case and white space.
"""

import ast
from dataclasses import dataclass
from fractions import Fraction

from selftrain.lab import Sandbox
from selftrain.records import Case, Problem, Score
from selftrain.verification.answers import normal, number_in, read_number
from selftrain.verification.programs import code_in

cases = (
    Case(answer="18", response="```python\neggs = 16 - 3 - 4\nprint(eggs * 2)\n```", expect="pass"),
    Case(answer="18", response="eggs = 16 - 3 - 4\nanswer = eggs * 2", expect="pass"),
    Case(answer="18", response="def solution():\n    return 9 * 2", expect="pass"),
    Case(answer="0.3", response="0.1 + 0.2", expect="pass"),
    Case(answer="Tuesday", response="print('tuesday')", expect="pass"),
    Case(answer="18", response="print(9 * 3)", expect="fail"),
    Case(answer="18", response="print(18)\n1 / 0", expect="fail"),
    Case(answer="18", response="The answer is 18.", expect="fail"),
    Case(response="print(18)", expect="error"),
)

_VALUE = "_the_value_of_the_last_statement"
_RESULT = f"""
if callable(globals().get('answer', len)):
    answer = globals().get({_VALUE!r})
    if answer is None and %(solution)s and callable(globals().get('solution')):
        answer = solution()
if answer is not None:
    print()
    print(answer)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """Runs the response and compares its result."""

    seconds: float = 2.0
    tolerance: float = 1e-6
    """Largest difference of numbers that still passes, absolute or as a share of the gold one."""

    @property
    def time_limit(self) -> float:
        """Room for a sandbox that has to be started."""
        return self.seconds + 60.0

    def verify(self, *, problem: Problem, response: str, sandbox: Sandbox) -> Score:
        """Pass if the program's result is the gold answer."""
        try:
            program = _with_result(code_in(response))
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            return self._compared(problem, None, f"the response is no Python program: {error}")
        ran = sandbox.run(program, seconds=self.seconds)
        if ran.ended == "lost":
            return Score(status="error", why=ran.why)
        lines = [line.strip() for line in ran.stdout.splitlines() if line.strip()]
        if ran.ended != "exited" or ran.code != 0:
            why = ran.why or f"exit status {ran.code}: {ran.stderr.strip().rpartition(chr(10))[2][:300]}"
            return self._compared(problem, None, why)
        return self._compared(problem, lines[-1][:1000] if lines else None, "it has no result")

    def _compared(self, problem: Problem, result: str | None, trouble: str) -> Score:
        number = None if result is None else read_number(number_in(result) or "")
        taken = result if number is None else str(number)
        if problem.answer is None:
            return Score(status="error", why="the problem has no gold answer", answer=taken)
        if result is None:
            return Score(status="fail", why=trouble)
        gold = read_number(problem.answer)
        if gold is None:
            same = normal(result) == normal(problem.answer)
        else:
            same = number is not None and abs(number - gold) <= Fraction(self.tolerance) * max(Fraction(1), abs(gold))
        why = "" if same else f"{result[:80]} is not {problem.answer[:80]}"
        return Score(status="pass" if same else "fail", why=why, answer=taken)


def _with_result(code: str) -> str:
    """Return the program with an end that prints its result."""
    tree = ast.parse(code)
    called = any(_calls_solution(each) for each in tree.body)
    if tree.body and isinstance(last := tree.body[-1], ast.Expr):
        target = ast.Name(_VALUE, ast.Store())
        tree.body[-1] = ast.fix_missing_locations(ast.copy_location(ast.Assign([target], last.value), last))
    return ast.unparse(tree) + _RESULT % {"solution": not called}


def _calls_solution(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return False
    return any(isinstance(node, ast.Name) and node.id == "solution" for node in ast.walk(statement))
