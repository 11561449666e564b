"""Self-Refine: the model says what is wrong with its attempt and revises it, until it finds nothing.

Self-Refine: Iterative Refinement with Self-Feedback (Madaan et al., 2023, arXiv:2303.17651). One model attempts a
problem, gives feedback on the attempt, and revises it after the feedback, a few times over, until its own feedback says
that it is done. The paper trains nothing: it is a way of answering.

Different here: what the loop ends with is learned as the answer to the problem itself, so that the first attempt
becomes as good as the last, if it can (`keep` of each problem); the paper's own question, whether a later turn is
better than the first, is measured beside it: `evaluate` answers held-out problems with and without the loop, as
`accuracy` and `settle/accuracy`, in round 0 on the base model. Feedback and revision are asked in the words that nano
knows, without the paper's examples; the paper has up to four turns, by default there is one. No gold answer is looked
at, unless gate=true.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from selftrain.lab import Lab
from selftrain.proposals import Ask, Revise
from selftrain.recipe import Recipe, Stage
from selftrain.records import Sample, digest
from selftrain.round import Part
from selftrain.rules import AtMost, Attempts, distinct, finished
from selftrain.stages import SFT, Evaluate, Gate, Generate, MakeExamples, Propose, Select, Train, Verify


@dataclass(frozen=True, slots=True)
class Unsettled:
    """Keep the feedback that does not say that all is well."""

    done: str

    judging: ClassVar[bool] = False

    def __call__(self, attempts: Attempts) -> Attempts:
        """Look for the words, whatever their case."""
        return [each for each in attempts if self.done.casefold() not in each.sample.text.casefold()]


@dataclass(frozen=True, kw_only=True)
class Settle(Stage):
    """Write what each attempt has become: its last revision, or itself where none was asked for."""

    @property
    def reads(self) -> tuple[type[Any], ...]:
        """Attempts and revisions."""
        return (Sample,)

    @property
    def writes(self) -> tuple[type[Any], ...]:
        """Samples of the given problems."""
        return (Sample,)

    def run(self, part: Part, lab: Lab) -> Iterator[Sample]:
        """Follow the revisions, in the attempts' order."""
        samples = part.read(Sample)
        revised = {each.parents[0]: each for each in samples if each.parents}
        for first in samples:
            if first.parents:
                continue
            last = first
            while last.id in revised:
                last = revised[last.id]
            yield replace(
                last,
                id=digest(part.round.number, self.name, first.id),
                problem=first.problem,
                index=first.index,
                prompt_ids=(),
                template="settled",
                parents=(last.id, *last.parents),
                logprob=None,
            )


def refining(first: Generate, turns: int, question: str, done: str) -> tuple[Stage, ...]:
    """Return the loop's stages: attempts, then so many turns of feedback and revision, and what came of it."""
    stages: list[Stage] = [first]
    tried = first.name
    for turn in range(1, turns + 1):
        ask, feedback, again, revise = (f"{what}-{turn}" for what in ("ask", "feedback", "ask-again", "revise"))
        stages += [
            Propose(name=ask, of=(tried,), make=Ask(question)),
            replace(first, name=feedback, of=(ask,), n=1),
            Propose(name=again, of=(ask, feedback), make=Revise(), rules=(Unsettled(done),)),
            replace(first, name=revise, of=(again,), n=1),
        ]
        tried = revise
    revisions = tuple(f"revise-{turn}" for turn in range(1, turns + 1))
    return (*stages, Settle(of=(first.name, *revisions)))


def recipe(
    *,
    rounds: int = 1,
    samples: int = 4,
    keep: int = 4,
    turns: int = 1,
    question: str = "Which step is wrong first?",
    done: str = "No step is wrong",
    temperature: float = 0.7,
    gate: bool = False,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; feedback that contains `done` ends the loop."""
    first = Generate(n=samples, temperature=temperature, max_new_tokens=max_new_tokens)
    held_out = refining(replace(first, name="greedy", n=1, temperature=0.0), turns, question, done)
    return Recipe(
        paper="arXiv:2303.17651",
        control="random_select gate=false",
        rounds=rounds,
        each_round=[
            *refining(first, turns, question, done),
            Select(of=("settle",), rules=(finished, distinct, AtMost(keep))),
            MakeExamples(of=("select",)),
            Train(of=("build",), loss=SFT(), start="base"),
            Evaluate(stages=(*held_out, Verify(of=("greedy", "settle"))), measure=("greedy", "settle")),
            *([Gate()] if gate else []),
        ],
    )
