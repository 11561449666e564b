"""LMSI: the answer that most samples agree on stands for the gold one; fine-tune on the samples that give it.

Large Language Models Can Self-Improve (Huang et al., 2022, arXiv:2210.11610). For each problem without a label the
model samples 32 chains of thought; those that lead to the majority's answer are kept, all of them, and the model is
fine-tuned on them. No gold answer is looked at.

Different here: one prompt format (the paper trains on four: with and without examples, with and without chains); the
few-shot prompts are the run's protocol; `keep` caps the samples of a problem and equal texts count once; `share` may
ask for a clearer majority. 32 samples and temperature 0.7 are the paper's (its section 4; it samples the improved
model at 1.2). gate=true would let gold answers of the valid split decide which round is believed.
"""

from selftrain.recipe import Recipe
from selftrain.rules import AtMost, Majority, distinct, finished
from selftrain.stages import SFT, Evaluate, Gate, Generate, MakeExamples, Select, Train, Verify


def recipe(
    *,
    rounds: int = 1,
    samples: int = 32,
    keep: int = 32,
    share: float = 0.0,
    temperature: float = 0.7,
    gate: bool = False,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; `share` of a problem's samples must agree, else it is left out."""
    return Recipe(
        paper="arXiv:2210.11610",
        control="random_select gate=false",
        rounds=rounds,
        each_round=[
            Generate(n=samples, temperature=temperature, max_new_tokens=max_new_tokens),
            Verify(by="vote", blind=True),
            Select(rules=(Majority("vote", share), finished, distinct, AtMost(keep))),
            MakeExamples(),
            Train(loss=SFT(), start="base"),
            Evaluate(max_new_tokens=max_new_tokens),
            *([Gate()] if gate else []),
        ],
    )
