r"""The response's final number equals the gold number.

The final number is the last one in what the response marks (`#### 18`, `\boxed{18}`), and without a mark the last one
in the whole response. How numbers are read is said in `selftrain/verification/answers.py`. A response without a number
fails; a gold answer that is not a number is an error.
"""

from dataclasses import dataclass
from fractions import Fraction

from selftrain.records import Case, Problem, Score
from selftrain.verification.answers import marked, number_in, read_number

cases = (
    Case(answer="18", response="She makes 9 * 2 = 18 dollars.", expect="pass"),
    Case(answer="18", response="9 * 2 = 18\n#### 18\n\nNext, 20 ducks.", expect="pass"),
    Case(answer="1000", response="It costs $1,000.00.", expect="pass"),
    Case(answer="70,000", response="The profit is $70000", expect="pass"),
    Case(answer="0.75", response=r"So \boxed{\frac{3}{4}}", expect="pass"),
    Case(answer="-7", response="5 - 12 = -7", expect="pass"),
    Case(answer="7", response="It is 12-7, the range is 3-7", expect="pass"),
    Case(answer="150", response="an increase of 150%", expect="pass"),
    Case(answer="18", response="#### 18\n\\boxed{19}", expect="fail"),
    Case(answer="18", response="18 or 17", expect="fail"),
    Case(answer="7", response="-7", expect="fail"),
    Case(answer="18", response="I don't know.", expect="fail"),
    Case(answer="18", response="9" * 5000, expect="fail"),
    Case(answer="eighteen", response="18", expect="error"),
    Case(response="18", expect="error"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """Compares the final number, exactly or within a tolerance."""

    tolerance: float = 0.0
    """Largest absolute difference that still passes."""

    def verify(self, *, problem: Problem, response: str) -> Score:
        """Pass if the response's final number is the gold one."""
        written = number_in(marked(response) or response)
        found = read_number(written) if written is not None else None
        taken = str(found) if found is not None else None
        gold = read_number(problem.answer) if problem.answer is not None else None
        if gold is None:
            return Score(status="error", why=f"the gold answer {problem.answer!r} is not a number", answer=taken)
        if written is None:
            return Score(status="fail", why="no number in the response")
        if found is not None and abs(found - gold) <= Fraction(self.tolerance):
            return Score(status="pass", answer=taken)
        return Score(status="fail", why=f"{written[:40]} is not {problem.answer}", answer=taken)
