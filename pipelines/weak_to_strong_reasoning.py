"""Weak-to-strong reasoning: a weak model teaches a strong one, where both agree and then where the strong one is sure.

Weak-to-Strong Reasoning (Yang, Ma, Liu, 2024, arXiv:2407.13647). Stage one: the weak model answers every problem, and
so does the strong one, after examples that the weak one answered; where the answers agree, both responses become rows,
and the strong model is fine-tuned on them. Stage two: the tuned strong model answers many times; where its commonest
answer has a share of `confidence`, it says who is right. Does the weak response give that answer, it is chosen over a
strong one that gives another; does it not, and is the share at least `sure`, a strong one is chosen over it. DPO on
these pairs follows.

Different here: both stages make a round, with one problem pool and LoRA by default; the examples are weak responses of
which the weak model is surest (by likelihood), without a look at gold; the weak model is given (`model.weak=PATH`) or,
with `lessons` above 0, made from its own start by fine-tuning on gold solutions of that share of the problems (the
paper: half of the training set, which the strong model then doesn't see; then labels: gold). The shares 0.6 and 0.8,
10 samples at temperature 1.0 and agreement of final answers are those of the authors' code
(GAIR-NLP/weak-to-strong-reasoning). gate=true would let gold answers of the valid split decide which round is believed.
"""

import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from selftrain.pairings import Paired
from selftrain.recipe import FromData, Model, Recipe, Stages
from selftrain.records import Sample, Setting, Verdict
from selftrain.round import Attempt, Part
from selftrain.rules import Attempts, distinct, finished, normalised, passed
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
from selftrain.stages.find import Find, as_shots

AGREES = '{"name": "agreement", "threshold": 1.0}'
"""Both sides, told apart by their templates: direct is the weak one's, few-shot the strong one's."""


@dataclass(frozen=True, kw_only=True)
class FindShots(Find):
    """Set `shots` to the weak model's likeliest finished responses, one a problem, each with its question."""

    count: int = 4

    @property
    def reads(self) -> tuple[type[Any], ...]:
        """What the weak model answered, and how likely it finds that."""
        return (Sample, Verdict)

    def reduce(self, part: Part) -> Iterator[Setting]:
        """Look through all shards; without a finished response there are no examples, and the prompt is the plain one.

        A group of equal texts stands for one example.
        """
        found: dict[str, tuple[float, str, str]] = {}
        for shard in part.each():
            for attempts in shard.attempts().values():
                for each in finished(attempts):
                    score = each.score()
                    if score is not None:
                        found[normalised(each.sample.text)] = (
                            score,
                            each.problem.prompt[-1]["content"],
                            each.sample.text,
                        )
        shots = [(question, text) for _, question, text in heapq.nlargest(self.count, found.values())]
        yield as_shots(shots, f"the weak model's {len(shots)} likeliest responses")


@dataclass(frozen=True, slots=True)
class BySureness:
    """The weak model's response (the one sampled at temperature 0) over a strong one, or the other way round: the
    strong model's votes say who is right, where they are sure enough."""

    confidence: float = 0.6
    """The share of the commonest answer from which it counts at all."""
    sure: float = 0.8
    """The share from which the weak model's response, with another answer, is rejected."""

    judging: ClassVar[bool] = True

    def __call__(self, attempts: Attempts) -> list[Paired]:
        """Pair the weak response with one strong one, at most."""
        weak = [each for each in attempts if each.sample.settings.get("temperature") == 0][:1]
        strong = [each for each in attempts if each.sample.settings.get("temperature") != 0]
        answers = Counter(said for each in strong if (said := each.answer()) is not None)
        if not weak or not answers:
            return []
        answer, votes = answers.most_common(1)[0]
        share, mine = votes / len(strong), weak[0].answer()
        if share < self.confidence or mine is None:
            return []
        agreeing = [each for each in strong if each.answer() == answer]
        others = [each for each in strong if each.answer() not in (None, answer)]
        if mine == answer:
            return _pair(weak[0], others[0], share) if others else []
        return _pair(agreeing[0], weak[0], share) if share >= self.sure else []


def _pair(chosen: Attempt, rejected: Attempt, share: float) -> list[Paired]:
    return [Paired(chosen, rejected, share)]


def recipe(
    *,
    rounds: int = 1,
    samples: int = 10,
    examples: int = 2,
    lessons: float = 0.0,
    confidence: float = 0.6,
    sure: float = 0.8,
    temperature: float = 1.0,
    beta: float = 0.1,
    gate: bool = False,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; `lessons` is the share of problems on whose gold solutions the weak model is fine-tuned."""
    teach: Stages = [
        Gold(share=lessons),
        Select(rules=()),
        MakeExamples(model="weak"),
        Train(name="teach", model="weak", loss=SFT(), start="base"),
    ]
    both = ("weak", "strong")
    return Recipe(
        paper="arXiv:2407.13647",
        control="lmsi",
        rounds=rounds,
        models={"policy": Model(), "weak": Model()},
        before=teach if lessons else (),
        each_round=[
            Generate(name="weak", model="weak", n=1, temperature=0.0, max_new_tokens=max_new_tokens),
            Verify(name="surest", of=("weak",), by="likelihood", blind=True, model="weak"),
            FindShots(of=("weak", "surest"), count=examples),
            Generate(
                name="strong",
                n=1,
                temperature=0.0,
                which="base",
                max_new_tokens=max_new_tokens,
                template="few-shot",
                shots=FromData("shots"),
            ),
            Verify(name="agree", of=both, by=AGREES, blind=True),
            Select(of=(*both, "agree"), rules=(passed, finished, distinct)),
            MakeExamples(of=("select",)),
            Train(name="train-agreed", of=("build",), loss=SFT(), start="base"),
            Generate(n=samples, temperature=temperature, max_new_tokens=max_new_tokens),
            Verify(name="read", of=("weak", "generate"), by="vote", blind=True),
            Pair(of=("weak", "generate", "read"), pairing=BySureness(confidence, sure), rules=(finished,)),
            MakePairs(name="build-pairs", of=("pair",)),
            Train(of=("build-pairs",), loss=DPO(beta=beta), start="latest"),
            Evaluate(max_new_tokens=max_new_tokens),
            *([Gate()] if gate else []),
        ],
    )
