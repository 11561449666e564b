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
NEW_TOKENS = 32


class Parity(NamedTuple):
    """How near two models are."""

    difference: float
    """Mean absolute difference of log-probabilities, in nats a token."""
    equal: int
    """Prompts on which both say the same, greedily."""
    prompts: int

    def __str__(self) -> str:
        return f"{self.difference:.4f} nat a token apart, {self.equal} of {self.prompts} greedy texts equal"


def check(contents: checkpoints.Contents, merged: Path, prompts: Sequence[Ids], dtype: str) -> Parity:
    """Compare the adapter on its base with the merged folder, both in `dtype`; refuse a merge that changed it."""
    found = compare(contents, merged, prompts, dtype)
    needed = math.ceil(LEAST_EQUAL.get(dtype, LEAST_EQUAL_ROUNDED) * len(prompts))
    if not found.difference <= MOST_DIFFERENCE or found.equal < needed:
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
    return Parity(
        difference=sum(abs(a - b) for a, b in pairs) / max(1, len(pairs)),
        equal=sum(a == b for a, b in zip(texts, greedy(model, prompts), strict=True)),
        prompts=len(prompts),
    )


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
