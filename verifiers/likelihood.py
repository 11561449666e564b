r"""How likely a language model finds this response, or the gold answer after this response's reasoning.

The model is the one that the stage names (`Verify(by="likelihood", model="policy")`). `of="response"`: the
log-probabilities (nats) of the response's tokens after the problem's prompt. `of="answer"`: those of the gold answer
after the prompt and the rationale, that is the response up to where it gives its final answer: behind its last `####`,
inside its last `\boxed{`, behind its last "answer is" or "answer:", else before the last number of its last line; a
response without any gets `lead` behind it. `number` says which figure is the score: the mean of the tokens, their sum,
or the perplexity, exp of minus the mean, which is better the lower it is: with a threshold it passes up to it. The end
of the turn is not counted. With `of="response"` an empty response abstains.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from selftrain.lab import AskedModel
from selftrain.records import Case, Message, Problem, Sample, Score
from selftrain.verification.asking import each_or_error, thresholded

cases = (
    # What it says of others is the model's matter.
    Case(settings={"of": "answer"}, response="2+2=4", expect="error"),
    Case(answer="4", response="", expect="abstain"),
)

_MARK = re.compile(r"####|\\boxed\s*\{|\banswer(?:\s+is|\s*[:=])(?:\s*[:=])?", re.IGNORECASE)
_NUMBER = re.compile(r"[-+]?[$€£]?\d[\d,]*(?:\.\d+)?(?:/\d+)?")
_SAME = 0.05
"""Nats by which a token's log-probability may differ between two batches."""


class Cut(NamedTuple):
    """A response without its final answer, and the text of the gold answer that follows."""

    rationale: str
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """Scores texts, all of a problem in one batch."""

    of: Literal["response", "answer"] = "response"
    number: Literal["mean", "sum", "perplexity"] = "mean"
    lead: str = "\n#### "
    """How the gold answer is introduced behind a response that gives none."""
    threshold: float | None = None
    """The least score that passes; of perplexities the greatest."""

    def verify(self, *, problem: Problem, response: str, model: AskedModel) -> Score:
        """Score one response."""
        return self._scores(problem, [response], model)[0]

    def verify_group(self, *, problem: Problem, attempts: Sequence[Sample], model: AskedModel) -> list[Score]:
        """Score all samples of a problem."""
        return self._scores(problem, [attempt.text for attempt in attempts], model)

    def _scores(self, problem: Problem, texts: Sequence[str], model: AskedModel) -> list[Score]:
        if self.of == "response":
            found = each_or_error(lambda part: model.score([(problem.prompt, text) for text in part]), texts)
            return list(map(self._scored, found))
        if problem.answer is None:
            return [Score(status="error", why="the problem has no gold answer")] * len(texts)
        cuts = [cut(text, problem.answer, self.lead) for text in texts]
        return list(map(self._scored, each_or_error(lambda part: _answers(model, problem.prompt, part), cuts)))

    def _scored(self, logprobs: tuple[float, ...] | Score) -> Score:
        if isinstance(logprobs, Score):
            return logprobs
        if not logprobs:
            return Score(status="abstain", why="the response is empty: it has no token to score")
        total = sum(logprobs)
        mean = total / len(logprobs)
        figures = {"mean": mean, "sum": total, "perplexity": math.exp(min(-mean, 700.0))}
        shown = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
        made = thresholded(figures[self.number], self.threshold, below=self.number == "perplexity")
        return replace(made, why=f"{shown} over {len(logprobs)} tokens")


def cut(response: str, answer: str, lead: str) -> Cut:
    """Return the response up to its final answer, and the gold answer as it would stand there."""
    text = response.rstrip()
    if marks := list(_MARK.finditer(text)):
        last = marks[-1]
        if last[0].startswith("\\"):
            return Cut(text[: last.end()], answer + "}")
        return Cut(text[: last.end()], f" {answer}")
    line = text.rpartition("\n")[2]
    numbers = list(_NUMBER.finditer(line))
    if numbers:
        before = text[: len(text) - len(line) + numbers[-1].start()]
        # A space belongs to the token behind it in most vocabularies.
        rationale = before.rstrip(" ")
        return Cut(rationale, before[len(rationale) :] + answer)
    whole = text + lead if text else lead.lstrip()
    rationale = whole.rstrip(" ")
    return Cut(rationale, whole[len(rationale) :] + answer)


def _answers(model: AskedModel, prompt: Sequence[Message], cuts: Sequence[Cut]) -> list[tuple[float, ...]]:
    """Return the log-probabilities of each answer's tokens after its rationale."""
    texts = [text for each in cuts for text in (each.rationale, each.rationale + each.answer)]
    scores = model.score([(prompt, text) for text in texts])
    return [_behind(before, whole) for before, whole in zip(scores[::2], scores[1::2], strict=True)]


def _behind(before: Sequence[float], whole: Sequence[float]) -> tuple[float, ...]:
    kept = whole[len(before) :]
    if kept and all(abs(a - b) < _SAME for a, b in zip(before, whole, strict=False)):
        return tuple(kept)
    # Rationale and answer share a token: what the answer adds is still the difference of the two texts.
    count = max(1, len(kept))
    return ((sum(whole) - sum(before)) / count,) * count
