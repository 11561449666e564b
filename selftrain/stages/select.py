"""Select, Pair: choose among a problem's attempts, and store why each one was kept, dropped, chosen or rejected."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from selftrain import pairings
from selftrain.errors import RecipeError
from selftrain.lab import Lab
from selftrain.pairings import Pairing, RightWrong
from selftrain.recipe import Stage
from selftrain.records import Pick, Sample, Side, Verdict, digest, seed_of
from selftrain.round import Attempt, Part
from selftrain.rules import AtMost, Rule, distinct, judging, name_of, passed
from selftrain.templates import cites_hint


@dataclass(frozen=True, kw_only=True)
class Select(Stage):
    """Apply rules one after the other to each problem's attempts."""

    rules: tuple[Rule, ...] = (passed, distinct, AtMost(4))
    data: Literal["fresh", "union", "replay"] = "fresh"
    """fresh: this round's attempts; union: with those of all rounds that stand; replay: with a share of those.

    Rules see them together, so caps and distinct apply to the union.
    """
    ratio: float = 0.5
    """The share of earlier attempts that replay takes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.ratio <= 1:
            raise RecipeError(f"stage {self.name!r}: ratio is {self.ratio}, but must be between 0 and 1")

    @property
    def reads(self) -> tuple[type[Any], ...]:
        """Samples, and verdicts where a rule needs them."""
        return (Sample, Verdict) if any(map(judging, self.rules)) else (Sample,)

    @property
    def writes(self) -> tuple[type[Any], ...]:
        """Picks."""
        return (Pick,)

    @property
    def reach(self) -> Literal["round", "run"]:
        """A union lies in all shards drawn so far."""
        return "round" if self.data == "fresh" else "run"

    def words(self) -> dict[str, str]:
        """What it chooses from, and how."""
        data = f"replay {self.ratio:g}" if self.data == "replay" else self.data
        return {"data": data, "rules": ", ".join(name_of(rule) for rule in self.rules) or "all"}

    def run(self, part: Part, lab: Lab) -> Iterator[Pick]:
        """Choose per problem."""
        return self.picks(part)

    def picks(self, part: Part) -> Iterator[Pick]:
        """A pick for every attempt of a shard."""
        fresh = part.fresh() if self.data == "replay" else set()
        for problem, attempts in part.attempts(earlier=self.data != "fresh").items():
            left: Sequence[Attempt] = [each for each in attempts if self._taken(each, fresh, part.round.number)]
            last = "all"
            for rule in self.rules:
                kept = rule(left)
                ids = {each.sample.id for each in kept}
                for each in left:
                    if each.sample.id not in ids:
                        yield Pick(sample=each.sample.id, problem=problem, side="dropped", rule=name_of(rule))
                left, last = kept, name_of(rule)
            for each in left:
                yield Pick(sample=each.sample.id, problem=problem, side="kept", rule=last, weight=each.weight)

    def _taken(self, attempt: Attempt, fresh: set[str], round: int) -> bool:
        if self.data != "replay" or attempt.sample.id in fresh:
            return True
        return seed_of("replay", round, attempt.sample.id) < self.ratio * 2**31


@dataclass(frozen=True, kw_only=True)
class Pair(Stage):
    """Put a problem's attempts into pairs, one preferred to the other; in how many pairs an attempt is depends on both.

    Rules choose first who may be in a pair at all.
    """

    pairing: Pairing = field(default_factory=RightWrong)
    rules: tuple[Rule, ...] = ()
    earlier: int = 0
    """So many rounds before this one join with their attempts, unless they were rolled back."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.earlier < 0:
            raise RecipeError(f"stage {self.name!r}: earlier is {self.earlier}, but must be 0 rounds or more")

    @property
    def reach(self) -> Literal["round", "run"]:
        """Earlier rounds may have drawn other shards."""
        return "run" if self.earlier else "round"

    @property
    def reads(self) -> tuple[type[Any], ...]:
        """Samples, and verdicts where the pairing or a rule needs them."""
        return (Sample, Verdict) if pairings.judging(self.pairing) or any(map(judging, self.rules)) else (Sample,)

    @property
    def writes(self) -> tuple[type[Any], ...]:
        """Picks."""
        return (Pick,)

    def words(self) -> dict[str, str]:
        """Who is preferred to whom."""
        rules = f" of those that are {', '.join(map(name_of, self.rules))}" if self.rules else ""
        data = f"fresh and {self.earlier} before" if self.earlier else "fresh"
        return {"data": data, "pairs": name_of(self.pairing) + rules}

    def run(self, part: Part, lab: Lab) -> Iterator[Pick]:
        """Pair per problem."""
        return self.picks(part)

    def picks(self, part: Part) -> Iterator[Pick]:
        """Two picks of one group for every pair of a shard, and one for each attempt that is in none."""
        by = name_of(self.pairing)
        for problem, attempts in part.attempts(earlier=self.earlier > 0, back=self.earlier).items():
            left: Sequence[Attempt] = attempts
            for rule in self.rules:
                left = rule(left)
            fit = [each for each in left if each.sample.template != "hint" or not cites_hint(each.sample.text)]
            paired = set()
            for chosen, rejected, margin in self.pairing(fit):
                both = (chosen.sample.id, rejected.sample.id)
                group = digest(part.round.number, self.name, *both)
                paired |= set(both)
                for each, side in ((chosen, "chosen"), (rejected, "rejected")):
                    id = each.sample.id
                    yield Pick(sample=id, problem=problem, side=cast(Side, side), rule=by, group=group, weight=margin)
            for each in attempts:
                if each.sample.id not in paired:
                    yield Pick(sample=each.sample.id, problem=problem, side="dropped", rule=by)
