"""Control: fine-tune on the gold solutions alone, one round, no sampling.

No paper: the baseline that every self-training claim should stand beside. Problems without a gold solution are counted
and left out.
"""

from selftrain.recipe import Recipe
from selftrain.stages import SFT, Evaluate, Gate, Gold, MakeExamples, Select, Train


def recipe(*, rounds: int = 1, max_new_tokens: int = 256) -> Recipe:
    """Build the control."""
    return Recipe(
        paper="none: a control",
        rounds=rounds,
        each_round=[
            Gold(),
            Select(rules=()),
            MakeExamples(),
            Train(loss=SFT(), start="base"),
            Evaluate(max_new_tokens=max_new_tokens),
            Gate(),
        ],
    )
