"""How a problem becomes a prompt: the run's own protocol, and what a stage adds to it (shots, a hint).

The protocol (system prompt, instruction suffix, examples) is the same in round 0 and in every round; a row is
rendered by the protocol alone, so neither a stage's examples nor its hint ever reach the training data.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from selftrain.errors import RecipeError
from selftrain.records import Message, Problem

HINT = "(The answer is {answer}.)"
"""The line that a hinted prompt ends with."""

_CITES = re.compile(
    r"\bthe (given|provided|stated|known|correct|hinted) (answer|hint|result)\b|\bhints?\b|\bas (given|hinted|stated)\b"
    r"|\b(answer|result) (is|was|has been) (given|provided|stated)\b|\(the answer is\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """A worked example: a prompt and the response to it."""

    prompt: str
    response: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How every problem of a run is asked."""

    suffix: str = ""
    """Appended to the last user turn (an instruction such as 'Think step by step.')."""
    system: str = ""
    examples: tuple[Shot, ...] = ()

    def messages(self, problem: Problem, *, shots: Sequence[Shot] = (), hint: str = "") -> tuple[Message, ...]:
        """Return the turns of a prompt, with a stage's own examples and hint if it has any.

        A problem whose prompt is complete (`plain`) gets neither system turn, examples nor suffix of the run.
        """
        if problem.plain:
            return Protocol().messages(replace(problem, plain=False), shots=shots, hint=hint)
        turns: list[Message] = [{"role": "system", "content": self.system}] if self.system else []
        for shot in (*self.examples, *shots):
            turns.append({"role": "user", "content": shot.prompt + self.suffix})
            turns.append({"role": "assistant", "content": shot.response})
        *before, last = problem.prompt
        turns += before
        ending = f"\n{hint}" if hint else ""
        turns.append({"role": last["role"], "content": last["content"] + self.suffix + ending})
        return tuple(turns)


Template = Callable[[Protocol, Problem, Sequence[Shot]], tuple[Message, ...]]


def direct(protocol: Protocol, problem: Problem, shots: Sequence[Shot]) -> tuple[Message, ...]:
    """Ask the problem as it is."""
    return protocol.messages(problem)


def few_shot(protocol: Protocol, problem: Problem, shots: Sequence[Shot]) -> tuple[Message, ...]:
    """Ask it after a few worked examples; one that is the problem itself is left out, or its answer would be given."""
    question = problem.prompt[-1]["content"]
    return protocol.messages(problem, shots=[shot for shot in shots if shot.prompt != question])


def hint(protocol: Protocol, problem: Problem, shots: Sequence[Shot]) -> tuple[Message, ...]:
    """Ask it with the gold answer as a hint (STaR's rationalization, arXiv:2203.14465, section 3.2)."""
    if problem.answer is None:
        raise RecipeError(f"problem {problem.id} has no answer to give as a hint")
    return protocol.messages(problem, shots=shots, hint=HINT.format(answer=problem.answer))


TEMPLATES: Mapping[str, Template] = {"direct": direct, "few-shot": few_shot, "hint": hint}


def cites_hint(text: str) -> bool:
    """Return whether a response speaks of having been given the answer."""
    return bool(_CITES.search(text))
