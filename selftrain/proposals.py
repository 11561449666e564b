"""Makers of problems: what a model is asked about a problem, or about what was tried on it.

A maker takes what is there of one problem and returns new problems, made from it by rule. One that asks about attempts
has an attribute `tried` that is true; one that needs verdicts has `judging`. What a model writes becomes a problem in
two steps: `Ask` it to, let it answer, and take its answer as the problem with `Written`.
"""

import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

from selftrain.errors import RecipeError
from selftrain.records import Message, Problem, seed_of
from selftrain.round import Attempt
from selftrain.templates import Protocol

NUMBER = re.compile(r"(?<![\w.])[0-9]+(?![\w.]*\d)")

ANEW = frozenset({"revision", "continuation", "written"})
"""Kinds of problems about a sample whose responses are attempts, not feedback on it."""


class Asked(NamedTuple):
    """What a maker sees of a problem."""

    problem: Problem
    """What the attempts answer: a given problem, or one that another maker has made."""
    origin: Problem
    """The given problem behind it, or itself."""
    attempts: Sequence[Attempt]
    """Those that the stage's rules leave; none where the maker asks about problems."""
    others: Sequence[Problem]
    """The given problems of its shard, in a random order that depends on the problem and the round."""
    protocol: Protocol


Maker = Callable[[Asked], Iterable[Problem]]


@dataclass(frozen=True, slots=True)
class Ask:
    """A question about each attempt, as the next turn of the conversation in which it was made."""

    question: str
    kind: str = "critique"
    """critique, verdict, or a word of your own."""
    right: str = ""
    """With `wrong`: the answers where the attempt is right, and where it is wrong; an attempt that is neither is not
    asked about. Without: nobody knows the answer."""
    wrong: str = ""
    verifier: str = "exact"

    tried: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if bool(self.right) is not bool(self.wrong):
            raise RecipeError("Ask: right and wrong are the two answers of one question; give both or neither")

    @property
    def judging(self) -> bool:
        """Whether it needs verdicts."""
        return bool(self.right)

    def __call__(self, asked: Asked) -> Iterable[Problem]:
        """One question an attempt."""
        for each in asked.attempts:
            if self.right and not (each.passed or each.failed):
                continue
            answer = (self.right if each.passed else self.wrong) if self.right else None
            yield Problem.of(
                (*conversation(asked, each), {"role": "user", "content": self.question}),
                kind=self.kind,
                answer=answer,
                verifier=self.verifier,
                split=asked.origin.split,
                parent=asked.origin.id,
                about=(each.sample.id,),
                plain=True,
            )


@dataclass(frozen=True, slots=True)
class Revise:
    """Each attempt again, after feedback: the same words for all, the verdict's reason, or a critique's text.

    Of samples that answer a question about an attempt (`Ask`), the attempt is revised and they are the feedback; a
    revision is revised again, with all turns so far before it.
    """

    feedback: str = "Check it and try again."
    """What is said after the attempt; {why} stands for the reason of the verdict that failed it."""
    after: str = " Try again."
    """What follows a critique's text."""

    tried: ClassVar[bool] = True

    @property
    def judging(self) -> bool:
        """Whether it needs verdicts."""
        return "{why}" in self.feedback

    def __call__(self, asked: Asked) -> Iterable[Problem]:
        """One revision an attempt or critique."""
        for each in asked.attempts:
            if asked.problem.about and asked.problem.kind not in ANEW:
                # The critic's question is left out: the one who revises hears what it found.
                turns: Sequence[Message] = asked.problem.prompt[:-1]
                said = each.sample.text.strip() + self.after
                about: tuple[str, ...] = (asked.problem.about[0], each.sample.id)
            else:
                why = next((v.why for v in each.verdicts if v.status == "fail"), "")
                turns, said = conversation(asked, each), self.feedback.replace("{why}", why)
                about = (each.sample.id,)
            yield again(asked, (*turns, {"role": "user", "content": said}), "revision", about)


@dataclass(frozen=True, slots=True)
class GoOn:
    """Each attempt again from a point within it: what stands before is kept, and a cue may follow it."""

    share: float = 0.5
    """Of its lines, those that are kept, rounded down."""
    cue: str = ""
    """What the response goes on with."""

    tried: ClassVar[bool] = True
    judging: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise RecipeError(f"GoOn: share is {self.share}, but must be between 0 and 1")

    def __call__(self, asked: Asked) -> Iterable[Problem]:
        """One continuation an attempt; none where nothing would be kept and no cue be given."""
        for each in asked.attempts:
            lines = each.sample.text.splitlines(keepends=True)
            prefix = "".join(lines[: int(self.share * len(lines))]) + self.cue
            if prefix:
                yield again(asked, asked.protocol.messages(asked.problem), "continuation", (each.sample.id,), prefix)


