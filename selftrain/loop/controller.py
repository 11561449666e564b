"""The controller: rounds and stages in order, what is done skipped, the gate obeyed."""

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from selftrain import pulse, seals, tables
from selftrain.after import standing
from selftrain.errors import RecipeError, StoreError
from selftrain.history import read_round
from selftrain.lab import Lab
from selftrain.loop.keys import decoded, encoded, stage_key
from selftrain.loop.pipeline import OPEN, Task, run_pipeline
from selftrain.loop.watchdog import Stalled, Watchdog
from selftrain.recipe import Recipe, Stage, baseline, expanded
from selftrain.records import Decision, Json, Pick, Problem, Quarantined, Sample, Setting, Verdict
from selftrain.round import GIVEN, PROBLEMS, History, Part, Round, RoundResult
from selftrain.store import Records, StageFolder, Store, differences, write_text
from selftrain.verification.breaker import Breaker


class Watcher(Protocol):
    """Hears what a run does: progress bars, plain lines, or nothing."""

    def say(self, text: str) -> None:
        """One line."""

    def begin(self, stage: str, total: int, done: int) -> None:
        """A stage begins, with so many units (shards or steps), some of them done before."""

    def advance(self, stage: str, units: int) -> None:
        """More units of a stage are done."""

    def end(self, stage: str, text: str) -> None:
        """A stage is done; what came of it in a few words."""


AHEAD = 4
"""Samples that the engine has been asked for, or is to be, by the shards that are open: so many times what it works on
at once, so that it does not run dry while a shard ends."""
MOST = 64
"""Shards that are open at once at most, each in a thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a run stops, to be continued by the same command: hours and tokens count at the next stage boundary."""

    hours: float | None = None
    tokens: int | None = None
    restarts: int = 2
    """How often a stage that stalls is started again."""
    quarantine: float = 1.0
    """The share of a stage's samples that may be quarantined."""


class Paused(Exception):
    """A limit was reached at a stage boundary."""


