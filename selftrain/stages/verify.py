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
    """Judge samples; what the same verifier has judged already in this round is left alone, unless it asks a model."""

    by: str = ""
    """A verifier's name, path, or JSON with name and settings; '' takes each problem's own."""
    blind: bool = False
    """Keep gold answers from the verifier (votes, likelihoods)."""

    model: str = ""
    """Which model a verifier may ask (a judge, likelihoods): one of the recipe's."""
    which: str = "latest"
    """The weights of that model: latest, base or best."""

    @property
    def uses(self) -> tuple[Resource, ...]:
        """The verifiers' workers, and the engine of the model that they ask."""
        return ("verifiers", "sampler", "tokens") if self.model else ("verifiers",)

    @property
    def weights(self) -> tuple[tuple[str, str], ...]:
        """The model that the verifier asks."""
        return ((self.model, self.which),) if self.model else ()

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
        asked = f", asking {self.model}/{self.which}" if self.model else ""
        return {"verifier": (self.by or "each problem's own") + asked}

    def run(self, part: Part, lab: Lab) -> Iterator[Verdict]:
        """Judge the shard's samples, in the samples' order."""
        judged = {(v.sample, v.by) for v in part.judged()}
        items: list[tuple[Problem, Sample]] = [
            (attempt.problem, attempt.sample)
            for attempts in part.attempts().values()
            for attempt in attempts
            if self._asked(attempt.problem)
            # The same verifier says something else when it asks another model.
            and (self.model or (attempt.sample.id, self.by or attempt.problem.verifier) not in judged)
        ]
        model = lab.asked(part.checkpoint(self.model, self.which), self.name) if self.model else None
        # Verdicts come in any order.
        said = {verdict.sample: verdict for verdict in lab.verifiers.verify(self.by, items, model=model)}
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
