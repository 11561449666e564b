"""A new run that shares the first rounds of another one and goes on with other settings: `selftrain fork`.

Tables and weights are hard links where the file system allows it, copies where not; what is small, and what somebody
might edit, is always copied, so that nothing done in the new folder can reach the old one.
"""

import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from selftrain import plugins, seals
from selftrain.after.retention import collected
from selftrain.after.standing import FORK
from selftrain.backends.checkpoints import REMEDY
from selftrain.errors import StoreError
from selftrain.history import read_history
from selftrain.loop import config, launch
from selftrain.loop.controller import Watcher
from selftrain.loop.keys import encoded
from selftrain.loop.runfile import RunFile, read_file
from selftrain.recipe import Stage, baseline, expanded
from selftrain.records import Json
from selftrain.round import PROBLEMS, History
from selftrain.store import StageFolder, Store, differences

LINKED = (".parquet", ".safetensors", ".bin")
"""What is linked: files that nobody writes a second time, and that are the bulk of a run."""
UNLINKABLE = (errno.EXDEV, errno.EPERM, errno.EROFS, errno.EMLINK, errno.EOPNOTSUPP, errno.EACCES)
"""Errors that say that a link can't be made here, so that a copy is."""


HINT = "change the one stage that you mean by its own field (generate.max_new_tokens=128), "


class Forked(NamedTuple):
    """A new run, ready to go on."""

    root: Path
    source: Path
    round: int
    """The last round that it shares."""
    linked: int
    copied: int
    """Files."""
    changed: tuple[str, ...]
    """What is other from the next round on: "samples was 32, is 8"."""


def fork(
    root: Path, out: Path, settings: Mapping[str, Any], *, from_round: int, watcher: Watcher | None = None
) -> Forked:
    """Make a run in `out` that has rounds 0 to `from_round` of the run in `root`; `root` is only read.

    Raises StoreError for rounds that aren't there or whose weights are gone, for a folder that is there, and for
    settings that the shared rounds were made with.
    """
    source = Store.open(root)
    _check_round(source, from_round)
    if out.exists():
        raise StoreError(f"{out} is there already; fork to a new folder")
    before = read_file(root / "run.yaml")
    with plugins.none_of(root, typed=dict(settings)):
        job = asked(before, {**settings, "out": str(out)})
        if job.recipe.rounds <= from_round:
            raise StoreError(
                f"rounds is {job.recipe.rounds}, so nothing is left to do after round {from_round}; say"
                f" rounds={from_round + 1} or more"
            )
        prepared = launch.prepare(job, watcher)
        _check_shared(source, prepared, from_round)
    told = {name: value for name, value in job.as_file().items() if name != "out"}
    changed = differences({name: value for name, value in before.items() if name != "out"}, told)
    counts = share(source, prepared, from_round, changed)
    return Forked(out, root, from_round, *counts, tuple(changed))


def asked(before: Json, settings: Mapping[str, Any]) -> config.Job:
    """Return a run's job with settings changed; another recipe takes over what is said of runs, not the arguments."""
    recipe = str(settings.get("recipe", before["recipe"]))
    # Another recipe has arguments and stages of its own.
    kept = before if recipe == before["recipe"] else {k: v for k, v in before.items() if k in RunFile.model_fields}
    rest = {name: value for name, value in settings.items() if name != "recipe"}
    given = {name: value for name, value in kept.items() if name != "recipe"}
    return config.load(recipe, {**given, **rest})


