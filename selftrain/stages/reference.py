"""Reference: store in the rows what another model thinks of them."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from selftrain.errors import RecipeError
from selftrain.lab import Lab, Scored
from selftrain.recipe import Resource, Stage
from selftrain.records import Quarantined, Row
from selftrain.round import Part


@dataclass(frozen=True, kw_only=True)
class Reference(Stage):
    """Write the rows it reads again, with the log-probability of their trained tokens under a model, named by `key`.

    The Train after it must name it in of=, or it would read the rows twice. The figures are the sampling engine's, in
    its precision; the reference `start` needs no such stage.
    """

    model: str = "policy"
    which: Literal["base", "previous"] = "base"
    """base: the model given; previous: what sampled this round."""
    key: str = ""
    """The name under which rows keep it; by default `which`."""
    trained: str = ""
    """The model whose rows these are, where it is another one: the two must have one tokenizer."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.which not in ("base", "previous"):
            raise RecipeError(f"stage {self.name!r}: which is {self.which!r}; it can be base or previous")

    @property
    def uses(self) -> tuple[Resource, ...]:
        """What it works with."""
        return ("sampler", "tokens") if self.trained else ("sampler",)

    @property
    def reads(self) -> tuple[type[Any], ...]:
        """Rows."""
        return (Row,)

    @property
    def writes(self) -> tuple[type[Any], ...]:
        """Rows, and those that the model cannot read."""
        return (Row, Quarantined)

    @property
    def weights(self) -> tuple[tuple[str, str], ...]:
        """The model that scores."""
        return ((self.model, self.which),)

    def words(self) -> dict[str, str]:
        """Under which model."""
        return {"scores": f"rows under {self.model}/{self.which}" + (f" as {self.key}" if self.key else "")}

    def run(self, part: Part, lab: Lab) -> Iterator[Row | Quarantined]:
        """Score the shard's rows; where one of a pair is longer than the model's context, the pair is left out."""
        rows = part.read(Row)
        if not rows:
            return
        checkpoint = part.checkpoint(self.model, self.which)
        if self.trained and lab.tokens(part.checkpoint(self.trained)).id != lab.tokens(checkpoint).id:
            raise RecipeError(
                f"stage {self.name!r}: the rows are in {self.trained}'s tokens, and {self.model} has another tokenizer"
                " or chat template, so it can't score them; take a model of the same family"
            )
        sampler = lab.sampler(checkpoint)
        sizes: dict[str, int] = defaultdict(int)
        for row in rows:
            sizes[row.group or row.id] = max(sizes[row.group or row.id], sum(len(part.ids) for part in row.segments))
        fitting = [row for row in rows if sizes[row.group or row.id] < sampler.context]
        found = {row.id: sum_of for row, sum_of in zip(fitting, self._sums(fitting, sampler.score), strict=True)}
        for row in rows:
            if row.id in found:
                yield replace(row, reference={**row.reference, self.key or self.which: found[row.id]})
            else:
                why = f"the row or its partner has {sizes[row.group or row.id]} tokens, the context {sampler.context}"
                yield Quarantined(problem="", index=0, why=f"row {row.id}: {why}")

    @staticmethod
    def _sums(rows: list[Row], score: Any) -> list[float]:
        """The log-probability of each row's trained tokens; what is not trained counts as given."""
        asked, marks = [], []
        for row in rows:
            first = next(at for at, part in enumerate(row.segments) if part.train)
            given, rest = row.segments[:first], row.segments[first:]
            marks.append([part.train for part in rest for _ in part.ids])
            prompt, completion = (tuple(id for part in parts for id in part.ids) for parts in (given, rest))
            asked.append(Scored(prompt, completion))
        scores = score(asked) if asked else []
        return [
            sum(value for value, trained in zip(values, mark, strict=True) if trained)
            for values, mark in zip(scores, marks, strict=True)
        ]
