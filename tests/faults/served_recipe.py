"""One round that trains nothing: for a server whose weights can't be changed."""

from selftrain.recipe import Recipe
from selftrain.rules import AtMost, distinct, finished, passed
from selftrain.stages import Evaluate, Gate, Generate, MakeExamples, Select, Verify


def recipe(*, rounds: int = 1, samples: int = 4, keep: int = 2, max_new_tokens: int = 64) -> Recipe:
    """Sample, judge, choose, build, measure."""
    return Recipe(
        paper="none: a test",
        rounds=rounds,
        each_round=[
            Generate(n=samples, max_new_tokens=max_new_tokens),
            Verify(),
            Select(rules=(passed, finished, distinct, AtMost(keep))),
            MakeExamples(),
            Evaluate(max_new_tokens=max_new_tokens),
            Gate(),
        ],
    )
