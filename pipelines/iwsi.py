"""IWSI: of the samples that agree with the majority, keep those whose loss is nearest to that of held-out solutions.

Importance Weighting Can Help Large Language Models Self-Improve (Jiang, Chan, Xue, Liu, Guo, 2024, arXiv:2408.09849).
Answers are labelled by self-consistency. A sample's loss by the mean loss on a small held-out set says how far it is
from the true distribution: the DS weight is that ratio, or its inverse where that is greater. The share `share` of the
majority's samples with the smallest weight is kept, and the model is fine-tuned once.

Different here: the held-out set is a share of the gold solutions of the valid split, which the Gate looks at too; a
loss is the mean over the response's tokens after the bare problem. The inverse for ratios below 1 and share=0.8 are how
we know the paper; we could not check them there. Labels: gold, for those few solutions.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean
from typing import Any, ClassVar

from selftrain.recipe import FromData, Recipe
from selftrain.records import Sample, Setting, Verdict
from selftrain.round import Part
from selftrain.rules import AtMost, Attempts, Majority, distinct, finished
from selftrain.stages import SFT, Evaluate, Gate, Generate, Gold, MakeExamples, Select, Train, Verify
from selftrain.stages.find import Find

LOSS = "likelihood"
"""The verifier whose score is the mean log-probability of a response's tokens."""


def weight(score: float, loss: float) -> float:
    """Return a sample's DS weight: 1 where its loss is the held-out one, more the further it is from it."""
    ratio = max(-score, 1e-9) / max(loss, 1e-9)
    return max(ratio, 1 / ratio)


@dataclass(frozen=True, slots=True)
class Near:
    """Keep what has a DS weight of at most `most`."""

    most: float | FromData
    loss: float | FromData
    """The mean loss on the held-out set."""

    judging: ClassVar[bool] = True

    def __call__(self, attempts: Attempts) -> Attempts:
        """Keep the nearest."""
        assert not isinstance(self.most, FromData)
        assert not isinstance(self.loss, FromData)
        known = [(score, each) for each in attempts if (score := each.score(LOSS)) is not None]
        return [each for score, each in known if weight(score, self.loss) <= self.most]


@dataclass(frozen=True, kw_only=True)
class FindShift(Find):
    """Set `loss` to the mean loss on held-out solutions, and `shift` to the DS weight up to which the share lies."""

    share: float = 0.8
    majority: Majority

    @property
    def reads(self) -> tuple[type[Any], ...]:
        """The samples' votes and losses, and the held-out solutions' losses."""
        return (Sample, Verdict)

    def reduce(self, part: Part) -> Iterator[Setting]:
        """Look through all shards; without a held-out solution every sample counts as equally far."""
        held_out: list[float] = []
        ours: list[float] = []
        for shard in part.each():
            for attempts in shard.attempts().values():
                own = [each for each in attempts if each.sample.finish != "gold"]
                held_out += [s for each in attempts if each not in own and (s := each.score(LOSS)) is not None]
                ours += [s for each in self.majority(own) if (s := each.score(LOSS)) is not None]
        loss = -fmean(held_out) if held_out else -fmean(ours or [-1.0])
        weights = sorted(weight(score, loss) for score in ours)
        most = weights[max(0, int(self.share * len(weights)) - 1)] if weights else 1.0
        yield Setting(name="loss", value={"value": loss}, why=f"mean of {len(held_out)} held-out solutions")
        yield Setting(name="shift", value={"value": most}, why=f"of {len(weights)} samples of majorities")


def recipe(
    *,
    rounds: int = 1,
    samples: int = 16,
    keep: int = 16,
    share: float = 0.8,
    held_out: float = 1.0,
    temperature: float = 0.8,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; `held_out` is the share of the valid split whose solutions are the held-out set."""
    majority = Majority("vote")
    own = ("generate", "vote", "loss")
    return Recipe(
        paper="arXiv:2408.09849",
        control="lmsi",
        rounds=rounds,
        each_round=[
            Generate(n=samples, temperature=temperature, max_new_tokens=max_new_tokens),
            Gold(name="held-out", splits=("valid",), share=held_out),
            Verify(name="vote", of=("generate",), by="vote", blind=True),
            Verify(name="loss", of=("generate",), by=LOSS, blind=True, model="policy"),
            Verify(name="held-out-loss", of=("held-out",), splits=("valid",), by=LOSS, blind=True, model="policy"),
            FindShift(of=(*own, "held-out", "held-out-loss"), share=share, majority=majority),
            Select(
                of=own,
                rules=(majority, Near(FromData("shift"), FromData("loss")), finished, distinct, AtMost(keep)),
            ),
            MakeExamples(of=("select",)),
            Train(loss=SFT(), start="base"),
            Evaluate(max_new_tokens=max_new_tokens),
            Gate(),
        ],
    )
