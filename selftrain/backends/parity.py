"""Whether merged weights say what the model said with its adapter on."""

import gc
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from selftrain.backends import checkpoints
from selftrain.errors import Blocked
from selftrain.records import Ids

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MOST_DIFFERENCE = 0.02
"""Nats a token."""
LEAST_EQUAL = {"float32": 1.0}
"""Share of prompts whose greedy texts must be equal, by dtype; rounding alone changes some in the others."""
LEAST_EQUAL_ROUNDED = 28 / 32
TIE = 0.5
"""Nats: a choice that is ahead by no more may have been turned by rounding to 16 bits alone, where logits from 16 to 32
lie 0.125 apart. It is measured, not guessed: a right merge of SmolLM2-135M kept 23 of 32 texts and parted at such a
token in seven."""
NEW_TOKENS = 32


class Parity(NamedTuple):
    """How near two models are."""

    difference: float
    """Mean absolute difference of log-probabilities, in nats a token."""
    equal: int
    """Prompts on which both say the same, greedily."""
    prompts: int
    ties: int
    """Prompts on which they part at a token that is as likely as the other, but for rounding."""

    def __str__(self) -> str:
        return (
            f"{self.difference:.4f} nat a token apart, {self.equal} of {self.prompts} greedy texts equal, "
            f"{self.ties} part at a tie"
        )


def check(contents: checkpoints.Contents, merged: Path, prompts: Sequence[Ids], dtype: str) -> Parity:
    """Compare the adapter on its base with the merged folder, both in `dtype`; refuse a merge that changed it."""
    found = compare(contents, merged, prompts, dtype)
    needed = math.ceil(LEAST_EQUAL.get(dtype, LEAST_EQUAL_ROUNDED) * len(prompts))
    same = found.equal + (0 if dtype == "float32" else found.ties)
    if not found.difference <= MOST_DIFFERENCE or same < needed:
        raise Blocked(
            f"the merge of {contents.adapter} changes the model in {dtype}: {found} "
            f"(at most {MOST_DIFFERENCE} and at least {needed} are wanted); export in float32, or the adapter alone"
        )
    return found


def compare(contents: checkpoints.Contents, merged: Path, prompts: Sequence[Ids], dtype: str) -> Parity:
    """Measure how near the merged folder is to the adapter on its base."""
    from peft import PeftModel

    if contents.start is None or contents.adapter is None:
        raise AssertionError(f"{contents.id} has no adapter to compare with")
    model = PeftModel.from_pretrained(checkpoints.load(Path(contents.start), dtype), str(contents.adapter)).eval()
    texts = greedy(model, prompts)
    sequences = list(zip(prompts, texts, strict=True))
    expected = checkpoints.score(model, sequences)
    del model
    gc.collect()
    model = checkpoints.load(merged, dtype)
    found = checkpoints.score(model, sequences)
    pairs = [pair for a, b in zip(expected, found, strict=True) for pair in zip(a, b, strict=True)]
    said = greedy(model, prompts)
    gaps = _gaps(model, prompts, texts, said)
    return Parity(
        difference=sum(abs(a - b) for a, b in pairs) / max(1, len(pairs)),
        equal=len(prompts) - len(gaps),
        prompts=len(prompts),
        ties=sum(gap <= TIE for gap in gaps),
    )


def _gaps(model: "PreTrainedModel", prompts: Sequence[Ids], texts: Sequence[Ids], said: Sequence[Ids]) -> list[float]:
    """For each text that differs: how far the model's own choice is ahead where the two part."""
    rivals = []
    for prompt, theirs, ours in zip(prompts, texts, said, strict=True):
        if theirs != ours:
            at = next(at for at, (a, b) in enumerate(zip(theirs, ours, strict=False)) if a != b)
            rivals += [((*prompt, *ours[:at]), (ours[at],)), ((*prompt, *ours[:at]), (theirs[at],))]
    scores = [logprobs[0] for logprobs in checkpoints.score(model, rivals)]
    return [mine - other for mine, other in zip(scores[::2], scores[1::2], strict=True)]


def greedy(model: "PreTrainedModel", prompts: Sequence[Ids], batch: int = 8) -> list[Ids]:
    """Return what the model says to each prompt, greedily and briefly."""
    import torch

    end = model.generation_config.eos_token_id
    ends = set(end if isinstance(end, list) else [end])
    found = []
    for first in range(0, len(prompts), batch):
        part = prompts[first : first + batch]
        longest = max(len(ids) for ids in part)
        ids = torch.tensor([[0] * (longest - len(each)) + list(each) for each in part])
        mask = torch.tensor([[0] * (longest - len(each)) + [1] * len(each) for each in part])
        with torch.inference_mode():
            out = model.generate(
                input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=NEW_TOKENS, pad_token_id=0
            )
        for row in out[:, longest:].tolist():
            stop = next((at + 1 for at, token in enumerate(row) if token in ends), len(row))
            found.append(tuple(row[:stop]))
    return found
