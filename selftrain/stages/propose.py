"""Propose: make problems of problems and attempts. Adopt, Credit: bring what came of them back to what they are of."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from selftrain.errors import RecipeError
from selftrain.lab import Lab
from selftrain.proposals import Ask, Asked, Maker
from selftrain.recipe import Stage
from selftrain.records import Problem, Quarantined, Sample, Verdict, digest, seed_of
from selftrain.round import Attempt, Part
from selftrain.rules import Rule, judging, name_of
from selftrain.verification.answers import normal


@dataclass(frozen=True, kw_only=True)
class Propose(Stage):
    """Make problems, in the shard of those they are made from; whoever samples or judges them names this stage in of=.

    Equal problems are made once. What is made for training but is, or asks in one of its turns, a held-out problem,
    word for word, is quarantined.
    """

    make: Maker = field(default_factory=lambda: Ask("Which step is wrong first?"))
    rules: tuple[Rule, ...] = ()
    """Which attempts are asked about, of those that are there of a problem."""

    @property
    def reads(self) -> tuple[type[Any], ...]:
        """Problems; where the maker asks about attempts, these, and what was said of them where anyone needs it."""
        if not getattr(self.make, "tried", False):
            return (Problem,)
        needed = getattr(self.make, "judging", False) or any(map(judging, self.rules))
        return (Sample, Verdict) if needed else (Sample,)

    @property
    def writes(self) -> tuple[type[Any], ...]:
        """Problems, and those that must not be."""
        return (Problem, Quarantined)

    @property
    def gold(self) -> bool:
        """Whether its maker sees answers, solutions and tests."""
        return bool(getattr(self.make, "gold", False))

    def words(self) -> dict[str, str]:
        """What it makes, and of what."""
        of = f" of {', '.join(map(name_of, self.rules))}" if self.rules else ""
        return {"makes": name_of(self.make) + of}

    def run(self, part: Part, lab: Lab) -> Iterator[Problem | Quarantined]:
        """Make the shard's problems, in the order of what they are made from."""
        held_out = part.round.held_out() if "train" in self.splits else {}
        given = part.given()
        origins = {problem.id: problem for problem in given}
        tried = Sample in self.reads
        attempts = part.attempts() if tried else {}
        problems = [group[0].problem for group in attempts.values()] if tried else part.problems()
        seen: set[str] = set()
        for problem in problems:
            left: list[Attempt] = list(attempts.get(problem.id, ()))
            for rule in self.rules:
                left = list(rule(left))
            others = [each for each in given if each.id != problem.id]
            others.sort(key=lambda each: seed_of(part.round.number, problem.id, each.id))
            origin = origins.get(problem.parent or problem.id, problem)
            for made in self.make(Asked(problem, origin, left, others, lab.protocol)):
                if made.id in seen:
                    continue
                seen.add(made.id)
                texts = {normal(made.text), *(normal(turn["content"]) for turn in made.prompt)}
                if same := sorted(held_out[text] for text in texts & held_out.keys()):
                    why = f"what was made of it is held-out problem {same[0]}"
                    yield Quarantined(problem=problem.id, index=len(seen), why=why)
                else:
                    yield made


@dataclass(frozen=True, kw_only=True)
class Adopt(Stage):
    """Let samples of made problems stand as responses to the problems these were made from.

    A revision becomes a response, a response to a perturbed problem one that may be rejected; each names the sample it
    was, and then those that sample names. They are judged and chosen like any other.
    """

    rules: tuple[Rule, ...] = ()
    """Which samples, of those that are there of a made problem."""
    after: str | None = None
    """Put the attempt that the problem is about in front, and this between the two: a response that corrects itself."""
    template: str = "adopted"

    @property
    def reads(self) -> tuple[type[Any], ...]:
        """Samples, and verdicts where a rule needs them."""
        return (Sample, Verdict) if any(map(judging, self.rules)) else (Sample,)

    @property
    def writes(self) -> tuple[type[Any], ...]:
        """Samples."""
        return (Sample,)

    def run(self, part: Part, lab: Lab) -> Iterator[Sample]:
        """Write the shard's samples anew, in their order; those of given problems are left out."""
        counts: dict[str, int] = defaultdict(int)
        for attempts in part.attempts().values():
            problem = attempts[0].problem
            left: list[Attempt] = list(attempts) if problem.parent else []
            for rule in self.rules:
                left = list(rule(left))
            first = part.samples(problem.about[:1]) if self.after is not None and left else {}
            for each in left:
                assert problem.parent
                yield self._adopted(each.sample, problem.parent, counts[problem.parent], first, part.round.number)
                counts[problem.parent] += 1

    def _adopted(self, sample: Sample, parent: str, index: int, first: dict[str, Attempt], round: int) -> Sample:
        adopted = replace(
            sample,
            id=digest(round, self.name, sample.id),
            problem=parent,
            index=index,
            prompt_ids=(),
            # What saw a hint is still looked through for it.
            template="hint" if sample.template == "hint" else self.template,
            parents=(sample.id, *sample.parents),
            logprob=None,
        )
        if self.after is None:
            return adopted
        # Put together from two responses it has no ids of its own.
        text = next(iter(first.values())).sample.text.rstrip() + self.after + sample.text
        return replace(adopted, text=text, completion_ids=(), tokenizer="", prefix=0)


@dataclass(frozen=True, kw_only=True)
class Credit(Stage):
    """Judge samples by what came of the problems made about them: by the share of those problems' samples that passed.

    A critique is worth what the revisions after it earn, a rationale what follow-up questions about it do. What is
    neither right nor wrong does not count; a sample about which nothing counted gets an abstention.
    """

    to: int = -1
    """Which of the samples that a problem is about gets the credit: 0 the attempt, -1 the last (the feedback)."""
    how: Literal["mean", "all", "any"] = "mean"
    threshold: float | None = None
    """The least share that passes; without one the verdict is a score."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.how not in ("mean", "all", "any"):
            raise RecipeError(f"stage {self.name!r}: how is {self.how!r}; it can be mean, all or any")

    @property
    def reads(self) -> tuple[type[Any], ...]:
        """Samples and verdicts."""
        return (Sample, Verdict)

    @property
    def writes(self) -> tuple[type[Any], ...]:
        """Verdicts on the samples that the problems are about."""
        return (Verdict,)

    def words(self) -> dict[str, str]:
        """How it counts."""
        return {"credit": self.how + ("" if self.threshold is None else f", passes at {self.threshold:g}")}

    def run(self, part: Part, lab: Lab) -> Iterator[Verdict]:
        """One verdict for each sample that the shard's problems are about, in their order."""
        earned: dict[str, list[float]] = defaultdict(list)
        for attempts in part.attempts().values():
            about = attempts[0].problem.about
            if about:
                worth = earned[about[self.to]]
                worth += [float(each.passed) for each in attempts if each.passed or each.failed]
        for sample, worth in earned.items():
            yield self._verdict(sample, worth)

    def _verdict(self, sample: str, worth: list[float]) -> Verdict:
        if not worth:
            return Verdict(sample=sample, by=self.name, status="abstain", why="nothing that came of it could be judged")
        score = {"mean": sum(worth) / len(worth), "all": min(worth), "any": max(worth)}[self.how]
        why = f"{sum(worth):g} of {len(worth)} passed"
        if self.threshold is None:
            return Verdict(sample=sample, by=self.name, status="scored", score=score, why=why)
        passes = score >= self.threshold
        return Verdict(sample=sample, by=self.name, status="pass" if passes else "fail", score=score, why=why)
