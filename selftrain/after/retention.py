"""Which checkpoints a run keeps: `selftrain gc`, and `keep_checkpoints` at the end of every round.

Only weights are freed. What else a checkpoint holds (its id, config, tokenizer) stays, so that a run goes on after it
and its keys stay what they were. Never freed is what the next round, a resume, or the export of the best round needs.
"""

import json
import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
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
Trained = tuple[int, StageFolder, Checkpoint]
"""A round, a stage of it, and a checkpoint that it wrote."""


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


class Retention:
    """What one command keeps of a run whose lock it holds: a round in which nothing can change any more is settled.

    A settled round is not looked at again, so that the end of a round takes as long after a thousand as after ten.
    """

    def __init__(self, store: Store, keep: Keep) -> None:
        self.store = store
        self.keep = keep
        self._settled: set[int] = set()
        self._lasting: dict[Path, str] = {}
        """Folder -> why it stays for good."""

    def weigh(self, history: History, *, rests: bool) -> list[Weights]:
        """Return the trained checkpoints of rounds that are not settled, as `weigh` below."""
        trained = list(_trained(self.store, self._open(history)))
        unfinished = {number for number in self._open(history) if number and not self.store.done(number)}
        root = self.store.root
        self._lasting |= _with_starts(root, _lasting(trained, history, self.keep, unfinished), but=self._lasting)
        reasons = {**self._lasting, **_with_starts(root, _passing(trained, history, rests, unfinished))}
        found: dict[Path, Weights] = {}
        for number, folder, each in trained:
            path = Path(each.path)
            files = [file.stat() for file in _files(self.store.root / path)]
            if path in found or not files:
                continue
            own = sum(stat.st_size for stat in files if stat.st_nlink == 1)
            total = sum(stat.st_size for stat in files)
            found[path] = Weights(number, folder.name, each.role, path, own, total - own, reasons.get(path, ""))
        return list(found.values())

    def collect(self, history: History, words: str, *, rests: bool) -> list[Weights]:
        """Free the weights of the checkpoints that are not kept; return those.

        The mark comes first: a checkpoint that is half gone says so.
        """
        weights = self.weigh(history, rests=rests)
        freed = [each for each in weights if not each.kept]
        for each in freed:
            folder = self.store.root / each.path
            told = {"time": time.strftime("%Y-%m-%d %H:%M"), "kept": words, "bytes": each.bytes + each.shared}
            write_text(folder / MARK, json.dumps(told) + "\n")
            for file in _files(folder):
                file.unlink()
        for_now = {each.round for each in weights if each.kept and each.path not in self._lasting}
        self._settled |= {n for n in self._open(history) if n not in for_now and self.store.done(n)}
        return freed

    def _open(self, history: History) -> list[int]:
        return [result.number for result in history.rounds if result.number not in self._settled]


def weigh(store: Store, keep: Keep, *, rests: bool) -> list[Weights]:
    """Return every trained checkpoint whose weights are there, with why it stays or '' where it may go.

    `rests`: nothing of the last round is still to come; else what it began with stays too.
    """
    return Retention(store, keep).weigh(read_history(store), rests=rests)


def collect(store: Store, keep: Keep, words: str, *, rests: bool) -> list[Weights]:
    """Free the weights of the checkpoints that are not kept; return those. The caller holds the run's lock."""
    return Retention(store, keep).collect(read_history(store), words, rests=rests)


def collected(checkpoint: Path) -> str:
    """Return what has become of a checkpoint's weights: "were freed on ... (kept: best,last)", or '' if there."""
    if not (checkpoint / MARK).exists():
        return ""
    told = seals.read(checkpoint / MARK, "its weights were freed; nothing is lost by deleting it")
    return f"were freed on {told.get('time')} (kept: {told.get('kept')})"


def _passing(trained: Sequence[Trained], history: History, rests: bool, unfinished: Set[int]) -> dict[Path, str]:
    """Folder -> why it stays, until another round is better or later."""
    found: dict[Path, str] = {}
    for known in (history,) if rests else (history, History(history.rounds[:-1])):
        for role in _roles(known):
            for which in ("best", "latest"):
                found.setdefault(Path(known.checkpoint(role, which).path), which)
    last = max((result.number for result in history.rounds if result.checkpoints), default=0)
    for number, _, each in trained:
        if number in unfinished:
            found.setdefault(Path(each.path), f"round {number} is not finished")
        elif number and number == last and _left(history, number, each):
            found.setdefault(Path(each.path), "last")
    return found


def _lasting(trained: Sequence[Trained], history: History, keep: Keep, unfinished: Set[int]) -> dict[Path, str]:
    """Folder -> why it stays, whatever comes."""
    found = {Path(history.checkpoint(role, "base").path): "base" for role in _roles(history)}
    for number, _, each in trained:
        if number == 0:
            found.setdefault(Path(each.path), "made before round 1")
        elif keep.all:
            found.setdefault(Path(each.path), "all are kept")
        elif number not in unfinished and keep.every and number % keep.every == 0 and _left(history, number, each):
            found.setdefault(Path(each.path), f"every {keep.every}")
    return found


def _roles(history: History) -> list[str]:
    return sorted({role for result in history.rounds for role in result.checkpoints})


def _left(history: History, number: int, checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint is the one that its round has left of its role."""
    left = [result.checkpoints.get(checkpoint.role) for result in history.rounds if result.number == number]
    return any(each is not None and each.path == checkpoint.path for each in left)


def _with_starts(root: Path, reasons: Mapping[Path, str], but: Collection[Path] = ()) -> dict[Path, str]:
    """Add what was trained from: an export compares merged weights with the adapter on what that began with."""
    found = dict(reasons)
    for path in reasons:
        if path not in but and (start := _start(root, path)) is not None:
            found.setdefault(start, f"{path} was trained from it, which its export compares it with")
    return found


def _start(root: Path, checkpoint: Path) -> Path | None:
    """The checkpoint folder in this run from which another one was trained, if it has an adapter."""
    stored = seals.read(root / checkpoint / "checkpoint.json", "delete its round, and the run makes it again")
    if not stored.get("adapter") or not stored.get("start"):
        return None
    start = Path(stored["start"])
    return start.relative_to(root.resolve()).parent if start.is_relative_to(root.resolve()) else None


def _trained(store: Store, rounds: Iterable[int]) -> Iterator[Trained]:
    """The checkpoints of rounds of a run, the base models left out: their weights are the user's own."""
    for number in rounds:
        for name, folder in store.stages(number).items():
            if (number, name) != (0, "base"):
                yield from ((number, folder, inside(store, each)) for each in folder.read(Checkpoint, 0))


def _files(checkpoint: Path) -> Sequence[Path]:
    return [file for file in sorted(checkpoint.rglob("*")) if file.suffix in WEIGHTS and file.is_file()]
