"""A run as a report sees it: history, plan, tables; what could not be read is said, never guessed."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from selftrain import monitors, seals
from selftrain.errors import SelftrainError
from selftrain.loop import config
from selftrain.loop.keys import decoded
from selftrain.loop.launch import Run
from selftrain.loop.runfile import read_yaml
from selftrain.monitors import Reading
from selftrain.recipe import Recipe, Stage
from selftrain.report.database import Database
from selftrain.store import Store


@dataclass(frozen=True, kw_only=True)
class View:
    """A run's folder, opened for reading; `close` it."""

    run: Run
    store: Store
    database: Database
    readings: Sequence[Reading]
    """What the monitors measured."""

    @classmethod
    def open(cls, root: Path) -> "View":
        """Open a run; raises StoreError if the folder holds none."""
        run = Run.open(root)
        store = Store(root)
        # One after the other: each has tables of its own, and memory is for one of them.
        readings = monitors.read(root)
        return cls(run=run, store=store, readings=readings, database=Database(store, shown=shown_round(run)))

    def close(self) -> None:
        """Let go of its tables."""
        self.database.close()

    @property
    def name(self) -> str:
        """The run's name: its folder's."""
        return self.run.root.resolve().name

    @property
    def shown(self) -> int:
        """The round that is compared with the base model."""
        return shown_round(self.run)

    @cached_property
    def file(self) -> Mapping[str, Any]:
        """The keys of run.yaml, as they stand there."""
        return read_yaml(self.run.root / "run.yaml")

    @cached_property
    def environment(self) -> Mapping[str, Any]:
        """What the run ran with, as far as it was written down."""
        path = self.run.root / "environment.json"
        return seals.read(path, "delete it: the next call of the run writes it anew") if path.exists() else {}

    @cached_property
    def recipe(self) -> Recipe | str:
        """The recipe, or why it can't be had: it may be a file that is gone since."""
        try:
            return config.stored(self.run.root).recipe
        except (SelftrainError, KeyError) as error:
            return f"the recipe could not be loaded: {error}"

    def stages(self, round: int) -> tuple[Stage, ...] | str:
        """The stages that a round's plan names, or why they can't be had; none for round 0."""
        path = self.store.round(round) / "plan.json"
        if not path.exists():
            return ()
        _ = self.recipe  # Stages of its own are found once it is loaded.
        try:
            return tuple(decoded(self.store.plan(round)))
        except SelftrainError as error:
            return str(error)

    @cached_property
    def state(self) -> str:
        """running, finished, or stopped before its end."""
        if is_locked(self.run.root / ".lock"):
            return "running"
        last = self.run.history.rounds[-1] if self.run.history.rounds else None
        if last is None:
            return "stopped"
        ended = last.decision is not None and last.decision.stop
        whole = all(folder.done() for folder in self.store.stages(last.number).values())
        rounds = self.recipe.rounds if isinstance(self.recipe, Recipe) else last.number
        return "finished" if whole and (ended or last.number >= rounds) else "stopped"


def shown_round(run: Run) -> int:
    """The best round; where none is better than the base model, the last one."""
    last = run.history.rounds[-1].number if run.history.rounds else 0
    return run.best or last


def is_locked(path: Path) -> bool:
    """Whether a process holds a run's lock; looked up, since taking it could stop a run that begins just now."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    wanted = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    locks = Path("/proc/locks")
    return locks.exists() and any(wanted in line.split() for line in locks.read_text(encoding="utf-8").splitlines())
