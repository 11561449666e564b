"""Iterative RPO: right over wrong chains of thought by DPO with an NLL term, from the latest policy, round after round.

Iterative Reasoning Preference Optimization (Pang, Yuan, Cho, He, Sukhbaatar, Weston, 2024, arXiv:2404.19733). Each
round samples many solutions a problem from the latest model, pairs right with wrong ones, and trains the latest model
on this round's pairs with DPO plus the negative log-likelihood of the right solution, divided by its length; the
reference is the model that the round began with.

Different here: where the paper puts the gold solution among the winners, so that every problem has one, here a problem
without a right sample has no pair; equal texts count once; one epoch a round instead of at most 5000 steps of 16 pairs,
how many being chosen on problems held out; LoRA by default, with its own learning rate (the paper: all weights, 7e-7);
a Gate. 30 samples, 10 pairs that go round both sides, temperature 0.8 and from the third round on 1.3, beta 0.1, NLL
weight 1 and four rounds are the paper's for GSM8K.
"""

from selftrain.pairings import RightWrong
from selftrain.recipe import Recipe, Stages
from selftrain.round import History
from selftrain.rules import finished
from selftrain.stages import DPO, Evaluate, Gate, Generate, MakePairs, Pair, Train, Verify


def recipe(
    *,
    rounds: int = 4,
    samples: int = 30,
    pairs: int = 10,
    temperature: float = 0.8,
    later_temperature: float = 1.3,
    beta: float = 0.1,
    nll: float = 1.0,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; nll=0 is the paper's ablation, plain DPO."""

    def each_round(history: History) -> Stages:
        heat = temperature if history.number <= 2 else later_temperature
        return [
            Generate(n=samples, temperature=heat, max_new_tokens=max_new_tokens),
            Verify(),
            Pair(pairing=RightWrong(pairs), rules=(finished,)),
            MakePairs(),
            Train(loss=DPO(beta=beta, nll=nll), start="latest"),
            Evaluate(max_new_tokens=max_new_tokens),
            Gate(),
        ]

    return Recipe(paper="arXiv:2404.19733", control="iterative_dpo", rounds=rounds, each_round=each_round)
