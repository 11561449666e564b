"""DPO-ST: self-training whose pseudo-labels come from a DPO model made in between.

Self-Training with Direct Preference Optimization Improves Chain-of-Thought Reasoning (Wang, Li, Lu, 2024,
arXiv:2407.18248). A warm-up fine-tunes the pretrained model on the gold solutions. Each round then has two steps: the
SFT model is trained by DPO on its own right solutions and the gold one over its wrong ones; the DPO model's distinct
right samples, with the gold solutions, are what the *pretrained* model is fine-tuned on, the SFT model of the next
round.

Different here: pairs go round right and wrong samples, at most 3 a problem, where the authors' code
(TianduoWang/DPO-ST) takes the 3 least alike; duplicates are equal texts, not those of a token overlap above 0.7; the
pseudo-labels are this round's alone (rows=union: all right samples of all rounds); no calculator; LoRA by default
(their DPO: 100 steps at 3e-7); a Gate. Temperature 0.7, beta 0.1, 5 samples for pairs and 3 for pseudo-labels are those
of their code.
"""

from typing import Literal

from selftrain.pairings import RightWrong
from selftrain.recipe import Recipe
from selftrain.rules import AtMost, distinct, finished, passed
from selftrain.stages import (
    DPO,
    SFT,
    Evaluate,
    Gate,
    Generate,
    Gold,
    MakeExamples,
    MakePairs,
    Pair,
    Select,
    Train,
    Verify,
)


def recipe(
    *,
    rounds: int = 3,
    samples: int = 5,
    labels: int = 3,
    pairs: int = 3,
    keep: int = 4,
    temperature: float = 0.7,
    beta: float = 0.1,
    rows: Literal["fresh", "union"] = "fresh",
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; `labels` is the samples of the DPO model, `keep` the cap per problem, gold included."""
    return Recipe(
        paper="arXiv:2407.18248",
        control="rest_em",
        rounds=rounds,
        before=[Gold(), Select(rules=()), MakeExamples(), Train(name="warm-up", loss=SFT(), start="base")],
        each_round=[
            Gold(),
            Generate(n=samples, temperature=temperature, max_new_tokens=max_new_tokens),
            Verify(of=("gold", "generate")),
            Pair(of=("gold", "generate", "verify"), pairing=RightWrong(pairs)),
            MakePairs(name="build-pairs", of=("pair",)),
            Train(name="train-dpo", of=("build-pairs",), loss=DPO(beta=beta), start="latest"),
            Generate(name="generate-dpo", n=labels, temperature=temperature, max_new_tokens=max_new_tokens),
            Verify(name="verify-dpo", of=("generate-dpo",)),
            Select(
                of=("gold", "verify", "generate-dpo", "verify-dpo"),
                rules=(passed, finished, distinct, AtMost(keep)),
                data=rows,
            ),
            MakeExamples(of=("select",)),
            Train(of=("build",), loss=SFT(), start="base"),
            Evaluate(max_new_tokens=max_new_tokens),
            Gate(),
        ],
    )
