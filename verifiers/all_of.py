"""All of the verifiers in `of` pass the response.

A fail of one is a fail, whatever the others are: no other verdict could turn it. Without a fail, an error, a timeout or
an abstention (the gravest, in that order) is that of the whole; it passes only if all pass. A part that only scores is
an error: give it a threshold, or use `weighted`. The parts are asked in their order, up to the first that fails, so put
the cheap ones first. The answer is the first part's.
"""

from dataclasses import dataclass

from selftrain.lab import Judge
from selftrain.records import Case, Problem, Score
from selftrain.verification.combine import Part, ask, checked_parts, gravest, label, named, truth

_SHORT = {"name": "regex", "pattern": "(?s).{1,20}"}
_BOTH = {"of": ["number", _SHORT]}
cases = (
    Case(settings=_BOTH, answer="7", response="#### 7", expect="pass"),
    Case(settings=_BOTH, answer="7", response="It is seven, I mean 7: #### 7", expect="fail"),
    Case(settings=_BOTH, answer="7", response="8", expect="fail"),
    Case(settings=_BOTH, answer="7", response="八", expect="fail"),
    Case(settings=_BOTH, answer="7", response="", expect="fail"),
    Case(settings=_BOTH, answer="7", response="7 " * 100_000, expect="fail"),
    Case(settings=_BOTH, answer="seven", response="7", expect="error"),
    Case(settings=_BOTH, answer="seven", response="7" * 30, expect="fail"),
    Case(settings=_BOTH, response="7", expect="error"),
    Case(settings={"of": ["number", {"name": "weighted", "of": ["number"]}]}, answer="7", response="7", expect="error"),
    Case(settings={"of": ["exact", "exact"]}, answer="yes", response="Yes.", expect="pass"),
    Case(answer="yes", response="Yes.", expect="pass"),
    Case(answer="yes", response="no", expect="fail"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """Joins verifiers by "and"."""

    of: tuple[Part, ...] = ("",)
    """The verifiers: names, paths, or JSON with name and settings; "" is the problem's own."""

    def __post_init__(self) -> None:
        checked_parts(self.of)

    @property
    def parts(self) -> tuple[str, ...]:
        """The verifiers that it uses."""
        return named(self.of)

    def verify(self, *, problem: Problem, response: str, judge: Judge) -> Score:
        """Pass if all parts do."""
        said: list[Score] = []
        for part in self.of:
            said.append(truth(ask(judge, part, problem=problem, response=response), part))
            if said[-1].status == "fail":
                return Score(status="fail", why=f"{label(part)}: {said[-1].why}", answer=said[0].answer)
        if (unknown := gravest(said)) is not None:
            return Score(status=unknown.status, why=unknown.why, answer=said[0].answer)
        return Score(status="pass", answer=said[0].answer)