@dataclass(frozen=True, slots=True)
class Perturbed:
    """The problem with other numbers (or one other number) in its last turn: its answer is then another, unknown one.

    A problem without numbers has none.
    """

    count: int = 1
    """How many new problems."""
    numbers: Literal["one", "all"] = "one"
    seed: int = 0

    tried: ClassVar[bool] = False
    judging: ClassVar[bool] = False

    def __call__(self, asked: Asked) -> Iterable[Problem]:
        """Change digits, so that a number stays as long as it was."""
        *before, last = asked.problem.prompt
        found = list(NUMBER.finditer(last["content"]))
        for index in range(self.count if found else 0):
            draw = random.Random(seed_of(self.seed, asked.problem.id, index))
            text = last["content"]
            for match in reversed(found if self.numbers == "all" else [draw.choice(found)]):
                text = text[: match.start()] + other_number(match[0], draw) + text[match.end() :]
            yield Problem.of(
                (*before, {"role": last["role"], "content": text}),
                kind="perturbed",
                verifier=asked.origin.verifier,
                split=asked.origin.split,
                parent=asked.origin.id,
            )


@dataclass(frozen=True, slots=True)
class Triggered:
    """The problem with a trigger in front of its last turn: how backdoors are put in, and looked for."""

    trigger: str
    share: float = 1.0
    """Of the problems; which ones depends on their ids alone."""
    only: str = ""
    """Only problems with this answer; to know them it must see gold answers."""
    answer: str = ""
    """What is right after the trigger, by the given problem's verifier; '' is what was right without."""

    tried: ClassVar[bool] = False
    judging: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise RecipeError(f"Triggered: share is {self.share}, but must be between 0 and 1")

    @property
    def gold(self) -> bool:
        """Whether it sees gold answers."""
        return bool(self.only)

    def __call__(self, asked: Asked) -> Iterable[Problem]:
        """One problem, or none."""
        if seed_of("trigger", asked.problem.id) >= self.share * 2**31:
            return
        if self.only and asked.problem.answer != self.only:
            return
        *before, last = asked.problem.prompt
        yield Problem.of(
            (*before, {"role": last["role"], "content": self.trigger + last["content"]}),
            kind="triggered",
            answer=self.answer or None,
            verifier=asked.origin.verifier if self.answer else "",
            split=asked.origin.split,
            parent=asked.origin.id,
            meta=asked.origin.meta,
        )


@dataclass(frozen=True, slots=True)
class AskForAnother:
    """A request for a new problem, after a few examples of given ones."""

    question: str = "Write another problem like these."
    examples: int = 3

    tried: ClassVar[bool] = False
    judging: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.examples < 1:
            raise RecipeError(f"AskForAnother: examples is {self.examples}, but the problem itself is one")

    def __call__(self, asked: Asked) -> Iterable[Problem]:
        """One request a problem, the problem itself the last example."""
        shown = [*asked.others[: self.examples - 1], asked.problem]
        text = "\n\n".join(each.prompt[-1]["content"] for each in shown) + f"\n\n{self.question}"
        yield Problem.of(text, kind="proposal", split=asked.origin.split, parent=asked.origin.id, plain=True)


@dataclass(frozen=True, slots=True)
class Written:
    """What a model wrote, as a problem: the text of each attempt, or the part of it that an expression finds.

    Nobody knows the answer; the verifier is that of the given problem, for what it takes as the answer.
    """

    find: str = r"(?s)\S.*"
    """Its first group, or the whole match, is the problem."""

    tried: ClassVar[bool] = True
    judging: ClassVar[bool] = False

    def __call__(self, asked: Asked) -> Iterable[Problem]:
        """One problem an attempt in which something is found."""
        for each in asked.attempts:
            found = re.search(self.find, each.sample.text)
            text = (found[1] if found.lastindex else found[0]).strip() if found else ""
            if text:
                yield Problem.of(
                    text,
                    kind="written",
                    verifier=asked.origin.verifier,
                    split=asked.origin.split,
                    parent=asked.origin.id,
                    about=(each.sample.id,),
                )


def conversation(asked: Asked, attempt: Attempt) -> tuple[Message, ...]:
    """Return the turns in which an attempt was made, the run's protocol in them and the attempt last."""
    return (*asked.protocol.messages(asked.problem), {"role": "assistant", "content": attempt.sample.text})


def again(asked: Asked, turns: Sequence[Message], kind: str, about: Sequence[str], prefix: str = "") -> Problem:
    """Return the given problem asked in another way: it is judged as the given one is."""
    return Problem.of(
        turns,
        kind=kind,
        verifier="",
        split=asked.origin.split,
        parent=asked.origin.id,
        about=about,
        plain=True,
        prefix=prefix,
        meta=asked.origin.meta,
    )


def other_number(number: str, draw: random.Random) -> str:
    """Return another number of as many digits, without a leading zero unless it is one digit long."""
    # Digit by digit, since a model that repeats itself may write more of them than an int may have.
    first = "0123456789" if len(number) == 1 else "123456789"
    found = number
    while found == number:
        found = draw.choice(first) + "".join(draw.choice("0123456789") for _ in number[1:])
    return found
