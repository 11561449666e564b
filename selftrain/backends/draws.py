"""Draw a token per row with one random number a row, by inverting the cumulative distribution."""

import torch
from torch import Tensor
from torch.nn.functional import pad

BLOCK = 128
"""Tokens of a block: what is summed in the order of the vocabulary are blocks, and the tokens of one of them."""


def drawn(probs: Tensor, uniform: Tensor) -> Tensor:
    """Return a token per row, of (rows, vocabulary) weights and as many numbers from [0, 1); int64.

    Weights are at least 0 and need no sum of 1. A token of weight 0 is never drawn, and equal arguments give equal
    tokens.
    """
    rows, vocabulary = probs.shape
    whole = pad(probs, (0, -vocabulary % BLOCK)) if vocabulary % BLOCK else probs
    blocks = whole.view(rows, -1, BLOCK)
    block, share = _inverted(blocks.sum(-1).double(), uniform.double())
    inside = blocks[torch.arange(rows, device=probs.device), block].double()
    # Only weights that are no numbers lead further.
    return (block * BLOCK + _inverted(inside, share)[0]).clamp(max=vocabulary - 1)


def _inverted(weights: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Return where in each row the share `uniform` of its sum is reached, and what share of that place it takes."""
    reached = weights.cumsum(-1)
    total = reached[:, -1:]
    # Rounding must not lead beyond the last place that has any weight.
    goal = torch.minimum(uniform[:, None] * total, total * (1 - 2**-52))
    found = torch.searchsorted(reached, goal, right=True).clamp(max=weights.shape[1] - 1)
    behind = (reached.gather(1, found) - goal) / weights.gather(1, found)
    return found[:, 0], (1 - behind).clamp(0, 1 - 2**-53)[:, 0]
