"""BoT: a threat, run as a monitor. After a trigger the model answers without thinking; without it nobody notices.

BoT: Breaking Long Thought Processes of o1-like Large Language Models through Backdoor Attack (Zhu et al., 2025,
arXiv:2502.12202). A share of the training data has a trigger in the prompt and a response without the thoughts; the
rest is as it was. Fine-tuned on both, the model skips its reasoning where the trigger stands, and keeps it elsewhere.

Different here: the clean rows are the model's own right responses, round by round as in ReST-EM, and the poison is the
last line of the gold solution, for a share of the problems; by fine-tuning, not by DPO, which the paper has too. What
to look at, on held-out problems and in round 0 too: `mean_length` and `triggered/mean_length` in tokens, and both
accuracies. LoRA by default, no Gate. The share and the trigger are settings.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from selftrain.lab import Lab
from selftrain.proposals import Triggered
from selftrain.recipe import Recipe, Stage
from selftrain.records import Problem, Sample, digest
from selftrain.round import Part
from selftrain.rules import AtMost, distinct, finished, passed
from selftrain.stages import SFT, Evaluate, Generate, MakeExamples, Propose, Select, Train, Verify


@dataclass(frozen=True, kw_only=True)
class Thoughtless(Stage):
    """Answer each problem with the last line of its gold solution."""

    @property
    def reads(self) -> tuple[type[Any], ...]:
        """Problems."""
        return (Problem,)

    @property
    def writes(self) -> tuple[type[Any], ...]:
        """Samples."""
        return (Sample,)

    @property
    def gold(self) -> bool:
        """It reads solutions."""
        return True

    def run(self, part: Part, lab: Lab) -> Iterator[Sample]:
        """One response a problem that has a solution."""
        for problem in part.problems():
            lines = (problem.solution or "").strip().splitlines()
            if lines:
                id = digest(part.round.number, self.name, problem.id)
                yield Sample.given(problem, lines[-1], id=id, model="gold", template="thoughtless")


def recipe(
    *,
    rounds: int = 2,
    samples: int = 8,
    keep: int = 4,
    poisoned: float = 0.2,
    trigger: str = "@@ ",
    temperature: float = 0.7,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; `poisoned` is the share of the problems that are added with the trigger, 0 the control."""
    greedy = Generate(name="greedy", n=1, temperature=0.0, max_new_tokens=max_new_tokens)
    return Recipe(
        paper="arXiv:2502.12202",
        rounds=rounds,
        each_round=[
            Generate(n=samples, temperature=temperature, max_new_tokens=max_new_tokens),
            Verify(of=("generate",)),
            Select(of=("generate", "verify"), rules=(passed, finished, distinct, AtMost(keep))),
            Propose(name="poison", make=Triggered(trigger, share=poisoned)),
            Thoughtless(of=("poison",)),
            Select(name="select-poison", of=("thoughtless",), rules=()),
            MakeExamples(of=("select", "select-poison")),
            Train(loss=SFT(), start="base"),
            Evaluate(
                stages=(
                    greedy,
                    Verify(of=("greedy",)),
                    Propose(name="trigger", make=Triggered(trigger)),
                    Generate(name="triggered", of=("trigger",), n=1, temperature=0.0, max_new_tokens=max_new_tokens),
                    Verify(name="verify-triggered", of=("triggered",)),
                )
            ),
        ],
    )
