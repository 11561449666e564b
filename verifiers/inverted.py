"""The opposite of another verifier: what it fails passes, and what it passes fails.

A score changes its sign, so that the order is reversed whatever the range is. Error, timeout and abstain stay.
"""

from dataclasses import dataclass, replace

from selftrain.lab import Judge
from selftrain.records import Case, Problem, Score
from selftrain.verification.combine import Part, ask, label, named

_NUMBER = {"by": "number"}
cases = (
    Case(settings=_NUMBER, answer="7", response="8", expect="pass"),
    Case(settings=_NUMBER, answer="7", response="", expect="pass"),
    Case(settings=_NUMBER, answer="7", response="八" * 30_000, expect="pass"),
    Case(settings=_NUMBER, answer="7", response="7", expect="fail"),
    Case(settings=_NUMBER, answer="7", response="#### 7.0", expect="fail"),
    Case(settings=_NUMBER, answer="seven", response="7", expect="error"),
    Case(settings=_NUMBER, response="7", expect="error"),
    Case(settings={"by": {"name": "inverted", "by": "number"}}, answer="7", response="7", expect="pass"),
    Case(settings={"by": {"name": "inverted", "by": "number"}}, answer="7", response="8", expect="fail"),
    Case(settings={"by": {"name": "regex", "pattern": "(?s).*badly.*"}}, response="It went well.", expect="pass"),
    Case(settings={"by": {"name": "weighted", "of": ["number"]}}, answer="7", response="7", expect="scored"),
    Case(answer="yes", response="no", expect="pass"),
    Case(answer="yes", response="Yes.", expect="fail"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """Turns a verifier round."""

    by: Part = ""
    """The verifier: a name, a path, or JSON with name and settings; "" is the problem's own."""

    @property
    def parts(self) -> tuple[str, ...]:
        """The verifier that it uses."""
        return named([self.by])

    def verify(self, *, problem: Problem, response: str, judge: Judge) -> Score:
        """Return the opposite."""
        said = ask(judge, self.by, problem=problem, response=response)
        score = None if said.score is None else -said.score
        steps = tuple(-each for each in said.step_scores)
        match said.status:
            case "pass":
                return replace(said, status="fail", score=score, step_scores=steps, why=f"{label(self.by)} passes it")
            case "fail":
                return replace(said, status="pass", score=score, step_scores=steps)
            case "scored":
                return replace(said, score=score, step_scores=steps)
            case _:
                return said
