"""SelectAtRandom, PairAtRandom: as many as a recipe has chosen, drawn blindly. Controls are made of them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from selftrain.lab import Lab
from selftrain.pairings import Paired, Pairing
from selftrain.records import Pick, Sample, Setting, Side, Verdict, digest
from selftrain.round import Part
from selftrain.rules import Attempts, normalised
from selftrain.stages.select import Pair, Select

DRAWN = "drawn at random"


@dataclass(frozen=True, kw_only=True)
class SelectAtRandom(Select):
    """Apply the rules, then keep `count` in the whole round: which ones depends on the samples' ids alone."""

    count: int = 0
    seed: int = 0

    @property
    def reads(self) -> tuple[type[Any], ...]:
        """Samples; verdicts are left unread, but may be all that a stage it names writes."""
        return (Sample, Verdict)

    def reduce(self, part: Part) -> Iterable[Setting]:
        """The draw up to which `count` of all that the rules leave lie."""
        shards = [replace(part, shard=shard) for shard in part.round.shards(self)]
        kept = [pick.sample for each in shards for pick in self.picks(each) if pick.side == "kept"]
        yield _bound(self.name, [_draw(self.seed, id) for id in kept], self.count)

    def run(self, part: Part, lab: Lab) -> Iterator[Pick]:
        """Choose; what the draw leaves out is dropped by it."""
        most = str(part.round.settings[f"{self.name}-bound"])
        for pick in self.picks(part):
            if pick.side == "kept":
                side = "kept" if _draw(self.seed, pick.sample) <= most else "dropped"
                pick = replace(pick, side=cast(Side, side), rule=DRAWN)
            yield pick

    def words(self) -> dict[str, str]:
        """What it chooses from, and how many."""
        said = super().words()
        return {**said, "rules": f"{said['rules']}, then {self.count} {DRAWN}"}


@dataclass(frozen=True, slots=True)
class Blindly:
    """Attempts of different texts in pairs by the order of a draw; each is in one at most."""

    seed: int = 0

    def __call__(self, attempts: Attempts) -> Sequence[Paired]:
        """Pair them."""
        order = sorted(attempts, key=lambda each: _draw(self.seed, each.sample.id))
        pairs = zip(order[::2], order[1::2], strict=False)
        return [Paired(a, b) for a, b in pairs if normalised(a.sample.text) != normalised(b.sample.text)]


@dataclass(frozen=True, kw_only=True)
class PairAtRandom(Pair):
    """Pair blindly, then keep `count` pairs in the whole round."""

    pairing: Pairing = field(default_factory=Blindly)
    count: int = 0
    seed: int = 0

    @property
    def reads(self) -> tuple[type[Any], ...]:
        """Samples; verdicts are left unread, but may be all that a stage it names writes."""
        return (Sample, Verdict)

    def reduce(self, part: Part) -> Iterable[Setting]:
        """The draw up to which `count` of all pairs lie."""
        shards = [replace(part, shard=shard) for shard in part.round.shards(self)]
        groups = {pick.group for each in shards for pick in self.picks(each) if pick.group}
        yield _bound(self.name, [_draw(self.seed, group) for group in groups], self.count)

    def run(self, part: Part, lab: Lab) -> Iterator[Pick]:
        """Pair; what the draw leaves out is dropped by it."""
        most = str(part.round.settings[f"{self.name}-bound"])
        for pick in self.picks(part):
            if pick.group and _draw(self.seed, pick.group) > most:
                pick = replace(pick, side="dropped", rule=DRAWN, group="")
            yield pick

    def words(self) -> dict[str, str]:
        """How many pairs."""
        return {**super().words(), "pairs": f"{self.count} {DRAWN}"}


def _draw(seed: int, id: str) -> str:
    return digest("at random", seed, id)


def _bound(name: str, draws: Sequence[str], count: int) -> Setting:
    bound = sorted(draws)[min(count, len(draws)) - 1] if count and draws else ""
    return Setting(name=f"{name}-bound", value={"value": bound}, why=f"{count} of {len(draws)}")
