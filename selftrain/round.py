"""What a stage sees: its shard's problems and records, the run's history, and the models by name."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from selftrain import tables
from selftrain.errors import RecipeError
from selftrain.records import Checkpoint, Decision, JsonValue, Metric, Outcome, Problem, Sample, Verdict
from selftrain.store import StageFolder, Store
from selftrain.verification.answers import normal

if TYPE_CHECKING:
    from selftrain.recipe import Stage

R = TypeVar("R")

PROBLEMS = "problems"
"""The stage of round 0 that holds the problems."""

GIVEN = 2
"""How many folders of round 0 hold what the run was given: the problems and the base models."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A sample with its problem and what was said of it: what rules choose among."""

    problem: Problem
    sample: Sample
    verdicts: tuple[Verdict, ...] = ()
    weight: float = 1.0

    @property
    def passed(self) -> bool:
        """At least one verifier passed it and none failed it."""
        return any(v.status == "pass" for v in self.verdicts) and not self.failed

    @property
    def failed(self) -> bool:
        """At least one verifier found it wrong; error, timeout and abstain are no such finding."""
        return any(v.status == "fail" for v in self.verdicts)

    def score(self, by: str = "") -> float | None:
        """The last score that a verifier gave it, by the verifier's name or spec; '' takes any verifier's."""
        given = [v.score for v in self.verdicts if v.score is not None and judged_by(v.by, by)]
        return given[-1] if given else None

    def answer(self, by: str = "") -> str | None:
        """The last answer that a verifier read in it, by the verifier's name or spec; '' takes any verifier's."""
        read = [v.answer for v in self.verdicts if v.answer is not None and judged_by(v.by, by)]
        return read[-1] if read else None


