"""Cheap verifiers first, the expensive ones only where those leave the matter open.

The parts in `of` are asked in their order. A verdict whose status is in `open` (by default an abstention) goes on to
the next part. With a band, `low` and `high`, a score inside it goes on too, one above it passes, and one below it
fails; only the last part's score stays a score. The last part asked has the word, whatever it says: an error or a
timeout ends the cascade as such unless `open` names it. With `open: ["pass"]` a cheap verifier sorts out, and the
expensive one looks at what is left. The answer is the first part's.
"""

from dataclasses import dataclass, replace
from typing import Literal

from selftrain.lab import Judge
from selftrain.records import Case, Problem, Score
from selftrain.verification.combine import Part, ask, checked_parts, named

Open = Literal["pass", "fail", "scored", "error", "timeout", "abstain"]

_SHORT = {"name": "regex", "pattern": "(?s).{1,20}"}
_SIEVE = {"of": [_SHORT, "number"], "open": ["pass"]}
_RESCUE = {"of": ["number", "exact"], "open": ["fail", "error"]}
_BAND = {"of": [{"name": "weighted", "of": ["number", "exact"]}, _SHORT], "low": 0.25, "high": 0.75}
cases = (
    Case(settings=_SIEVE, answer="7", response="7", expect="pass"),
    Case(settings=_SIEVE, answer="7", response="8", expect="fail"),
    Case(settings=_SIEVE, answer="seven", response="7", expect="error"),
    Case(settings=_SIEVE, answer="seven", response="七" * 30_000, expect="fail"),
    Case(settings=_RESCUE, answer="seven", response="Seven.", expect="pass"),
    Case(settings=_RESCUE, answer="7", response="7", expect="pass"),
    Case(settings=_RESCUE, answer="7", response="8", expect="fail"),
    Case(settings=_RESCUE, response="8", expect="error"),
    Case(settings=_BAND, answer="7", response="7", expect="pass"),
    Case(settings=_BAND, answer="7", response="7.0", expect="pass"),
    Case(settings=_BAND, answer="7", response="7.0 is, I think, the number", expect="fail"),
    Case(settings=_BAND, answer="7", response="8", expect="fail"),
    Case(settings=_BAND, answer="7", response="", expect="fail"),
    Case(answer="yes", response="Yes.", expect="pass"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """Asks one verifier after the other."""

    of: tuple[Part, ...] = ("",)
    """The verifiers, the cheapest first: names, paths, or JSON with name and settings; "" is the problem's own."""
    open: tuple[Open, ...] = ("abstain",)
    """The statuses that go on to the next one."""
    low: float | None = None
    """A score below it fails."""
    high: float | None = None
    """A score above it passes."""

    def __post_init__(self) -> None:
        checked_parts(self.of)
        if (self.low is None) != (self.high is None) or (self.low or 0) > (self.high or 0):
            raise ValueError(f"low is {self.low}, high is {self.high}; give both, low not above high, or none")

    @property
    def parts(self) -> tuple[str, ...]:
        """The verifiers that it uses."""
        return named(self.of)

    def verify(self, *, problem: Problem, response: str, judge: Judge) -> Score:
        """Return the verdict of the first part that decides."""
        first = said = ask(judge, self.of[0], problem=problem, response=response)
        for part in self.of[1:]:
            if (decided := self._decided(said)) is not None:
                return replace(decided, answer=first.answer)
            said = ask(judge, part, problem=problem, response=response)
        return replace(said, answer=first.answer)

    def _decided(self, said: Score) -> Score | None:
        """Return the verdict that a part's makes, or None if it leaves the matter open."""
        if said.status in self.open:
            return None
        if said.status != "scored" or said.score is None or self.low is None or self.high is None:
            return said
        if self.low <= said.score <= self.high:
            return None
        return replace(said, status="pass" if said.score > self.high else "fail")
