r"""The scores that a process model gives the steps of this response, and one number made of them.

Any transformers model for token classification with two labels (the second is "right") or one: a folder, a checkpoint
that Train(loss=Steps()) made, or a hub id. A step is a line, a paragraph (`steps="paragraphs"`: blank lines between
them), or what ends with a match of a regular expression of your own. The model is read at the last token of each step;
lines and paragraphs always end with one newline or one blank line, as in TRL's process data. A response without a step
abstains. Without a threshold the verdict is a score; with one, what reaches it passes.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from selftrain.lab import Scorer
from selftrain.records import Case, Problem, Sample, Score
from selftrain.verification.asking import each_or_error, thresholded
from selftrain.verification.steps import pattern, split

cases = (
    # What it says of others is the model's matter.
    Case(response="", expect="abstain"),
    Case(response=" \n\n", settings={"steps": "paragraphs"}, expect="abstain"),
)

AGGREGATES: dict[str, Callable[[Sequence[float]], float]] = {
    "min": min,
    "product": math.prod,
    "mean": lambda scores: sum(scores) / len(scores),
    "last": lambda scores: scores[-1],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """Scores steps, those of all samples of a problem in one batch."""

    model: str = ""
    """The process model's folder or hub id; '' takes the model that the stage names."""
    steps: str = "lines"
    """lines, paragraphs, or a regular expression that ends a step."""
    aggregate: Literal["min", "product", "mean", "last"] = "min"
    """How the steps' scores make the response's."""
    threshold: float | None = None
    """The least score that passes."""

    def __post_init__(self) -> None:
        pattern(self.steps)

    def verify(self, *, problem: Problem, response: str, scorer: Scorer) -> Score:
        """Score one response."""
        return self._scores(problem, [response], scorer)[0]

    def verify_group(self, *, problem: Problem, attempts: Sequence[Sample], scorer: Scorer) -> list[Score]:
        """Score all samples of a problem."""
        return self._scores(problem, [attempt.text for attempt in attempts], scorer)

    def _scores(self, problem: Problem, texts: Sequence[str], scorer: Scorer) -> list[Score]:
        cut = [split(text, self.steps) for text in texts]
        asked = [steps for steps in cut if steps]
        found = iter(each_or_error(lambda part: scorer.step_scores(self.model, problem.prompt, part), asked))
        return [self._made(next(found)) if steps else _EMPTY for steps in cut]

    def _made(self, scores: tuple[float, ...] | Score) -> Score:
        if isinstance(scores, Score):
            return scores
        return replace(thresholded(AGGREGATES[self.aggregate](scores), self.threshold), step_scores=scores)


_EMPTY = Score(status="abstain", why="the response has no step")
