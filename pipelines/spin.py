"""SPIN: gold solutions over the model's own, against itself of the round before, until they can't be told apart.

Self-Play Fine-Tuning Converts Weak Language Models to Strong Language Models (Chen, Deng, Yuan, Ji, Gu, 2024,
arXiv:2401.01335). Each round the latest model answers every prompt once; the gold solution is the chosen response and
its own the rejected one, right or wrong, without a verifier; the model is trained on with a logistic loss whose
reference is the model that the round began with, on the pairs of this round and the one before.

Different here: LoRA by default, with a plain AdamW and its own learning rate (the authors' code, uclaml/SPIN: RMSprop
on all weights, 5e-7, 64 pairs a step); own responses that say the same as the gold one make no pair; a Gate. The method
begins from a model that was fine-tuned on the same gold solutions: warm_up=true does that first. One response at
temperature 1, beta 0.1 and 3 epochs are those of the authors' code.
"""

from selftrain.pairings import GoldOwn
from selftrain.recipe import Recipe, Stage
from selftrain.stages import SFT, SPIN, Evaluate, Gate, Generate, Gold, MakeExamples, MakePairs, Pair, Select, Train


def recipe(
    *,
    rounds: int = 4,
    samples: int = 1,
    temperature: float = 1.0,
    beta: float = 0.1,
    epochs: float = 3,
    earlier: int = 1,
    warm_up: bool = False,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; `earlier` is how many rounds before join with their pairs."""
    sft: list[Stage] = [Gold(), Select(rules=()), MakeExamples(), Train(name="warm-up", loss=SFT(), start="base")]
    return Recipe(
        paper="arXiv:2401.01335",
        control="gold_sft",
        rounds=rounds,
        before=sft if warm_up else (),
        each_round=[
            Gold(),
            Generate(n=samples, temperature=temperature, max_new_tokens=max_new_tokens),
            Pair(pairing=GoldOwn(samples * (1 + earlier)), earlier=earlier),
            MakePairs(),
            Train(loss=SPIN(beta=beta), start="latest", settings={"num_train_epochs": epochs}),
            Evaluate(max_new_tokens=max_new_tokens),
            Gate(),
        ],
    )
