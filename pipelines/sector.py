"""SECToR: what the model solves with steps it learns to answer without them, on a window of levels that moves on.

Chain-of-Thought Reasoning is a Policy Improvement Operator (Zhang, Parkes, 2023, arXiv:2309.08589). The model solves
problems one level beyond what it knows by reasoning in steps, checks itself by agreement of several attempts, and is
trained to give the same answers at once, without the steps; then the level rises. No gold answer is looked at.

Different here: the level is any number that the problems carry (`level`, an entry of their meta; for sums the number of
digits), and the window is the `width` levels up to the round's; the check is a majority of `share` among samples of the
same problem (the paper also asks simplified and commuted variants). The problem is asked with `ask` behind it where the
answer is to come at once, and the steps themselves stay among the rows, so that the next level can be reasoned about.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from selftrain.lab import Lab
from selftrain.recipe import Recipe, Stage, Stages
from selftrain.records import Message, Problem, Sample, Verdict, digest
from selftrain.round import History, Part
from selftrain.rules import AtMost, Majority, distinct, finished
from selftrain.stages import SFT, Evaluate, Gate, Generate, MakeExamples, Select, Train, Verify


@dataclass(frozen=True, kw_only=True)
class Window(Stage):
    """Make a copy of each problem whose level lies in the window."""

    level: str = ""
    low: float = 0
    high: float = 0

    @property
    def reads(self) -> tuple[type[Any], ...]:
        """Problems."""
        return (Problem,)

    @property
    def writes(self) -> tuple[type[Any], ...]:
        """Problems."""
        return (Problem,)

    def words(self) -> dict[str, str]:
        """Which levels."""
        return {"window": f"{self.level} {self.low:g} to {self.high:g}"}

    def run(self, part: Part, lab: Lab) -> Iterator[Problem]:
        """Copy the shard's problems of these levels; one without the level is in no window."""
        for each in part.problems():
            if self.low <= float(each.meta.get(self.level, self.high + 1)) <= self.high:
                yield Problem.of(each.prompt, kind="slow", parent=each.id, verifier=each.verifier, meta=each.meta)


@dataclass(frozen=True, kw_only=True)
class AtOnce(Stage):
    """Make a response of the answer that a problem's samples agree on, to the problem that asks for it at once."""

    share: float = 0.5
    ask: str = ""

    @property
    def reads(self) -> tuple[type[Any], ...]:
        """Samples and votes on their answers."""
        return (Sample, Verdict)

    @property
    def writes(self) -> tuple[type[Any], ...]:
        """The problems asked so, and the responses."""
        return (Problem, Sample)

    def run(self, part: Part, lab: Lab) -> Iterator[Problem | Sample]:
        """One problem and one response for each majority."""
        for attempts in part.attempts().values():
            agreed = Majority("vote", self.share)(attempts)
            answer = agreed[0].answer("vote") if agreed else None
            if answer is None:
                continue
            slow, best = agreed[0].problem, agreed[0].sample
            *before, last = slow.prompt
            asked: Message = {"role": last["role"], "content": last["content"] + self.ask}
            fast = Problem.of([*before, asked], kind="fast", parent=slow.id, verifier=slow.verifier, meta=slow.meta)
            yield fast
            yield Sample.given(
                fast,
                _marked(best.text, answer),
                id=digest(part.round.number, self.name, fast.id),
                model=best.model,
                template="at-once",
                parents=tuple(each.sample.id for each in agreed),
            )


def _marked(text: str, answer: str) -> str:
    """Return the answer as the response marks it, without what comes before."""
    found = re.findall(r"####[^\n]*|\\boxed\{[^\n]*\}", text)
    return found[-1] if found else answer


def recipe(
    *,
    rounds: int = 3,
    samples: int = 8,
    keep: int = 4,
    level: str = "digits",
    first: float = 1,
    step: float = 1,
    width: float = 2,
    share: float = 0.5,
    ask: str = " Answer at once.",
    temperature: float = 0.7,
    gate: bool = False,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; round r works on the `width` levels up to first + (r - 1) * step."""

    def each_round(history: History) -> Stages:
        high = first + step * max(0, history.number - 1)
        return [
            Window(level=level, low=high - width + 1, high=high),
            Generate(of=("window",), n=samples, temperature=temperature, max_new_tokens=max_new_tokens),
            Verify(of=("generate",), by="vote", blind=True),
            AtOnce(name="at-once", of=("generate", "verify"), share=share, ask=ask),
            Select(
                name="select-slow",
                of=("generate", "verify"),
                rules=(Majority("vote", share), finished, distinct, AtMost(keep)),
            ),
            Select(of=("at-once",), rules=()),
            MakeExamples(of=("select-slow", "select")),
            Train(loss=SFT(), start="latest"),
            Evaluate(max_new_tokens=max_new_tokens),
            *([Gate()] if gate else []),
        ]

    return Recipe(paper="arXiv:2309.08589", control="lmsi", rounds=rounds, each_round=each_round)
