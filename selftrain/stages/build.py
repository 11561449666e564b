"""MakeExamples, MakePairs, MakeSteps: turn samples into training rows of token ids."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from selftrain.lab import Lab, Tokens
from selftrain.recipe import Resource, Stage
from selftrain.records import Ids, Pick, Quarantined, Row, Sample, Segment, Verdict, digest
from selftrain.round import Attempt, Part, judged_by
from selftrain.templates import cites_hint
from selftrain.verification.steps import pattern, split


@dataclass(frozen=True, kw_only=True)
class MakeExamples(Stage):
    """One row per kept sample: the prompt by the run's protocol (no hint, no shots), then the completion.

    The completion's ids are the sampled ones where the tokenizer is the trained model's; else the text is encoded
    again and the row says so. A hinted sample that speaks of the given answer is quarantined, whatever the rules kept.
    """

    name: str = "build"
    model: str = "policy"
    """The model that will be trained on the rows."""
    learn: Literal["all", "own"] = "all"
    """own: what a response was given to begin with, its prefix, stands with the prompt and is not in the loss."""

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

    def words(self) -> dict[str, str]:
        """What of a response is learned."""
        return {"loss": "without what was given of a response"} if self.learn == "own" else {}

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
            if self.learn == "own":
                given, completion = apart(attempt, completion, reencoded, tokens)
                prompt += given
            if not completion:
                yield Quarantined(
                    problem=pick.problem, index=sample.index, why="which part of it is its own is unknown"
                )
                continue
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
    """Two rows per pair that Pair has made, chosen and rejected, joined by its group; prompts and ids as in
    MakeExamples."""

    name: str = "build"
    model: str = "policy"
    """The model that will be trained on the rows."""
    plain: bool = False
    """Prompts without the run's instructions: so the verifier `reward_model` asks."""
    weighted: bool = False
    """Weigh a pair by its margin, as its picks do, instead of by one."""

    version: ClassVar[int] = 2

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
        """Rows."""
        return (Row,)

    def words(self) -> dict[str, str]:
        """How pairs are weighted."""
        return {"weights": "margins"} if self.weighted else {}

    def run(self, part: Part, lab: Lab) -> Iterator[Row]:
        """Build the shard's pairs, in the picks' order."""
        tokens = lab.tokens(part.checkpoint(self.model))
        picks = [pick for pick in part.read(Pick) if pick.side in ("chosen", "rejected")]
        attempts = part.samples(pick.sample for pick in picks)
        for pick in picks:
            attempt = attempts[pick.sample]
            problem = attempt.problem
            prompt = tokens.render(problem.prompt if self.plain else lab.protocol.messages(problem))
            completion, reencoded = completion_ids(attempt.sample, tokens)
            yield Row(
                id=digest(self.name, pick.group, pick.side),
                kind="chosen" if pick.side == "chosen" else "rejected",
                segments=(Segment(ids=prompt, train=False), Segment(ids=completion, train=True)),
                weight=pick.weight if self.weighted else 1.0,
                group=pick.group,
                sources=(attempt.sample.id,),
                reencoded=reencoded,
            )


@dataclass(frozen=True, kw_only=True)
class MakeSteps(Stage):
    """One row per sample whose steps a verifier has scored, for Train(loss=Steps()): each step with its score as label.

    The steps are cut as the verifier cuts them, and each is encoded by itself, so that a process model is read where it
    was trained. The prompt has no instructions of the run: so the verifier `process_reward` asks. A sample with scores
    for another number of steps than it has is quarantined.
    """

    name: str = "build"
    model: str = "process"
    """The model that will be trained on the rows."""
    by: str = ""
    """The verifier's name or spec; '' takes whichever scored the steps last."""
    steps: str = "lines"
    """lines, paragraphs, or a regular expression that ends a step: the verifier's own setting."""

    def __post_init__(self) -> None:
        super().__post_init__()
        pattern(self.steps)

    @property
    def uses(self) -> tuple[Resource, ...]:
        """What it works with."""
        return ("tokens",)

    @property
    def reads(self) -> tuple[type[Any], ...]:
        """Samples and their verdicts."""
        return (Sample, Verdict)

    @property
    def writes(self) -> tuple[type[Any], ...]:
        """Rows, and what could not become one."""
        return (Row, Quarantined)

    def words(self) -> dict[str, str]:
        """Whose scores are the labels."""
        return {"labels": f"step scores of {self.by or 'any verifier'}"}

    def run(self, part: Part, lab: Lab) -> Iterator[Row | Quarantined]:
        """Build the shard's rows, in the samples' order."""
        tokens = lab.tokens(part.checkpoint(self.model))
        for attempts in part.attempts().values():
            for each in attempts:
                scores = [v.step_scores for v in each.verdicts if v.step_scores and judged_by(v.by, self.by)]
                if not scores:
                    continue
                ids = [tokens.encode(step) for step in split(each.sample.text, self.steps)]
                if len(ids) != len(scores[-1]) or not all(ids):
                    why = f"its {len(ids)} steps have {len(scores[-1])} scores"
                    yield Quarantined(problem=each.problem.id, index=each.sample.index, why=why)
                    continue
                yield Row(
                    id=digest(part.round.number, self.name, each.sample.id),
                    kind="example",
                    segments=(
                        Segment(ids=tokens.render(each.problem.prompt), train=False),
                        *(Segment(ids=step, train=True) for step in ids),
                    ),
                    labels=tuple(min(1.0, max(0.0, score)) for score in scores[-1]),
                    weight=each.weight,
                    sources=(each.sample.id,),
                    reencoded=True,
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


def apart(attempt: Attempt, completion: Ids, reencoded: bool, tokens: Tokens) -> tuple[Ids, Ids]:
    """Return the ids that a response was given to begin with, and its own; none of its own where that is unknown."""
    sample, prefix = attempt.sample, attempt.problem.prefix
    if not reencoded:
        return completion[: sample.prefix], completion[sample.prefix :]
    if not prefix and not sample.prefix:
        return (), completion
    if not prefix or not sample.text.startswith(prefix):
        return completion, ()
    # The two texts apart, so that no token is of both.
    own = tokens.encode(sample.text[len(prefix) :])
    return tokens.encode(prefix), own if sample.finish == "length" else (*own, tokens.end)
