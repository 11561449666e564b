"""Corrupt: make wrong copies of samples."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from selftrain.corruptions import Corruption, OneOf
from selftrain.errors import RecipeError
from selftrain.lab import Lab
from selftrain.recipe import Stage
from selftrain.records import Sample, Verdict, digest, seed_of
from selftrain.round import Attempt, Part
from selftrain.rules import Rule, judging, name_of, normalised


@dataclass(frozen=True, kw_only=True)
class Corrupt(Stage):
    """Write copies of samples with errors put in; each names the sample it was made from.

    Where a corruption finds nothing to change there is no copy. Whether a copy is really wrong is a verifier's matter.
    """

    how: Corruption = field(default_factory=OneOf)
    n: int = 1
    """Copies of a sample, at most; equal ones once."""
    rules: tuple[Rule, ...] = ()
    """Which samples."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n < 1:
            raise RecipeError(f"stage {self.name!r}: n is {self.n}, but at least 1 copy is needed")

    @property
    def reads(self) -> tuple[type[Any], ...]:
        """Samples, and verdicts where a rule needs them."""
        return (Sample, Verdict) if any(map(judging, self.rules)) else (Sample,)

    @property
    def writes(self) -> tuple[type[Any], ...]:
        """Samples."""
        return (Sample,)

    def words(self) -> dict[str, str]:
        """How it corrupts, and what."""
        of = f" of {', '.join(map(name_of, self.rules))}" if self.rules else ""
        return {"corrupts": f"{self.n} x {name_of(self.how)}{of}"}

    def run(self, part: Part, lab: Lab) -> Iterator[Sample]:
        """Write the shard's copies, in the samples' order."""
        for attempts in part.attempts().values():
            left: list[Attempt] = list(attempts)
            for rule in self.rules:
                left = list(rule(left))
            for each in left:
                seen = {normalised(each.sample.text)}
                for index in range(self.n):
                    id = digest(part.round.number, self.name, each.sample.id, index)
                    text = self.how(each.sample.text, random.Random(seed_of(lab.seed, id)))
                    if text is None or normalised(text) in seen:
                        continue
                    seen.add(normalised(text))
                    yield Sample.given(
                        each.problem,
                        text,
                        id=id,
                        model=each.sample.model,
                        index=index,
                        # What was cut off stays so, and what saw a hint is still looked through for it.
                        finish="length" if each.sample.finish == "length" else "stop",
                        template="hint" if each.sample.template == "hint" else "corrupt",
                        parents=(each.sample.id,),
                    )
