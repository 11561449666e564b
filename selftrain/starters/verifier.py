r"""NAME: the final answer is the gold answer, whatever the case and white space.

The final answer is what the response marks (`#### 18`, `\boxed{18}`), else its last line. Say here what yours checks:
`selftrain list verifiers` shows the first line.
"""

from dataclasses import dataclass

from selftrain.records import Case, Problem, Score
from selftrain.verification.answers import marked, normal

time_limit = 5.0
"""Seconds for one response; a response that takes longer is a timeout, which is not a fail."""

cases = (
    Case(answer="18", response="6 * 3 = 18\n#### 18", expect="pass"),
    Case(answer="Paris", response="The answer is on the next line.\nparis", expect="pass"),
    Case(answer="18", response=r"18 is near, but it is \boxed{17}", expect="fail"),
    Case(answer="18", response="", expect="fail"),
    # Without a gold answer nothing can be judged: that is an error, never a fail.
    Case(response="18", expect="error"),
)
"""Its own test: what `selftrain verify --check` runs first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """Compares final answers; its fields are settings: {"name": "NAME.py", "longest": 9}."""

    longest: int = 100
    """Characters that a final answer may have; a longer one fails."""

    def verify(self, *, problem: Problem, response: str) -> Score:
        """Pass if the final answer is the gold one."""
        lines = response.split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "")
        # Votes count the answer that was read, so it must not depend on the gold one.
        answer = normal(marked(response) or last)[: self.longest + 1] or None
        if problem.answer is None:
            return Score(status="error", why="the problem has no gold answer", answer=answer)
        if answer is None:
            return Score(status="fail", why="no answer in the response")
        if len(answer) > self.longest:
            return Score(status="fail", why=f"the final answer has more than {self.longest} characters")
        if answer == normal(problem.answer):
            return Score(status="pass", answer=answer)
        return Score(status="fail", why=f"{answer!r} is not {problem.answer!r}", answer=answer)
