"""PoFT: fine-tuning that asks of the model to find the data likelier than an aligned model does.

Preference-Oriented Supervised Fine-Tuning: Favoring Target Model Over Aligned Large Language Models (Fan, Hong, Wang,
Bao, Jiang, Song, 2024, arXiv:2412.12865). On each row the model in training is preferred to an aligned one in the
manner of Bradley and Terry, the log-likelihood as the score: the gradient is that of fine-tuning, times the chance that
the aligned model is still ahead. What an aligned model finds unlikely, bad data mostly, so counts for less.

Different here: the rows are gold solutions and the model's own right samples (the paper: instruction sets, as they
are), so that it runs in rounds; one aligned model, not the mean of several, with the policy's tokenizer, since rows are
token ids; a row counts by its tokens, as in fine-tuning here. The aligned model is the model given, fine-tuned on gold
solutions first; with one that is aligned already (`model.aligned=PATH`) say align=false. LoRA by default, a Gate.
Scores per token (length-normalised) are how we know the paper; we could not check it there.
"""

from selftrain.recipe import Model, Recipe, Stages
from selftrain.rules import AtMost, distinct, finished, passed
from selftrain.stages import (
    SFT,
    Evaluate,
    Gate,
    Generate,
    Gold,
    MakeExamples,
    PoFT,
    Reference,
    Select,
    Train,
    Verify,
)


def recipe(
    *,
    rounds: int = 1,
    samples: int = 8,
    keep: int = 4,
    align: bool = True,
    temperature: float = 0.7,
    beta: float = 1.0,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; `keep` caps a problem's rows, gold included."""
    aligning: Stages = [
        Gold(),
        Select(rules=()),
        MakeExamples(model="aligned"),
        Train(name="align", model="aligned", loss=SFT(), start="base"),
        # The model that is aligned from now on: no later stage trains it.
    ]
    return Recipe(
        paper="arXiv:2412.12865",
        control="rft",
        rounds=rounds,
        models={"policy": Model(), "aligned": Model()},
        before=aligning if align else (),
        each_round=[
            Gold(),
            Generate(n=samples, temperature=temperature, max_new_tokens=max_new_tokens),
            Verify(of=("gold", "generate")),
            Select(of=("gold", "generate", "verify"), rules=(passed, finished, distinct, AtMost(keep))),
            MakeExamples(),
            Reference(of=("build",), model="aligned", which="previous", key="aligned", trained="policy"),
            Train(of=("reference",), loss=PoFT(beta=beta), start="base"),
            Evaluate(max_new_tokens=max_new_tokens),
            Gate(),
        ],
    )