def share(source: Store, prepared: launch.Prepared, from_round: int, changed: list[str]) -> tuple[int, int]:
    """Put a run's first rounds into the folder of a prepared one, which appears as a whole; return links and copies."""
    out = prepared.store.root
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    linked = copied = 0
    try:
        for file in _shared_files(source, from_round):
            target = partial / file.relative_to(source.root)
            target.parent.mkdir(parents=True, exist_ok=True)
            if file.suffix in LINKED and _linked(file, target):
                linked += 1
            else:
                _copy(file, target, source.root, out)
                copied += 1
        _copy_lines(source.root, partial, from_round)
        told = {"from": str(source.root.resolve()), "round": from_round, "changed": changed, "linked": linked > 0}
        store = Store(partial)
        store.write_sealed(partial / FORK, told)
        prepared.write_down(store)
        partial.rename(out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return linked, copied


def _check_round(store: Store, wanted: int) -> None:
    numbers = [number for number in store.rounds() if store.done(number)]
    last = max(numbers, default=-1)
    if not 0 <= wanted <= last:
        begun = max(store.rounds(), default=-1)
        more = f"; round {wanted} is not finished" if last < wanted <= begun else ""
        there = f"its finished rounds are 0 to {last}" if numbers else "it has no finished round"
        raise StoreError(f"{store.root} can't be forked from round {wanted}: {there}{more}")
    # What comes after may be damaged: a fork is a way out of that.
    shared = read_history(store, wanted)
    for role in {role for result in shared.rounds for role in result.checkpoints}:
        for which in ("base", "best", "latest"):
            checkpoint = shared.checkpoint(role, which)
            if told := collected(store.root / checkpoint.path):
                raise StoreError(
                    f"{store.root} can't be forked from round {wanted}: the weights of round {checkpoint.round}, with"
                    f" which it would go on, {told}"
                )


def _check_shared(source: Store, prepared: launch.Prepared, from_round: int) -> None:
    """Refuse settings with which the shared rounds would be others."""
    kept = f"round{'s' * (from_round > 0)} 0{f' to {from_round}' if from_round else ''}"
    problems, base = source.stage(0, 0, PROBLEMS), _base(source)
    for folder, key in ((problems, prepared.problems_key(problems.settings())), (base, prepared.base_key())):
        _refuse(folder, differences(folder.settings(), key), kept)
    stages = prepared.job.recipe.stages(History())
    measured = baseline(stages)
    stored = source.stages(0)
    for stage in (*measured, *expanded(prepared.job.recipe.before)):
        if stage.name not in stored:
            raise StoreError(
                f"the fork's stage {stage.name!r} belongs to round 0, but {source.root} has not run it; start a new run"
            )
        _refuse(stored[stage.name], _changed(stored[stage.name].settings(), stage, prepared), kept, HINT)


def _changed(stored: Json, stage: Stage, prepared: launch.Prepared) -> list[str]:
    """What of a stage of round 0 would be other now: its settings, the prompt, the engine, the verifiers' sources."""
    known = stored.get("settings", {})
    # A field that a later selftrain has added changes nothing as long as it has its default.
    usual = {f.name for f in fields(stage) if getattr(stage, f.name) == f.default}
    settings = {
        name: value for name, value in encoded(stage).items() if name in known or not (name == "@" or name in usual)
    }
    was = {"settings": known}
    now: dict[str, Any] = {"settings": settings}
    for name, value in (("prompt", encoded(prepared.job.protocol)), ("seed", prepared.job.file.seed)):
        if name in stored:
            was[name], now[name] = stored[name], value
    for resource in ("sampler", "verifiers"):
        if resource in stored:
            identity = prepared.backends.identity(resource)
            # A verifier that only the new rounds use is no change, nor is one that they don't.
            common = set(stored[resource]) & set(identity) if resource == "verifiers" else None
            was[resource], now[resource] = (
                {n: v for n, v in each.items() if common is None or n in common}
                for each in (stored[resource], identity)
            )
    return differences(was, json.loads(json.dumps(now)))


def _refuse(folder: StageFolder, changed: list[str], kept: str, hint: str = "") -> None:
    if changed:
        raise StoreError(
            f"a fork can't change what its shared {kept} were made with: {'; '.join(changed)}"
            f" ({folder.path.parent.name}/{folder.path.name}); leave it, {hint}or start a new run"
        )


def _base(store: Store) -> StageFolder:
    return store.stage(0, 1, "base")


def _shared_files(store: Store, from_round: int) -> Iterator[Path]:
    for number in range(from_round + 1):
        if (plan := store.round(number) / "plan.json").exists():
            yield plan
        for folder in store.own(number).values():
            yield from (path for path in sorted(folder.path.rglob("*")) if path.is_file())


def _linked(file: Path, target: Path) -> bool:
    try:
        os.link(file, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in UNLINKABLE:
            raise
        return False
    return True


def _copy(file: Path, target: Path, old: Path, new: Path) -> None:
    """Copy a file; a checkpoint's that names weights of the old run by their place names those of the new one."""
    if file.name != "checkpoint.json":
        shutil.copyfile(file, target)
        return
    stored = seals.read(file, REMEDY)
    start = stored.get("start")
    if start and Path(start).is_relative_to(old.resolve()):
        stored["start"] = str(new.resolve() / Path(start).relative_to(old.resolve()))
    target.write_text(json.dumps(seals.sealed(stored), indent=2) + "\n", encoding="utf-8")


def _round(line: str) -> float:
    """The round that a line of a run's lists is of; a damaged line is of none that is shared."""
    try:
        return int(json.loads(line).get("round", 0))
    except (ValueError, TypeError, AttributeError):
        return float("inf")


def _copy_lines(source: Path, target: Path, from_round: int) -> None:
    """Copy what the run's own lists say of the shared rounds."""
    for name in ("metrics.jsonl", "events.jsonl"):
        if (source / name).exists():
            with (source / name).open(encoding="utf-8", errors="replace") as file:
                lines = [line for line in file if _round(line) <= from_round]
            (target / name).write_text("".join(lines), encoding="utf-8")
