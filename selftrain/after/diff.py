"""What is other in one run than in another: settings, versions, metrics: `selftrain diff`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from selftrain import seals, statistics
from selftrain.loop.runfile import read_file
from selftrain.records import Metric, Outcome
from selftrain.statistics import Estimate
from selftrain.store import StageFolder, Store, differences

MACHINE = ("python", "platform", "cores", "cuda")
HASHES = ("reads", "weights", "problems", "earlier", "drawn", "settings")
"""What of a stage's key says nothing by itself: hashes of what came before, and settings that stand in the run file."""


class Measured(NamedTuple):
    """A metric in both runs after a round, and the difference where it is measured on the same problems."""

    round: int
    name: str
    split: str
    first: float
    second: float
    difference: Estimate | None
    """Second minus first, paired by problem; None where the problems are others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """What is other."""

    first: Path
    second: Path
    settings: tuple[str, ...]
    stages: tuple[str, ...]
    """What the stages' own keys say beyond the settings: sources of plug-ins, engines, versions."""
    versions: tuple[str, ...]
    metrics: tuple[Measured, ...]
    best: tuple[int, int]

    def lines(self) -> list[str]:
        """It as lines to read."""
        told = [f"{self.first} -> {self.second}"]
        for name, lines in (("settings", self.settings), ("stages", self.stages), ("versions", self.versions)):
            told.append(f"{name}: {'the same' if not lines else ''}".rstrip())
            told += [f"  {line}" for line in lines]
        told.append("metrics, second minus first in points, paired by problem (95 % interval):")
        return told + [f"  {_shown(each)}" for each in self.metrics] + ([] if self.metrics else ["  none in common"])

    def as_json(self) -> dict[str, Any]:
        """It as plain values."""
        metrics = [
            {**each._asdict(), "difference": None if each.difference is None else each.difference._asdict()}
            for each in self.metrics
        ]
        return {
            "first": {"folder": str(self.first), "best": self.best[0]},
            "second": {"folder": str(self.second), "best": self.best[1]},
            "settings": list(self.settings),
            "stages": list(self.stages),
            "versions": list(self.versions),
            "metrics": metrics,
        }


def diff(first: Path, second: Path) -> Diff:
    """Compare two runs; raises StoreError for a folder that is no run."""
    from selftrain.loop.launch import Run

    one, other = Run.open(first), Run.open(second)
    return Diff(
        first=first,
        second=second,
        settings=tuple(differences(_settings(first), _settings(second))),
        stages=tuple(_stages(Store(first), Store(second))),
        versions=tuple(differences(_environment(first), _environment(second))),
        metrics=tuple(_metrics(Store(first), Store(second))),
        best=(one.best, other.best),
    )


def _settings(root: Path) -> Mapping[str, Any]:
    return {name: value for name, value in read_file(root / "run.yaml").items() if name != "out"}


def _environment(root: Path) -> dict[str, Any]:
    path = root / "environment.json"
    stored = seals.read(path, "delete it: the next call of the run writes it anew") if path.exists() else {}
    return {**{name: stored.get(name) for name in MACHINE}, **stored.get("packages", {})}


def _stages(first: Store, second: Store) -> list[str]:
    """What the keys of equally named stages differ in, each difference with the round where it is first seen."""
    found: dict[str, str] = {}
    for number in sorted(set(first.rounds()) & set(second.rounds())):
        ours, theirs = first.stages(number), second.stages(number)
        for name in [*ours, *(name for name in theirs if name not in ours)]:
            if name not in ours or name not in theirs:
                where = "first" if name in ours else "second"
                found.setdefault(f"{name} is a stage of the {where} run only", f"round {number}")
                continue
            for line in differences(_told(ours[name]), _told(theirs[name])):
                found.setdefault(f"{name}: {line}", f"round {number}")
    return [f"{line} (from {where})" for line, where in found.items()]


def _told(folder: StageFolder) -> dict[str, Any]:
    return {name: value for name, value in folder.settings().items() if name not in HASHES}


def _metrics(first: Store, second: Store) -> list[Measured]:
    found = []
    for number in sorted(set(first.rounds()) & set(second.rounds())):
        ours, theirs = _outcomes(first, number), _outcomes(second, number)
        values = _values(second, number)
        for (name, split), metric in _values(first, number).items():
            if (name, split) in ours and (name, split) in values:
                one, other = ours[name, split], theirs.get((name, split), {})
                paired = None
                if one.keys() == other.keys():
                    paired = statistics.difference([other[id] for id in one], list(one.values()))
                found.append(Measured(number, name, split, metric.value, values[name, split].value, paired))
    return found


def _outcomes(store: Store, number: int) -> dict[tuple[str, str], dict[str, float]]:
    """(metric, split) -> problem -> its outcome."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    for folder in store.stages(number).values():
        for each in folder.read(Outcome, 0):
            found.setdefault((each.name, each.split), {})[each.problem] = each.value
    return found


def _values(store: Store, number: int) -> dict[tuple[str, str], Metric]:
    rows = [each for folder in store.stages(number).values() for each in folder.read(Metric, 0)]
    return {(each.name, each.split): each for each in rows if not each.step}


def _shown(found: Measured) -> str:
    gain = found.difference
    told = f"round {found.round} {found.name} on {found.split}: {100 * found.first:.1f} % -> {100 * found.second:.1f} %"
    if gain is None:
        return f"{told}  (other problems, so not paired)"
    return f"{told}  {100 * gain.value:+.1f} ({100 * gain.low:+.1f} to {100 * gain.high:+.1f}), {gain.n} problems"
