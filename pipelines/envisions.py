"""ENVISIONS: pools of right and wrong candidates, ranked by likelihood, make rows that solve and rows that repair.

Interactive Evolution: A Neural-Symbolic Self-Training Framework For Large Language Models (Xu et al., 2024,
arXiv:2406.11736). Each round samples candidates (programs, in the paper) and one refinement of each; running them says
which are right, their mean log-probability is a soft reward. A refinement takes its candidate's place where it alone is
right, or both are and it is the likelier one. Right and wrong ones go into a pool of each problem that lasts over the
rounds. The base model is fine-tuned on the likeliest right ones, and on repairs: a wrong one in the prompt, a right one
as the response.

Different here: whatever the problems' verifier judges can be the candidate, programs or sums (`--data humaneval` runs
programs); the request for a refinement is in words that nano knows; LoRA by default, a Gate. Five candidates, at most
ten solving rows of a problem with one right one left over for repairs, and two repairs are those of the authors' code
(xufangzhi/ENVISIONS), which begins with a round of few-shot samples: here round 1 is like the others.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from selftrain.lab import Lab
from selftrain.proposals import Asked, Revise
from selftrain.recipe import Recipe, Stage
from selftrain.records import Pick, Problem, Sample, Verdict, digest
from selftrain.round import Attempt, Part
from selftrain.rules import distinct
from selftrain.stages import SFT, Evaluate, Gate, Generate, MakeExamples, Propose, Train, Verify


def likelihood(attempt: Attempt) -> float:
    """The mean log-probability of a sample's tokens; of one that has none, the least there is."""
    sample = attempt.sample
    return -1e9 if sample.logprob is None else sample.logprob / max(1, len(sample.completion_ids))


@dataclass(frozen=True, kw_only=True)
class Merge(Stage):
    """Write each candidate, or its refinement where that takes its place."""

    @property
    def reads(self) -> tuple[type[Any], ...]:
        """Candidates and refinements, judged."""
        return (Sample, Verdict)

    @property
    def writes(self) -> tuple[type[Any], ...]:
        """Samples of the given problems."""
        return (Sample,)

    def run(self, part: Part, lab: Lab) -> Iterator[Sample]:
        """Compare the two, in the candidates' order."""
        attempts = [each for group in part.attempts().values() for each in group]
        refined = {each.sample.parents[0]: each for each in attempts if each.problem.about}
        for first in attempts:
            if first.problem.about:
                continue
            other = refined.get(first.sample.id, first)
            better = other.passed and (not first.passed or likelihood(other) > likelihood(first))
            sample = other.sample if better else first.sample
            yield replace(
                sample,
                id=digest(part.round.number, self.name, first.sample.id),
                problem=first.sample.problem,
                index=first.sample.index,
                prompt_ids=(),
                template="merged",
                parents=(sample.id, *sample.parents),
            )


@dataclass(frozen=True, kw_only=True)
class Gather(Stage):
    """Pick the likeliest right ones of all rounds, and write right ones anew as repairs of the likeliest wrong ones."""

    keep: int = 10
    repairs: int = 2
    feedback: str = Revise().feedback

    @property
    def reads(self) -> tuple[type[Any], ...]:
        """What was merged, judged."""
        return (Sample, Verdict)

    @property
    def writes(self) -> tuple[type[Any], ...]:
        """Picks of both kinds, and the repairs with what is asked."""
        return (Problem, Sample, Pick)

    @property
    def reach(self) -> Literal["round", "run"]:
        """The pool lasts over the rounds."""
        return "run"

    def run(self, part: Part, lab: Lab) -> Iterator[Problem | Sample | Pick]:
        """Rank per problem; what is left over of the right ones repairs."""
        for id, attempts in part.attempts(earlier=True).items():
            merged = [a for a in attempts if a.sample.template == "merged" and a.sample.finish != "length"]
            ranked = sorted(distinct(merged), key=lambda each: -likelihood(each))
            right, wrong = [each for each in ranked if each.passed], [each for each in ranked if each.failed]
            solving = right[: min(self.keep, max(1, len(right) - 1))]
            for each in solving:
                yield Pick(sample=each.sample.id, problem=id, side="kept", rule=f"the {self.keep} likeliest")
            left = right[len(solving) :][: self.repairs]
            for good, bad in zip(left, wrong, strict=False):
                yield from self._repair(good, bad, lab, part.round.number)

    def _repair(self, good: Attempt, bad: Attempt, lab: Lab, round: int) -> Iterator[Problem | Sample | Pick]:
        asked = Asked(bad.problem, bad.problem, [bad], (), lab.protocol)
        (problem,) = Revise(self.feedback)(asked)
        sample = replace(
            good.sample,
            id=digest(round, self.name, good.sample.id, bad.sample.id),
            problem=problem.id,
            prompt_ids=(),
            template="repair",
            parents=(good.sample.id, bad.sample.id),
            logprob=None,
        )
        yield problem
        yield sample
        yield Pick(sample=sample.id, problem=problem.id, side="kept", rule="repair")


def recipe(
    *,
    rounds: int = 5,
    samples: int = 5,
    keep: int = 10,
    repairs: int = 2,
    feedback: str = Revise().feedback,
    temperature: float = 1.0,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; `feedback` asks for a refinement of an attempt that may be right."""
    first = Generate(n=samples, temperature=temperature, max_new_tokens=max_new_tokens, logprob=True)
    judged: Sequence[str] = ("generate", "verify", "refine", "verify-refined")
    return Recipe(
        paper="arXiv:2406.11736",
        control="rest_em",
        rounds=rounds,
        each_round=[
            first,
            Verify(of=("generate",)),
            Propose(name="ask-again", of=("generate",), make=Revise(feedback)),
            replace(first, name="refine", of=("ask-again",), n=1),
            Verify(name="verify-refined", of=("refine",)),
            Merge(of=tuple(judged)),
            Verify(name="verify-merged", of=("merge",)),
            Gather(of=("merge", "verify-merged"), keep=keep, repairs=repairs, feedback=feedback),
            MakeExamples(of=("gather",)),
            Train(of=("build",), loss=SFT(), start="base"),
            Evaluate(max_new_tokens=max_new_tokens),
            Gate(),
        ],
    )
