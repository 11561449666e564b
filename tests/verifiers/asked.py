"""Verifiers that ask a model, with one that answers by a function; and problems with samples for them."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from selftrain.records import Message, Problem, Sample, Score
from selftrain.verification.verify import load_verifier


class Answering:
    """A model that replies to a prompt's texts by a function and finds every character as likely as it is told."""

    def __init__(self, reply: Callable[[str, int], str] = lambda text, vote: "", context: int = 100_000) -> None:
        self.reply = reply
        self.context = context
        self.prompts: list[Sequence[Message]] = []
        self.likely: Callable[[str, str], tuple[float, ...]] = lambda prompt, text: (-1.0,) * len(text)

    def sample(
        self, prompts: Sequence[Sequence[Message]], *, n: int = 1, temperature: float = 0.0, max_tokens: int = 256
    ) -> list[list[str]]:
        texts = ["\n".join(turn["content"] for turn in prompt) for prompt in prompts]
        if any(len(text) > self.context for text in texts):
            raise ValueError("a question is longer than the model's context")
        self.prompts += prompts
        return [[self.reply(text, vote) for vote in range(n)] for text in texts]

    def score(self, pairs: Sequence[tuple[Sequence[Message], str]]) -> list[tuple[float, ...]]:
        if any(len(text) > self.context for _, text in pairs):
            raise ValueError("a question is longer than the model's context")
        return [self.likely(prompt[-1]["content"], text) for prompt, text in pairs]


def samples(problem: Problem, texts: Sequence[str]) -> list[Sample]:
    """Samples of a problem, as Generate would have made them."""
    return [
        Sample(
            id=f"{problem.id}-{index}", problem=problem.id, index=index, text=text, prompt_ids=(1,),
            completion_ids=(2,), tokenizer="t", finish="stop", model="m",
        )
        for index, text in enumerate(texts)
    ]  # fmt: skip


def judged(spec: dict[str, Any], problem: Problem, texts: Sequence[str], **resources: object) -> list[Score]:
    """What a verifier of groups says of a problem's responses."""
    verifier = load_verifier(json.dumps(spec), resources.__getitem__)
    return verifier.judge_group(problem=problem, attempts=samples(problem, texts))
