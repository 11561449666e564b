"""Sharpening: of n samples the one that the model itself finds likeliest, learned so that it comes first at once.

Self-Improvement in Language Models: The Sharpening Mechanism (Huang et al., 2024, arXiv:2412.01951). Self-improvement
without feedback can only move mass to what the model already values. With its own log-probability of the whole response
as the reward, best-of-n and then fine-tuning on the winners (the paper's SFT-sharpening) moves the model towards its
likeliest responses; it works as far as these are among the n.

Different here: the log-probability is the one noted while sampling, end of turn included and not divided by the
temperature; a response cut off by the token limit cannot win; more rounds than one are possible, each sharpening the
latest model. The paper's RLHF-sharpening is another method. The number of samples is a setting. Labels: none.
"""

from selftrain.recipe import Recipe
from selftrain.rules import Attempts, finished
from selftrain.stages import SFT, Evaluate, Gate, Generate, MakeExamples, Select, Train


def likeliest(attempts: Attempts) -> Attempts:
    """Keep what was sampled with the highest log-probability, of equally likely ones the first."""
    known = [(each.sample.logprob, each) for each in attempts if each.sample.logprob is not None]
    return [max(known, key=lambda pair: pair[0])[1]] if known else []


def recipe(
    *,
    rounds: int = 1,
    samples: int = 16,
    temperature: float = 1.0,
    gate: bool = False,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; one row a problem."""
    return Recipe(
        paper="arXiv:2412.01951",
        control="random_select keep=1 gate=false",
        rounds=rounds,
        each_round=[
            Generate(n=samples, temperature=temperature, max_new_tokens=max_new_tokens, logprob=True),
            Select(rules=(finished, likeliest)),
            MakeExamples(),
            Train(loss=SFT(), start="base"),
            Evaluate(max_new_tokens=max_new_tokens),
            *([Gate()] if gate else []),
        ],
    )
