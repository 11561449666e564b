"""Any of the verifiers in `of` passes the response.

A pass of one is a pass, whatever the others are: no other verdict could turn it. Without a pass, an error, a timeout or
an abstention (the gravest, in that order) is that of the whole; it fails only if all fail. A part that only scores is
an error: give it a threshold, or use `weighted`. The parts are asked in their order, up to the first that passes, so
put the cheap ones first. The answer is the first part's.
"""

from dataclasses import dataclass

from selftrain.lab import Judge
from selftrain.records import Case, Problem, Score
from selftrain.verification.combine import Part, ask, checked_parts, gravest, label, named, truth

_EITHER = {"of": ["number", "exact"]}
cases = (
    Case(settings=_EITHER, answer="7", response="#### 7.0", expect="pass"),
    Case(settings=_EITHER, answer="7", response="8", expect="fail"),
    Case(settings=_EITHER, answer="7", response="", expect="fail"),
    Case(settings=_EITHER, answer="7", response="八" * 10_000, expect="fail"),
    Case(settings=_EITHER, answer="seven", response="Seven.", expect="pass"),
    Case(settings=_EITHER, answer="seven", response="8", expect="error"),
    Case(settings=_EITHER, response="7", expect="error"),
    Case(settings={"of": ["exact", "number"]}, answer="1/2", response="0.5", expect="pass"),
    Case(settings={"of": [{"name": "number", "tolerance": 0.1}]}, answer="7", response="7.05", expect="pass"),
    Case(settings={"of": [{"name": "number", "tolerance": 0.1}]}, answer="7", response="7.5", expect="fail"),
    Case(settings={"of": [{"name": "weighted", "of": ["exact"]}]}, answer="7", response="7", expect="error"),
    Case(answer="yes", response="Yes.", expect="pass"),
    Case(answer="yes", response="no", expect="fail"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """Joins verifiers by "or"."""

    of: tuple[Part, ...] = ("",)
    """The verifiers: names, paths, or JSON with name and settings; "" is the problem's own."""

    def __post_init__(self) -> None:
        checked_parts(self.of)

    @property
    def parts(self) -> tuple[str, ...]:
        """The verifiers that it uses."""
        return named(self.of)

    def verify(self, *, problem: Problem, response: str, judge: Judge) -> Score:
        """Pass if one part does."""
        said: list[Score] = []
        for part in self.of:
            said.append(truth(ask(judge, part, problem=problem, response=response), part))
            if said[-1].status == "pass":
                return Score(status="pass", why=f"{label(part)} passes it", answer=said[0].answer)
        if (unknown := gravest(said)) is not None:
            return Score(status=unknown.status, why=unknown.why, answer=said[0].answer)
        return Score(status="fail", why=said[0].why, answer=said[0].answer)
