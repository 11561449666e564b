"""Log-probabilities of a batch's trained tokens, with as little computed as that takes; for training processes only.

Logits are made for trained tokens alone. Where there is no GPU, what all rows of a batch begin with (a system prompt,
the words of a task) is computed once: its keys and values are shared by the rows, and its gradient is the sum of
theirs. That is exact, and on prompts of 60 tokens of which 35 are the same it halves a step.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from trl.trainer.utils import add_fused_lm_head

IGNORED = -100
"""The label of a token that is not trained."""
WORTH = 8
"""Tokens that a batch must have in common to compute them apart."""


def token_log_probs(model: torch.nn.Module, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> Tensor:
    """Return the log-probability of every labelled token, 0 elsewhere: [rows, tokens - 1]."""
    base = causal_model(model)
    if input_ids.is_cuda:
        if not getattr(base, "_scores_log_probs_only", False):
            add_fused_lm_head(base, outputs=("log_probs",))
            base._scores_log_probs_only = True
        outputs = model(input_ids=input_ids, attention_mask=attention_mask, labels=labels, fused_lm_head=True)
        return outputs.log_probs
    mask = labels[:, 1:].ne(IGNORED)
    shared = common(input_ids, attention_mask, labels) if _shares(model, base) else 0

    def keep_labelled(head: torch.nn.Module, hidden: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (hidden[0][:, :-1][mask[:, shared:]], *hidden[1:])

    cache = _computed(model, input_ids[:1, :shared], len(input_ids)) if shared else None
    # TRL's fused head scores every position where there is no Triton. Here the hidden states are thinned out on
    # their way into the output layer, so that the model's own forward (and DDP's around it) stays in charge.
    handle = base.get_output_embeddings().register_forward_pre_hook(keep_labelled)
    try:
        logits = model(
            input_ids=input_ids[:, shared:],
            attention_mask=attention_mask,
            past_key_values=cache,
            use_cache=cache is not None,
        ).logits
    finally:
        handle.remove()
    losses = torch.nn.functional.cross_entropy(logits.float(), labels[:, 1:][mask], reduction="none")
    return torch.zeros(mask.shape, device=losses.device).masked_scatter(mask, -losses)


def common(input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> int:
    """Return how many tokens all rows begin with that no trained token is predicted from; 0 if too few."""
    if len(input_ids) < 2:
        return 0
    same = (input_ids == input_ids[:1]).all(0) & attention_mask.bool().all(0)
    # What predicts the first trained token is computed in the row itself.
    free = ~labels.roll(-1, 1).ne(IGNORED).any(0)
    count = int((same & free).long().cumprod(0).sum())
    return count if WORTH <= count < input_ids.shape[1] else 0


def causal_model(model: torch.nn.Module) -> Any:
    """Return the language model inside what DDP and PEFT have put around it."""
    inner = getattr(model, "module", model)
    return inner.get_base_model() if hasattr(inner, "get_base_model") else inner


def _shares(model: torch.nn.Module, base: Any) -> bool:
    """Tell whether the model can go on from keys and values: two forwards, one backward."""
    stateful = bool(getattr(base, "_is_stateful", False))
    return not (stateful or hasattr(model, "module") or getattr(base, "is_gradient_checkpointing", False))


def _computed(model: torch.nn.Module, prefix: Tensor, rows: int) -> DynamicCache:
    """Return a prefix's keys and values, shared by so many rows."""
    cache = DynamicCache()
    model(input_ids=prefix, past_key_values=cache, use_cache=True, logits_to_keep=1)
    for layer in cache.layers:
        layer.keys, layer.values = layer.keys.expand(rows, -1, -1, -1), layer.values.expand(rows, -1, -1, -1)
    return cache
