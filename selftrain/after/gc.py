"""Free the weights of a run that nobody needs, or say what that would give: `selftrain gc`."""

from pathlib import Path
from typing import Any, NamedTuple

from selftrain.after import standing
from selftrain.after.retention import USUAL, Keep, Weights, collect, weigh
from selftrain.loop.runfile import read_file
from selftrain.store import Store


class Tidied(NamedTuple):
    """What was freed, or would be."""

    root: Path
    keep: str
    weights: tuple[Weights, ...]
    freed: bool

    @property
    def bytes(self) -> int:
        """What freeing gives."""
        return sum(each.bytes for each in self.weights if not each.kept)

    def lines(self) -> list[str]:
        """It as lines to read."""
        if not self.weights:
            return [f"{self.root} holds no trained weights"]
        told = [f"{self.root}, keeping {self.keep} and what is needed:"]
        for each in self.weights:
            fate = f"kept: {each.kept}" if each.kept else ("freed" if self.freed else "would be freed")
            shared = f" (and {_size(each.shared)} that another run shares)" if each.shared else ""
            told.append(f"  round {each.round} {each.stage:<12} {each.role:<8} {_size(each.bytes):>9}{shared}  {fate}")
        if self.freed:
            return [*told, f"{_size(self.bytes)} freed"]
        return [*told, f"{_size(self.bytes)} would be freed" + ("; --yes frees them" if self.bytes else "")]

    def as_json(self) -> dict[str, Any]:
        """It as plain values."""
        weights = [{**each._asdict(), "path": str(each.path)} for each in self.weights]
        return {
            "folder": str(self.root),
            "keep": self.keep,
            "freed": self.freed,
            "bytes": self.bytes,
            "checkpoints": weights,
        }


def tidy(root: Path, keep: str | None, *, yes: bool) -> Tidied:
    """Free weights by `keep`, by default the run's own `keep_checkpoints`, or without `yes` say what that would free.

    Raises StoreError for a folder that is no run or that a run holds now, ConfigError for a `keep` that means nothing.
    """
    store = Store.open(root)
    own = str(read_file(root / "run.yaml").get("keep_checkpoints", "all"))
    words = keep if keep is not None else (USUAL if own == "all" else own)
    asked = Keep.of(words)
    if not yes:
        return Tidied(root, words, tuple(weigh(store, asked, rests=_rests(store))), False)
    with store.lock():
        weights = weigh(store, asked, rests=_rests(store))
        collect(store, asked, words, rests=_rests(store))
    return Tidied(root, words, tuple(weights), True)


def _rests(store: Store) -> bool:
    """Whether nothing of the run is still to come, so far as it was asked for."""
    return standing.state(store).get("state") == "finished"


def _size(count: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"