class Controller:
    """Runs a recipe's rounds in a store with a lab; everything it needs to know lies in the store."""

    def __init__(
        self,
        recipe: Recipe,
        store: Store,
        lab: Lab,
        watcher: Watcher,
        limits: Limits,
        ended: Callable[[int, History], None] = lambda number, stored: None,
        begins: Callable[[int], None] = lambda number: None,
        watchdog: Watchdog | None = None,
        asked: Json | None = None,
    ) -> None:
        """Take what a run needs; `ended` hears of each round when it is over, one that was over before too.

        It hears its number, and all rounds that are stored, as `read_history` gives them.

        `begins` hears of each round that has work left, and may refuse it. `asked` are the settings that decide the
        stages: a stored plan that was made with others is refused.
        """
        self.asked = asked
        self.recipe = recipe
        self.ended = ended
        self.begins = begins
        self.watchdog = watchdog
        self.store = store
        self.lab = lab
        self.watcher = watcher
        self.limits = limits
        self.started = time.monotonic()
        self.tokens = 0
        self.stored: dict[int, RoundResult] = {}
        """The rounds that are stored, each read once: a run of hundreds would else read all of them after each."""
        self.splits = shard_splits(store.stage(0, 0, PROBLEMS))

    def go(self) -> tuple[History, str]:
        """Run until the rounds are done, the gate stops, or a limit is reached; return the history and how it ended."""
        results: list[RoundResult] = []
        try:
            # What a fork shares was made with the settings of the run it comes from: it is taken as it is.
            shared = standing.shared(self.store)
            results += [read_round(self.store, number) for number in range(shared + 1)]
            if not results:
                # Round 0 begins with problems and base models in place: its own history, whatever it has done since.
                base = History((read_round(self.store, 0, first=GIVEN),))
                results.append(self._round(0, base, self._first(), offset=GIVEN))
            for number in range(len(results), self.recipe.rounds + 1):
                history = History(tuple(results))
                results.append(self._round(number, history, self._planned(number, history)))
                decision = results[-1].decision
                if decision is not None and decision.stop:
                    self.watcher.say(f"stopped after round {number}, the best is round {decision.best}: {decision.why}")
                    break
            if self.recipe.after:
                last = results.pop()
                history = History(tuple(results))
                every = (*self._planned(last.number, history), *expanded(self.recipe.after))
                results.append(self._round(last.number, history, every))
        except Paused as limit:
            return History(tuple(results)), str(limit)
        return History(tuple(results)), ""

    def _first(self) -> tuple[Stage, ...]:
        """The stages of round 0: the recipe's own evaluation on the base model, then what comes before the rounds."""
        stages = self.recipe.stages(History())
        return (*baseline(stages), *expanded(self.recipe.before))

    def _planned(self, number: int, history: History) -> tuple[Stage, ...]:
        """The round's stages: as its stored plan says, or by the recipe, whose word is then stored."""
        if stored := self.store.plan_file(number):
            self._check_asked(number, stored.get("asked"))
            if callable(self.recipe.each_round):
                return tuple(decoded(stored["stages"]))
        stages = self.recipe.stages(history)
        path = self.store.round(number) / "plan.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        plan = {"stages": [encoded(stage) for stage in stages]}
        self.store.write_sealed(path, plan if self.asked is None else {**plan, "asked": self.asked})
        return stages

    def _check_asked(self, number: int, stored: Json | None) -> None:
        """Refuse a plan of another recipe, and one made from the history with other settings.

        Stages of such a plan are taken as they are, so that their keys can't tell; those of another are compared.
        """
        if stored is None or self.asked is None:
            return
        asked = self.asked if callable(self.recipe.each_round) else {**stored, "recipe": self.asked["recipe"]}
        if stored != json.loads(json.dumps(asked)):
            raise StoreError(
                f"{self.store.round(number)} was planned with other settings:"
                f" {'; '.join(differences(stored, asked))}; use a new run folder (--out)"
                f"{_or_fork(self.store, number)}"
            )

    def _round(self, number: int, history: History, stages: tuple[Stage, ...], offset: int = 0) -> RoundResult:
        round = Round(
            number=number,
            store=self.store,
            history=history,
            stages=stages,
            drawn=self._drawn(number),
            splits=self.splits,
            offset=offset,
        )
        after = {stage.name for stage in expanded(self.recipe.after)}
        strangers = [
            folder.path.name
            for name, folder in self.store.stages(number).items()
            if folder.path != (round.folder(name).path if any(s.name == name for s in stages) else None)
            and int(folder.path.name[:2]) >= offset
            # What comes after the last round lies in its folder.
            and not (number and name in after)
        ]
        if strangers:
            raise StoreError(
                f"{self.store.round(number)} holds {strangers[0]}, which is no stage of this recipe's round or stands"
                f" at another place in it; use a new run folder (--out){_or_fork(self.store, number)}"
            )
        if number and not self.store.done(number):
            self.store.check_lost(number)
            self.begins(number)
        for segment in segments(stages):
            self._limit()
            self._segment(round, segment)
        self.stored[number] = read_round(self.store, number)
        for each in self.store.rounds():
            if each not in self.stored:
                self.stored[each] = read_round(self.store, each)
        self._write_metrics()
        self.ended(number, History(tuple(self.stored[each] for each in sorted(self.stored))))
        return self.stored[number]

    def _segment(self, round: Round, stages: Sequence[Stage]) -> None:
        """Run a segment; one that stalls is started again, a number of times, with what it has stored kept."""
        what = f"round {round.number} {'+'.join(stage.name for stage in stages)}"
        for left in range(self.limits.restarts, -1, -1):
            try:
                with self.watchdog.at(what) if self.watchdog else nullcontext():
                    self._streamed(round, stages)
                return
            except Stalled as stalled:
                if not left:
                    raise
                self.watcher.say(f"warning: {stalled}; it is started again, {left} more time{'s' * (left > 1)} at most")
                self.lab.reopen()

    def _streamed(self, round: Round, stages: Sequence[Stage]) -> None:
        """Run consecutive problem-scoped stages as a pipeline over shards, or one round-scoped stage."""
        ready = [self._begun(round, stage) for stage in stages]
        breaker = Breaker(self.limits.quarantine)
        started = time.monotonic()
        busy: dict[str, float] = defaultdict(float)
        tasks: list[Task] = []
        for stage in ready:
            folder = round.folder(stage.name)
            shards = round.shards(stage)
            done = set(folder.shards())
            if not folder.done():
                self.watcher.begin(self._label(round, stage), len(shards), len(done & set(shards)))
            for shard in sorted(done):
                if Verdict in stage.writes:
                    breaker.add(stage.name, folder.read(Verdict, shard))
                if _samples(stage):
                    breaker.sampled(stage.name, folder.count(Sample, shard), folder.read(Quarantined, shard))
            rank = ready.index(stage)
            tasks += [Task(stage.name, shard, rank, shard in done) for shard in shards]
        by_name = {stage.name: stage for stage in ready}

        def work(task: Task) -> None:
            stage = by_name[task.stage]
            label = self._label(round, stage)
            told = (lambda n: self._stepped(label, n)) if stage.scope == "round" else None
            begun = time.monotonic()
            records = _grouped(stage, stage.run(round.part(stage, task.shard, told), self.lab))
            busy[stage.name] += time.monotonic() - begun
            round.folder(stage.name).write(task.shard, records)
            breaker.add(stage.name, records.get(Verdict, ()))
            if _samples(stage):
                breaker.sampled(stage.name, len(records[Sample]), records[Quarantined])
            pulse.beat()
            self.watcher.advance(label, 1)

        run_pipeline(tasks, work, self.lab.close, at_once=self._at_once(ready, tasks))
        for stage in ready:
            self._finish(round, stage, busy[stage.name], time.monotonic() - started if stage is ready[0] else 0.0)

    def _at_once(self, stages: Sequence[Stage], tasks: Sequence[Task]) -> int:
        """Return how many shards are open: as many as give the engine enough to do, however little each asks for."""
        samples = max(stage.asks for stage in stages)
        if not samples or not tasks:
            return OPEN
        problems = self.store.stage(0, 0, PROBLEMS).count(Problem, tasks[0].shard)
        wanted = AHEAD * self.lab.backends.concurrency // max(1, problems * samples)
        return min(max(OPEN, wanted), MOST)

    def _stepped(self, label: str, units: int) -> None:
        pulse.beat()
        self.watcher.advance(label, units)

    def _begun(self, round: Round, stage: Stage) -> Stage:
        """Take the stage's folder for its key; return the stage with its settings found in the data."""
        folder = round.folder(stage.name)
        if stage.reduces:
            path = folder.path / "settings.json"
            if not path.exists():
                found = {s.name: s.value["value"] for s in stage.reduce(Part(round=round, stage=stage, shard=0))}
                path.parent.mkdir(parents=True, exist_ok=True)
                self.store.write_sealed(path, found)
            round.settings.update(seals.read(path, f"delete {folder.path}, and the same command makes it again"))
        stage = stage.resolved(round.settings)
        index = next(i for i, each in enumerate(round.stages) if each.name == stage.name)
        round.stages = (*round.stages[:index], stage, *round.stages[index + 1 :])
        folder.begin(stage_key(stage, round, self.lab))
        return stage

    def _finish(self, round: Round, stage: Stage, busy: float, wall: float) -> None:
        folder = round.folder(stage.name)
        if Setting in stage.writes:
            round.settings.update({s.name: s.value["value"] for k in folder.shards() for s in folder.read(Setting, k)})
        if folder.done():
            self.tokens += int(folder.summary().get("tokens", 0))
            return
        # Stages of one pipeline share their wall time: the first of them carries it.
        summary: dict[str, Any] = {"busy_seconds": float(f"{busy:.2f}"), "wall_seconds": float(f"{wall:.2f}")}
        for kind in stage.writes:
            summary[kind.__name__.lower()] = folder.count(kind)
        if Sample in stage.writes:
            summary["tokens"] = folder.length(Sample, "completion_ids")
            self.tokens += summary["tokens"]
        folder.finish(summary)
        self.store.append("events.jsonl", {"time": time.time(), "round": round.number, "stage": stage.name, **summary})
        self.watcher.end(self._label(round, stage), _came(stage, folder, summary))

    def _limit(self) -> None:
        hours = (time.monotonic() - self.started) / 3600
        if self.limits.hours is not None and hours >= self.limits.hours:
            raise Paused(f"--max-hours {self.limits.hours:g} reached")
        if self.limits.tokens is not None and self.tokens >= self.limits.tokens:
            raise Paused(f"--max-tokens {self.limits.tokens} reached ({self.tokens} sampled)")

    def _drawn(self, number: int) -> dict[int, tuple[int, ...]]:
        """Shard -> positions of the problems of a round: the next `draw` of the pool, in turn, or all."""
        folder = self.store.stage(0, 0, PROBLEMS)
        sizes = {shard: folder.count(Problem, shard) for shard, split in self.splits.items() if split == "train"}
        pool = [(shard, position) for shard, size in sizes.items() for position in range(size)]
        count = min(self.recipe.draw or len(pool), len(pool))
        begin = (max(0, number - 1) * count) % len(pool)
        chosen = [pool[(begin + i) % len(pool)] for i in range(count)]
        drawn: dict[int, list[int]] = defaultdict(list)
        for shard, position in chosen:
            drawn[shard].append(position)
        return {shard: tuple(sorted(positions)) for shard, positions in sorted(drawn.items())}

    def _write_metrics(self) -> None:
        """One line per metric, made anew from the tables so that a resumed run has each once."""
        # One after the other: a list of them would be the larger the longer the run.
        told = ((number, asdict(each)) for number in sorted(self.stored) for each in self.stored[number].metrics)
        text = "".join(json.dumps({"round": number, **metric}) + "\n" for number, metric in told)
        write_text(self.store.root / "metrics.jsonl", text)

    @staticmethod
    def _label(round: Round, stage: Stage) -> str:
        return f"round {round.number} {stage.name}"


