"""CodeDPO: programs and tests for them, both the model's, vouch for each other; what has credit is preferred by DPO.

CodeDPO: Aligning Code Models with Self Generated and Verified Source Code (Zhang et al., 2024, arXiv:2410.05605). The
model writes programs for a problem and tests for it. Every program is run on every test, and credit is passed between
those that pass together, as in PageRank: a program that passes trusted tests is trusted, and so is a test that trusted
programs pass. Programs with much credit are preferred to those with little. No gold test is looked at.

Different here: problems are the run's, not made from code found elsewhere; no efficiency pairs (the faster of two right
programs). A model that cannot write tests may take `agree=true`: then each program is also a test, that others do on
`inputs` what it does. The NLL of the chosen program is from memory (their preference loss), as is that one round is
theirs; numbers of samples are settings, not the paper's. No Gate, unless `gate=true` lets gold tests steer the run.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from selftrain.lab import Lab
from selftrain.pairings import ByScore
from selftrain.proposals import Asked
from selftrain.recipe import Recipe, Stage
from selftrain.records import Message, Problem, Sample, digest
from selftrain.round import Part
from selftrain.rules import Attempts, finished
from selftrain.stages import DPO, Adopt, Evaluate, Gate, Generate, MakePairs, Pair, Propose, Train, Verify
from selftrain.verification.programs import code_in


@dataclass(frozen=True, slots=True)
class AskForTests:
    """The problem with a request behind it, for tests instead of a program."""

    question: str

    tried: ClassVar[bool] = False

    def __call__(self, asked: Asked) -> Iterable[Problem]:
        """One request a problem."""
        *before, last = asked.problem.prompt
        turn: Message = {"role": last["role"], "content": last["content"] + self.question}
        yield Problem.of(
            (*before, turn), kind="tests", split=asked.origin.split, parent=asked.origin.id, verifier="", plain=True
        )


@dataclass(frozen=True, kw_only=True)
class Agree(Stage):
    """Of each program a test that others return on some inputs what it returns."""

    inputs: tuple[str, ...] = ()
    """What stands between the brackets of a call."""

    @property
    def reads(self) -> tuple[type[Any], ...]:
        """Programs."""
        return (Sample,)

    @property
    def writes(self) -> tuple[type[Any], ...]:
        """Tests."""
        return (Sample,)

    def run(self, part: Part, lab: Lab) -> Iterator[Sample]:
        """Write a test of each program that defines a function."""
        for attempts in part.attempts().values():
            for each in attempts:
                code = code_in(each.sample.text)
                names = re.findall(r"^def (\w+)", code, re.MULTILINE)
                if names:
                    name = str(each.problem.meta.get("entry_point") or names[-1])
                    lines = [f"assert {name}({given}) == own[{name!r}]({given})" for given in self.inputs]
                    yield Sample.given(
                        each.problem,
                        "\n".join(["own = {}", f"exec({code!r}, own)", *lines]),
                        id=digest(part.round.number, self.name, each.sample.id),
                        model=each.sample.model,
                        index=each.sample.index,
                        template="tests",
                        parents=(each.sample.id,),
                    )


def programs(attempts: Attempts) -> Attempts:
    """Keep what is no test."""
    return [each for each in attempts if each.sample.template != "tests"]


def recipe(
    *,
    rounds: int = 1,
    samples: int = 8,
    tests: int = 8,
    agree: bool = False,
    inputs: tuple[str, ...] = ("[]", "[5]", "[3, -1, 4, 10, 6, 8]", "[-7, 2, 2, 9, 0, 15, 12]"),
    pairs: int = 2,
    margin: float = 0.1,
    question: str = "\nWrite tests for it, as assert statements.",
    temperature: float = 1.0,
    beta: float = 0.1,
    nll: float = 1.0,
    gate: bool = False,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; `margin` is what two programs' credit, a share of the highest, must differ by."""
    own = [Agree(of=("generate",), inputs=tuple(inputs))] if agree else []
    written = ("generate", "adopt", *(stage.name for stage in own))
    plain = Generate(n=samples, temperature=temperature, max_new_tokens=max_new_tokens)
    return Recipe(
        paper="arXiv:2410.05605",
        control="iterative_rpo rounds=1",
        rounds=rounds,
        each_round=[
            plain,
            Propose(make=AskForTests(question)),
            Generate(
                name="write-tests", of=("propose",), n=tests, temperature=temperature, max_new_tokens=max_new_tokens
            ),
            Adopt(of=("write-tests",), rules=(finished,), template="tests"),
            *own,
            Verify(of=written, by="cross_tests", blind=True),
            Pair(
                of=(*written, "verify"),
                pairing=ByScore("cross_tests", least=margin, most=pairs),
                rules=(programs, finished),
            ),
            MakePairs(of=("pair",)),
            Train(of=("build",), loss=DPO(beta=beta, nll=nll), start="latest"),
            Evaluate(max_new_tokens=max_new_tokens),
            *([Gate()] if gate else []),
        ],
    )
