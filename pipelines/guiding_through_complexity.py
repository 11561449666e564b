"""Guiding through complexity: how much wrong answers, and how much wrong steps, spoil supervision. A finding.

Guiding Through Complexity: What Makes Good Supervision for Hard Math Reasoning Tasks? (He, Yin, Peng, 2024,
arXiv:2410.20533). Supervision of hard tasks is of use even where most of its answers are wrong; what counts is how
wrong the steps are: at the same rate of wrong answers, other rates of wrong steps give far other models.

Different here: the supervisor is the gold solution with errors put in at set rates, where the paper has weaker models:
of the solutions the share `outcome_errors` has its last line changed, and in those each earlier line with a number is
changed with probability `step_errors`. Which solutions depends on the problems' ids alone: a higher rate spoils the
same ones and more. No easier subtasks, which the paper compares with and mixes in. One round from base.
"""

import random
from dataclasses import dataclass

from selftrain.corruptions import NumberSwap
from selftrain.errors import RecipeError
from selftrain.recipe import Recipe
from selftrain.records import seed_of
from selftrain.rules import Attempts
from selftrain.stages import SFT, Corrupt, Evaluate, Gold, MakeExamples, Select, Train


@dataclass(frozen=True, slots=True)
class WrongSteps:
    """A number of the last line that has one changed, and of each line before with a probability."""

    rate: float
    """Of the lines before."""

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1:
            raise RecipeError(f"step_errors is {self.rate}, but must be between 0 and 1")

    def __call__(self, text: str, draw: random.Random) -> str | None:
        """Change one number a line; None where no line has one."""
        swap = NumberSwap()
        lines = text.splitlines(keepends=True)
        wrong = [swap(line, draw) for line in lines]
        known = [at for at, line in enumerate(wrong) if line is not None]
        spoilt = {at for at in known[:-1] if draw.random() < self.rate} | set(known[-1:])
        return "".join((wrong[at] or "") if at in spoilt else line for at, line in enumerate(lines)) if known else None


@dataclass(frozen=True, slots=True)
class SpoiltFor:
    """Keep the spoilt copy for a share of the problems, else the solution itself."""

    share: float

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise RecipeError(f"outcome_errors is {self.share}, but must be between 0 and 1")

    def __call__(self, attempts: Attempts) -> Attempts:
        """Keep one; a solution that could not be spoilt stays."""
        gold = [each for each in attempts if each.sample.finish == "gold"]
        spoilt = [each for each in attempts if each.sample.finish != "gold"]
        chosen = attempts and seed_of("spoilt", attempts[0].problem.id) < self.share * 2**31
        return spoilt[:1] or gold[:1] if chosen else gold[:1]


def recipe(
    *, rounds: int = 1, outcome_errors: float = 0.5, step_errors: float = 0.5, max_new_tokens: int = 256
) -> Recipe:
    """Build the recipe; no errors at all is gold_sft."""
    return Recipe(
        paper="arXiv:2410.20533",
        control="gold_sft",
        claim="worse",
        rounds=rounds,
        each_round=[
            Gold(),
            Corrupt(of=("gold",), how=WrongSteps(step_errors)),
            Select(of=("gold", "corrupt"), rules=(SpoiltFor(outcome_errors),)),
            MakeExamples(of=("select",)),
            Train(loss=SFT(), start="base"),
            Evaluate(max_new_tokens=max_new_tokens),
        ],
    )
