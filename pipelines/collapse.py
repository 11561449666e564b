"""Collapse: a finding, run as a control. Own outputs, unfiltered, round after round, from the latest weights.

Collapse of Self-trained Language Models (Herel, Mikolov, 2024, arXiv:2404.02305). GPT-2 that is trained again and again
on text that it has written itself, which nobody filters, gets worse on real text, and what it writes repeats itself. So
here: no verifier, no rule, no gate; every sample of a round is a row, and training goes on from the weights before.

Different here: problems are given and responses sampled, where the paper's model goes on from its own text; LoRA by
default. Every round, the base model's included, measures on the valid split: `drift/perplexity` of gold solutions (of
the bare problem, tokens averaged within a solution, then over solutions), `drift/repetition`, the share of a response's
runs of four tokens that stood in it before, and `drift/distinct`, the share of different responses. Labels: none.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, ClassVar, Literal

from selftrain.lab import Lab
from selftrain.recipe import Recipe, Stage
from selftrain.records import Ids, Metric, Sample, Verdict
from selftrain.round import Part
from selftrain.stages import SFT, Evaluate, Generate, Gold, MakeExamples, Select, Train, Verify


@dataclass(frozen=True, kw_only=True)
class Drift(Stage):
    """Measure how far the model has gone from real text, and how much it repeats itself, by stages of its own."""

    splits: tuple[str, ...] = ("valid",)
    temperature: float = 1.0
    max_new_tokens: int = 256

    scope: ClassVar[Literal["problem", "round"]] = "round"
    baseline: ClassVar[bool] = True

    @property
    def reads(self) -> tuple[type[Any], ...]:
        """Samples, and the gold solutions' log-probabilities."""
        return (Sample, Verdict)

    @property
    def writes(self) -> tuple[type[Any], ...]:
        """Metrics."""
        return (Metric,)

    def expand(self) -> tuple[Stage, ...]:
        """Gold solutions, their likelihood, a response a problem, then itself."""
        gold = Gold(name=f"{self.name}-gold", splits=self.splits)
        likely = Verify(
            name=f"{self.name}-likelihood",
            of=(gold.name,),
            by="likelihood",
            blind=True,
            model="policy",
            splits=self.splits,
        )
        said = Generate(
            name=f"{self.name}-sample",
            n=1,
            temperature=self.temperature,
            max_new_tokens=self.max_new_tokens,
            splits=self.splits,
        )
        own = (gold, likely, said)
        return (*own, replace(self, of=tuple(stage.name for stage in own)))

    def run(self, part: Part, lab: Lab) -> Iterator[Metric]:
        """What there is nothing of is not measured."""
        means = [s for s in part.columns(Verdict, ["score"]).column("score").to_pylist() if s is not None]
        rows = part.columns(Sample, ["text", "finish", "completion_ids"]).to_pylist()
        said = [row for row in rows if row["finish"] != "gold"]
        found = {}
        if means:
            found["perplexity"] = (math.exp(min(-fmean(means), 700.0)), len(means))
        if said:
            found["repetition"] = (fmean(repetition(row["completion_ids"]) for row in said), len(said))
            found["distinct"] = (len({row["text"] for row in said}) / len(said), len(said))
        for name, (value, n) in found.items():
            yield Metric(name=f"{self.name}/{name}", value=value, n=n, split=self.splits[0])


def repetition(ids: Ids | Sequence[int], run: int = 4) -> float:
    """Return the share of a text's runs of tokens that it has had before."""
    runs = [tuple(ids[at : at + run]) for at in range(len(ids) - run + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def recipe(*, rounds: int = 5, samples: int = 4, temperature: float = 1.0, max_new_tokens: int = 256) -> Recipe:
    """Build the recipe; every sample is learned."""
    return Recipe(
        paper="arXiv:2404.02305",
        control="random_select gate=false",
        claim="worse",
        rounds=rounds,
        each_round=[
            Generate(n=samples, temperature=temperature, max_new_tokens=max_new_tokens),
            Select(rules=()),
            MakeExamples(),
            Train(loss=SFT(), start="latest"),
            Evaluate(max_new_tokens=max_new_tokens),
            Drift(temperature=temperature, max_new_tokens=max_new_tokens),
        ],
    )
