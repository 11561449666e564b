"""The score that a reward model gives the conversation with this response as its last turn.

Any transformers model for sequence classification with one label (`num_labels` 1): a folder, a checkpoint that
Train(loss=Reward()) made, or a hub id. The prompt goes through the chat template of the model's own tokenizer. Without
a threshold the verdict is a score; with one, what reaches it passes. It never sees a gold answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from selftrain.lab import Scorer
from selftrain.records import Message, Problem, Sample, Score
from selftrain.verification.asking import each_or_error, thresholded

cases = ()
"""What it says is the model's matter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """Scores conversations, all of a problem in one batch."""

    model: str = ""
    """The reward model's folder or hub id; '' takes the model that the stage names."""
    engine: Literal["transformers", "vllm"] = "transformers"
    """vllm: in a vLLM process of its own, for GPUs with room for it (it takes a fifth of the memory: give the sampler
    the rest by gpu_memory_utilization)."""
    threshold: float | None = None
    """The least score that passes."""

    def verify(self, *, problem: Problem, response: str, scorer: Scorer) -> Score:
        """Score one response."""
        return self._scores(problem, [response], scorer)[0]

    def verify_group(self, *, problem: Problem, attempts: Sequence[Sample], scorer: Scorer) -> list[Score]:
        """Score all samples of a problem."""
        return self._scores(problem, [attempt.text for attempt in attempts], scorer)

    def _scores(self, problem: Problem, texts: Sequence[str], scorer: Scorer) -> list[Score]:
        def ask(part: Sequence[str]) -> list[float]:
            talks: list[list[Message]] = [[*problem.prompt, {"role": "assistant", "content": t}] for t in part]
            return scorer.score(self.model, talks, engine=self.engine)

        found = each_or_error(ask, texts)
        return [each if isinstance(each, Score) else thresholded(each, self.threshold) for each in found]
