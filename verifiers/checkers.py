"""The response follows its instruction by most of the programs that the problem carries: AutoIF's (arXiv:2406.13542).

`meta["checkers"]` is a list of programs, each with a function `follows(response)` that returns whether the response
follows the instruction; they run in the sandbox. It passes when more than half of them return something true; the score
is their share. A program that raises, or takes too long, has said no.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from selftrain.lab import Sandbox
from selftrain.records import Case, Problem, Score
from selftrain.verification.programs import code_in

_SHORT = "def follows(response):\n    return len(response) <= 5"
_LOWER = "```python\ndef follows(response):\n    return response.islower()\n```"
_RAISES = "def follows(response):\n    return response[100] == 'a'"
cases = (
    Case(meta={"checkers": [_SHORT]}, response="four", expect="pass"),
    Case(meta={"checkers": [_SHORT]}, response="sixteen", expect="fail"),
    Case(meta={"checkers": [_SHORT, _LOWER, _RAISES]}, response="four", expect="pass"),
    Case(meta={"checkers": [_SHORT, _LOWER]}, response="Four", expect="fail"),
    Case(meta={"checkers": [_RAISES]}, response="four", expect="fail"),
    Case(meta={"checkers": [_SHORT]}, response="'\"\n\\", expect="pass"),
    Case(meta={"checkers": []}, response="four", expect="error"),
    Case(response="four", expect="error"),
)

FUNCTION = "follows"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """Asks the checkers."""

    seconds: float = 2.0
    """What one checker may take."""

    @property
    def time_limit(self) -> float:
        """Room for sixteen checkers that go to their limit, and for a sandbox that has to be started."""
        return 60.0 + 16 * self.seconds

    def verify(self, *, problem: Problem, response: str, sandbox: Sandbox) -> Score:
        """Pass if most checkers return something true."""
        listed = problem.meta.get("checkers")
        if not isinstance(listed, Sequence) or isinstance(listed, str) or not listed:
            return Score(status="error", why='the problem has no checkers; give meta["checkers"], a list of programs')
        yes = 0
        for text in listed:
            program = code_in(str(text), defines=FUNCTION)
            tested = sandbox.test(
                program, tests=f"assert {FUNCTION}({response!r})", entry=FUNCTION, seconds=self.seconds
            )
            if tested.outcome in ("lost", "tests"):
                return Score(status="error", why=tested.why)
            yes += tested.outcome == "passed"
        share = yes / len(listed)
        return Score(
            status="pass" if share > 0.5 else "fail", score=share, why=f"{yes} of {len(listed)} checkers pass it"
        )
