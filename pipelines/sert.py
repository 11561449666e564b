"""SERT: a small model first learns from its own filtered reasoning, then from the teacher's.

Self-Enhanced Reasoning Training: Activating Latent Reasoning in Small Models for Enhanced Reasoning Distillation (Zhang
et al., 2025, arXiv:2502.12744). A small model sometimes reasons when it is sampled, though greedy decoding doesn't show
it. Sampled responses without any label are filtered for those that look like reasoning, and the model is trained on
them; then it is trained on the rationales of a teacher.

Different here: the teacher's rationales are the data set's gold solutions (distil=false leaves that stage out, and with
gate=false no stage sees a label). The filters are ours: a response must be long enough to hold a rationale, say no line
twice, and be among the most likely ones (the share `unlikely` of all samples is left out, by mean log-probability); the
paper's own rules are not known to us in detail.
"""

from dataclasses import dataclass

from selftrain.recipe import FromData, Recipe
from selftrain.rules import AtLeast, AtMost, Attempts, distinct, finished, normalised
from selftrain.stages import SFT, Evaluate, Gate, Generate, Gold, MakeExamples, Select, Train, Verify
from selftrain.stages.find import FindThreshold


@dataclass(frozen=True, slots=True)
class Long:
    """Keep what has at least so many tokens."""

    tokens: int

    def __call__(self, attempts: Attempts) -> Attempts:
        """Keep the long ones."""
        return [each for each in attempts if len(each.sample.completion_ids) >= self.tokens]


def unrepeated(attempts: Attempts) -> Attempts:
    """Keep what says no line twice."""
    lines = [[normalised(line) for line in each.sample.text.splitlines() if line.strip()] for each in attempts]
    return [each for each, said in zip(attempts, lines, strict=True) if len(set(said)) == len(said)]


def recipe(
    *,
    rounds: int = 1,
    samples: int = 16,
    keep: int = 4,
    least: int = 8,
    unlikely: float = 0.5,
    temperature: float = 1.0,
    distil: bool = True,
    gate: bool = True,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; `least` tokens make a rationale."""
    likely = AtLeast(FromData("likely"), "likelihood")
    teacher = [
        Gold(),
        Select(name="select-gold", of=("gold",), rules=()),
        MakeExamples(name="build-gold", of=("select-gold",)),
        Train(name="distil", of=("build-gold",), loss=SFT(), start="latest"),
    ]
    return Recipe(
        paper="arXiv:2502.12744",
        control="gold_sft",
        rounds=rounds,
        each_round=[
            Generate(n=samples, temperature=temperature, max_new_tokens=max_new_tokens),
            Verify(by="likelihood", blind=True, model="policy"),
            FindThreshold(name="find", of=("verify",), share=unlikely, by="likelihood", sets="likely"),
            Select(
                of=("generate", "verify"), rules=(finished, Long(least), unrepeated, likely, distinct, AtMost(keep))
            ),
            MakeExamples(of=("select",)),
            Train(of=("build",), loss=SFT(), start="base"),
            *(teacher if distil else []),
            Evaluate(max_new_tokens=max_new_tokens),
            *([Gate()] if gate else []),
        ],
    )
