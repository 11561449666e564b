"""The weighted mean of what verifiers say: 1 for a pass, 0 for a fail, or the score of one that only scores.

With a `threshold` it passes from there on and fails below; without one it is scored. An error, a timeout or an
abstention of a part whose weight isn't 0 is that of the whole (the gravest, in that order): what isn't known has no
value to weigh. A score that goes beyond 0 to 1 (a reward) is taken as it is. The answer is the first part's.
"""

import math
from dataclasses import dataclass

from selftrain.lab import Judge
from selftrain.records import Case, Problem, Score
from selftrain.verification.combine import Part, ask, checked_parts, gravest, label, named

_SHORT = {"name": "regex", "pattern": "(?s).{1,20}"}
_TWO = {"of": ["number", _SHORT], "weights": [3, 1]}
_HARD = {**_TWO, "threshold": 0.75}
_ONLY = {**_TWO, "weights": [0, 1]}
cases = (
    Case(settings=_TWO, answer="7", response="7", expect="scored"),
    Case(settings=_TWO, answer="7", response="", expect="scored"),
    Case(settings=_HARD, answer="7", response="7", expect="pass"),
    Case(settings=_HARD, answer="7", response="It is seven, I mean 7: #### 7", expect="pass"),
    Case(settings=_HARD, answer="7", response="8", expect="fail"),
    Case(settings=_HARD, answer="7", response="八", expect="fail"),
    Case(settings=_HARD, answer="7", response="8 " * 100_000, expect="fail"),
    Case(settings=_HARD, answer="seven", response="7", expect="error"),
    Case(settings=_ONLY, answer="seven", response="7", expect="scored"),
    Case(settings=_HARD, response="7", expect="error"),
    Case(settings={"of": ["", "number"], "threshold": 0.5}, answer="7", response="7.0", expect="pass"),
    Case(settings={"of": ["", "number"], "threshold": 0.6}, answer="7", response="7.0", expect="fail"),
    Case(answer="yes", response="Yes.", expect="scored"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """Weighs verifiers."""

    of: tuple[Part, ...] = ("",)
    """The verifiers: names, paths, or JSON with name and settings; "" is the problem's own."""
    weights: tuple[float, ...] = ()
    """One for each, from 0; all the same without."""
    threshold: float | None = None
    """The mean from which it passes."""

    def __post_init__(self) -> None:
        checked_parts(self.of)
        if self.weights and len(self.weights) != len(self.of):
            raise ValueError(f"there are {len(self.of)} verifiers, but {len(self.weights)} weights; give one for each")
        if self.weights and not (all(0 <= each < math.inf for each in self.weights) and sum(self.weights) > 0):
            raise ValueError(f"weights are {self.weights}; they must be from 0, and not all 0")

    @property
    def parts(self) -> tuple[str, ...]:
        """The verifiers that it uses."""
        return named(self.of)

    def verify(self, *, problem: Problem, response: str, judge: Judge) -> Score:
        """Score the weighted mean."""
        weights = self.weights or (1.0,) * len(self.of)
        asked = [
            (part, weight) for at, (part, weight) in enumerate(zip(self.of, weights, strict=True)) if weight or not at
        ]
        said = [ask(judge, part, problem=problem, response=response) for part, _ in asked]
        answer = said[0].answer
        heard = [(_value(score, part), weight) for score, (part, weight) in zip(said, asked, strict=True) if weight]
        if (unknown := gravest([score for score, _ in heard])) is not None:
            return Score(status=unknown.status, why=unknown.why, answer=answer)
        mean = sum((score.score or 0.0) * weight for score, weight in heard) / sum(weights)
        if self.threshold is None:
            return Score(status="scored", score=mean, answer=answer)
        if mean >= self.threshold:
            return Score(status="pass", score=mean, answer=answer)
        return Score(status="fail", score=mean, why=f"{mean:.3f} is below {self.threshold}", answer=answer)


def _value(score: Score, part: Part) -> Score:
    """Return a score with what counts of it as its score."""
    match score.status:
        case "pass" | "fail":
            return Score(status="scored", score=float(score.status == "pass"))
        case "scored" if score.score is None:
            return Score(status="error", why=f"{label(part)} gives scores of steps only; let it aggregate them")
        case _:
            return score
