"""V-STaR: right solutions train the generator, right and wrong ones a verifier, which chooses among candidates.

V-STaR: Training Verifiers for Self-Taught Reasoners (Hosseini, Yuan, Malkin, Courville, Sordoni, Agarwal, 2024,
arXiv:2402.06457). The generator is fine-tuned on gold solutions and on all right ones that it has sampled in any round,
each time from the pretrained model. Nothing is thrown away: right and wrong solutions of all rounds are the preferences
by which a second model is trained with DPO, from the pretrained model fine-tuned on gold solutions, which is also the
reference. That verifier ranks a problem's candidates by how likely it finds them, and the best one is the response.

Different here: the verifier is trained in every round, on what is there by then, so that every round can be measured
(the paper: once, after the last); pairs go round the distinct right and wrong solutions, at most `pairs` a problem; 16
candidates, where the paper has 64 and more; LoRA by default, a Gate on the best of the candidates. 16 samples at
temperature 0.7 and ranking by the likelihood of the whole solution (`rank=mean`: per token) are how we know the paper;
we could not check them there.
"""

import json
from typing import Literal

from selftrain.pairings import RightWrong
from selftrain.recipe import Model, Recipe, Stages
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

EVERY = 1_000
"""More earlier rounds than there are, so that all are read however many a run is given."""


def recipe(
    *,
    rounds: int = 3,
    samples: int = 16,
    keep: int = 16,
    pairs: int = 8,
    candidates: int = 16,
    rank: Literal["sum", "mean"] = "sum",
    temperature: float = 0.7,
    beta: float = 0.1,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; `keep` caps a problem's rows of all rounds, gold included, `pairs` its preferences."""
    heat, longest = temperature, max_new_tokens
    likely = json.dumps({"name": "likelihood", "number": rank})
    generated = ("greedy", "sampled")
    verifier: Stages = [
        Select(name="select-gold", of=("gold",), rules=()),
        MakeExamples(name="build-gold", of=("select-gold",), model="verifier"),
        Train(name="train-start", of=("build-gold",), model="verifier", loss=SFT(), start="base"),
        Pair(of=("gold", "generate", "verify"), pairing=RightWrong(pairs), rules=(finished,), earlier=EVERY),
        MakePairs(name="build-pairs", of=("pair",), model="verifier"),
        Train(name="train-verifier", of=("build-pairs",), model="verifier", loss=DPO(beta=beta), start="latest"),
    ]
    best = Evaluate(
        stages=(
            Generate(name="sampled", n=candidates, temperature=heat, max_new_tokens=longest),
            Generate(name="greedy", n=1, temperature=0.0, max_new_tokens=longest),
            Verify(of=generated),
            Verify(name="rank", of=generated, by=likely, blind=True, model="verifier"),
        ),
        combine=f"best_by:{likely}",
    )
    return Recipe(
        paper="arXiv:2402.06457",
        control="rft rounds=3",
        rounds=rounds,
        models={"policy": Model(), "verifier": Model()},
        before=[Gold(), Select(rules=()), MakeExamples(), Train(name="warm-up", loss=SFT(), start="base")],
        each_round=[
            Gold(),
            Generate(n=samples, temperature=heat, max_new_tokens=longest),
            Verify(of=("gold", "generate")),
            Select(of=("gold", "generate", "verify"), rules=(passed, finished, distinct, AtMost(keep)), data="union"),
            MakeExamples(of=("select",)),
            Train(of=("build",), loss=SFT(), start="base"),
            *verifier,
            best,
            Gate(),
        ],
    )
