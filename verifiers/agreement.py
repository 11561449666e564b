"""A response's score is the share of the other side's samples that give the same answer.

The sides are the samples of a second model, or of a second prompt, in the same group: `apart` says by what samples are
told apart, by their `template` or by their `model`. Another verifier (`by`) reads the answers and says which are equal
(`selftrain/verification/consensus.py`); the gold answer is not looked at. A sample without an answer abstains, and so
does one whose other side has no sample with an answer. The share is of all samples of the other side. Without a
`threshold` the verdict is scored; with one it passes from that share on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from selftrain.lab import Judge
from selftrain.records import Case, Problem, Sample, Score
from selftrain.verification.combine import Part, checked_share, named
from selftrain.verification.consensus import Answers, verdict

_HALF = {"by": "number", "threshold": 0.5}
_SHARE = {"by": "number"}
_ALONE = {**_HALF, "apart": "model"}
cases = (
    Case(settings=_HALF, response="3 + 4 = 7", expect="pass"),
    Case(settings=_HALF, response="8", expect="fail"),
    Case(settings=_HALF, response="8", expect="fail"),
    Case(settings=_HALF, response="ななつ", expect="abstain"),
    Case(settings=_HALF, template="few-shot", response="7.0", expect="fail"),
    Case(settings=_HALF, template="few-shot", response="#### 7", expect="fail"),
    Case(settings=_HALF, template="few-shot", response="", expect="abstain"),
    Case(settings=_HALF, template="few-shot", response="8 " * 10_000, expect="pass"),
    Case(settings=_SHARE, response="7", expect="scored"),
    Case(settings=_SHARE, template="few-shot", response="8", expect="scored"),
    Case(settings=_ALONE, response="7", expect="abstain"),
    Case(settings=_ALONE, response="7", expect="abstain"),
    Case(settings=_SHARE, prompt="Silent?", response="7", expect="abstain"),
    Case(settings=_SHARE, prompt="Silent?", template="few-shot", response="No idea.", expect="abstain"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """Compares two sides."""

    by: Part = ""
    """The verifier that reads and compares answers; "" is the problem's own."""
    apart: Literal["template", "model"] = "template"
    """What tells the sides apart."""
    threshold: float | None = None
    """The share from which a response passes."""

    def __post_init__(self) -> None:
        checked_share("threshold", self.threshold)

    @property
    def parts(self) -> tuple[str, ...]:
        """The verifier that it uses."""
        return named([self.by])

    def verify_group(self, *, problem: Problem, attempts: Sequence[Sample], judge: Judge) -> list[Score]:
        """Score each sample by the share of the other side's samples with its answer."""
        answers = Answers(judge=judge, by=self.by, problem=problem, attempts=attempts)
        sides = [sample.template if self.apart == "template" else sample.model for sample in attempts]
        scores = []
        for side, read in zip(sides, answers.read, strict=True):
            others = [at for at, other in enumerate(sides) if other != side]
            scores.append(self._verdict(read, others, answers))
        return scores

    def _verdict(self, read: Score, others: list[int], answers: Answers) -> Score:
        answer = read.answer
        if answer is None:
            return read
        if all(answers.read[at].answer is None for at in others):
            why = f"no sample of another {self.apart} has an answer"
            return Score(status="abstain", why=why, answer=answer)
        alike = answers.alike(answer, others)
        why = f"{alike} of {len(others)} samples of another {self.apart} say {answer[:80]}"
        return verdict(alike / len(others), threshold=self.threshold, why=why, answer=answer)
