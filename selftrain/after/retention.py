"""Which checkpoints a run keeps: `selftrain gc`, and `keep_checkpoints` at the end of every round.

Only weights are freed. What else a checkpoint holds (its id, config, tokenizer) stays, so that a run goes on after it
and its keys stay what they were. Never freed is what the next round, a resume, or the export of the best round needs.
"""

import json
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from selftrain import seals
from selftrain.errors import ConfigError
from selftrain.history import inside, read_history
from selftrain.records import Checkpoint
from selftrain.round import History
from selftrain.store import StageFolder, Store, write_text

USUAL = "best,last"
MARK = "collected.json"
"""In a checkpoint's folder: when its weights were freed, and by which words."""
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")


class Keep(NamedTuple):
    """What is kept beside what is needed."""

    every: int = 0
    """Each so many rounds one; 0 is none."""
    all: bool = False

    @classmethod
    def of(cls, text: str) -> "Keep":
        """Read "all", or "best,last,every:2" in any order; raises ConfigError for anything else."""
        every = 0
        for word in text.split(","):
            number = re.fullmatch(r"every:([1-9]\d*)", word.strip())
            if number:
                every = int(number[1])
            elif word.strip() == "all" and text.strip() == "all":
                return cls(all=True)
            elif word.strip() not in ("best", "last"):
                raise ConfigError(f"keep is {text!r}; it can be all, or best,last and every:K (best,last,every:5)")
        return cls(every=every)


class Weights(NamedTuple):
    """One checkpoint's weights."""

    round: int
    stage: str
    role: str
    path: Path
    """Folder, relative to the run's folder."""
    bytes: int
    """What freeing it gives: nothing for files that another run shares."""
    shared: int
    """Bytes that another run has too (a fork's hard links)."""
    kept: str
    """Why it stays, or '' if it is to be freed."""


def weigh(store: Store, keep: Keep, *, rests: bool) -> list[Weights]:
    """Return every trained checkpoint whose weights are there, with why it stays or '' where it may go.

    `rests`: nothing of the last round is still to come; else what it began with stays too.
    """
    reasons = _reasons(store, read_history(store), keep, rests)
    found: dict[Path, Weights] = {}
    for number, folder, each in _trained(store):
        path = Path(each.path)
        files = [file.stat() for file in _files(store.root / path)]
        if path in found or not files:
            continue
        own = sum(stat.st_size for stat in files if stat.st_nlink == 1)
        total = sum(stat.st_size for stat in files)
        found[path] = Weights(number, folder.name, each.role, path, own, total - own, reasons.get(path, ""))
    return list(found.values())


def collect(store: Store, keep: Keep, words: str, *, rests: bool) -> list[Weights]:
    """Free the weights of the checkpoints that are not kept; return those. The caller holds the run's lock.

    The mark comes first: a checkpoint that is half gone says so.
    """
    freed = [each for each in weigh(store, keep, rests=rests) if not each.kept]
    for each in freed:
        folder = store.root / each.path
        told = {"time": time.strftime("%Y-%m-%d %H:%M"), "kept": words, "bytes": each.bytes + each.shared}
        write_text(folder / MARK, json.dumps(told) + "\n")
        for file in _files(folder):
            file.unlink()
    return freed


def collected(checkpoint: Path) -> str:
    """Return what has become of a checkpoint's weights: "were freed on ... (kept: best,last)", or '' if there."""
    if not (checkpoint / MARK).exists():
        return ""
    told = seals.read(checkpoint / MARK, "its weights were freed; nothing is lost by deleting it")
    return f"were freed on {told.get('time')} (kept: {told.get('kept')})"


def _reasons(store: Store, history: History, keep: Keep, rests: bool) -> dict[Path, str]:
    """Folder -> why it stays."""
    found: dict[Path, str] = {}
    finished = [result for result in history.rounds if result.checkpoints]
    if not finished:
        return found

    def stays(checkpoint: Checkpoint, why: str) -> None:
        found.setdefault(Path(checkpoint.path), why)

    for known in (history,) if rests else (history, History(history.rounds[:-1])):
        for role in sorted({role for result in known.rounds for role in result.checkpoints}):
            for which in ("best", "latest", "base"):
                stays(known.checkpoint(role, which), which)
    by_number = {result.number: result for result in history.rounds}
    for number, _, each in _trained(store):
        last = by_number[number].checkpoints.get(each.role)
        if number == 0:
            stays(each, "made before round 1")
        elif not store.done(number):
            stays(each, f"round {number} is not finished")
        elif last is not None and last.path == each.path:
            if number == finished[-1].number:
                stays(each, "last")
            elif keep.every and number % keep.every == 0:
                stays(each, f"every {keep.every}")
        if keep.all:
            stays(each, "all are kept")
    # An export compares merged weights with the adapter on what it was trained from.
    for path in list(found):
        if (start := _start(store.root, path)) is not None:
            found.setdefault(start, f"{path} was trained from it, which its export compares it with")
    return found


def _start(root: Path, checkpoint: Path) -> Path | None:
    """The checkpoint folder in this run from which another one was trained, if it has an adapter."""
    stored = seals.read(root / checkpoint / "checkpoint.json", "delete its round, and the run makes it again")
    if not stored.get("adapter") or not stored.get("start"):
        return None
    start = Path(stored["start"])
    return start.relative_to(root.resolve()).parent if start.is_relative_to(root.resolve()) else None


def _trained(store: Store) -> Iterator[tuple[int, StageFolder, Checkpoint]]:
    """The checkpoints of a run, the base models left out: their weights are the user's own."""
    for number in store.rounds():
        for name, folder in store.stages(number).items():
            if (number, name) != (0, "base"):
                yield from ((number, folder, inside(store, each)) for each in folder.read(Checkpoint, 0))


def _files(checkpoint: Path) -> Sequence[Path]:
    return [file for file in sorted(checkpoint.rglob("*")) if file.suffix in WEIGHTS and file.is_file()]
