"""GSI: guided samples for what is unsolved, and a quota of rows for the hardest problems, against tail narrowing.

Mitigating Tail Narrowing in LLM Self-Improvement via Socratic-Guided Sampling (Ding et al., 2024, arXiv:2411.00750).
Self-improvement samples easy problems too much and hard ones too little, more so every round. Problems that no plain
sample solved are sampled again with guidance, here the gold answer as a hint (the paper's answer-driven strategy); what
is right joins the rows without the hint, and the rows are balanced over difficulty. The base model is fine-tuned
afresh.

Different here: of the paper's strategies only the answer-driven one (not rationale-driven, interactive, state reset).
Balance is a quota: difficulty is a problem's pass rate in the first samples that the run drew of it, the base model's,
frozen from then on; the hardest quarter gets at least `quota` of all rows, by a lower cap on the other problems, which
never falls below 1. Numbers of samples are settings, not checked against the paper's.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from selftrain.lab import Lab
from selftrain.recipe import FromData, Recipe
from selftrain.records import Pick, Setting
from selftrain.round import Part
from selftrain.rules import AtMost, distinct, finished, passed, uncited
from selftrain.stages import SFT, Evaluate, Gate, Generate, MakeExamples, Select, Train, Verify


@dataclass(frozen=True, kw_only=True)
class Balanced(Select):
    """Select with a cap of `keep` for hard problems, and for the others one that leaves the hard ones their quota."""

    first: int = 8
    """How many plain samples of a problem, the run's first, say how hard it is."""
    hardest: float = 0.25
    """Of the problems: those are hard."""
    quota: float = 0.25
    """Of the rows: so many are to be of hard problems."""
    keep: int = 4
    cap: int | FromData = 1
    hard: tuple[float, str] | FromData = (0.0, "")
    """The pass rate and id of the easiest problem that is hard."""

    @property
    def reach(self) -> Literal["round", "run"]:
        """Difficulty is that of the run's first samples."""
        return "run"

    def reduce(self, part: Part) -> Iterator[Setting]:
        """Draw the line between hard and other problems, and find the cap of the others."""
        rates: dict[str, float] = {}
        counts: dict[str, int] = {}
        for shard in part.each():
            rates |= self._rates(shard)
            counts |= {id: min(self.keep, len(found)) for id, found in self._fit(shard).items()}
        order = sorted((rate, id) for id, rate in rates.items())
        line = order[max(0, math.ceil(self.hardest * len(order)) - 1)] if order else (0.0, "")
        ours = sum(counts.get(id, 0) for rate, id in order if (rate, id) <= line)
        others = [counts.get(id, 0) for rate, id in order if (rate, id) > line]
        fits = (c for c in range(self.keep, 1, -1) if ours >= self.quota * (ours + sum(min(c, n) for n in others)))
        yield Setting(name="hard", value={"value": list(line)}, why=f"the hardest of {len(order)} problems")
        yield Setting(name="cap", value={"value": next(fits, 1)}, why=f"{ours} rows of hard problems")

    def run(self, part: Part, lab: Lab) -> Iterator[Pick]:
        """Choose per problem, each under its cap."""
        assert isinstance(self.cap, int)
        assert not isinstance(self.hard, FromData)
        hard = {id for id, rate in self._rates(part).items() if (rate, id) <= tuple(self.hard)}
        for cap, side in ((self.keep, True), (self.cap, False)):
            capped = Select(name=self.name, rules=(*self.rules, AtMost(cap)))
            yield from (pick for pick in capped.run(part, lab) if (pick.problem in hard) is side)

    def _rates(self, part: Part) -> dict[str, float]:
        rates = {}
        for id, attempts in part.attempts(earlier=True).items():
            first = [each for each in attempts if each.sample.template == "direct"][: self.first]
            rates[id] = sum(each.passed for each in first) / max(1, len(first))
        return rates

    def _fit(self, part: Part) -> dict[str, list[str]]:
        found = {}
        for id, attempts in part.attempts().items():
            left = attempts
            for rule in self.rules:
                left = list(rule(left))
            found[id] = [each.sample.id for each in left]
        return found


def recipe(
    *,
    rounds: int = 3,
    samples: int = 8,
    guided: int = 8,
    keep: int = 4,
    quota: float = 0.25,
    temperature: float = 0.7,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; `guided` samples with the hint for each problem that no plain sample solved."""
    plain = Generate(n=samples, temperature=temperature, max_new_tokens=max_new_tokens)
    return Recipe(
        paper="arXiv:2411.00750",
        control="star",
        rounds=rounds,
        each_round=[
            plain,
            Verify(),
            replace(plain, name="guided", n=guided, template="hint", only="unsolved"),
            Verify(name="verify-guided", of=("guided",)),
            Balanced(
                name="select",
                rules=(passed, finished, uncited, distinct),
                first=samples,
                quota=quota,
                keep=keep,
                cap=FromData("cap"),
                hard=FromData("hard"),
            ),
            MakeExamples(),
            Train(loss=SFT(), start="base"),
            Evaluate(max_new_tokens=max_new_tokens),
            Gate(),
        ],
    )
