"""MBR finetuning: train on the sample that is most like a problem's other samples.

MBR and QE Finetuning: Training-time Distillation of the Best and Most Expensive Decoding Methods (Finkelstein, Naskar,
Mirzazadeh, Shah, Freitag, 2023, arXiv:2309.10966). Many outputs are sampled for each input; the one with the least
Bayes risk, that is with the highest mean utility against the others, becomes the training target. One round, no
references.

Different here: the utility is chrF (`mbr`), where the paper has a learned metric; sampling is at a temperature, not by
epsilon. `by` may be any verifier that scores: with one that judges a single response it is the paper's QE finetuning.
The number of samples is a setting, not checked against the paper's.
"""

from selftrain.recipe import Recipe
from selftrain.rules import Best, finished
from selftrain.stages import SFT, Evaluate, Gate, Generate, MakeExamples, Select, Train, Verify


def recipe(
    *,
    rounds: int = 1,
    samples: int = 64,
    by: str = "mbr",
    temperature: float = 1.0,
    gate: bool = False,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; `by` is the utility, a verifier's name, path or JSON with name and settings."""
    return Recipe(
        paper="arXiv:2309.10966",
        control="random_select keep=1 gate=false",
        rounds=rounds,
        each_round=[
            Generate(n=samples, temperature=temperature, max_new_tokens=max_new_tokens),
            Verify(by=by, blind=True, model="policy"),
            Select(rules=(finished, Best(1, by))),
            MakeExamples(),
            Train(loss=SFT(), start="base"),
            Evaluate(max_new_tokens=max_new_tokens),
            *([Gate()] if gate else []),
        ],
    )
