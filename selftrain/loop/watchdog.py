"""The watchdog: ends a stage that gives no sign of life, and a run before memory or disk are used up.

It is a thread. What it ends are the run's child processes, so that whoever waits for one gets an error; a stage that
hangs in this process itself can't be ended alone, so then the process ends, with one line.
"""

import faulthandler
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from selftrain import pulse
from selftrain.errors import Blocked, EngineError, SelftrainError
from selftrain.loop.room import GB, free_memory
from selftrain.places import free_disk

log = logging.getLogger(__name__)

EVERY = 1.0
"""Seconds between two looks."""
GRACE = 60.0
"""Seconds that a stage has to end once its children were ended."""
LINES = 12
"""Of a log's end, in a message."""


class Stalled(EngineError):
    """A stage gave no sign of life for too long."""


class Watchdog:
    """Watches a run in one folder; `end` ends its child processes."""

    def __init__(
        self,
        root: Path,
        end: Callable[[], None],
        *,
        stall: float = float("inf"),
        disk: float = 0.0,
        memory: float = 0.0,
        every: float = EVERY,
        grace: float = GRACE,
    ) -> None:
        """Take limits: seconds without a sign of life, and bytes of disk and memory that must stay free."""
        self._root, self._end = root, end
        self._stall, self._disk, self._memory = stall, disk, memory
        self._every, self._grace = every, grace
        self._over = threading.Event()
        self._calm = threading.Event()
        self._guard = threading.Lock()
        self._at = ""
        self._found: SelftrainError | None = None
        self._ending: threading.Thread | None = None
        self._troubles: set[str] = set()

    @contextmanager
    def awake(self) -> Iterator["Watchdog"]:
        """Watch while the block runs."""
        pulse.beat()
        thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._over.set()
            self._calm.set()
            thread.join()

    @contextmanager
    def at(self, what: str) -> Iterator[None]:
        """Name what is being done; where the watchdog has ended it, what it has found is raised when all is ended."""
        pulse.beat()
        self._calm.clear()
        self._at, self._found = what, None
        try:
            yield
        except Exception as error:
            self._leave(error)
            raise
        else:
            self._leave(None)
        finally:
            self._at = ""
            self._calm.set()

    def _leave(self, error: Exception | None) -> None:
        with self._guard:
            self._at = ""
            found, ending = self._found, self._ending
        if found is not None:
            self._calm.set()
            if ending is not None:
                ending.join()
            raise found from error

    def _watch(self) -> None:
        while not self._over.wait(self._every):
            with self._guard:
                found = self._look() if self._at and self._found is None else None
                if found is None:
                    continue
                self._found = found
                self._ending = threading.Thread(target=self._end, name="watchdog-end", daemon=True)
                self._ending.start()
            if not self._calm.wait(self._grace):
                self._give_up(found)

    def _look(self) -> SelftrainError | None:
        """Look at every limit; one that can't be looked at now is tried again, and hides no other."""
        found: SelftrainError | None = None
        looks = {"signs of life": self._silent, "the disk": self._short_of_disk, "the memory": self._short_of_memory}
        for what, look in looks.items():
            try:
                found = found or look()
            except (OSError, ValueError) as error:
                self._cannot(what, error)
        return found

    def _cannot(self, what: str, error: Exception) -> None:
        """Say once what can't be looked at."""
        text = f"the watchdog cannot look at {what} ({type(error).__name__}: {error}); it goes on trying"
        if text not in self._troubles:
            self._troubles.add(text)
            log.warning(text)

    def _silent(self) -> Stalled | None:
        if pulse.silence() <= self._stall:
            return None
        return Stalled(
            f"{self._at} gave no sign of life for {self._stall:.0f} s (stall_minutes); the end of its log:"
            f" {_tail(self._root / 'logs') or 'nothing'}"
        )

    def _short_of_disk(self) -> Blocked | None:
        if not self._disk or (disk := free_disk(self._root)) >= self._disk:
            return None
        return Blocked(
            f"{self._root} has only {disk / GB:.2f} GB of disk left ({self._disk / GB:.2f} are to stay free,"
            f" free_disk); stopped during {self._at}: free some, and the same command goes on"
        )

    def _short_of_memory(self) -> Blocked | None:
        if not self._memory or (memory := free_memory()) is None or memory >= self._memory:
            return None
        return Blocked(
            f"only {memory / GB:.2f} GB of memory are left ({self._memory / GB:.2f} are to stay free, free_memory);"
            f" stopped during {self._at}: end something else or use less (sampler.concurrency,"
            " per_device_train_batch_size, workers), and the same command goes on"
        )

    def _give_up(self, found: SelftrainError) -> None:
        """End the process: what hangs is code of its own, whose place goes to logs/hangs.log."""
        # Nothing that fails here, a full disk say, may keep the process alive.
        try:
            line, stacks = " ".join(str(found).split()), self._stacks()
            if isinstance(found, Blocked):
                line += f"; what was under way did not end in {self._grace:.0f} s, so the process was ended ({stacks})"
            else:
                line += (
                    f"; it hangs in selftrain's own process ({stacks}): the same command goes on from what is stored"
                )
            sys.stderr.write(f"error: {line}\n")
            sys.stderr.flush()
        finally:
            os._exit(3 if isinstance(found, Blocked) else 1)

    def _stacks(self) -> str:
        """Write down where every thread is; return where that lies."""
        path = self._root / "logs" / "hangs.log"
        try:
            path.parent.mkdir(exist_ok=True)
            with path.open("a") as file:
                faulthandler.dump_traceback(file)
        except OSError as error:
            return f"its stacks cannot be written to {path}: {error.strerror}"
        return f"its stacks are in {path}"


def _tail(logs: Path) -> str:
    """The last lines of the log that was written to last."""
    try:
        found = [path for path in logs.glob("*.log") if path.stat().st_size] if logs.is_dir() else []
        if not found:
            return ""
        last = max(found, key=lambda path: path.stat().st_mtime)
        with last.open("rb") as file:
            file.seek(max(0, last.stat().st_size - 8_192))
            lines = file.read().decode("utf-8", "replace").rstrip().splitlines()
    except OSError as error:  # the stall is to be told whatever becomes of the logs
        return f"{logs} cannot be read: {error.strerror}"
    return f"{last.name}: " + " | ".join(line.strip() for line in lines[-LINES:])
