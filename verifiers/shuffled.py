"""A control: another verifier's verdicts on a problem's samples, dealt out to them anew.

How many of a problem's samples pass stays; which ones is drawn from seed, problem and samples, not from what they say.
With one sample nothing changes. A sample keeps its own answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from selftrain.lab import Judge
from selftrain.records import Case, Problem, Sample, Score, digest
from selftrain.verification.combine import Part, ask, named

_NUMBER = {"by": "number"}
cases = (
    Case(settings=_NUMBER, answer="7", response="7", expect="pass"),
    Case(settings=_NUMBER, answer="7", response="#### 7", expect="pass"),
    Case(settings=_NUMBER, answer="8", response="7", expect="fail"),
    Case(settings=_NUMBER, answer="8", response="", expect="fail"),
    Case(settings=_NUMBER, answer="8", response="七" * 30_000, expect="fail"),
    Case(settings=_NUMBER, answer="seven", response="7", expect="error"),
    Case(settings=_NUMBER, response="7", expect="error"),
    Case(settings={"by": {"name": "weighted", "of": ["number"]}}, answer="7", response="7", expect="scored"),
    Case(answer="yes", response="Yes.", expect="pass"),
    Case(answer="yes", response="yes", expect="pass"),
    Case(answer="no", response="Yes.", expect="fail"),
    Case(settings={"seed": 3}, answer="no", response="No", expect="pass"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """Shuffles verdicts."""

    by: Part = ""
    """The verifier: a name, a path, or JSON with name and settings; "" is the problem's own."""
    seed: int = 0

    @property
    def parts(self) -> tuple[str, ...]:
        """The verifier that it uses."""
        return named([self.by])

    def verify_group(self, *, problem: Problem, attempts: Sequence[Sample], judge: Judge) -> list[Score]:
        """Return the samples' verdicts in another order."""
        said = [ask(judge, self.by, problem=problem, response=sample.text) for sample in attempts]
        # Two orders that depend on the samples' ids only: who gives, and who gets.
        gives = self._order(problem, attempts, "gives")
        gets = self._order(problem, attempts, "gets")
        dealt = dict(zip(gets, (said[at] for at in gives), strict=True))
        return [replace(dealt[at], answer=said[at].answer) for at in range(len(attempts))]

    def _order(self, problem: Problem, attempts: Sequence[Sample], role: str) -> list[int]:
        return sorted(range(len(attempts)), key=lambda at: digest(self.seed, problem.id, attempts[at].id, role))
