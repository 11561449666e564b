"""Find, FindThreshold: what later stages of the round go by, found over all shards."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from selftrain.errors import RecipeError
from selftrain.lab import Lab
from selftrain.recipe import Stage
from selftrain.records import Setting, Verdict
from selftrain.round import Part, judged_by


@dataclass(frozen=True, kw_only=True)
class Find(Stage):
    """A stage that does nothing but find settings: its `reduce` says which."""

    @property
    def writes(self) -> tuple[type[Any], ...]:
        """No records: what it finds is a setting."""
        return ()

    def run(self, part: Part, lab: Lab) -> Iterator[Any]:
        """Nothing more."""
        return iter(())


def as_shots(found: Iterable[tuple[str, str]], why: str) -> Setting:
    """Return the setting `shots`: examples for a few-shot prompt, each a question and the response to it."""
    return Setting(name="shots", value={"value": [{"prompt": q, "response": r} for q, r in found]}, why=why)


@dataclass(frozen=True, kw_only=True)
class FindThreshold(Find):
    """Find the score below which a share of all samples lies; read it as `AtLeast(FromData("threshold"))`."""

    share: float = 0.5
    """Of the samples that lie below; equal scores lie together, so that more may reach it."""
    by: str = ""
    """The verifier's name or spec; '' takes every score."""
    sets: str = "threshold"
    """The name by which it is read."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.share < 1:
            raise RecipeError(f"stage {self.name!r}: share is {self.share}, but must be from 0 to below 1")

    @property
    def reads(self) -> tuple[type[Any], ...]:
        """Verdicts."""
        return (Verdict,)

    def words(self) -> dict[str, str]:
        """What it finds."""
        return {"finds": f"{self.sets}: {100 * self.share:g} % of the samples score below it"}

    def reduce(self, part: Part) -> Iterator[Setting]:
        """The quantile of all scores; without any score 0, which then nothing reaches."""
        table = part.columns(Verdict, ["by", "score"])
        rows = zip(table.column("by").to_pylist(), table.column("score").to_pylist(), strict=True)
        scores = sorted(score for by, score in rows if score is not None and judged_by(str(by), self.by))
        value = scores[int(self.share * len(scores))] if scores else 0.0
        yield Setting(name=self.sets, value={"value": value}, why=f"of {len(scores)} scores")
