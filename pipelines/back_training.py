"""Back-training: solutions are taken as they are, and a model that inverts writes the problems that they may answer.

Back-Training excels Self-Training at Unsupervised Domain Adaptation of Question Generation and Passage Retrieval
(Kulshreshtha, Belfer, Serban, Reddy, 2021, arXiv:2104.08801). Self-training puts a model's noisy outputs beside natural
inputs. Back-training does the opposite: the outputs are natural, the inputs are what an inverse model, learned where
both sides are known, makes of them; what is not consistent is left out, and the model is fine-tuned on the rest.

Different here: the two domains are two parts of the problems. Of a share, `source`, problem and solution are known; the
inverse model is fine-tuned on it, from the model given. Of the others only the solutions are looked at. A problem that
was written is consistent where at least `agreed` of the policy's answers to it are the solution's, the paper's
cross-consistency in its simplest form. The policy is the model given, not fine-tuned on the source part before; a Gate.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from selftrain.proposals import Asked
from selftrain.recipe import Model, Recipe
from selftrain.records import Problem, seed_of
from selftrain.rules import AtMost, Attempts, distinct, finished
from selftrain.stages import SFT, Evaluate, Gate, Generate, Gold, MakeExamples, Propose, Select, Train, Verify


@dataclass(frozen=True, slots=True)
class Inverse:
    """What the problem to a solution is: asked of the source part with the problem as the solution, or of the rest."""

    question: str
    source: float
    known: bool

    tried: ClassVar[bool] = False
    gold: ClassVar[bool] = True

    def __call__(self, asked: Asked) -> Iterable[Problem]:
        """One question a problem that has a solution."""
        problem = asked.problem
        if problem.solution and (seed_of("source", problem.id) < self.source * 2**31) is self.known:
            yield Problem.of(
                f"{problem.solution}\n{self.question}",
                kind="inverse",
                solution=problem.prompt[-1]["content"] if self.known else None,
                split=problem.split,
                parent=problem.id,
                plain=True,
            )


@dataclass(frozen=True, slots=True)
class Answered:
    """What the inverse model wrote, as a problem whose solution is known."""

    tried: ClassVar[bool] = True
    gold: ClassVar[bool] = True

    def __call__(self, asked: Asked) -> Iterable[Problem]:
        """One problem an attempt."""
        for each in asked.attempts:
            yield Problem.of(
                each.sample.text.strip(),
                kind="written",
                answer=asked.origin.answer,
                solution=asked.origin.solution,
                tests=asked.origin.tests,
                verifier=asked.origin.verifier,
                split=asked.origin.split,
                parent=asked.origin.id,
                about=(each.sample.id,),
                meta=asked.origin.meta,
            )


@dataclass(frozen=True, slots=True)
class Consistent:
    """Keep the solution where a share of the other attempts came to the same."""

    share: float

    judging: ClassVar[bool] = True

    def __call__(self, attempts: Attempts) -> Attempts:
        """All or none of the gold solutions."""
        tried = [each.passed for each in attempts if each.sample.finish != "gold"]
        agreed = sum(tried) >= self.share * max(1, len(tried))
        return [each for each in attempts if agreed and each.sample.finish == "gold"]


def recipe(
    *,
    rounds: int = 1,
    samples: int = 4,
    tries: int = 4,
    keep: int = 2,
    source: float = 0.5,
    agreed: float = 0.5,
    question: str = "What is the problem?",
    temperature: float = 0.7,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; of each solution `samples` problems are written, and at most `keep` different ones tried."""
    return Recipe(
        paper="arXiv:2104.08801",
        control="rft",
        rounds=rounds,
        models={"policy": Model(), "inverse": Model()},
        before=[
            Propose(make=Inverse(question, source, known=True)),
            Gold(of=("propose",)),
            Select(of=("gold",), rules=()),
            MakeExamples(of=("select",), model="inverse"),
            Train(name="train-inverse", of=("build",), model="inverse", loss=SFT(), start="base"),
        ],
        each_round=[
            Propose(make=Inverse(question, source, known=False)),
            Generate(
                of=("propose",), model="inverse", n=samples, temperature=temperature, max_new_tokens=max_new_tokens
            ),
            Propose(
                name="write", of=("propose", "generate"), make=Answered(), rules=(finished, distinct, AtMost(keep))
            ),
            Generate(name="try", of=("write",), n=tries, temperature=temperature, max_new_tokens=max_new_tokens),
            Gold(of=("write",)),
            Verify(of=("try", "gold")),
            Select(of=("try", "gold", "verify"), rules=(Consistent(agreed),)),
            MakeExamples(of=("select",)),
            Train(of=("build",), loss=SFT(), start="base"),
            Evaluate(max_new_tokens=max_new_tokens),
            Gate(),
        ],
    )
