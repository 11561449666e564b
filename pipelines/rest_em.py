"""ReST-EM: sample, keep what is right, fine-tune the base model on it, repeat.

Beyond Human Data: Scaling Self-Training for Problem-Solving with Language Models (Singh et al., 2023,
arXiv:2312.06585). Each round samples many solutions per problem from the latest policy (E-step), keeps the correct
ones up to a cap per problem, and fine-tunes the *base* model on them (M-step), so that errors don't pile up.

Different here: LoRA by default where the paper tunes all weights; the paper's few-shot prompts are the run's protocol;
a Gate believes a round only where its gain on valid excludes 0.
"""

from selftrain.recipe import Recipe
from selftrain.rules import AtMost, distinct, finished, passed
from selftrain.stages import SFT, Evaluate, Gate, Generate, MakeExamples, Select, Train, Verify


def recipe(
    *, rounds: int = 3, samples: int = 32, keep: int = 10, temperature: float = 0.7, max_new_tokens: int = 256
) -> Recipe:
    """Build the recipe; the defaults are the paper's for MATH (32 samples, at most 10 kept, temperature 0.7)."""
    return Recipe(
        paper="arXiv:2312.06585",
        control="random_select",
        rounds=rounds,
        each_round=[
            Generate(n=samples, temperature=temperature, max_new_tokens=max_new_tokens),
            Verify(),
            Select(rules=(passed, finished, distinct, AtMost(keep))),
            MakeExamples(),
            Train(loss=SFT(), start="base"),
            Evaluate(max_new_tokens=max_new_tokens),
            Gate(),
        ],
    )
