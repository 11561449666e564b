"""SOFT: the model answers after worked examples, learns to answer so without them, and answers anew, easy ones first.

Step-On-Feet Tuning: Scaling Self-Alignment of LLMs via Bootstrapping (Wang et al., 2024, arXiv:2402.07610). Each round
the latest model answers prompts after a few examples and is fine-tuned on the responses under the bare prompts; the
better model makes the next round's data, after other examples, for without fresh ones the rounds collapse. SOFT+ trains
from easy to hard: prompts in the order of how perplexed the pretrained model is, a slice of them each round.

Different here: the examples are gold solutions of a share `demos` of the problems, others of them in each round, the
same for all prompts of a round, so labels: gold, for those few; a round's slice is that of its own responses, by the
model's likelihood of them without the examples, where the paper sorts once; easy=false is SOFT, all prompts in every
round. Equal texts count once. LoRA by default. How the data are sorted and cut we know from memory. gate=true stops a
collapse by the valid split, as the paper's validation set does.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar

from selftrain.recipe import FromData, Recipe, Stage, Stages
from selftrain.records import Sample, Setting, seed_of
from selftrain.round import History, Part
from selftrain.rules import AtLeast, AtMost, Attempts, Rule, distinct, finished
from selftrain.stages import (
    SFT,
    Evaluate,
    FindThreshold,
    Gate,
    Generate,
    Gold,
    MakeExamples,
    Select,
    Train,
    Verify,
)
from selftrain.stages.find import Find, as_shots


@dataclass(frozen=True, kw_only=True)
class DrawShots(Find):
    """Set `shots` to some of the gold solutions it reads, others in every round."""

    count: int = 4

    @property
    def reads(self) -> tuple[type[Any], ...]:
        """Gold solutions."""
        return (Sample,)

    def reduce(self, part: Part) -> Iterator[Setting]:
        """Draw from all shards; without a solution there are no examples, and the prompt is the plain one."""
        found = [each for shard in part.each() for attempts in shard.attempts().values() for each in attempts]
        found.sort(key=lambda each: each.sample.id)
        draw = Random(seed_of("shots", part.round.number))
        chosen = draw.sample(found, min(self.count, len(found)))
        shots = [(each.problem.prompt[-1]["content"], each.sample.text) for each in chosen]
        yield as_shots(shots, f"{len(shots)} of {len(found)} solutions")


@dataclass(frozen=True, slots=True)
class Below:
    """Keep what a verifier scored below `score`; what it gave no score is left out."""

    score: float | FromData

    judging: ClassVar[bool] = True

    def __call__(self, attempts: Attempts) -> Attempts:
        """Keep those that do not reach it."""
        assert not isinstance(self.score, FromData)
        return [each for each in attempts if (score := each.score()) is not None and score < self.score]


def recipe(
    *,
    rounds: int = 3,
    samples: int = 1,
    keep: int = 4,
    examples: int = 4,
    demos: float = 0.2,
    easy: bool = True,
    temperature: float = 0.7,
    gate: bool = False,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; with `easy` each round trains on its slice of the responses, the likeliest ones first."""

    def each_round(history: History) -> Stages:
        step = min(max(1, history.number), rounds)
        slices: list[Stage] = [FindThreshold(name="find-from", of=("verify",), share=1 - step / rounds, sets="from")]
        hard: list[Rule] = [AtLeast(FromData("from"))]
        if step > 1:
            slices += [FindThreshold(name="find-to", of=("verify",), share=1 - (step - 1) / rounds, sets="to")]
            hard += [Below(FromData("to"))]
        return [
            Gold(share=demos),
            DrawShots(of=("gold",), count=examples),
            Generate(
                n=samples,
                temperature=temperature,
                max_new_tokens=max_new_tokens,
                template="few-shot",
                shots=FromData("shots"),
            ),
            Verify(of=("generate",), by="likelihood", blind=True, model="policy", which="base"),
            *(slices if easy else ()),
            Select(of=("generate", "verify"), rules=(*(hard if easy else ()), finished, distinct, AtMost(keep))),
            MakeExamples(of=("select",)),
            Train(of=("build",), loss=SFT(), start="latest"),
            Evaluate(max_new_tokens=max_new_tokens),
            *([Gate()] if gate else []),
        ]

    return Recipe(paper="arXiv:2402.07610", control="soft easy=false rounds=1", rounds=rounds, each_round=each_round)
