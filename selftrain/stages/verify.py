"""Verify: ask a verifier about each sample."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from selftrain.lab import Lab
from selftrain.recipe import Resource, Stage
from selftrain.records import Problem, Sample, Verdict
from selftrain.round import Part


@dataclass(frozen=True, kw_only=True)
class Verify(Stage):
    """Judge samples; what the same verifier has judged already in this round is left alone."""

    by: str = ""
    """A verifier's name, path, or JSON with name and settings; '' takes each problem's own."""
    blind: bool = False
    """Keep gold answers from the verifier (votes, likelihoods)."""

    uses: ClassVar[tuple[Resource, ...]] = ("verifiers",)

    @property
    def reads(self) -> tuple[type[Any], ...]:
        """Samples."""
        return (Sample,)

    @property
    def writes(self) -> tuple[type[Any], ...]:
        """Verdicts."""
        return (Verdict,)

    @property
    def gold(self) -> bool:
        """Unless blind, the verifier sees the gold answer."""
        return not self.blind

    @property
    def truthful(self) -> bool:
        """Without another verifier named, each problem's own judges."""
        return not self.by and not self.blind and "train" in self.splits

    def words(self) -> dict[str, str]:
        """Who judges."""
        return {"verifier": self.by or "each problem's own"}

    def run(self, part: Part, lab: Lab) -> Iterator[Verdict]:
        """Judge the shard's samples, in the samples' order."""
        judged = {(v.sample, v.by) for v in part.judged()}
        items: list[tuple[Problem, Sample]] = [
            (attempt.problem, attempt.sample)
            for attempts in part.attempts().values()
            for attempt in attempts
            if self._asked(attempt.problem) and (attempt.sample.id, self.by or attempt.problem.verifier) not in judged
        ]
        # Verdicts come in any order.
        said = {verdict.sample: verdict for verdict in lab.verifiers.verify(self.by, items)}
        for _, sample in items:
            yield said[sample.id]

    def _asked(self, problem: Problem) -> bool:
        return True


@dataclass(frozen=True, kw_only=True)
class Audit(Verify):
    """The problem's own verifier beside a recipe that judges otherwise: measured, never read by a stage.

    Problems without an answer are left out.
    """

    name: str = "audit"
    hidden: ClassVar[bool] = True

    def _asked(self, problem: Problem) -> bool:
        return problem.answer is not None or problem.tests is not None