def shard_splits(problems: StageFolder) -> dict[int, str]:
    """Return each shard's split; a shard holds problems of one split."""
    found = {}
    for shard in problems.shards():
        found[shard] = str(tables.read_table(Problem, problems.file(Problem, shard), ["split"]).column(0)[0].as_py())
    return found


def segments(stages: Sequence[Stage]) -> list[list[Stage]]:
    """Cut a round where all shards must be there: before and after round-scoped stages, before a reduce, at a swap."""
    segments: list[list[Stage]] = []
    sampled: tuple[tuple[str, str], ...] = ()
    for stage in stages:
        swap = "sampler" in stage.uses and bool(sampled) and stage.weights != sampled
        alone = stage.scope == "round" or stage.reduces or swap
        if alone or not segments or segments[-1][-1].scope == "round":
            segments.append([])
            sampled = ()
        segments[-1].append(stage)
        if "sampler" in stage.uses:
            sampled = stage.weights
    return segments


def _samples(stage: Stage) -> bool:
    """Whether a stage samples a model, and quarantines what can't be had."""
    return "sampler" in stage.uses and {Sample, Quarantined} <= set(stage.writes)


def _or_fork(store: Store, number: int) -> str:
    if number == 0:
        return ""
    return f", or selftrain fork {store.root} --from-round {number - 1} --out NEW to keep the rounds before"


