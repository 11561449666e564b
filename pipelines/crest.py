"""CREST: rationales are judged by what follow-up questions about them come to, beside their own answer.

Self-Training Meets Consistency: Improving LLMs' Reasoning with Consistency-Driven Rationale Evaluation (Lee, Sakaguchi,
Bak, 2024, arXiv:2411.06387). A rationale may reach the right answer by luck. Of every option the model is asked, with
the rationale before it, whether that is the answer; a rationale that lets too many of these go wrong is left out of the
fine-tuning. The fine-tuned model then learns, by DPO, to prefer right rationales to wrong ones, and among the right
ones those that more follow-ups agree with.

Different here: options are `meta.choices` where a problem has them, else the answer, a number, and numbers near it (the
paper: multiple choice alone); a problem with neither has no follow-ups, so none of its rationales is kept. What is kept
is a share of follow-ups, not a number less a tolerance. The two kinds of pairs are mixed by a cap of each a problem, 3
to 2 after the 0.6 of the authors' code (JaehyeokLee-119/CREST, which also has the 16 rationales); there the mix is a
ratio within a batch. Follow-ups are answered greedily, once; LoRA by default, a Gate.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from selftrain.pairings import ByScore, RightWrong
from selftrain.proposals import Asked, conversation
from selftrain.recipe import Recipe
from selftrain.records import Problem
from selftrain.rules import AtLeast, AtMost, distinct, finished, passed
from selftrain.stages import (
    DPO,
    SFT,
    Credit,
    Evaluate,
    Gate,
    Generate,
    MakeExamples,
    MakePairs,
    Pair,
    Propose,
    Select,
    Train,
    Verify,
)

NEAR = (1, -1, 10, -10, 2, -2, 100, -100)
"""How far other numbers lie from the right one."""


@dataclass(frozen=True, slots=True)
class FollowUp:
    """Of each option whether it is the answer, as the next turn after an attempt."""

    question: str
    most: int = 4
    """Options of a problem whose answer is a number, the right one among them."""

    tried: ClassVar[bool] = True
    gold: ClassVar[bool] = True

    def __call__(self, asked: Asked) -> Iterable[Problem]:
        """One question an attempt and option."""
        for each in asked.attempts:
            for option, right in self._options(asked.origin):
                yield Problem.of(
                    (*conversation(asked, each), {"role": "user", "content": self.question.format(option=option)}),
                    kind="followup",
                    answer="yes" if right else "no",
                    split=asked.origin.split,
                    parent=asked.origin.id,
                    about=(each.sample.id,),
                    plain=True,
                )

    def _options(self, problem: Problem) -> list[tuple[str, bool]]:
        answer, choices = (problem.answer or "").strip(), problem.meta.get("choices")
        if isinstance(choices, list | tuple):
            return [(str(text), answer in (str(text), chr(ord("A") + at))) for at, text in enumerate(choices)]
        if not re.fullmatch(r"-?\d+", answer):
            return []
        return [(answer, True), *((str(int(answer) + far), False) for far in NEAR[: self.most - 1])]


def recipe(
    *,
    rounds: int = 1,
    samples: int = 16,
    keep: int = 4,
    options: int = 4,
    consistent: float = 0.75,
    pairs: int = 3,
    followed: int = 2,
    question: str = "Is {option} the answer? Answer yes or no.",
    temperature: float = 0.7,
    beta: float = 0.1,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; `consistent` is the least share of right follow-ups of a rationale that is trained on.

    Of a problem at most `pairs` pairs are of right and wrong rationales, and `followed` of more and less consistent
    ones.
    """
    judged = ("generate", "verify", "credit")
    return Recipe(
        paper="arXiv:2411.06387",
        control="star",
        rounds=rounds,
        each_round=[
            Generate(n=samples, temperature=temperature, max_new_tokens=max_new_tokens),
            Verify(of=("generate",)),
            Propose(of=("generate", "verify"), make=FollowUp(question, options), rules=(passed, finished, distinct)),
            Generate(name="follow", of=("propose",), n=1, temperature=0.0, max_new_tokens=max_new_tokens),
            Verify(name="verify-followed", of=("follow",)),
            Credit(of=("follow", "verify-followed")),
            Select(of=judged, rules=(passed, finished, AtLeast(consistent, "credit"), distinct, AtMost(keep))),
            MakeExamples(of=("select",)),
            Train(of=("build",), loss=SFT(), start="base"),
            Pair(of=("generate", "verify"), pairing=RightWrong(pairs)),
            Pair(name="pair-followed", of=judged, pairing=ByScore("credit", most=followed), rules=(passed, finished)),
            MakePairs(name="build-pairs", of=("pair", "pair-followed")),
            Train(name="train-dpo", of=("build-pairs",), loss=DPO(beta=beta), start="latest"),
            Evaluate(max_new_tokens=max_new_tokens),
            Gate(),
        ],
    )
