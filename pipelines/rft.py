"""RFT: one round of rejection sampling, many distinct correct solutions per problem, added to the gold ones.

Scaling Relationship on Learning Mathematical Reasoning with Large Language Models (Yuan et al., 2023,
arXiv:2308.01825), section 3.3: sample k solutions per problem from the fine-tuned model, keep the correct ones with
distinct reasoning, fine-tune the base model on them together with the gold solutions.

Different here: the sampled model is the one given (the paper's is fine-tuned on gold first; that is `gold_sft` and
then model=ITS EXPORT); distinct compares normalised texts where the paper compares lists of equations; problems
without a gold solution contribute samples alone.
"""

from selftrain.recipe import Recipe
from selftrain.rules import AtMost, distinct, finished, passed
from selftrain.stages import SFT, Evaluate, Gate, Generate, Gold, MakeExamples, Select, Train, Verify


def recipe(
    *,
    rounds: int = 1,
    samples: int = 100,
    keep: int = 100,
    temperature: float = 0.7,
    gold: float = 1.0,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; `gold` is the share of problems whose gold solution is mixed in, k is 100 in the paper."""
    return Recipe(
        paper="arXiv:2308.01825",
        control="gold_sft",
        rounds=rounds,
        each_round=[
            Generate(n=samples, temperature=temperature, max_new_tokens=max_new_tokens),
            *([Gold(share=gold)] if gold > 0 else []),
            Verify(),
            Select(rules=(passed, finished, distinct, AtMost(keep))),
            MakeExamples(),
            Train(loss=SFT(), start="base"),
            Evaluate(max_new_tokens=max_new_tokens),
            Gate(),
        ],
    )
