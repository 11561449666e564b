"""Batch-scheduled sampling: gold solutions are learned in contexts in which own steps stand for some gold ones.

Bridging the Training-Inference Gap in LLMs by Leveraging Self-Generated Tokens (Cen et al., 2024, arXiv:2410.14655),
its first method. Scheduled sampling made offline: before training, the context of gold solutions is interleaved with
what the model itself would have written there, so that it learns to go on rightly from its own words.

Different here: own and gold are mixed by step, not by token: of each gold solution the model writes some steps anew
(each line but the last with probability `share`), one at a time; a row is the gold steps before, the own step, and the
gold steps after it, and only what comes after is in the loss. A token that was replaced is so no target, where the
paper still asks for the gold one in its place. Plain gold solutions are learned beside them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from selftrain.proposals import Asked, again
from selftrain.recipe import Recipe
from selftrain.records import Problem, seed_of
from selftrain.round import Attempt
from selftrain.stages import SFT, Evaluate, Gate, Generate, Gold, MakeExamples, Propose, Select, Splice, Spliced, Train


@dataclass(frozen=True, slots=True)
class FromStep:
    """A solution up to one of its lines, for some of them."""

    share: float

    tried: ClassVar[bool] = True
    judging: ClassVar[bool] = False

    def __call__(self, asked: Asked) -> Iterable[Problem]:
        """One problem for each line that is drawn."""
        for each in asked.attempts:
            lines = each.sample.text.splitlines(keepends=True)
            for at in range(len(lines) - 1):
                if seed_of("step", each.sample.id, at) < self.share * 2**31:
                    turns = asked.protocol.messages(asked.problem)
                    yield again(asked, turns, "continuation", (each.sample.id,), "".join(lines[:at]))


@dataclass(frozen=True, slots=True)
class Interleaved:
    """The gold steps up to the own one, and those after it."""

    def __call__(self, attempts: Sequence[Attempt]) -> Iterable[Spliced]:
        """One response for each own step."""
        by_id = {each.sample.id: each for each in attempts}
        for own in attempts:
            gold = by_id.get(own.problem.about[0]) if own.problem.about else None
            step = own.sample.text[len(own.problem.prefix) :].lstrip("\n").partition("\n")[0]
            if gold and step.strip():
                at = len(own.problem.prefix.splitlines())
                rest = "".join(gold.sample.text.splitlines(keepends=True)[at + 1 :])
                yield Spliced(f"{own.problem.prefix}{step}\n", rest, (own, gold))


def recipe(*, rounds: int = 1, share: float = 0.5, temperature: float = 0.7, max_new_tokens: int = 256) -> Recipe:
    """Build the recipe; `share` is the probability that a gold step is written anew."""
    return Recipe(
        paper="arXiv:2410.14655",
        control="gold_sft",
        rounds=rounds,
        each_round=[
            Gold(),
            Propose(name="steps", of=("gold",), make=FromStep(share)),
            Generate(of=("steps",), n=1, temperature=temperature, max_new_tokens=max_new_tokens, stop=("\n",)),
            Splice(of=("gold", "generate"), how=Interleaved()),
            Select(of=("gold",), rules=()),
            Select(name="select-spliced", of=("splice",), rules=()),
            MakeExamples(of=("select", "select-spliced"), learn="own"),
            Train(of=("build",), loss=SFT(), start="base"),
            Evaluate(max_new_tokens=max_new_tokens),
            Gate(),
        ],
    )
