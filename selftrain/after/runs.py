"""All runs of a folder, with where each stands: `selftrain runs`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from rich.table import Table

from selftrain.after import standing
from selftrain.errors import SelftrainError, StoreError
from selftrain.loop.launch import Run
from selftrain.loop.runfile import read_file
from selftrain.places import size_of
from selftrain.records import Metric
from selftrain.store import Store

DEEP = 3
"""How many folders down a run is looked for: a folder of folders of runs, and a run's controls."""
BROKEN = (SelftrainError, OSError, ValueError, KeyError, TypeError, pa.ArrowException)
"""What reading a damaged folder raises."""


class Listed(NamedTuple):
    """A run in a list; of a broken one only the folder, the state and why."""

    folder: Path
    state: str
    """running, finished, paused, interrupted, failed, broken."""
    why: str = ""
    recipe: str = ""
    model: str = ""
    data: str = ""
    rounds: int = 0
    """Rounds done."""
    asked: int = 0
    best: int = 0
    metric: str = ""
    """What is measured, and on which split."""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    base: float | None = None
    """The same of the base model."""
    bytes: int = 0
    """On disk, files that several runs share counted in each."""
    source: str = ""
    """The run and round that it is a fork of."""

    def as_json(self) -> dict[str, Any]:
        """It as plain values."""
        return {**self._asdict(), "folder": str(self.folder)}


def runs(folder: Path) -> list[Listed]:
    """Return the runs in a folder and its subfolders, by path; raises StoreError where there is no such folder."""
    if not folder.is_dir():
        raise StoreError(f"there is no folder {folder}; say which one holds runs: selftrain runs FOLDER")
    return [_listed(root) for root in _roots(folder, DEEP)]


def table(found: list[Listed], folder: Path) -> Table:
    """Return them as a table."""
    out = Table(header_style="bold", pad_edge=False)
    for name in ("run", "recipe", "model, data", "state", "rounds", "best, 95 % interval", "disk"):
        out.add_column(name, justify="right" if name in ("rounds", "disk") else "left", overflow="fold")
    for each in found:
        rounds = f"{each.rounds} of {each.asked}" if each.asked else ""
        on = ", ".join(name for name in (each.model, each.data) if name)
        out.add_row(_name(each, folder), each.recipe, on, each.state, rounds, _best(each), _size(each.bytes))
    return out


def notes(found: list[Listed], folder: Path) -> list[str]:
    """Return what a table has no room for: why a run is broken or has failed, and what it is a fork of."""
    told = [f"{_name(each, folder)}: {each.state}: {each.why}" for each in found if each.why]
    return told + [f"{_name(each, folder)}: a fork of {each.source}" for each in found if each.source]


def _name(run: Listed, folder: Path) -> str:
    return str(run.folder.relative_to(folder)) if run.folder != folder else str(folder)


def _roots(folder: Path, deep: int) -> Iterator[Path]:
    """The folders that hold a run, or look as if they had."""
    if Store(folder).exists() or Store(folder).rounds():
        yield folder
        # A run's own folders hold no runs but its controls.
        folder = folder / "controls"
    if deep and folder.is_dir():
        for each in sorted(folder.iterdir()):
            if each.is_dir() and not each.is_symlink() and not each.name.startswith("."):
                yield from _roots(each, deep - 1)


def _listed(root: Path) -> Listed:
    # A run's controls are runs too.
    size = size_of(root, but="controls")
    try:
        return _read(root)._replace(bytes=size)
    except BROKEN as error:
        return Listed(root, "broken", f"{error}".partition("\n")[0] or type(error).__name__, bytes=size)


def _read(root: Path) -> Listed:
    store = Store(root)
    if not store.exists():
        raise StoreError("it has rounds, but no run.yaml")
    run = Run.open(root)
    file = read_file(root / "run.yaml")
    done = [number for number in store.rounds() if number and store.done(number)]
    metric, base = _measured(run)
    state, why = _state(store, done, int(file.get("rounds", 0)))
    return Listed(
        folder=root,
        state=state,
        why=why,
        recipe=Path(str(file["recipe"])).stem + (f" ({file['control']['name']})" if file.get("control") else ""),
        model=_short(file.get("model"), "policy"),
        data=_short(file.get("data"), "name"),
        rounds=len(done),
        asked=len(done) if state == "finished" and file.get("control") else int(file.get("rounds", 0)),
        best=run.best,
        metric=f"{metric.name} on {metric.split}" if metric else "",
        value=metric.value if metric else None,
        low=metric.low if metric else None,
        high=metric.high if metric else None,
        base=base.value if base else None,
        source="" if file.get("control") else standing.source(store),
    )


def _measured(run: Run) -> tuple[Metric | None, Metric | None]:
    """The best round's headline and the base model's, on test where there is one."""
    for split in ("test", "valid"):
        for name in ("accuracy", "pass@1"):
            if metric := run.metric(name, split=split):
                return metric, run.metric(name, split=split, round=0)
    return None, None


def _state(store: Store, done: list[int], asked: int) -> tuple[str, str]:
    """A run that holds its lock is running; one that says so and doesn't was killed."""
    if standing.locked(store):
        return "running", ""
    noted = standing.state(store)
    state = str(noted.get("state", "finished" if asked and len(done) >= asked else "interrupted"))
    return ("interrupted", "") if state == "running" else (state, str(noted.get("why", "")))


def _short(value: Any, main: str) -> str:
    name = str(value.get(main, "")) if isinstance(value, dict) else str(value or "")
    return Path(name).name if "/" in name else name


def _best(run: Listed) -> str:
    if run.value is None:
        return ""
    interval = "" if run.low is None or run.high is None else f", {100 * run.low:.1f} to {100 * run.high:.1f}"
    return f"{100 * run.value:.1f} %{interval}"


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
