"""Watchers: progress bars on a terminal, plain lines elsewhere."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

QUIET_SECONDS = 20.0
"""Without a terminal, at most one line of progress in so many seconds."""


class Bars:
    """A bar for each stage under way, a line for each that is done."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._bars: dict[str, TaskID] = {}

    def __enter__(self) -> "Bars":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        """One line above the bars."""
        self._progress.console.print(text, markup=False, highlight=False)

    def begin(self, stage: str, total: int, done: int) -> None:
        """Show a bar; a stage that begins once more gets a new one."""
        if (old := self._bars.pop(stage, None)) is not None:
            self._progress.remove_task(old)
        self._bars[stage] = self._progress.add_task(stage, total=max(total, done), completed=done)

    def advance(self, stage: str, units: int) -> None:
        """Move a bar; a stage that counts its own steps makes its bar as long as it needs."""
        bar = self._bars.get(stage)
        if bar is not None:
            task = self._progress.tasks[self._progress.task_ids.index(bar)]
            if task.total is not None and task.completed + units > task.total:
                self._progress.update(bar, total=task.completed + units + 1)
            self._progress.advance(bar, units)

    def end(self, stage: str, text: str) -> None:
        """Replace a bar by a line."""
        bar = self._bars.pop(stage, None)
        if bar is not None:
            self._progress.remove_task(bar)
        self.say(f"{stage:<28} {text}")


class Lines:
    """Plain lines, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._counts: dict[str, tuple[int, int]] = {}
        self._said = time.monotonic()

    def __enter__(self) -> "Lines":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to end."""

    def say(self, text: str) -> None:
        """One line."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def begin(self, stage: str, total: int, done: int) -> None:
        """Remember a stage's size."""
        self._counts[stage] = (done, total)

    def advance(self, stage: str, units: int) -> None:
        """Say now and then how far a stage is."""
        done, total = self._counts.get(stage, (0, 0))
        self._counts[stage] = (done + units, total)
        if time.monotonic() - self._said > QUIET_SECONDS:
            self._said = time.monotonic()
            self.say(f"{stage}: {done + units} of {max(total, done + units)}")

    def end(self, stage: str, text: str) -> None:
        """Say what came of a stage."""
        self.say(f"{stage:<28} {text}")


def watcher(console: Console) -> Bars | Lines:
    """Return bars for a terminal, lines otherwise."""
    return Bars(console) if console.is_terminal else Lines(console)
