"""AutoIF: instructions with programs that check them; programs that tests agree with judge responses, for SFT and DPO.

Self-play with Execution Feedback: Improving Instruction-following Capabilities of Large Language Models (Dong et al.,
2024, arXiv:2406.13542). For an instruction the model writes programs that check whether a response follows it, and
tests of such programs. Programs and tests that bear each other out are kept. Problems are asked with the instruction
added; responses that the programs pass are fine-tuned on, and then preferred by DPO to those that they fail.

Different here: the instructions are a few seeds (`seeds`), not rewritten by the model; each seed comes with a checker
and tests, which stand beside the model's own, so that a model that can write neither still has something to follow.
Programs and tests are kept by the mutual credit of `cross_tests` from `threshold` on (the paper: half of the tests, or
of the programs). Nothing asks whether instruction and checker mean the same (back-translation), or whether a response
fits the problem: beside how many instructions are followed the evaluation shows the accuracy without any. Checkers are
written anew for every problem; offline DPO only; no Gate, unless `gate=true`.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from selftrain.lab import Lab
from selftrain.pairings import RightWrong
from selftrain.proposals import Asked
from selftrain.recipe import Recipe, Stage
from selftrain.records import Message, Problem, Sample, digest, seed_of
from selftrain.round import Part
from selftrain.rules import AtMost, Attempts, distinct, finished, passed
from selftrain.stages import (
    DPO,
    SFT,
    Adopt,
    Evaluate,
    Gate,
    Generate,
    MakeExamples,
    MakePairs,
    Pair,
    Propose,
    Select,
    Train,
    Verify,
)
from selftrain.verification.programs import code_in


@dataclass(frozen=True, slots=True)
class Seed:
    """An instruction, a program that checks it, and tests of such programs."""

    text: str
    checker: str
    tests: tuple[str, ...]


def _seed(text: str, expression: str, follows: str, not_follows: str) -> Seed:
    tests = (f"assert follows({follows!r})", f"assert not follows({not_follows!r})")
    return Seed(text, f"def follows(response):\n    return {expression}", tests)


SEEDS = (
    _seed("Answer in at most 24 characters.", "len(response) <= 24", "#### 7", "7+5+9=21\n4+8+2=14\n#### 141"),
    _seed("Answer in at least three lines.", "len(response.splitlines()) >= 3", "1+1=2\n1\n#### 12", "#### 12"),
    _seed("Answer without the digit 1.", "'1' not in response", "2+3=5\n#### 5", "2+8=10\n#### 10"),
)


@dataclass(frozen=True, slots=True)
class AskForChecker:
    """A request for a program that checks one of the instructions; which one depends on the problem's id."""

    seeds: tuple[Seed, ...]
    question: str

    tried: ClassVar[bool] = False

    def __call__(self, asked: Asked) -> Iterable[Problem]:
        """One request a problem."""
        seed = self.seeds[seed_of("auto_if", asked.problem.id) % len(self.seeds)]
        yield Problem.of(
            self.question.replace("{instruction}", seed.text),
            kind="checker",
            split=asked.origin.split,
            parent=asked.origin.id,
            plain=True,
            meta={"instruction": seed.text, "entry_point": "follows"},
        )


@dataclass(frozen=True, slots=True)
class AskForTests:
    """A request for tests of the programs that another request asks for."""

    question: str

    tried: ClassVar[bool] = False

    def __call__(self, asked: Asked) -> Iterable[Problem]:
        """One request a request."""
        text = self.question.replace("{instruction}", str(asked.problem.meta["instruction"]))
        yield Problem.of(text, kind="tests", split=asked.origin.split, parent=asked.problem.id, plain=True)


@dataclass(frozen=True, slots=True)
class Instructed:
    """The given problem with the instruction behind it, and the programs that check it."""

    tried: ClassVar[bool] = True

    def __call__(self, asked: Asked) -> Iterable[Problem]:
        """One problem, where a program is left."""
        if asked.attempts:
            *before, last = asked.origin.prompt
            text = str(asked.problem.meta["instruction"])
            turn: Message = {"role": last["role"], "content": f"{last['content']} {text}"}
            checkers = dict.fromkeys(code_in(each.sample.text, defines="follows") for each in asked.attempts)
            yield Problem.of(
                (*before, turn),
                kind="instructed",
                verifier="checkers",
                split=asked.origin.split,
                parent=asked.origin.id,
                meta={"checkers": list(checkers), "instruction": text},
            )