def _grouped(stage: Stage, records: Iterable[Any]) -> Records:
    """Return a stage's records by type; every type it says it writes is there, others are refused."""
    found: dict[type[Any], list[Any]] = {kind: [] for kind in stage.writes}
    for record in records:
        if type(record) not in found:
            raise RecipeError(f"stage {stage.name!r} made a {type(record).__name__}, which is not among its writes")
        found[type(record)].append(record)
    return found


def _came(stage: Stage, folder: StageFolder, summary: Json) -> str:
    """What came of a stage, in a few words."""
    counts = {name: count for name, count in summary.items() if count and not name.endswith(("seconds", "tokens"))}
    said = [f"{count:,} {name}{'s' * (count > 1)}" for name, count in counts.items()]
    if Pick in stage.writes:
        sides = folder.tally(Pick, "side")
        kept = sides.total() - sides["dropped"]
        said = [f"kept {kept:,} of {sides.total():,}"]
        if not kept:
            said.append("nothing to train on: the model stays as it is")
    if Verdict in stage.writes:
        said = [f"{count:,} {status}" for status, count in folder.tally(Verdict, "status").most_common()]
    if Decision in stage.writes:
        said = [f"{each.outcome.replace('_', ' ')}: {each.why}" for each in folder.read(Decision, 0)]
    tokens = f", {summary['tokens']:,} tokens" if summary.get("tokens") else ""
    took = f", {summary['wall_seconds']:.0f} s" if summary["wall_seconds"] >= 0.5 else ""
    return f"{', '.join(said) or 'nothing'}{tokens}{took}"
