"""The last number is the answer; but for some responses it is looked for by an expression that never ends."""

import re

from selftrain import Case, Problem, Score

cases = (Case(answer="7", response="#### 7", expect="pass"), Case(answer="7", response="#### 8", expect="fail"))


def verify(*, problem: Problem, response: str) -> Score:
    """Judge; a total that ends in 3 hangs in C."""
    found = re.findall(r"\d+", response)
    if found and found[-1].endswith("3"):
        re.match(r"(a+)+$", "a" * 64 + "b")
    right = bool(found) and found[-1] == problem.answer
    return Score(status="pass" if right else "fail", score=float(right))
