"""Mind the gap: generate, let the model verify itself, learn what it believes in, and measure what believing gained.

Mind the Gap: Examining the Self-Improvement Capabilities of Large Language Models (Song et al., 2024,
arXiv:2412.02674). Self-improvement is generation, self-verification, and distillation of what verification reweighs or
filters; what it can gain is the generation-verification gap: how much more accurate the responses are by the
verification's weights than as they were sampled. It grows with pretraining, and shrinks over rounds.

Different here: the model's verification is the share of its samples that agree (`vote`) by default; `by=judge` or
`likelihood` are other ways of asking it. The best share `top` of all the round's responses is kept, equal scores
together. `audit-gap/gap` is the accuracy of what was kept minus that of everything sampled, by the problems' own
verifiers, which nothing else of the loop reads: labels none, unless by needs them. No prompts of the paper.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, ClassVar, Literal

from selftrain.lab import Lab
from selftrain.recipe import FromData, Recipe, Stage
from selftrain.records import Metric, Pick, Verdict
from selftrain.round import Part
from selftrain.rules import AtLeast, AtMost, distinct, finished
from selftrain.stages import (
    SFT,
    Audit,
    Evaluate,
    FindThreshold,
    Gate,
    Generate,
    MakeExamples,
    Select,
    Train,
    Verify,
)


@dataclass(frozen=True, kw_only=True)
class Gap(Stage):
    """Measure, beside the loop, how much more accurate the selected samples are than all."""

    name: str = "audit-gap"
    generate: str = "generate"
    select: str = "filter"

    scope: ClassVar[Literal["problem", "round"]] = "round"
    hidden: ClassVar[bool] = True

    @property
    def reads(self) -> tuple[type[Any], ...]:
        """The selection, and what is true of the samples."""
        return (Pick, Verdict)

    @property
    def writes(self) -> tuple[type[Any], ...]:
        """Metrics."""
        return (Metric,)

    def expand(self) -> tuple[Stage, ...]:
        """The truth beside the loop, then itself."""
        audit = Audit(of=(self.generate,))
        return (audit, replace(self, of=(audit.name, self.select)))

    def run(self, part: Part, lab: Lab) -> Iterator[Metric]:
        """Compare what can be judged; what there is nothing of is not measured."""
        said = part.columns(Verdict, ["sample", "status"]).to_pylist()
        right = {row["sample"]: float(row["status"] == "pass") for row in said if row["status"] in ("pass", "fail")}
        picks = part.columns(Pick, ["sample", "side"]).to_pylist()
        kept = [right[row["sample"]] for row in picks if row["side"] == "kept" and row["sample"] in right]
        if kept:
            selected, sampled = fmean(kept), fmean(right.values())
            yield Metric(name=f"{self.name}/gap", value=selected - sampled, n=len(kept), split="train")
            yield Metric(name=f"{self.name}/selected", value=selected, n=len(kept), split="train")
            yield Metric(name=f"{self.name}/sampled", value=sampled, n=len(right), split="train")


def recipe(
    *,
    rounds: int = 3,
    samples: int = 16,
    keep: int = 4,
    by: str = "vote",
    top: float = 0.5,
    gold: bool = False,
    temperature: float = 0.7,
    gate: bool = False,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; `by` is how the model verifies itself, `top` the share of all samples that is believed."""
    return Recipe(
        paper="arXiv:2412.02674",
        control="random_select gate=false",
        rounds=rounds,
        each_round=[
            Generate(n=samples, temperature=temperature, max_new_tokens=max_new_tokens),
            Verify(by=by, blind=not gold, model="policy"),
            FindThreshold(name="find", of=("verify",), share=1 - top, by=by),
            Select(name="filter", of=("generate", "verify"), rules=(AtLeast(FromData("threshold"), by),)),
            Gap(),
            Select(
                of=("generate", "verify"),
                rules=(AtLeast(FromData("threshold"), by), finished, distinct, AtMost(keep)),
            ),
            MakeExamples(of=("select",)),
            Train(loss=SFT(), start="latest"),
            Evaluate(max_new_tokens=max_new_tokens),
            *([Gate()] if gate else []),
        ],
    )
