"""Control: the verifier off. Of each problem as many samples as ReST-EM may keep at most, chosen at random.

No paper: the control that published comparisons often leave out. What it gains is not due to knowing which samples
are right (format, length, sharpening); a recipe's claim is its difference from this one at the same budget.

Different from rest_em: no Verify, and Random(keep) where rest_em has passed and AtMost(keep). The samples, the cap, the
training and the Gate are the same; without its gate no stage of the loop sees a gold answer (labels: none).
"""

from selftrain.recipe import Recipe
from selftrain.rules import Random, distinct, finished
from selftrain.stages import SFT, Evaluate, Gate, Generate, MakeExamples, Select, Train


def recipe(
    *,
    rounds: int = 3,
    samples: int = 32,
    keep: int = 10,
    temperature: float = 0.7,
    gate: bool = True,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the control; keep is the cap per problem."""
    return Recipe(
        paper="none: a control",
        rounds=rounds,
        each_round=[
            Generate(n=samples, temperature=temperature, max_new_tokens=max_new_tokens),
            Select(rules=(finished, distinct, Random(keep))),
            MakeExamples(),
            Train(loss=SFT(), start="base"),
            Evaluate(max_new_tokens=max_new_tokens),
            *([Gate()] if gate else []),
        ],
    )
