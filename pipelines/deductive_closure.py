"""Deductive closure training: of all that it says and what follows from it, the model learns the likeliest part that is
consistent.

Deductive Closure Training of Language Models for Coherence, Accuracy, and Updatability (Akyürek et al., 2024,
arXiv:2401.08574). The model writes texts, and texts that these imply or contradict; it says how probable the truth of
each is; that choice of true and false ones is made which is most probable among those without a contradiction, and the
model is fine-tuned on what came out as true. Without a trusted source it needs no labels.

Different here: a statement is a response to a problem. What it implies is by rule, not written by the model: a problem
rewritten so that its answer stays (`find`, `replace`; for sums, two terms exchanged) has the same answer, and responses
to both stand together. Two answers contradict each other, so the consistent choices are one answer's responses, or
none. The probability of a statement is the share of yes among `judgements` answers to a question, kept away from 0 and
1. What came out as true is trained on under the given problem; LoRA by default. The first author is from memory.
"""

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from selftrain.proposals import Ask, Asked
from selftrain.recipe import Recipe
from selftrain.records import Problem
from selftrain.rules import AtMost, Attempts, distinct, finished
from selftrain.stages import (
    SFT,
    Adopt,
    Credit,
    Evaluate,
    Gate,
    Generate,
    MakeExamples,
    Propose,
    Select,
    Train,
    Verify,
)

UNSURE = 0.05
"""No statement is held to be more certain than this."""


@dataclass(frozen=True, slots=True)
class Rewritten:
    """The problem in other words: the first place that an expression finds, replaced."""

    find: str
    replace: str

    tried: ClassVar[bool] = False

    def __call__(self, asked: Asked) -> Iterable[Problem]:
        """One problem, where something changes."""
        *before, last = asked.problem.prompt
        text = re.sub(self.find, self.replace, last["content"], count=1)
        if text != last["content"]:
            yield Problem.of(
                (*before, {"role": last["role"], "content": text}),
                kind="implied",
                verifier="",
                split=asked.origin.split,
                parent=asked.origin.id,
            )


@dataclass(frozen=True, slots=True)
class Likeliest:
    """Keep the responses of that answer which makes all statements' truth and falsity most probable, or none."""

    truth: str = "credit"
    """Who says how probable a response is."""
    answers: str = "vote"
    """Who reads its answer."""

    judging: ClassVar[bool] = True

    def __call__(self, attempts: Attempts) -> Attempts:
        """Weigh each answer against the others, and against all being false."""
        weights: dict[str, float] = defaultdict(float)
        for each in attempts:
            answer, share = each.answer(self.answers), each.score(self.truth)
            if answer is not None and share is not None:
                sure = min(max(share, UNSURE), 1 - UNSURE)
                weights[answer] += math.log(sure) - math.log(1 - sure)
        best = max(weights, key=lambda answer: weights[answer], default="")
        return [each for each in attempts if weights.get(best, 0) > 0 and each.answer(self.answers) == best]


def recipe(
    *,
    rounds: int = 1,
    samples: int = 4,
    implied: int = 4,
    judgements: int = 4,
    keep: int = 4,
    find: str = r"(\d+)\+(\d+)",
    replace: str = r"\2+\1",
    question: str = "Is this right? Answer yes or no.",
    yes: str = r"(?i)\s*yes\b.*",
    temperature: float = 0.7,
    gate: bool = False,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; `samples` responses to each problem and `implied` ones to what it is rewritten to."""
    said = json.dumps({"name": "regex", "pattern": yes}, sort_keys=True)
    statements = ("generate", "adopt")
    return Recipe(
        paper="arXiv:2401.08574",
        control="lmsi",
        rounds=rounds,
        each_round=[
            Generate(n=samples, temperature=temperature, max_new_tokens=max_new_tokens),
            Propose(name="imply", make=Rewritten(find, replace)),
            Generate(name="follow", of=("imply",), n=implied, temperature=temperature, max_new_tokens=max_new_tokens),
            Adopt(of=("follow",)),
            Verify(of=statements, by="vote", blind=True),
            Propose(name="ask", of=statements, make=Ask(question, kind="verdict"), rules=(finished,)),
            Generate(name="judge", of=("ask",), n=judgements, temperature=temperature, max_new_tokens=max_new_tokens),
            Verify(name="truth", of=("judge",), by=said, blind=True),
            Credit(of=("judge", "truth")),
            Select(of=(*statements, "verify", "credit"), rules=(Likeliest(), finished, distinct, AtMost(keep))),
            MakeExamples(of=("select",)),
            Train(of=("build",), loss=SFT(), start="base"),
            Evaluate(max_new_tokens=max_new_tokens),
            *([Gate()] if gate else []),
        ],
    )
