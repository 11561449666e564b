"""Splice: make responses of a beginning that is only given and a rest that is to be learned."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from selftrain.lab import Lab
from selftrain.recipe import Stage
from selftrain.records import Problem, Sample, Verdict, digest
from selftrain.round import Attempt, Part
from selftrain.rules import name_of


class Spliced(NamedTuple):
    """A response in two parts: how it begins, and how it goes on."""

    given: str
    rest: str
    parents: tuple[Attempt, ...]
    """What it is made of."""


Splicer = Callable[[Sequence[Attempt]], Iterable[Spliced]]
"""Makes responses of what was tried on a given problem and on those made of it, in order; it may have `judging`."""


@dataclass(frozen=True, kw_only=True)
class Splice(Stage):
    """Write responses put together from others, each to a problem of its own: the given one with the beginning as its
    prefix. MakeExamples(learn="own") leaves that out of the loss."""

    how: Splicer

    @property
    def reads(self) -> tuple[type[Any], ...]:
        """Samples, and verdicts where they are needed."""
        return (Sample, Verdict) if getattr(self.how, "judging", False) else (Sample,)

    @property
    def writes(self) -> tuple[type[Any], ...]:
        """Problems with a prefix, and a response to each."""
        return (Problem, Sample)

    def words(self) -> dict[str, str]:
        """What it puts together."""
        return {"splices": name_of(self.how)}

    def run(self, part: Part, lab: Lab) -> Iterator[Problem | Sample]:
        """Write the shard's responses, by given problem."""
        given = {problem.id: problem for problem in part.given()}
        groups: dict[str, list[Attempt]] = defaultdict(list)
        for attempts in part.attempts().values():
            for each in attempts:
                groups[each.problem.id if each.problem.id in given else each.problem.parent or ""].append(each)
        seen: set[str] = set()
        for id, attempts in groups.items():
            if id not in given:
                continue
            for index, spliced in enumerate(self.how(attempts)):
                problem = self._problem(given[id], spliced, lab)
                if problem.id not in seen:
                    seen.add(problem.id)
                    yield problem
                yield Sample.given(
                    problem,
                    spliced.given + spliced.rest,
                    id=digest(part.round.number, self.name, problem.id, index),
                    model=spliced.parents[-1].sample.model,
                    index=index,
                    template="spliced",
                    parents=tuple(each.sample.id for each in spliced.parents),
                )

    def _problem(self, problem: Problem, spliced: Spliced, lab: Lab) -> Problem:
        return Problem.of(
            lab.protocol.messages(problem),
            kind="continuation",
            verifier="",
            split=problem.split,
            parent=problem.id,
            about=tuple(each.sample.id for each in spliced.parents),
            plain=True,
            prefix=spliced.given,
            meta=problem.meta,
        )
