"""A control: another verifier with errors put in at set rates.

Of the responses that it fails, the share `false_positive` passes, and of those that it passes the share
`false_negative` fails. Which ones is drawn from seed, problem and response, so the same response always gets the same
verdict. Scores, errors, timeouts and abstentions stay.
"""

from dataclasses import dataclass, replace

from selftrain.lab import Judge
from selftrain.records import Case, Problem, Score, digest
from selftrain.verification.combine import Part, ask, checked_share, named

_ALWAYS = {"by": "number", "false_positive": 1.0, "false_negative": 1.0}
cases = (
    Case(settings=_ALWAYS, answer="7", response="8", expect="pass"),
    Case(settings=_ALWAYS, answer="7", response="", expect="pass"),
    Case(settings=_ALWAYS, answer="7", response="7", expect="fail"),
    Case(settings=_ALWAYS, answer="seven", response="7", expect="error"),
    Case(settings=_ALWAYS, response="7", expect="error"),
    Case(settings={"by": "number", "false_positive": 1.0}, answer="7", response="7", expect="pass"),
    Case(settings={"by": "number", "false_positive": 1.0}, answer="7", response="八" * 30_000, expect="pass"),
    Case(settings={"by": "number", "false_negative": 1.0}, answer="7", response="7", expect="fail"),
    Case(settings={"by": "number", "false_negative": 1.0}, answer="7", response="8", expect="fail"),
    Case(settings={"by": "number"}, answer="7", response="7", expect="pass"),
    Case(settings={"by": {"name": "weighted", "of": ["number"]}}, answer="7", response="7", expect="scored"),
    Case(answer="yes", response="Yes.", expect="pass"),
    Case(answer="yes", response="no", expect="fail"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """Puts errors into a verifier."""

    by: Part = ""
    """The verifier: a name, a path, or JSON with name and settings; "" is the problem's own."""
    false_positive: float = 0.0
    """The share of fails that become passes."""
    false_negative: float = 0.0
    """The share of passes that become fails."""
    seed: int = 0

    def __post_init__(self) -> None:
        checked_share("false_positive", self.false_positive)
        checked_share("false_negative", self.false_negative)

    @property
    def parts(self) -> tuple[str, ...]:
        """The verifier that it uses."""
        return named([self.by])

    def verify(self, *, problem: Problem, response: str, judge: Judge) -> Score:
        """Return what the verifier says, or now and then the opposite."""
        said = ask(judge, self.by, problem=problem, response=response)
        drawn = int(digest(self.seed, problem.id, response), 16) / 2**64
        if said.status == "pass" and drawn < self.false_negative:
            return replace(said, status="fail", why="noise: it was a pass")
        if said.status == "fail" and drawn < self.false_positive:
            return replace(said, status="pass", why=f"noise: it was a fail ({said.why})")
        return said