def judged_by(spec: str, by: str) -> bool:
    """Whether a verdict's spec is the verifier that is meant, by its name or its spec; '' means any."""
    return by in ("", spec) or (spec.startswith("{") and by == json.loads(spec).get("name", ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundResult:
    """What a finished round left."""

    number: int
    metrics: tuple[Metric, ...] = ()
    decision: Decision | None = None
    checkpoints: Mapping[str, Checkpoint] = field(default_factory=dict)
    """Role -> the last checkpoint written under it in this round."""
    given: Mapping[str, Checkpoint] = field(default_factory=dict)
    """Round 0: role -> the model given, where a warm-up has written another since."""


@dataclass(frozen=True, slots=True)
class History:
    """The finished rounds, round 0 (the base model) first."""

    rounds: tuple[RoundResult, ...] = ()

    @property
    def number(self) -> int:
        """The number of the round that comes next."""
        return self.rounds[-1].number + 1 if self.rounds else 0

    @property
    def best(self) -> int:
        """The best round by the Gate; without one, the last."""
        for result in reversed(self.rounds):
            if result.decision is not None:
                return result.decision.best
        return self.rounds[-1].number if self.rounds else 0

    def standing(self) -> tuple[RoundResult, ...]:
        """The rounds that were not rolled back."""
        return tuple(r for r in self.rounds if r.decision is None or r.decision.outcome != "rolled_back")

    def checkpoint(self, role: str, which: str) -> Checkpoint:
        """Return base, best or latest of a role; latest is the last one written, after a roll-back the best."""
        if which == "base" and self.rounds and role in self.rounds[0].given:
            return self.rounds[0].given[role]
        until = {"base": 0, "best": self.best}.get(which, self.number)
        for result in reversed(self.rounds):
            if result.decision is not None and result.decision.outcome == "rolled_back":
                until = min(until, result.decision.best)
            if result.number <= until and role in result.checkpoints:
                return result.checkpoints[role]
        raise RecipeError(f"no checkpoint of model {role!r} is there yet")

    def metric(self, name: str, *, split: str = "valid", round: int = -1) -> Metric | None:
        """Return a metric of a finished round, or None if it wasn't measured; -1 is the last round."""
        found = self.rounds[round].metrics if -len(self.rounds) <= round < len(self.rounds) else ()
        return next((m for m in found if m.name == name and m.split == split), None)


@dataclass(slots=True)
class Round:
    """The round in progress."""

    number: int
    store: Store
    history: History
    stages: tuple["Stage", ...]
    """The round's stages with sub-stages in their places."""
    drawn: Mapping[int, tuple[int, ...]]
    """Shard -> which of its problems this round works on, by position; train shards only."""
    splits: Mapping[int, str]
    """Shard -> its split, for all shards of the run."""
    offset: int = 0
    """Position of the first stage's folder."""
    settings: dict[str, JsonValue] = field(default_factory=dict)
    """What stages of this round found in the data so far."""
    texts: dict[str, str] = field(default_factory=dict)
    """The held-out problems' texts, once somebody has asked."""

    def folder(self, name: str) -> StageFolder:
        """Return the folder of a stage of this round."""
        position = next(i for i, stage in enumerate(self.stages) if stage.name == name)
        return self.store.stage(self.number, self.offset + position, name)

    def held_out(self) -> dict[str, str]:
        """Return the held-out problems' ids by their texts, case and white space evened out."""
        if not self.texts:
            problems = self.store.stage(0, 0, PROBLEMS)
            shards = [shard for shard, split in self.splits.items() if split != "train"]
            self.texts = {normal(each.text): each.id for shard in shards for each in problems.read(Problem, shard)}
        return self.texts

    def sources(self, stage: "Stage") -> list["Stage"]:
        """The earlier stages of this round that a stage reads: those it names, else all that write what it reads."""
        earlier = self.stages[: self.stages.index(stage)]
        if stage.of:
            return [each for each in earlier if each.name in stage.of]
        return [
            each
            for each in earlier
            if set(each.writes) & set(stage.reads)
            and set(each.splits) & set(stage.splits)
            and (stage.hidden or not each.hidden)
        ]

    def shards(self, stage: "Stage") -> list[int]:
        """The shards a stage works on: this round's, or with `reach` "run" all that any round has drawn."""
        if stage.scope == "round":
            return [0]
        held_out = [shard for shard, split in self.splits.items() if split != "train" and split in stage.splits]
        train = set(self.drawn) if "train" in stage.splits else set()
        if train and self._reaches_back(stage):
            for result in self.history.standing():
                for folder in self.store.stages(result.number).values():
                    if folder.name != PROBLEMS:
                        train |= {k for k in folder.shards() if self.splits.get(k) == "train" and folder.files(Sample)}
        return sorted(train | set(held_out))

    def _reaches_back(self, stage: "Stage") -> bool:
        return stage.reach == "run" or any(
            self._reaches_back(source) for source in self.sources(stage) if source.scope == "problem"
        )

    def part(self, stage: "Stage", shard: int, progress: Callable[[int], None] | None = None) -> "Part":
        """Return what a stage sees of a shard; `progress` hears of what it has done."""
        return Part(round=self, stage=stage, shard=shard, progress=progress or _silent)

    def checkpoint(self, role: str, which: str, reader: "Stage") -> Checkpoint:
        """Return a model's checkpoint as a stage sees it; latest includes what this round has trained before it."""
        if which == "latest":
            for stage in reversed(self.stages[: self.stages.index(reader)]):
                if Checkpoint in stage.writes:
                    for found in self.folder(stage.name).read(Checkpoint, 0):
                        if found.role == role:
                            return found
        return self.history.checkpoint(role, "latest" if which == "previous" else which)


def _silent(done: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A stage's view of one shard; a stage of scope "round" sees the whole round as columns and files."""

    round: Round
    stage: "Stage"
    shard: int
    progress: Callable[[int], None] = _silent

    @property
    def folder(self) -> Path:
        """The stage's own folder."""
        return self.round.folder(self.stage.name).path

    def problems(self) -> list[Problem]:
        """What the stage works on: this round's problems of the shard, or those its sources have made.

        Answers, solutions and tests are left out unless the stage says `gold`.
        """
        makers = [each for each in self.round.sources(self.stage) if Problem in each.writes and self.stage.of]
        if makers:
            made = [p for each in makers for p in self.round.folder(each.name).read(Problem, self.shard)]
            return self._derived(made, self.given())
        problems = self.given()
        drawn = self.round.drawn.get(self.shard)
        return [problems[i] for i in drawn] if drawn is not None else problems

    def read(self, kind: type[R], *, earlier: bool = False, back: int | None = None) -> list[R]:
        """The shard's records of one type from the stage's sources, with those of earlier rounds if asked.

        `back` is how many rounds; None takes all.
        """
        folders = [self.round.folder(each.name) for each in self.round.sources(self.stage)]
        found = [row for folder in folders for row in folder.read(kind, self.shard)]
        if earlier:
            found = [row for folder in self._past(kind, back) for row in folder.read(kind, self.shard)] + found
        return found

    def attempts(self, *, earlier: bool = False, back: int | None = None) -> dict[str, list[Attempt]]:
        """The shard's samples with their verdicts, by problem; samples that no source judged are left out if any did.

        With `earlier`, the samples of earlier rounds that were not rolled back come first; `back` is how many rounds.
        """
        sources = self.round.sources(self.stage)
        judged = any(Verdict in each.writes for each in sources)
        verdicts: dict[str, list[Verdict]] = defaultdict(list)
        for verdict in self.read(Verdict, earlier=earlier, back=back):
            verdicts[verdict.sample].append(verdict)
        samples = self.read(Sample, earlier=earlier, back=back)
        if judged and not any(Sample in each.writes for each in sources):
            samples += [s for s in self._everything(Sample) if s.id in verdicts]
        problems = self._problems({sample.problem for sample in samples})
        attempts: dict[str, list[Attempt]] = defaultdict(list)
        for sample in samples:
            said = tuple(verdicts.get(sample.id, ()))
            if said or not judged:
                attempts[sample.problem].append(Attempt(problems[sample.problem], sample, said))
        return attempts

    def each(self) -> "Iterator[Part]":
        """The stage's view of each shard of its sources in turn: for a `reduce` and for stages of a whole round."""
        sources = [each for each in self.round.sources(self.stage) if each.scope == "problem"]
        for shard in sorted({shard for source in sources for shard in self.round.shards(source)}):
            yield replace(self, shard=shard)

    def given(self) -> list[Problem]:
        """The shard's problems as the run was given them, drawn or not."""
        return self._visible(self.round.store.stage(0, 0, PROBLEMS).read(Problem, self.shard))

    def fresh(self) -> set[str]:
        """The ids of the shard's samples of this round."""
        return {sample.id for sample in self._everything(Sample)}

    def judged(self) -> list[Verdict]:
        """All verdicts of this round on the shard's samples so far, whoever gave them."""
        return self._everything(Verdict)

    def outcomes(self, round: int, stage: str) -> list[Outcome]:
        """The per-problem outcomes that an evaluation stage stored in a round, this or an earlier one."""
        folder = self.round.store.stages(round).get(stage)
        return folder.read(Outcome, 0) if folder else []

    def samples(self, wanted: Iterable[str]) -> dict[str, Attempt]:
        """Samples of this shard by id, from any stage of this round or the rounds before."""
        ids = set(wanted)
        rows = [s for s in self._everything(Sample) if s.id in ids]
        if not ids <= {s.id for s in rows}:
            past = [s for folder in self._past(Sample) for s in folder.read(Sample, self.shard)]
            rows = [s for s in past if s.id in ids] + rows
        problems = self._problems({s.problem for s in rows})
        return {s.id: Attempt(problems[s.problem], s) for s in rows}

    def checkpoint(self, role: str, which: str = "latest") -> Checkpoint:
        """A model's checkpoint: base, best, previous or latest."""
        return self.round.checkpoint(role, which, self.stage)

    def columns(self, kind: type[Any], names: Sequence[str]) -> pa.Table:
        """Some columns of all shards' records of one type from the stage's sources."""
        found = [
            self.round.folder(each.name).columns(kind, names)
            for each in self.round.sources(self.stage)
            if kind in each.writes
        ]
        return pa.concat_tables(found) if found else tables.to_table(kind, []).select(list(names))

    def files(self, kind: type[Any]) -> list[Path]:
        """The Parquet files of one record type from the stage's sources."""
        sources = self.round.sources(self.stage)
        return [path for each in sources if kind in each.writes for path in self.round.folder(each.name).files(kind)]

    def split_of(self) -> dict[str, str]:
        """Problem id -> split, of the run's given problems in the stage's splits."""
        table = self.round.store.stage(0, 0, PROBLEMS).columns(Problem, ["id", "split"])
        rows = zip(table.column("id").to_pylist(), table.column("split").to_pylist(), strict=True)
        return {str(id): str(split) for id, split in rows if split in self.stage.splits}

    def _visible(self, problems: list[Problem]) -> list[Problem]:
        if self.stage.gold:
            return problems
        return [replace(p, answer=None, solution=None, tests=None) for p in problems]

    def _problems(self, wanted: Set[str]) -> dict[str, Problem]:
        """The shard's problems by id, given and made; rounds before, often many, are read if some are theirs."""
        given = self.given()
        found = {p.id: p for p in given + self._derived(self._everything(Problem), given)}
        if not wanted <= found.keys():
            past = [p for folder in self._past(Problem) for p in folder.read(Problem, self.shard)]
            found = {p.id: p for p in self._derived(past, given)} | found
        return found

    def _derived(self, problems: list[Problem], given: list[Problem]) -> list[Problem]:
        """Give those that have no verifier of their own their parents', and what of the parents' gold is visible."""
        parents = {problem.id: problem for problem in given}
        found = []
        for each in self._visible(problems):
            of = None if each.verifier else parents.get(each.parent or "")
            if of is not None:
                each = replace(each, verifier=of.verifier, answer=of.answer, solution=of.solution, tests=of.tests)
            found.append(each)
        return found

    def _everything(self, kind: type[R]) -> list[R]:
        earlier = self.round.stages[: self.round.stages.index(self.stage)]
        stages = [each for each in earlier if self.stage.hidden or not each.hidden]
        return [row for each in stages for row in self.round.folder(each.name).read(kind, self.shard)]

    def _past(self, kind: type[Any], back: int | None = None) -> list[StageFolder]:
        first = 0 if back is None else self.round.number - back
        return [
            folder
            for result in self.round.history.standing()
            if first <= result.number < self.round.number
            for name, folder in self.round.store.stages(result.number).items()
            if name != PROBLEMS and not folder.hidden and kind in (Sample, Verdict, Problem, *self.stage.reads)
        ]
