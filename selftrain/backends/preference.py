"""Preference losses: functions of the log-probabilities of responses; imported by the training process only.

The loss of a batch is the mean over its pairs (or rows) of weight x loss, as in TRL; weights are not normalised.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, sigmoid


class Pairs(NamedTuple):
    """Log-probabilities of the responses of a batch of pairs, summed over their trained tokens."""

    chosen: Tensor
    rejected: Tensor
    chosen_reference: Tensor
    """Under the reference; 0 for losses without one."""
    rejected_reference: Tensor
    chosen_lengths: Tensor
    """Trained tokens."""
    rejected_lengths: Tensor


class Labelled(NamedTuple):
    """Log-probabilities of a batch of responses that are good or bad, summed over their trained tokens."""

    policy: Tensor
    reference: Tensor
    good: Tensor
    kl: Tensor
    """How far the policy is from the reference, in nats: one number for the batch, 0 or more, without gradient."""


class Judged(NamedTuple):
    """What a loss makes of a batch."""

    losses: Tensor
    """One per pair or row, before weights."""
    chosen: Tensor
    """Implicit rewards of the chosen, or good, responses."""
    rejected: Tensor


Preference = Callable[[Any], Judged]


def dpo(batch: Pairs, *, beta: float, label_smoothing: float, nll: float, length_normalised: bool) -> Judged:
    """DPO (arXiv:2305.18290), where asked with label noise, an NLL term per token, or log-ratios per token."""
    chosen = beta * (batch.chosen - batch.chosen_reference)
    rejected = beta * (batch.rejected - batch.rejected_reference)
    if length_normalised:
        chosen, rejected = chosen / batch.chosen_lengths, rejected / batch.rejected_lengths
    margin = chosen - rejected
    losses = -(1 - label_smoothing) * logsigmoid(margin) - label_smoothing * logsigmoid(-margin)
    return Judged(losses - nll * batch.chosen / batch.chosen_lengths, chosen, rejected)


def spin(batch: Pairs, *, beta: float) -> Judged:
    """SPIN's logistic loss (arXiv:2401.01335): DPO's, with the model's own responses as the rejected ones."""
    return dpo(batch, beta=beta, label_smoothing=0.0, nll=0.0, length_normalised=False)


def orpo(batch: Pairs, *, beta: float) -> Judged:
    """ORPO (arXiv:2403.07691): NLL of the chosen per token, and the log odds ratio of mean log-probabilities."""
    chosen, rejected = batch.chosen / batch.chosen_lengths, batch.rejected / batch.rejected_lengths
    ratio = logsigmoid(_log_odds(chosen) - _log_odds(rejected))
    return Judged(-chosen - beta * ratio, beta * chosen, beta * rejected)


def asft(batch: Pairs, *, beta: float) -> Judged:
    """ASFT (arXiv:2409.10571): NLL of the chosen per token, and of each side by itself that it is likely, or not."""
    chosen, rejected = batch.chosen / batch.chosen_lengths, batch.rejected / batch.rejected_lengths
    aligned = logsigmoid(_log_odds(chosen)) + logsigmoid(-_log_odds(rejected))
    return Judged(-chosen - beta * aligned, beta * chosen, beta * rejected)


def simpo(batch: Pairs, *, beta: float, gamma: float) -> Judged:
    """SimPO (arXiv:2405.14734): mean log-probabilities as rewards, a target margin, no reference."""
    chosen = beta * batch.chosen / batch.chosen_lengths
    rejected = beta * batch.rejected / batch.rejected_lengths
    return Judged(-logsigmoid(chosen - rejected - gamma), chosen, rejected)


def kto(batch: Labelled, *, beta: float, desirable: float, undesirable: float) -> Judged:
    """KTO (arXiv:2402.01306), equation 8: good and bad responses, each against the distance to the reference."""
    rewards = beta * (batch.policy - batch.reference)
    zero = beta * batch.kl
    good = desirable * (1 - sigmoid(rewards - zero))
    bad = undesirable * (1 - sigmoid(zero - rewards))
    return Judged(torch.where(batch.good, good, bad), rewards[batch.good], rewards[~batch.good])


def _log_odds(log_probability: Tensor) -> Tensor:
    # A mean log-probability of 0 has infinite odds.
    kept = log_probability.clamp(max=-1e-6)
    return kept - torch.log(-torch.expm1(kept))


def measures(judged: Judged, chosen: Tensor, rejected: Tensor, *, paired: bool) -> dict[str, float]:
    """Return the figures of a preference training, from a batch's implicit rewards and log-probabilities.

    `accuracy` is the share of pairs whose chosen response has the greater reward, or without pairs the share of rows
    whose reward has the right sign; ties count half.
    """
    right = judged.chosen - judged.rejected if paired else torch.cat([judged.chosen, -judged.rejected])
    return {
        "chosen_log_prob": _mean(chosen),
        "rejected_log_prob": _mean(rejected),
        "margin": _mean(judged.chosen) - _mean(judged.rejected),
        "accuracy": _mean((right > 0).float() + (right == 0).float() / 2),
    }


def _mean(values: Tensor) -> float:
    return float(values.detach().float().mean()) if len(values) else 0.0


LOSSES: Mapping[str, Callable[..., Judged]] = {
    "dpo": dpo,
    "spin": spin,
    "orpo": orpo,
    "asft": asft,
    "simpo": simpo,
    "kto": kto,
}
