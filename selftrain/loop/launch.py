"""Launch a run: resolve what was asked, check it, write it down, and let the controller go."""

import os
import platform
import sys
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import yaml

from selftrain import contamination, places, problems
from selftrain.after import standing
from selftrain.after.retention import Keep, Retention, collect
from selftrain.backends import models
from selftrain.backends.local import LocalBackends
from selftrain.backends.trainer import Arguments, check_fits
from selftrain.errors import Blocked, ConfigError, StoreError
from selftrain.history import read_history
from selftrain.installed import has_cuda
from selftrain.lab import Lab
from selftrain.loop import config, room
from selftrain.loop.controller import Controller, Limits, Watcher
from selftrain.loop.plan import Plan, Size, cores, make_plan, sampling_speed
from selftrain.loop.runfile import SECRETS, RunFile
from selftrain.loop.tracking import check as check_trackers
from selftrain.loop.tracking import tracking
from selftrain.loop.watchdog import Watchdog
from selftrain.monitors import Reading, read
from selftrain.recipe import Stage
from selftrain.records import Checkpoint, Json, Metric, Problem, digest
from selftrain.round import PROBLEMS, History
from selftrain.store import FORMAT, StageFolder, Store, write_text
from selftrain.verification.verify import check_takes, load_verifier


class Quiet:
    """A watcher that says nothing."""

    def say(self, text: str) -> None:
        """Drop it."""

    def begin(self, stage: str, total: int, done: int) -> None:
        """Drop it."""

    def advance(self, stage: str, units: int) -> None:
        """Drop it."""

    def end(self, stage: str, text: str) -> None:
        """Drop it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run on disk, finished or not."""

    root: Path
    history: History
    ended: str = ""
    """Why it stopped before its rounds were done, or '' ."""

    @classmethod
    def open(cls, root: Path | str) -> "Run":
        """Return a run by its folder; raises StoreError if there is none."""
        return cls(root=Path(root), history=read_history(Store.open(root)))

    @property
    def best(self) -> int:
        """The best of the finished rounds; 0 is the base model."""
        store = Store(self.root)
        return History(tuple(each for each in self.history.rounds if store.done(each.number))).best

    @property
    def improved(self) -> bool:
        """Whether some round was accepted, or no gate asked."""
        decided = [r.decision for r in self.history.rounds if r.decision is not None]
        return not decided or any(decision.outcome == "accepted" for decision in decided)

    def metric(self, name: str, *, split: str = "test", round: int | None = None) -> Metric | None:
        """Return a metric of a round, of the best one by default."""
        wanted = self.best if round is None else round
        for place, result in enumerate(self.history.rounds):
            if result.number == wanted:
                return self.history.metric(name, split=split, round=place)
        return None

    def monitors(self) -> list[Reading]:
        """Return what every monitor measures, round by round; those with an `alarm` say what was met and what to do."""
        return read(self.root)

    def checkpoint(self, round: int | None = None, *, model: str = "policy") -> Checkpoint:
        """Return a model's checkpoint as a round left it, by default the best round."""
        wanted = self.best if round is None else round
        rounds = tuple(r for r in self.history.rounds if r.number <= wanted)
        if not rounds or rounds[-1].number != wanted:
            known = ", ".join(str(r.number) for r in self.history.rounds)
            raise StoreError(f"{self.root} has no round {wanted}; it has {known or 'none'}")
        # A round that was rolled back has weights all the same.
        if own := rounds[-1].checkpoints.get(model):
            return own
        if wanted and not Store(self.root).done(wanted):
            raise StoreError(f"round {wanted} of {self.root} is not finished and has no weights of {model!r} yet")
        return History(rounds).checkpoint(model, "latest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A job that has passed every check and can be shown or executed."""

    job: config.Job
    store: Store
    model: Path
    splits: problems.Splits
    backends: LocalBackends
    plan: Plan

    def execute(self, watcher: Watcher) -> Run:
        """Run it to its end or a limit; the same job on the same folder goes on where it was."""
        file = self.job.file
        with self.store.lock():
            self.store.check_format()
            if not self.store.exists():
                self.write_down(self.store)
            own, protocol = self.job.recipe.own, self.job.protocol
            lab = Lab(self.backends, root=self.store.root, seed=file.seed, protocol=protocol, own=own)
            with (
                standing.going_on(self.store),
                tracking(self.store.root, file.report_to, watcher) as trackers,
                self._watchdog(lab).awake() as watchdog,
            ):
                try:
                    with watchdog.at("round 0 base"):
                        self._round_zero(lab)

                    begun: set[int] = set()
                    keep = Keep.of(file.keep_checkpoints)
                    retention = Retention(self.store, keep)

                    def begins(number: int) -> None:
                        begun.add(number)
                        self._check_room(number)

                    def over(number: int, stored: History) -> None:
                        # What was over before has been looked through before, or is with the next that is new.
                        if number in begun and number < self.job.recipe.rounds and not keep.all:
                            retention.collect(stored, file.keep_checkpoints, rests=True)
                        if trackers is not None:
                            trackers.look()

                    controller = Controller(
                        self.job.recipe,
                        self.store,
                        lab,
                        watcher,
                        self._limits(),
                        over,
                        begins,
                        watchdog,
                        self.job.decides(),
                    )
                    history, ended = controller.go()
                    # Only now is it sure that nothing stored was made with other settings.
                    self.write_down(self.store)
                finally:
                    lab.close()
            if not ended and not keep.all:
                collect(self.store, keep, file.keep_checkpoints, rests=True)
            standing.note(self.store, "paused" if ended else "finished", ended)
        return Run(root=self.store.root, history=history, ended=ended)

    def _limits(self) -> Limits:
        file = self.job.file
        return Limits(hours=file.max_hours, tokens=file.max_tokens, restarts=file.restarts, quarantine=file.quarantine)

    def _watchdog(self, lab: Lab) -> Watchdog:
        file = self.job.file
        limits = {"stall": 60 * file.stall_minutes, "disk": file.free_disk * room.GB}
        return Watchdog(self.store.root, lab.close, memory=file.free_memory * room.GB, **limits)

    def _check_room(self, number: int) -> None:
        """Compare the estimate with what is free, before a round."""
        disk = self.plan.bytes // max(1, self.job.recipe.rounds)
        room.check(number, self.store.root, room.Need(disk, self.plan.memory))

    def write_down(self, store: Store) -> None:
        """Write what was asked, resolved, and with what it runs."""
        # Limits are a call's, not the run's: who goes on by this file means to go on.
        said = {name: value for name, value in self.job.as_file().items() if name not in ("max_hours", "max_tokens")}
        asked = yaml.safe_dump(said, sort_keys=False, allow_unicode=True)
        write_text(store.root / "run.yaml", f"format: {FORMAT}\n{asked}")
        secrets = {str(value) for name, value in self.job.file.sampler.items() if name in SECRETS and value}
        store.write_json(store.root / "environment.json", environment(secrets))

    def problems_key(self, stored: Json) -> Json:
        """Return what decides the problems of the run; of what an older one has stored, as much as it knows."""
        asked = {
            name: getattr(self.job.file, name) for name in ("data", "eval", "pool", "valid", "test", "seed", "shard")
        }
        everything = [p for part in (self.splits.train, self.splits.valid, self.splits.test) for p in part]
        key = {**asked, "verifier": self.job.file.verifier, "content": digest([p.id for p in everything])}
        if "content" in stored and "texts" not in stored:
            return key
        # Ids that a file gives, and those that leave a solution out, stay where a text is mended.
        texts = [(p.prompt, p.answer, p.solution, p.tests, p.verifier, p.meta) for p in everything]
        return {**key, "texts": digest(texts)}

    def base_key(self) -> Json:
        """Return what decides the models that the run begins with."""
        return {"model": self._given(), "weights": models.describe(self.model)._asdict()}

    def _given(self) -> dict[str, str]:
        return {name: self.job.file.model.get(name, model.init) for name, model in self.job.recipe.models.items()}

    def _round_zero(self, lab: Lab) -> None:
        """Store the problems in their shards, and the base models as checkpoints."""
        file = self.job.file
        folder = self.store.stage(0, 0, PROBLEMS)
        parts = (self.splits.train, self.splits.valid, self.splits.test)
        folder.begin(self.problems_key(folder.settings() if (folder.path / "key.json").exists() else {}))
        if not folder.done():
            size = file.shard or shard_size(self.job, self.backends)
            shards = [part[first : first + size] for part in parts for first in range(0, len(part), size)]
            _keep_equal(folder, shards)
            for shard in sorted(set(range(len(shards))) - set(folder.shards())):
                folder.write(shard, {Problem: shards[shard]})
            folder.finish({"problem": sum(map(len, parts)), "shard": size})
        base = self.store.stage(0, 1, "base")
        given = self._given()
        base.begin(self.base_key())
        if not base.done():
            if not base.shards():
                base.write(0, {Checkpoint: [self._base(name, given[name], base.path, lab) for name in given]})
            base.finish({"checkpoint": len(given)})

    def _base(self, role: str, given: str, folder: Path, lab: Lab) -> Checkpoint:
        named = self.job.file.model["policy"] if given == "base" else given
        model = self.model if named == self.job.file.model["policy"] else models.resolve(named)
        out = folder / ("checkpoint" if model == self.model else f"checkpoint-{role}")
        id = lab.trainer.prepare(model, out.resolve())
        return Checkpoint(id=id, path=os.path.relpath(out, self.store.root), role=role, base=id)


def run(
    recipe: str, *, preset: str | None = None, watcher: Watcher | None = None, controls: bool = False, **settings: Any
) -> Run:
    """Run a recipe (a name, a path to a .py file, or a run file) and return what came of it.

    Settings are those of the command line: `run("rest_em", model="nano", data="sums", rounds=2, out="runs/x")`; a
    stage's field is written `**{"generate.temperature": 0.7}`. With `controls` its controls run too, once it is done
    (`controls.json` in its folder has what came of them). Raises a UserError for wrong input, Blocked when the
    run refuses to go on, EngineError when an engine failed; the same call goes on where an interrupted one was.
    """
    prepared = prepare(config.load(recipe, settings, preset=preset))
    done = prepared.execute(watcher or Quiet())
    if controls and not done.ended:
        from selftrain.loop.controlled import run_beside

        run_beside(prepared, watcher or Quiet())
    return done


def prepare(job: config.Job, watcher: Watcher | None = None) -> Prepared:
    """Check everything that can be checked before work begins: folder, model, data, contamination, disk."""
    file = job.file
    out = file.out or Path("runs") / Path(file.recipe).stem
    store = Store(out)
    store.check_format()
    places.check_writable(out, f"the run folder {out} cannot be written", "choose another --out", StoreError)
    check_trackers(file.report_to)
    model = models.resolve(file.model["policy"])
    splits = load_splits(file)
    hits = contamination.check(splits.train, [*splits.valid, *splits.test], natural=splits.natural)
    if hits:
        text = f"{len(hits)} train problems are (nearly) in the held-out splits: " + "; ".join(map(str, hits[:10]))
        if file.contamination == "block":
            raise Blocked(f"{text}. Take them out of the data, or say contamination=warn")
        (watcher or Quiet()).say(f"warning: {text}")
    own = {p.verifier for p in (*splits.train, *splits.valid, *splits.test)}
    stages = job.recipe.stages(History())
    names = own | {str(getattr(s, "by", "")) for s in stages if "verifiers" in s.uses} - {""}
    verifiers = {name: load_verifier(name) for name in sorted(names)}
    for verifier in verifiers.values():
        check_takes(verifier)
    asking = {name for name, verifier in verifiers.items() if "model" in verifier.asks}
    _check_asked(stages, asking, own)
    _check_measured(stages, splits)
    _check_hinted(stages, splits)
    _check_trained(stages, model)
    backends = LocalBackends(file, model, (out / "logs").absolute(), sorted(names))
    plan = _planned(job, backends, model, splits)
    _check_disk(out, plan)
    return Prepared(job=job, store=store, model=model, splits=splits, backends=backends, plan=plan)


def load_splits(file: RunFile) -> problems.Splits:
    """Return the problems of a run file by split."""
    settings = {name: value for name, value in file.data.items() if name != "name"}
    sizes = {"train": file.pool, "valid": file.valid, "test": file.test}
    if file.eval:
        sizes |= {"valid": 0, "test": 0}
    found = problems.load_problems(file.data["name"], **sizes, seed=file.seed, settings=settings)
    if file.eval:
        other = {name: value for name, value in file.eval.items() if name != "name"}
        held_out = problems.load_problems(
            file.eval["name"], train=0, valid=file.valid, test=file.test, seed=file.seed, settings=other
        )
        natural = found.natural and held_out.natural
        found = replace(found, valid=held_out.valid, test=held_out.test, natural=natural)
    if file.verifier:
        # Stored problems name their verifier: a path must not depend on where the command was typed.
        name = str(Path(file.verifier).resolve()) if file.verifier.endswith(".py") else file.verifier
        train, valid, test = (
            tuple(replace(p, verifier=name) for p in part) for part in (found.train, found.valid, found.test)
        )
        found = replace(found, train=train, valid=valid, test=test)
    return found


def _keep_equal(folder: StageFolder, shards: Sequence[Sequence[Problem]]) -> None:
    """Drop what an interrupted call has stored of the problems if it cut them into other shards."""
    stored = folder.shards()
    equal = (
        shard < len(shards) and [p.id for p in folder.read(Problem, shard)] == [p.id for p in shards[shard]]
        for shard in stored
    )
    if not all(equal):
        folder.drop(stored)


def shard_size(job: config.Job, backends: LocalBackends) -> int:
    """Return how many problems make a shard: twice the engine's concurrency in samples, a minute of work at most."""
    samples, tokens, _ = max((stage.cost(1) for stage in job.recipe.stages(History())), key=lambda cost: cost.tokens)
    minute = 60 * sampling_speed(models.describe(backends.model).parameters, cores(), cuda=has_cuda()) / max(1, tokens)
    return max(1, int(min(2 * backends.concurrency / max(1, samples), minute)))


def environment(secrets: Set[str] = frozenset()) -> dict[str, Any]:
    """Return what the run ran with: versions, platform, devices, the command with stars for secrets."""
    command = [Path(sys.argv[0]).name, *sys.argv[1:]]
    for secret in secrets:
        command = [text.replace(secret, "***") for text in command]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": cores(),
        "cuda": has_cuda(),
        "command": command,
        "packages": dict(sorted({str(d.metadata["Name"]): d.version for d in distributions()}.items())),
    }


