"""Read the answers of a problem's samples and say which are equal, by another verifier: for votes and agreement.

The verifier reads an answer from each response without seeing the gold one, and two answers are equal if it passes one
with the other as the gold answer. As gold it is given the text that a response marks, where it accepts that, else the
answer in the form that it returned; an answer that it accepts in neither form is compared as a text. Two answers that
it can't compare are different.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from selftrain.errors import PluginError
from selftrain.lab import Judge
from selftrain.records import Problem, Sample, Score, Status
from selftrain.verification.answers import marked
from selftrain.verification.combine import Part, ask, label, spec_of


@dataclass(frozen=True, kw_only=True)
class Answers:
    """The answers of a problem's samples."""

    judge: Judge
    by: Part
    problem: Problem
    attempts: Sequence[Sample]

    @cached_property
    def read(self) -> tuple[Score, ...]:
        """What was read of each sample: a score with an answer; without one an abstention, or an error."""
        return tuple(self._read(sample.text) for sample in self.attempts)

    def equal(self, one: str, other: str) -> bool:
        """Whether two answers are equal."""
        pair = (min(one, other), max(one, other))
        if pair not in self._known:
            self._known[pair] = one == other or self._compared(*pair)
        return self._known[pair]

    def alike(self, answer: str, among: Sequence[int]) -> int:
        """How many of the samples at these places have this answer."""
        return sum(said is not None and self.equal(answer, said) for at in among for said in [self.read[at].answer])

    @cached_property
    def _known(self) -> dict[tuple[str, str], bool]:
        return {}

    @cached_property
    def _blind(self) -> Problem:
        return replace(self.problem, answer=None, solution=None, tests=None)

    def _read(self, response: str) -> Score:
        try:
            said = self.judge(spec_of(self.by), problem=self._blind, response=response)
        except PluginError:
            raise
        except Exception as error:
            return Score(status="error", why=f"{label(self.by)}: {type(error).__name__}: {error}")
        # Without a gold answer its status is an error; only the answer counts here.
        if said.answer is None:
            return Score(status="abstain", why=f"{label(self.by)} reads no answer")
        return Score(status="scored", answer=said.answer)

    @cached_property
    def _forms(self) -> dict[str, str | None]:
        """Of each answer the form that the verifier accepts as gold, or None."""
        marks: dict[str, set[str]] = {}
        for sample, said in zip(self.attempts, self.read, strict=True):
            if said.answer is not None:
                marks.setdefault(said.answer, set()).update({marked(sample.text) or said.answer})
        forms: dict[str, str | None] = {}
        for answer, found in marks.items():
            tried = [*sorted(found, key=lambda mark: (len(mark), mark))[:1], answer]
            forms[answer] = next((form for form in tried if self._passes(form, form)), None)
        return forms

    def _compared(self, one: str, other: str) -> bool:
        first, second = self._forms[one], self._forms[other]
        if first is None or second is None:
            return False
        return self._passes(first, second) or self._passes(second, first)

    def _passes(self, gold: str, answer: str) -> bool:
        response = f"#### {answer}" if answer.count("{") != answer.count("}") else f"\\boxed{{{answer}}}"
        problem = replace(self._blind, answer=gold)
        return ask(self.judge, self.by, problem=problem, response=response).status == "pass"


def verdict(share: float, *, threshold: float | None, why: str, answer: str | None) -> Score:
    """Return a share as a verdict: scored, or pass and fail where there is a threshold."""
    status: Status = "scored" if threshold is None else "pass" if share >= threshold else "fail"
    return Score(status=status, score=share, why=why, answer=answer)
