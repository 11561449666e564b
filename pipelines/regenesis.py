"""ReGenesis: from general advice to a plan for the problem to a solution, all self-made; rows keep the solution alone.

ReGenesis: LLMs can Grow into Reasoning Generalists via Self-Improvement (Peng, Xia, Yang, Xiong, Wu, Xing, 2024,
arXiv:2410.02108). Of each problem the model makes general guidelines fit the task, turns each into a reasoning
structure, and that into a reasoning path. Paths with the right answer become rows under the bare problem, and the model
is fine-tuned once, from the model given. Paths that are so told apart are meant to carry over to other tasks.

Different here: the guidelines are eight of our own words (the paper: 25), `samples` of them a problem at random,
without a choice by the model; one path a structure; problems none of whose paths is right get no row. cascade=false
puts a guideline straight into the problem, for models too small to plan. LoRA by default, a Gate. The prompts are ours,
and the chain is how we know the paper, unchecked. Nothing here measures what comes of it on other tasks.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from selftrain.proposals import Asked, again
from selftrain.recipe import Recipe, Stage
from selftrain.records import Problem, seed_of
from selftrain.rules import AtMost, distinct, finished, passed
from selftrain.stages import SFT, Adopt, Evaluate, Gate, Generate, MakeExamples, Propose, Select, Train, Verify

GUIDELINES = (
    "Break it into smaller parts and solve them one by one.",
    "Write down what is known and what is asked.",
    "Begin with a simpler case of it.",
    "Look for a rule that fits, and apply it step by step.",
    "Work backwards from what is asked.",
    "Check each step before the next one.",
    "Think of another way to see it.",
    "Keep track of what is carried from step to step.",
)


@dataclass(frozen=True, slots=True)
class Advised:
    """The problem with a guideline behind it, for each of `count` guidelines."""

    guidelines: tuple[str, ...] = GUIDELINES
    count: int = 8
    ask: str = "Make this advice fit the problem above, without solving it: {advice}"
    kind: str = "guideline"

    tried: ClassVar[bool] = False
    judging: ClassVar[bool] = False

    def __call__(self, asked: Asked) -> Iterable[Problem]:
        """Which guidelines depends on the problem alone."""
        draw = Random(seed_of("guidelines", asked.problem.id))
        for advice in draw.sample(self.guidelines, min(self.count, len(self.guidelines))):
            yield _extended(asked, self.ask.replace("{advice}", advice), self.kind)


@dataclass(frozen=True, slots=True)
class Onward:
    """The problem with what was answered to the last request behind it, and the next request."""

    ask: str
    kind: str

    tried: ClassVar[bool] = True
    judging: ClassVar[bool] = False

    def __call__(self, asked: Asked) -> Iterable[Problem]:
        """One request an answer."""
        for each in asked.attempts:
            yield _extended(asked, self.ask.replace("{said}", each.sample.text.strip()), self.kind, each.sample.id)


def _extended(asked: Asked, text: str, kind: str, *about: str) -> Problem:
    *before, last = asked.protocol.messages(asked.origin)
    turns = (*before, {"role": last["role"], "content": f"{last['content']}\n{text}"})
    return again(asked, turns, kind, about)  # type: ignore[arg-type]


def recipe(
    *,
    rounds: int = 1,
    samples: int = 8,
    keep: int = 4,
    cascade: bool = True,
    guidelines: tuple[str, ...] = GUIDELINES,
    temperature: float = 0.7,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; `samples` is how many guidelines a problem gets, each leading to one path."""

    def asking(name: str, of: str) -> Generate:
        return Generate(name=name, of=(of,), n=1, temperature=temperature, max_new_tokens=max_new_tokens)

    plans: list[Stage] = [
        Propose(name="advise", make=Advised(guidelines, samples)),
        asking("adapt", "advise"),
        Propose(
            name="ask-structure",
            of=("advise", "adapt"),
            make=Onward("{said}\nTurn this into a plan, step by step, without solving it.", "structure"),
        ),
        asking("structure", "ask-structure"),
        Propose(
            name="ask-path",
            of=("ask-structure", "structure"),
            make=Onward("{said}\nFollow this plan and solve the problem.", "path"),
        ),
    ]
    straight: list[Stage] = [Propose(name="ask-path", make=Advised(guidelines, samples, "({advice})", "path"))]
    return Recipe(
        paper="arXiv:2410.02108",
        control="rft rounds=1",
        rounds=rounds,
        each_round=[
            *(plans if cascade else straight),
            asking("generate", "ask-path"),
            Adopt(of=("ask-path", "generate")),
            Verify(of=("adopt",)),
            Select(of=("adopt", "verify"), rules=(passed, finished, distinct, AtMost(keep))),
            MakeExamples(of=("select",)),
            Train(of=("build",), loss=SFT(), start="base"),
            Evaluate(max_new_tokens=max_new_tokens),
            Gate(),
        ],
    )
