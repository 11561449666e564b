"""NAME: each round samples, keeps what passes, trains the base model on it, and measures.

Say here what the method is, who published it, and what is different here; `selftrain list recipes` shows the
first line.
"""

from selftrain.recipe import Recipe
from selftrain.rules import AtMost, distinct, finished, passed
from selftrain.stages import SFT, Evaluate, Gate, Generate, MakeExamples, Select, Train, Verify


def recipe(
    *, rounds: int = 2, samples: int = 8, keep: int = 4, temperature: float = 0.7, max_new_tokens: int = 256
) -> Recipe:
    """Build the recipe; its arguments are settings on the command line: `samples=16`."""
    return Recipe(
        paper="none",
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