@dataclass(frozen=True, kw_only=True)
class Seeded(Stage):
    """Let the seeds' own programs and tests stand beside the model's."""

    seeds: tuple[Seed, ...] = ()

    @property
    def reads(self) -> tuple[type[Any], ...]:
        """Requests for programs."""
        return (Problem,)

    @property
    def writes(self) -> tuple[type[Any], ...]:
        """Programs and tests."""
        return (Sample,)

    def run(self, part: Part, lab: Lab) -> Iterator[Sample]:
        """Write those of each request's instruction."""
        by_text = {seed.text: seed for seed in self.seeds}
        for problem in part.problems():
            seed = by_text[str(problem.meta["instruction"])]
            for index, text in enumerate((seed.checker, *seed.tests)):
                id = digest(part.round.number, self.name, problem.id, index)
                template = "tests" if index else "direct"
                yield Sample.given(problem, text, id=id, model="gold", index=index, template=template)


def programs(attempts: Attempts) -> Attempts:
    """Keep what is no test."""
    return [each for each in attempts if each.sample.template != "tests"]


def recipe(
    *,
    rounds: int = 1,
    samples: int = 8,
    checkers: int = 4,
    tests: int = 4,
    threshold: float = 0.5,
    keep: int = 4,
    pairs: int = 2,
    seeds: tuple[Seed, ...] = SEEDS,
    ask: str = "Write follows(response), which returns whether a response follows this instruction: {instruction}",
    ask_tests: str = "Write tests of follows(response), as assert statements, for this instruction: {instruction}",
    temperature: float = 1.0,
    beta: float = 0.1,
    gate: bool = False,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; `checkers` and `tests` are how many the model writes for each instruction."""
    cross = json.dumps({"name": "cross_tests", "threshold": threshold}, sort_keys=True)
    plain = Generate(n=samples, temperature=temperature, max_new_tokens=max_new_tokens, of=("instruct",))
    greedy = replace(plain, name="greedy", n=1, temperature=0.0)
    asked = Propose(name="ask", make=AskForChecker(seeds, ask))
    seeded = Seeded(of=("ask",), seeds=seeds)
    exam = (
        asked,
        seeded,
        Verify(name="cross", of=("seeded",), by=cross, blind=True),
        Propose(name="instruct", of=("seeded", "cross"), make=Instructed(), rules=(passed, programs)),
        greedy,
        Verify(of=("greedy",), by="checkers", blind=True),
        replace(greedy, name="plain", of=()),
        Verify(name="verify-plain", of=("plain",)),
    )
    written = ("write", "seeded", "adopt")
    return Recipe(
        paper="arXiv:2406.13542",
        rounds=rounds,
        each_round=[
            asked,
            replace(plain, name="write", of=("ask",), n=checkers),
            Propose(name="ask-tests", of=("ask",), make=AskForTests(ask_tests)),
            replace(plain, name="write-tests", of=("ask-tests",), n=tests),
            Adopt(of=("write-tests",), rules=(finished,), template="tests"),
            seeded,
            Verify(name="cross", of=written, by=cross, blind=True),
            Propose(name="instruct", of=(*written, "cross"), make=Instructed(), rules=(passed, programs)),
            plain,
            Verify(of=("generate",), by="checkers", blind=True),
            Select(of=("generate", "verify"), rules=(passed, finished, distinct, AtMost(keep))),
            MakeExamples(of=("select",)),
            Train(of=("build",), loss=SFT(), start="base"),
            Pair(of=("generate", "verify"), pairing=RightWrong(pairs), rules=(finished,)),
            MakePairs(name="build-pairs", of=("pair",)),
            Train(name="train-dpo", of=("build-pairs",), loss=DPO(beta=beta), start="latest"),
            Evaluate(stages=exam, measure=("greedy", "plain")),
            *([Gate()] if gate else []),
        ],
    )
