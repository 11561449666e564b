"""Pairings: which of a problem's attempts is preferred to which. A pairing takes attempts and returns pairs, in order.

The default takes as rejected only what a verifier found wrong: errors, timeouts and abstentions are neither side. A
pairing that means something else by rejected has a name that says so.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from selftrain.errors import RecipeError
from selftrain.round import Attempt
from selftrain.rules import Attempts, distinct, failed, normalised, passed


class Paired(NamedTuple):
    """A preference: one attempt over another, and by how much."""

    chosen: Attempt
    rejected: Attempt
    margin: float = 1.0


Pairing = Callable[[Attempts], Sequence[Paired]]


@dataclass(frozen=True, slots=True)
class RightWrong:
    """What passed over what a verifier found wrong; equal texts count once.

    Pairs go round both sides, so that as many different attempts as can be are in one.
    """

    most: int = 4
    """Pairs of a problem, at most."""

    def __post_init__(self) -> None:
        _positive(self.most, "RightWrong")

    def __call__(self, attempts: Attempts) -> list[Paired]:
        """Pair right ones with wrong ones."""
        fit = distinct(attempts)
        right, wrong = passed(fit), failed(fit)
        pairs = []
        for at in range(min(self.most, len(right) * len(wrong))):
            # With as many steps on both sides the same two would meet again: each lap moves one of them on.
            lap = at // math.lcm(len(right), len(wrong))
            pairs.append(Paired(right[at % len(right)], wrong[(at + lap) % len(wrong)]))
        return pairs


@dataclass(frozen=True, slots=True)
class ByScore:
    """What a verifier scored highest over what it scored lowest, then the next ones inwards; the margin is the
    difference of the scores."""

    by: str = ""
    """The verifier's name or spec; '' takes the one that scores."""
    least: float = 0.0
    """Pairs whose scores differ by no more are left out."""
    most: int = 1
    floor: float = -math.inf
    """The least score of a chosen one."""

    def __post_init__(self) -> None:
        _positive(self.most, "ByScore")

    def __call__(self, attempts: Attempts) -> list[Paired]:
        """Pair the ends of the order by score."""
        known = [(score, each) for each in attempts if (score := each.score(self.by)) is not None]
        order = sorted(known, key=lambda pair: -pair[0])
        pairs = []
        for at in range(min(self.most, len(order) // 2)):
            (high, best), (low, worst) = order[at], order[-1 - at]
            if high >= self.floor and high - low > self.least and _differ(best, worst):
                pairs.append(Paired(best, worst, high - low))
        return pairs


@dataclass(frozen=True, slots=True)
class GoldOwn:
    """The gold solution over the model's own attempts, right or wrong, in their order (SPIN, arXiv:2401.01335)."""

    most: int = 1

    def __post_init__(self) -> None:
        _positive(self.most, "GoldOwn")

    def __call__(self, attempts: Attempts) -> list[Paired]:
        """Pair gold with own attempts that say something else."""
        gold = [each for each in attempts if each.sample.finish == "gold"][:1]
        own = distinct([each for each in attempts if each.sample.finish != "gold"])
        pairs = [Paired(best, each) for best in gold for each in own if _differ(best, each)]
        return pairs[: self.most]


@dataclass(frozen=True, slots=True)
class OverChanged:
    """An attempt over what was made of it: a copy with an error put in, a perturbed prompt's response."""

    most: int = 4

    def __post_init__(self) -> None:
        _positive(self.most, "OverChanged")

    def __call__(self, attempts: Attempts) -> list[Paired]:
        """Pair each changed attempt with the one it was made from."""
        by_id = {each.sample.id: each for each in attempts}
        pairs = [
            Paired(by_id[parent], each)
            for each in attempts
            for parent in each.sample.parents[:1]
            if parent in by_id and _differ(by_id[parent], each)
        ]
        return pairs[: self.most]


@dataclass(frozen=True, slots=True)
class LengthMatched:
    """The pairs of another pairing whose two sides differ in length by no more than a ratio."""

    pairing: Pairing
    ratio: float = 1.5
    """Tokens of the longer side by those of the shorter, at most."""

    def __post_init__(self) -> None:
        if self.ratio < 1:
            raise RecipeError(f"LengthMatched: ratio is {self.ratio}, but must be at least 1")

    def __call__(self, attempts: Attempts) -> list[Paired]:
        """Leave out the pairs of unlike length."""
        return [pair for pair in self.pairing(attempts) if _ratio(pair) <= self.ratio]


def judging(pairing: Pairing) -> bool:
    """Whether a pairing needs verdicts."""
    inner = pairing.pairing if isinstance(pairing, LengthMatched) else pairing
    return not isinstance(inner, (GoldOwn, OverChanged))


def _differ(one: Attempt, other: Attempt) -> bool:
    return normalised(one.sample.text) != normalised(other.sample.text)


def _ratio(pair: Paired) -> float:
    lengths = [max(1, len(each.sample.completion_ids) or len(each.sample.text)) for each in pair[:2]]
    return max(lengths) / min(lengths)


def _positive(count: int, pairing: str) -> None:
    if count < 1:
        raise RecipeError(f"{pairing}({count}): a problem needs at least 1 pair")
