"""Rules: which of a problem's attempts to keep. A rule takes attempts and returns some of them, in order.

Select applies rules one after the other; what a rule leaves out is stored as dropped by that rule. A rule that needs
verdicts has an attribute `judging` that is true.
"""

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import ClassVar

from selftrain.errors import RecipeError
from selftrain.recipe import FromData
from selftrain.records import seed_of
from selftrain.round import Attempt
from selftrain.templates import cites_hint

Attempts = Sequence[Attempt]
Rule = Callable[[Attempts], Attempts]


def passed(attempts: Attempts) -> Attempts:
    """Keep what a verifier passed and none failed."""
    return [each for each in attempts if each.passed]


def failed(attempts: Attempts) -> Attempts:
    """Keep what a verifier found wrong; errors, timeouts and abstentions are not wrong."""
    return [each for each in attempts if each.failed]


def finished(attempts: Attempts) -> Attempts:
    """Keep what ended by itself, not at the token limit."""
    return [each for each in attempts if each.sample.finish != "length"]


def distinct(attempts: Attempts) -> Attempts:
    """Keep the first of those whose texts are equal but for case, width and white space."""
    seen: set[str] = set()
    kept = []
    for each in attempts:
        text = normalised(each.sample.text)
        if text not in seen:
            seen.add(text)
            kept.append(each)
    return kept


def uncited(attempts: Attempts) -> Attempts:
    """Keep what does not speak of a given answer (for samples of a hinted prompt)."""
    return [each for each in attempts if each.sample.template != "hint" or not cites_hint(each.sample.text)]


@dataclass(frozen=True, slots=True)
class AtMost:
    """Keep the first `count` of a problem."""

    count: int

    def __post_init__(self) -> None:
        _positive(self.count, "AtMost")

    def __call__(self, attempts: Attempts) -> Attempts:
        """Keep the first ones."""
        return attempts[: self.count]


@dataclass(frozen=True, slots=True)
class Shortest:
    """Keep the `count` with the fewest tokens; of equally long ones the first."""

    count: int = 1

    def __post_init__(self) -> None:
        _positive(self.count, "Shortest")

    def __call__(self, attempts: Attempts) -> Attempts:
        """Keep the shortest, in their old order."""
        shortest = sorted(range(len(attempts)), key=lambda i: (len(attempts[i].sample.completion_ids), i))[: self.count]
        return [attempts[i] for i in sorted(shortest)]


@dataclass(frozen=True, slots=True)
class Random:
    """Keep `count` at random: which ones depends on the samples' ids and the seed alone."""

    count: int
    seed: int = 0

    def __post_init__(self) -> None:
        _positive(self.count, "Random")

    def __call__(self, attempts: Attempts) -> Attempts:
        """Keep some, in their old order."""
        order = sorted(range(len(attempts)), key=lambda i: seed_of(self.seed, attempts[i].sample.id))[: self.count]
        return [attempts[i] for i in sorted(order)]


@dataclass(frozen=True, slots=True)
class AtLeast:
    """Keep what a verifier scored `score` or higher; what it gave no score is left out."""

    score: float | FromData
    by: str = ""
    """The verifier's name or spec; '' takes the one that scores."""

    judging: ClassVar[bool] = True

    def __call__(self, attempts: Attempts) -> Attempts:
        """Keep those that reach it."""
        assert not isinstance(self.score, FromData)
        return [each for each in attempts if (score := each.score(self.by)) is not None and score >= self.score]


@dataclass(frozen=True, slots=True)
class Best:
    """Keep the `count` that a verifier scored highest, of equal ones the first; what it gave no score is left out."""

    count: int = 1
    by: str = ""
    """The verifier's name or spec; '' takes the one that scores."""

    judging: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _positive(self.count, "Best")

    def __call__(self, attempts: Attempts) -> Attempts:
        """Keep the best, in their old order."""
        scores = {at: score for at, each in enumerate(attempts) if (score := each.score(self.by)) is not None}
        best = sorted(scores, key=lambda at: (-scores[at], at))[: self.count]
        return [attempts[at] for at in sorted(best)]


@dataclass(frozen=True, slots=True)
class Majority:
    """Keep what gives the answer that most of the problem's samples give, by a verifier that scores shares of votes.

    Of answers with equally many votes the one that was sampled first counts.
    """

    by: str = "vote"
    """The verifier's name or spec."""
    share: float = 0.0
    """Of the samples that must give it; else nothing is kept."""

    judging: ClassVar[bool] = True

    def __call__(self, attempts: Attempts) -> Attempts:
        """Keep those of the commonest answer."""
        votes = [score for each in attempts if (score := each.score(self.by)) is not None]
        if not votes or max(votes) < self.share:
            return []
        first = next(each for each in attempts if each.score(self.by) == max(votes))
        wanted = (max(votes), first.answer(self.by))
        return [each for each in attempts if (each.score(self.by), each.answer(self.by)) == wanted]


def judging(rule: Rule) -> bool:
    """Whether a rule needs verdicts."""
    return rule in (passed, failed) or bool(getattr(rule, "judging", False))


def name_of(rule: Callable[..., object]) -> str:
    """Return a rule or a pairing as it is written in a recipe: passed, AtMost(4)."""
    if is_dataclass(rule) and not isinstance(rule, type):
        settings = [
            f"{getattr(rule, f.name)!r}" if i == 0 else f"{f.name}={getattr(rule, f.name)!r}"
            for i, f in enumerate(fields(rule))
            if i == 0 or getattr(rule, f.name) != f.default
        ]
        return f"{type(rule).__name__}({', '.join(settings)})"
    return getattr(rule, "__name__", repr(rule))


def normalised(text: str) -> str:
    """Return a text with case, Unicode width and white space evened out, for comparison."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _positive(count: int, rule: str) -> None:
    if count < 1:
        raise RecipeError(f"{rule}({count}): the count must be at least 1")