def _planned(job: config.Job, backends: LocalBackends, model: Path, splits: problems.Splits) -> Plan:
    about = models.describe(model)
    counts = {split: len(getattr(splits, split)) for split in ("train", "valid", "test")}
    size = Size(
        parameters=about.parameters,
        pool=min(job.recipe.draw or counts["train"], counts["train"]),
        held_out=counts["valid"] + counts["test"],
        cuda=has_cuda(),
        cores=cores(),
    )
    note = f" ({about.note})" if about.note else ""
    settings = ", ".join(f"{k}={v}" for k, v in job.file.data.items() if k != "name")
    facts = {
        "recipe": f"{job.file.recipe} ({job.recipe.paper})"
        + (f", control {job.file.control['name']}" if job.file.control else ""),
        "model": f"{job.file.model['policy']}, {about.parameters / 1e6:,.1f} M parameters{note}",
        "data": f"{job.file.data['name']}{f' ({settings})' if settings else ''}: "
        + ", ".join(f"{count} {split}" for split, count in counts.items()),
        "sampler": f"{backends.kind} ({backends.why})",
    }
    return make_plan(job.recipe, size, facts)


def _check_asked(stages: Sequence[Stage], asking: Set[str], own: Set[str]) -> None:
    """Refuse a verifier that asks a model in a stage that names none; `own` are the problems' own verifiers."""
    for stage in stages:
        judging = "verifiers" in stage.uses and "sampler" not in stage.uses
        if judging and isinstance(by := getattr(stage, "by", None), str):
            for name in sorted(asking & ({by} if by else own)):
                raise ConfigError(
                    f"stage {stage.name!r}: verifier {name!r} asks a model; say which, as in {stage.name}.model=policy"
                )


