"""B-STaR: every round finds its own sampling temperature and reward threshold, by a balance score on a few problems.

B-STaR: Monitoring and Balancing Exploration and Exploitation in Self-Taught Reasoners (Zeng et al., 2024,
arXiv:2412.17256). Each round samples a small share of the problems at several temperatures, scores the responses, and
takes that temperature and reward threshold whose mean balance score is highest. The balance score of a problem is
min(u/n, 1) * u/s, where s responses would be selected, u of them are right and distinct, and n are wanted: it is high
where many and only good responses are left. Then all problems are sampled and selected so, and training continues from
the latest weights.

Different here: the reward is each problem's own verifier, 1 or 0, unless `reward` names a scorer that is added with
`weight` (the paper: a process reward model, by a fifth); the mean is over all problems tried, with 0 for those of which
nothing would be selected; the optimizer starts afresh each round. The grid of temperatures, the samples and n = 8 are
those of the authors' code (hkust-nlp/B-STaR); it has steps of 0.05 between the temperatures and of 0.01 between the
thresholds, and lets the cap per problem grow until enough rows are there, where `keep` is fixed here.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, ClassVar, Literal

from selftrain.lab import Lab
from selftrain.recipe import FromData, Recipe, Stage
from selftrain.records import Metric, Sample, Setting, Verdict
from selftrain.round import Attempt, Part
from selftrain.rules import AtLeast, Best, Rule, distinct, finished
from selftrain.stages import SFT, Evaluate, Gate, Generate, MakeExamples, Select, Train, Verify


@dataclass(frozen=True, kw_only=True)
class Balance(Stage):
    """Set `temperature` and `threshold` to those of the highest mean balance score; of equal ones the strictest."""

    by: str = ""
    """The verifier whose score is the reward."""
    thresholds: tuple[float, ...] = ()
    wanted: int = 8
    """Distinct right responses a problem that are enough."""
    rules: tuple[Rule, ...] = ()
    """What the round's selection asks beyond the threshold."""

    scope: ClassVar[Literal["problem", "round"]] = "round"

    @property
    def reads(self) -> tuple[type[Any], ...]:
        """What was sampled at each temperature, and what was said of it."""
        return (Sample, Verdict)

    @property
    def writes(self) -> tuple[type[Any], ...]:
        """The two settings, and the score of each temperature."""
        return (Setting, Metric)

    def run(self, part: Part, lab: Lab) -> Iterator[Setting | Metric]:
        """Score each pair of temperature and threshold on every problem that was tried."""
        scores: dict[tuple[float, float], list[float]] = defaultdict(list)
        for shard in part.each():
            for attempts in shard.attempts().values():
                for temperature in {each.sample.settings["temperature"] for each in attempts}:
                    group = [each for each in attempts if each.sample.settings["temperature"] == temperature]
                    for threshold in self.thresholds:
                        scores[temperature, threshold].append(self._score(group, threshold))
        means = {pair: fmean(found) for pair, found in scores.items()}
        # Where nothing was tried: plain sampling, and only what has the full reward.
        best = max(means, key=lambda pair: (means[pair], pair[1], -pair[0]), default=(1.0, max(self.thresholds)))
        why = f"mean balance score {means.get(best, 0.0):.3f} on {len(scores.get(best, ()))} problems"
        for name, value in zip(("temperature", "threshold"), best, strict=True):
            yield Setting(name=name, value={"value": value}, why=why)
            yield Metric(name=f"{self.name}/{name}", value=value)
        for temperature in sorted({pair[0] for pair in means}):
            highest = max(mean for pair, mean in means.items() if pair[0] == temperature)
            yield Metric(name=f"{self.name}/T={temperature:g}", value=highest, n=len(scores[best]))

    def _score(self, attempts: Sequence[Attempt], threshold: float) -> float:
        rules: tuple[Rule, ...] = (AtLeast(threshold, self.by), *self.rules)
        for rule in rules:
            attempts = rule(attempts)
        right = sum(each.passed for each in attempts)
        return min(right / self.wanted, 1) * right / len(attempts) if attempts else 0.0


def recipe(
    *,
    rounds: int = 9,
    samples: int = 64,
    keep: int = 8,
    reward: str = "",
    weight: float = 0.2,
    temperatures: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2),
    thresholds: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
    share: float = 0.1,
    wanted: int = 8,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; `share` of the problems is sampled at each temperature, thresholds are from 0 to 1."""
    parts = {"of": ["", reward], "weights": [1, weight]} if reward else {}
    by = json.dumps({"name": "weighted", **parts}, sort_keys=True)
    rules = (finished, distinct, Best(keep, by))
    tried = [
        Generate(name=f"try-{at}", n=samples, temperature=each, share=share, max_new_tokens=max_new_tokens)
        for at, each in enumerate(temperatures)
    ]
    names = tuple(stage.name for stage in tried)
    return Recipe(
        paper="arXiv:2412.17256",
        control="expert_iteration",
        rounds=rounds,
        each_round=[
            *tried,
            Verify(name="verify-tries", of=names),
            Verify(name="reward-tries", of=names, by=by),
            Balance(
                of=(*names, "verify-tries", "reward-tries"), by=by, thresholds=thresholds, wanted=wanted, rules=rules
            ),
            Generate(n=samples, temperature=FromData("temperature"), max_new_tokens=max_new_tokens),
            Verify(of=("generate",)),
            Verify(name="reward", of=("generate",), by=by),
            Select(of=("generate", "verify", "reward"), rules=(AtLeast(FromData("threshold"), by), *rules)),
            MakeExamples(),
            Train(loss=SFT(), start="latest"),
            Evaluate(max_new_tokens=max_new_tokens),
            Gate(),
        ],
    )
