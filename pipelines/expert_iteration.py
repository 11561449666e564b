"""Expert iteration: sample, keep what is right, train on from the latest policy.

Thinking Fast and Slow with Deep Learning and Tree Search (Anthony, Tian, Barber, 2017, arXiv:1705.08439), in the form
used for language models (Polu et al., 2022, arXiv:2202.01344): the policy's own verified samples are the expert, and
each round continues from the weights of the round before on the data of all rounds.

Different here: no tree search, the expert is rejection sampling; the union of rounds is capped per problem; a Gate.
"""

from typing import Literal

from selftrain.recipe import Recipe
from selftrain.rules import AtMost, distinct, finished, passed
from selftrain.stages import SFT, Evaluate, Gate, Generate, MakeExamples, Select, Train, Verify


def recipe(
    *,
    rounds: int = 3,
    samples: int = 16,
    keep: int = 4,
    temperature: float = 1.0,
    rows: Literal["fresh", "union", "replay"] = "union",
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; `rows` says which rounds' samples are trained on."""
    return Recipe(
        paper="arXiv:1705.08439",
        control="rest_em",
        rounds=rounds,
        each_round=[
            Generate(n=samples, temperature=temperature, max_new_tokens=max_new_tokens),
            Verify(),
            Select(rules=(passed, finished, distinct, AtMost(keep)), data=rows),
            MakeExamples(),
            Train(loss=SFT(), start="latest"),
            Evaluate(max_new_tokens=max_new_tokens),
            Gate(),
        ],
    )
