"""S3FT: train on the model's own answer where it is right, on the gold solution where it is not.

Selective Self-to-Supervised Fine-Tuning for Generalization in Large Language Models (Gupta, Nandwani, Yehudai,
Khandelwal, Raghu, Joshi, 2025, arXiv:2502.08130). The model answers each training problem once; a judge says whether
the answer is as good as the gold one. Right answers are trained on in the model's own words, so that it moves less; for
the rest the gold answer is taken. Plain fine-tuning, one round.

Different here: the paper first tries the gold answer in the model's own words (a paraphrase) and takes gold itself only
where that fails; a gold solution that the judge does not pass is left out, and so is a problem without one.
"""

from selftrain.recipe import Recipe
from selftrain.rules import AtMost, passed
from selftrain.stages import SFT, Evaluate, Gate, Generate, Gold, MakeExamples, Select, Train, Verify


def recipe(*, rounds: int = 1, temperature: float = 0.0, by: str = "", max_new_tokens: int = 256) -> Recipe:
    """Build the recipe; `by` is the judge, by default each problem's own verifier."""
    return Recipe(
        paper="arXiv:2502.08130",
        control="gold_sft",
        rounds=rounds,
        each_round=[
            Generate(n=1, temperature=temperature, max_new_tokens=max_new_tokens),
            Verify(by=by),
            Gold(only="unsolved"),
            Verify(name="verify-gold", of=("gold",), by=by),
            Select(rules=(passed, AtMost(1))),
            MakeExamples(),
            Train(loss=SFT(), start="base"),
            Evaluate(max_new_tokens=max_new_tokens),
            Gate(),
        ],
    )
