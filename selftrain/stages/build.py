"""MakeExamples, MakePairs: turn samples into training rows of token ids."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from selftrain.errors import RecipeError
from selftrain.lab import Lab, Tokens
from selftrain.recipe import Resource, Stage
from selftrain.records import Ids, Pick, Quarantined, Row, Sample, Segment, Verdict, digest
from selftrain.round import Attempt, Part
from selftrain.rules import distinct, failed, passed
from selftrain.templates import cites_hint


@dataclass(frozen=True, kw_only=True)
class MakeExamples(Stage):
    """One row per kept sample: the prompt by the run's protocol (no hint, no shots), then the completion.

    The completion's ids are the sampled ones where the tokenizer is the trained model's; else the text is encoded
    again and the row says so. A hinted sample that speaks of the given answer is quarantined, whatever the rules kept.
    """

    name: str = "build"
    model: str = "policy"
    """The model that will be trained on the rows."""

    @property
    def uses(self) -> tuple[Resource, ...]:
        """What it works with."""
        return ("tokens",)

    @property
    def reads(self) -> tuple[type[Any], ...]:
        """Picks."""
        return (Pick,)

    @property
    def writes(self) -> tuple[type[Any], ...]:
        """Rows, and what could not become one."""
        return (Row, Quarantined)

    def run(self, part: Part, lab: Lab) -> Iterator[Row | Quarantined]:
        """Build the shard's rows, in the picks' order."""
        tokens = lab.tokens(part.checkpoint(self.model))
        picks = [pick for pick in part.read(Pick) if pick.side == "kept"]
        attempts = part.samples(pick.sample for pick in picks)
        for pick in picks:
            attempt = attempts[pick.sample]
            sample = attempt.sample
            if sample.template == "hint" and cites_hint(sample.text):
                yield Quarantined(problem=pick.problem, index=sample.index, why="the rationale cites the hint")
                continue
            prompt = tokens.render(lab.protocol.messages(attempt.problem))
            completion, reencoded = completion_ids(sample, tokens)
            yield Row(
                id=digest(part.round.number, self.name, sample.id),
                kind="example",
                segments=(Segment(ids=prompt, train=False), Segment(ids=completion, train=True)),
                weight=pick.weight,
                sources=(sample.id,),
                reencoded=reencoded,
            )


@dataclass(frozen=True, kw_only=True)
class MakePairs(Stage):
    """Pairs of rows for a reward model: a sample that passed and one that failed of the same problem.

    Errors, timeouts and abstentions are neither. Pairs go round both sides, so that as many different samples as can be
    are in one; equal texts count once. A hinted sample that speaks of the given answer is in none.
    """

    name: str = "pair"
    model: str = "reward"
    """The model that will be trained on the rows."""
    most: int = 4
    """Pairs of a problem, at most."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.most < 1:
            raise RecipeError(f"stage {self.name!r}: most is {self.most}; a problem needs at least 1 pair")

    @property
    def uses(self) -> tuple[Resource, ...]:
        """What it works with."""
        return ("tokens",)

    @property
    def reads(self) -> tuple[type[Any], ...]:
        """Samples and what was said of them."""
        return (Sample, Verdict)

    @property
    def writes(self) -> tuple[type[Any], ...]:
        """Rows."""
        return (Row,)

    def run(self, part: Part, lab: Lab) -> Iterator[Row]:
        """Build the shard's pairs, in the samples' order."""
        tokens = lab.tokens(part.checkpoint(self.model))
        for attempts in part.attempts().values():
            fit = [a for a in distinct(attempts) if a.sample.template != "hint" or not cites_hint(a.sample.text)]
            right, wrong = passed(fit), failed(fit)
            for at in range(min(self.most, len(right) * len(wrong)) if right and wrong else 0):
                # With as many steps on both sides the same two would meet again: each lap moves one of them on.
                lap = at // math.lcm(len(right), len(wrong))
                pair = right[at % len(right)], wrong[(at + lap) % len(wrong)]
                group = digest(part.round.number, self.name, *(each.sample.id for each in pair))
                yield self._row(pair[0], "chosen", group, tokens)
                yield self._row(pair[1], "rejected", group, tokens)

    def _row(self, attempt: Attempt, kind: Literal["chosen", "rejected"], group: str, tokens: Tokens) -> Row:
        completion, reencoded = completion_ids(attempt.sample, tokens)
        # The problem without the run's instructions: so the verifier `reward_model` asks.
        prompt = tokens.render(attempt.problem.prompt)
        return Row(
            id=digest(group, kind),
            kind=kind,
            segments=(Segment(ids=prompt, train=False), Segment(ids=completion, train=True)),
            group=group,
            sources=(attempt.sample.id,),
            reencoded=reencoded,
        )


def completion_ids(sample: Sample, tokens: Tokens) -> tuple[Ids, bool]:
    """Return the ids to train on, and whether they were encoded again from text.

    A sample that stopped at a stop string, like one encoded again, gets the end token, so that the model learns to end.
    """
    reencoded = sample.tokenizer != tokens.id or not sample.completion_ids
    ids = tokens.encode(sample.text) if reencoded else sample.completion_ids
    if sample.finish != "length" and (not ids or ids[-1] != tokens.end):
        ids = (*ids, tokens.end)
    return ids, reencoded