def _check_measured(stages: Sequence[Stage], splits: problems.Splits) -> None:
    for stage in stages:
        split = getattr(stage, "split", None)
        if split is not None and not getattr(splits, split, ()):
            raise ConfigError(
                f"stage {stage.name!r} compares rounds on the {split} split, which holds no problem; say {split}=N for"
                " some"
            )


def _check_hinted(stages: Sequence[Stage], splits: problems.Splits) -> None:
    hinted = [stage.name for stage in stages if getattr(stage, "template", "") == "hint"]
    if hinted and all(problem.answer is None for problem in splits.train):
        raise ConfigError(
            f"stage {hinted[0]!r} gives the answer as a hint, but no train problem has one; choose other data, or a"
            " recipe without hints"
        )


def _check_trained(stages: Sequence[Stage], model: Path) -> None:
    for stage in stages:
        if "trainer" in stage.uses and getattr(stage, "model", "") == "policy":
            given = Arguments(getattr(stage, "settings", {}), getattr(stage, "lora", {}))
            try:
                check_fits(given, model)
            except ConfigError as error:
                raise ConfigError(f"stage {stage.name!r}: {error}") from None


def _check_disk(out: Path, plan: Plan) -> None:
    free = places.free_disk(out)
    # What a run that goes on has written already needs no more room; each round looks again for its own.
    if free < plan.bytes and free < (left := plan.bytes - places.size_of(out, but="controls")):
        raise StoreError(
            f"the run needs about {left / 1e9:.2f} GB, but {places.existing(out)} has {free / 1e9:.2f} GB free;"
            " free some, choose another --out, or ask for fewer rounds"
        )
