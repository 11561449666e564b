"""Feed a run's metrics to trackers while it goes on: `report_to=tensorboard`, wandb, mlflow, trackio.

A child process reads metrics.jsonl, the one place where figures stand, and passes on what a tracker has not had yet; a
tracker that fails is said once and never touches the run.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

from selftrain.backends import process
from selftrain.errors import ConfigError, near
from selftrain.loop.controller import Watcher

PACKAGES = MappingProxyType({"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow", "trackio": "trackio"})
"""Tracker -> the package it needs."""
CHILD = "selftrain.backends.tracker_child"
PATIENCE = 60.0
"""Seconds that the last figures may take."""


def check(names: Sequence[str]) -> None:
    """Raise ConfigError for a tracker that isn't known, or whose package isn't installed."""
    for name in names:
        if name not in PACKAGES:
            offer = near(name, PACKAGES) or "."
            raise ConfigError(f"report_to is {name!r}{offer} Known: none, {', '.join(PACKAGES)}")
        if find_spec(PACKAGES[name]) is None:
            raise ConfigError(
                f"report_to is {name!r}, but the package {PACKAGES[name]} is not installed; pip install"
                f" {PACKAGES[name]}, or leave report_to out (metrics.jsonl has all figures)"
            )


class Tracking:
    """The trackers of a run that is going on."""

    def __init__(self, root: Path, names: Sequence[str], watcher: Watcher) -> None:
        self._watcher = watcher
        self._failed = False
        log = root.absolute() / "logs" / "trackers.log"
        self._child = process.start(CHILD, str(root.resolve()), ",".join(names), log=log)

    def look(self) -> None:
        """Have them read what is new; returns at once."""
        self._tell("look", 0.0)

    def end(self) -> None:
        """Have them read the last figures, and end them."""
        self._tell("end", PATIENCE)
        self._child.close()

    def _tell(self, message: str, seconds: float) -> None:
        if self._failed:
            return
        try:
            self._child.send(message)
            answer = self._child.recv() if self._child.poll(seconds) else ""
        except (EOFError, OSError):
            answer = str(self._child.failure("the trackers' process is gone"))
        if answer:
            self._failed = True
            self._watcher.say(
                f"warning: tracking has stopped: {answer}; the run goes on, metrics.jsonl has all figures"
            )


@contextmanager
def tracking(root: Path, names: Sequence[str], watcher: Watcher) -> Iterator[Tracking | None]:
    """Have a run's trackers fed for as long as it goes on; None where it has none."""
    if not names:
        yield None
        return
    tracking = Tracking(root, names, watcher)
    try:
        yield tracking
    finally:
        tracking.end()
