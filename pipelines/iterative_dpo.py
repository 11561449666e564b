"""Iterative DPO: sample, put right over wrong, train the latest policy by DPO, sample again from it.

Some things are more CRINGE than others: Iterative Preference Optimization with the Pairwise Cringe Loss (Xu, Lee,
Sukhbaatar, Weston, 2023, arXiv:2312.16682), which has iterative DPO beside its own loss: each round the latest model
answers the prompts, its answers are put into preference pairs, and it is trained on them with DPO (arXiv:2305.18290).

Different here: a verifier says who is preferred, where the paper, from memory, has a reward model trained on human
preferences (we could check its abstract, where DPO is made iterative in the way of its own loss, not more); pairs are
right over wrong, several a problem, of this round alone; the first round begins from the model given, without DPO on
human preferences before; LoRA by default; a Gate. beta is TRL's default, the reference the weights that each round
begins with; reference=base keeps it at the model given for all rounds.
"""

from typing import Literal

from selftrain.pairings import RightWrong
from selftrain.recipe import Recipe
from selftrain.rules import finished
from selftrain.stages import DPO, Evaluate, Gate, Generate, MakePairs, Pair, Reference, Train, Verify


def recipe(
    *,
    rounds: int = 3,
    samples: int = 8,
    pairs: int = 4,
    temperature: float = 1.0,
    beta: float = 0.1,
    reference: Literal["start", "base", "previous"] = "start",
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; `pairs` is the cap per problem."""
    stored = [] if reference == "start" else [Reference(of=("build",), which=reference)]
    return Recipe(
        paper="arXiv:2312.16682",
        control="expert_iteration",
        rounds=rounds,
        each_round=[
            Generate(n=samples, temperature=temperature, max_new_tokens=max_new_tokens),
            Verify(),
            Pair(pairing=RightWrong(pairs), rules=(finished,)),
            MakePairs(),
            *stored,
            Train(of=("reference" if stored else "build",), loss=DPO(beta=beta, reference=reference), start="latest"),
            Evaluate(max_new_tokens=max_new_tokens),
            Gate(),
        ],
    )
