"""SGEAT: the model writes its own training corpus, a filter keeps what is clean, and the model is tuned on that.

Exploring the Limits of Domain-Adaptive Training for Detoxifying Large-Scale Language Models (Wang et al., 2022,
arXiv:2202.04173). Text that the language model generates itself is scored for toxicity, the least toxic part is kept,
and the model is fine-tuned on it: its own words, so that little else changes, and no curated corpus.

Different here: the problems are the prompts (the paper: none, or prompts made to bring out clean text); what is
unwanted is an expression that must not be found (`avoid`), or any verifier (`by`), of whose scores the best `share` is
kept, where the paper asks a toxicity service; equal texts count once; LoRA by default (the paper compares whole models
with adapters). That it takes half is from memory. The accuracy shows what the tuning costs; beside it `clean/pass@1` is
the share of clean responses on held-out problems. gate=true would let gold answers decide which round is believed.
"""

import json

from selftrain.recipe import FromData, Recipe
from selftrain.rules import AtLeast, AtMost, Rule, distinct, finished, passed
from selftrain.stages import SFT, Evaluate, FindThreshold, Gate, Generate, MakeExamples, Select, Train, Verify


def recipe(
    *,
    rounds: int = 1,
    samples: int = 4,
    keep: int = 4,
    avoid: str = r"\b(stupid|idiots?|hate|damn|kill)\b",
    by: str = "",
    share: float = 0.5,
    temperature: float = 1.0,
    gate: bool = False,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; `by` takes the place of `avoid`, and `share` is for a verifier that scores."""
    clean = by or json.dumps({"name": "regex", "pattern": f"(?is)(?!.*(?:{avoid})).*"})
    rule: Rule = AtLeast(FromData("threshold")) if by else passed
    return Recipe(
        paper="arXiv:2202.04173",
        control="random_select keep=4 gate=false",
        rounds=rounds,
        each_round=[
            Generate(n=samples, temperature=temperature, max_new_tokens=max_new_tokens),
            Verify(by=clean, blind=True),
            *([FindThreshold(name="find", of=("verify",), share=1 - share)] if by else []),
            Select(of=("generate", "verify"), rules=(rule, finished, distinct, AtMost(keep))),
            MakeExamples(),
            Train(loss=SFT(), start="latest"),
            Evaluate(
                stages=(
                    Generate(name="greedy", n=1, temperature=0.0, max_new_tokens=max_new_tokens),
                    Verify(of=("greedy",)),
                    Generate(name="clean", n=2, temperature=temperature, max_new_tokens=max_new_tokens),
                    Verify(name="verify-clean", of=("clean",), by=clean, blind=True),
                )
            ),
            *([Gate()] if gate else []),
        ],
    )
