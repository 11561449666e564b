"""Self-Instruct: the model writes new problems after a few given ones, answers them, and learns from both.

Self-Instruct: Aligning Language Models with Self-Generated Instructions (Wang, Kordi, Mishra, Liu, Smith, Khashabi,
Hajishirzi, 2022, arXiv:2212.10560). From a small pool of seed problems a few are shown and another is asked for; what
is too much like a known one (ROUGE-L of 0.7 or more) is left out; the model answers what is left, and the model given
is fine-tuned on these pairs. No gold answer is looked at.

Different here: a written problem is compared with the given ones of its shard and with those written in the same place,
not with all; one kind of problem, answered directly (the paper treats classification apart); `examples` given problems
are shown, never written ones (the paper: 8, two of them written); with rounds above 1 the model trained so far writes
and answers. LoRA by default. A small model that was never asked for problems writes none worth the name: `question` is
for instruction models. gate=true would let gold answers of the valid split decide which round is believed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from selftrain.proposals import Asked, AskForAnother, Written
from selftrain.recipe import Recipe
from selftrain.records import Problem
from selftrain.rules import AtMost, distinct, finished, normalised
from selftrain.stages import SFT, Evaluate, Gate, Generate, MakeExamples, Propose, Select, Train


def rouge_l(one: Sequence[str], other: Sequence[str]) -> float:
    """Return the F-measure of the longest common subsequence of two lists of words."""
    row = [0] * (len(other) + 1)
    for word in one:
        before = 0
        for at, match in enumerate(other, 1):
            before, row[at] = row[at], before + 1 if word == match else max(row[at], row[at - 1])
    return 2 * row[-1] / max(1, len(one) + len(other))


@dataclass(frozen=True, slots=True)
class Novel:
    """What a model wrote, as a problem, unless it is too much like a known one."""

    likeness: float = 0.7
    """The ROUGE-L from which it is."""

    tried: ClassVar[bool] = True
    judging: ClassVar[bool] = False

    def __call__(self, asked: Asked) -> Iterable[Problem]:
        """Compare by words, in the order of the attempts."""
        known = [normalised(each.text).split() for each in (asked.origin, *asked.others)]
        for problem in Written()(asked):
            words = normalised(problem.text).split()
            if all(rouge_l(words, each) < self.likeness for each in known):
                known.append(words)
                yield problem


def recipe(
    *,
    rounds: int = 1,
    samples: int = 2,
    keep: int = 1,
    likeness: float = 0.7,
    question: str = "Write another problem like these.",
    examples: int = 8,
    temperature: float = 0.7,
    gate: bool = False,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; `samples` problems are asked for after each given one, `keep` answers to each are learned."""
    longest = max_new_tokens
    return Recipe(
        paper="arXiv:2212.10560",
        control="random_select keep=1 gate=false",
        rounds=rounds,
        each_round=[
            Propose(name="ask", make=AskForAnother(question, examples)),
            Generate(name="write", of=("ask",), n=samples, temperature=temperature, max_new_tokens=longest),
            Propose(name="written", of=("ask", "write"), make=Novel(likeness), rules=(finished,)),
            Generate(of=("written",), n=keep, temperature=temperature, max_new_tokens=longest),
            Select(of=("generate",), rules=(finished, distinct, AtMost(keep))),
            MakeExamples(of=("select",)),
            Train(of=("build",), loss=SFT(), start="base"),
            Evaluate(max_new_tokens=longest),
            *([Gate()] if gate else []),
        ],
    )
