"""Minimum Bayes risk: a response's score is its mean likeness to the problem's other samples, from 0 to 1.

Likeness is chrF (sacrebleu's, character n-grams; the other sample is the reference), or 1 for equal texts and 0 else,
where case and white space don't count. Compared are the responses, or what they mark as their answers; of longer texts
the first 4,000 characters. A sample without another one to compare with abstains, and so does one that marks no answer
where answers are compared. Without a `threshold` the verdict is scored; with one it passes from that mean on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sacrebleu.metrics.chrf import CHRF

from selftrain.records import Case, Problem, Sample, Score
from selftrain.verification.answers import marked, normal
from selftrain.verification.combine import checked_share
from selftrain.verification.consensus import verdict

_THIRD = {"threshold": 0.3}
_EXACT = {"likeness": "exact", "threshold": 0.5}
_ANSWER = {**_EXACT, "part": "answer"}
cases = (
    Case(settings=_THIRD, response="The cat sat on the mat.", expect="pass"),
    Case(settings=_THIRD, response="The cat sits on the mat.", expect="pass"),
    Case(settings=_THIRD, response="A cat sat on the mat.", expect="pass"),
    Case(settings=_THIRD, response="猫はマットの上に座った。", expect="fail"),
    Case(settings=_THIRD, response="", expect="fail"),
    Case(settings=_EXACT, response="Yes", expect="pass"),
    Case(settings=_EXACT, response=" yes\n", expect="pass"),
    Case(settings=_EXACT, response="YES", expect="pass"),
    Case(settings=_EXACT, response="no", expect="fail"),
    Case(settings=_ANSWER, response="Two and two.\n#### 4", expect="pass"),
    Case(settings=_ANSWER, response=r"So \boxed{4}.", expect="pass"),
    Case(settings=_ANSWER, response="4", expect="abstain"),
    Case(response="The cat sat on the mat. " * 10_000, expect="scored"),
    Case(response="The cat sat on the mat.", expect="scored"),
    Case(prompt="Alone?", response="Yes.", expect="abstain"),
)

_LONGEST = 4000
"""Characters of a text that are compared: likeness costs what the square of the samples times this costs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """Compares samples with each other."""

    likeness: Literal["chrf", "exact"] = "chrf"
    part: Literal["response", "answer"] = "response"
    r"""What is compared: responses, or what they mark (`#### ...`, `\boxed{...}`)."""
    threshold: float | None = None
    """The mean from which a response passes."""

    def __post_init__(self) -> None:
        checked_share("threshold", self.threshold)

    def verify_group(self, *, problem: Problem, attempts: Sequence[Sample]) -> list[Score]:
        """Score each sample by its mean likeness to the others."""
        texts = [sample.text if self.part == "response" else marked(sample.text) for sample in attempts]
        known = {at: text[:_LONGEST] for at, text in enumerate(texts) if text is not None}
        return [self._verdict(at, sample, known) for at, sample in enumerate(attempts)]

    def _verdict(self, at: int, sample: Sample, known: dict[int, str]) -> Score:
        answer = marked(sample.text)
        if at not in known:
            return Score(status="abstain", why="the response marks no answer")
        others = [text for other, text in known.items() if other != at]
        if not others:
            return Score(status="abstain", why="there is no other sample to compare it with", answer=answer)
        mean = sum(sorted(self._alike(known[at], other) for other in others)) / len(others)
        why = f"mean likeness to {len(others)} others is {mean:.3f}"
        return verdict(mean, threshold=self.threshold, why=why, answer=answer)

    def _alike(self, text: str, other: str) -> float:
        if self.likeness == "exact" or text == other:
            return float(normal(text) == normal(other))
        score: float = CHRF().sentence_score(text, [other]).score
        return score / 100
