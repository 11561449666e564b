"""SAL: how a problem was solved is carried over to problems like it, and learned there.

Self-supervised Analogical Learning using Language Models (2025, arXiv:2502.00996). A model often solves a problem and
fails at a rarer one of the same kind. From a case that it solves its solution is taken; analogous problems are made,
and solved with the same solution; where the outcome can be trusted, the model learns to solve the analogous problem so.

Different here: the solution is a right response in words, not a program; an analogous problem has other numbers and is
made by rule, not written by the model, and nothing is abstracted or simplified. The solved problem and its right
response stand before the analogous one as an example, which the row leaves out. An answer is trusted where at least
`share` of all samples of the analogous problem give it, with the example and without; nobody knows the right one. Right
responses to the problems themselves are among the rows; LoRA by default, a Gate. Numbers of samples are settings, not
the paper's.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

from selftrain.proposals import Asked, Perturbed, conversation
from selftrain.recipe import Recipe
from selftrain.records import Problem
from selftrain.rules import AtMost, Attempts, Majority, distinct, finished, passed
from selftrain.stages import SFT, Adopt, Evaluate, Gate, Generate, MakeExamples, Propose, Select, Train, Verify


@dataclass(frozen=True, slots=True)
class AfterSolved:
    """Each analogous problem as the next turn after a right response to the problem that it is like."""

    like: Perturbed

    tried: ClassVar[bool] = True

    def __call__(self, asked: Asked) -> Iterable[Problem]:
        """One problem an attempt and analogous problem, made from the latter."""
        for each in asked.attempts:
            for analogous in self.like(asked):
                yield Problem.of(
                    (*conversation(asked, each), *analogous.prompt),
                    kind="analogy",
                    verifier=analogous.verifier,
                    split=asked.origin.split,
                    parent=analogous.id,
                    about=(each.sample.id,),
                    plain=True,
                )


def transferred(attempts: Attempts) -> Attempts:
    """Keep what was sampled with the example."""
    return [each for each in attempts if each.sample.template == "adopted"]


def recipe(
    *,
    rounds: int = 1,
    samples: int = 8,
    analogues: int = 2,
    transfers: int = 4,
    share: float = 0.5,
    keep: int = 2,
    temperature: float = 0.7,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; of a problem `analogues` are made, tried `transfers` times with the example and without."""
    like = Perturbed(analogues, numbers="all")
    plain = Generate(n=samples, temperature=temperature, max_new_tokens=max_new_tokens)
    return Recipe(
        paper="arXiv:2502.00996",
        control="rft",
        rounds=rounds,
        each_round=[
            plain,
            Verify(of=("generate",)),
            Propose(name="vary", make=like),
            Propose(of=("generate", "verify"), make=AfterSolved(like), rules=(passed, finished, AtMost(1))),
            replace(plain, name="transfer", of=("propose",), n=transfers),
            replace(plain, name="alone", of=("vary",), n=transfers),
            Adopt(of=("transfer",)),
            Verify(name="vote", of=("adopt", "alone"), by="vote", blind=True),
            Select(
                name="select-analogues",
                of=("adopt", "alone", "vote"),
                rules=(Majority(share=share), transferred, finished, distinct, AtMost(keep)),
            ),
            Select(of=("generate", "verify"), rules=(passed, finished, distinct, AtMost(keep))),
            MakeExamples(of=("select", "select-analogues")),
            Train(of=("build",), loss=SFT(), start="base"),
            Evaluate(max_new_tokens=max_new_tokens),
            Gate(),
        ],
    )
