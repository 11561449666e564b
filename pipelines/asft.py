"""ASFT: right solutions made likely and wrong ones unlikely, each by itself, beside fine-tuning on the right ones.

ASFT: Aligned Supervised Fine-Tuning through Absolute Likelihood (Wang, Sun, Hua, Fang, 2024, arXiv:2409.10571). A loss
on pairs without a reference model and without comparing the two sides: the negative log-likelihood of the chosen
response, plus, weighted by beta, the negative logarithm of the chosen one's mean token probability and of what the
rejected one's leaves over. So the chosen one is pulled up as fast as the rejected one is pushed down.

Different here: the pairs are the model's own right over wrong samples (the paper: UltraFeedback and HH-RLHF), so that
it runs in rounds, each from the latest weights; LoRA by default, a Gate. The form of the loss is how we know it from
the paper and from those that compare it with ORPO; beta 0.1 is ORPO's default, we could not check the paper's.
"""

from typing import Literal

from selftrain.pairings import RightWrong
from selftrain.recipe import Recipe
from selftrain.rules import finished
from selftrain.stages import ASFT, Evaluate, Gate, Generate, MakePairs, Pair, Train, Verify


def recipe(
    *,
    rounds: int = 1,
    samples: int = 8,
    pairs: int = 4,
    temperature: float = 1.0,
    beta: float = 0.1,
    start: Literal["base", "latest"] = "latest",
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; `pairs` caps a problem's pairs."""
    return Recipe(
        paper="arXiv:2409.10571",
        control="iterative_dpo rounds=1",
        rounds=rounds,
        each_round=[
            Generate(n=samples, temperature=temperature, max_new_tokens=max_new_tokens),
            Verify(),
            Pair(pairing=RightWrong(pairs), rules=(finished,)),
            MakePairs(),
            Train(loss=ASFT(beta=beta), start=start),
            Evaluate(max_new_tokens=max_new_tokens),
            Gate(),
        ],
    )
