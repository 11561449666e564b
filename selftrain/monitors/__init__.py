"""Monitors: what is measured beside the loop, from a run's stored tables alone.

A monitor is a file of this folder; its name is the file's, its docstring says what it looks for and who found it, and
its function `readings(seen)` measures. Files that begin with "_" are none. A monitor steers nothing, unless a Gate
names it. Where a run has not stored what one needs, it says so in a reading without a value and never alarms.
"""

import importlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from selftrain.errors import StoreError
from selftrain.statistics import Estimate
from selftrain.store import Store

if TYPE_CHECKING:
    from selftrain.observed import Observed

Band = tuple[float | None, float | None]
"""Least and greatest value that raise no alarm; None where that side is open."""

FEWEST = 20
"""Problems below which nothing alarms: an interval over fewer is too wide, or shows no spread by chance."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a monitor measured in one round."""

    monitor: str
    name: str
    round: int
    value: float | None
    """None where the run has not stored what is needed; the note says what is missing."""
    low: float | None
    """The 95 % interval over problems; None where there is none."""
    high: float | None
    unit: str
    band: Band | None
    """Where the value is expected: by the first round that was measured, or a fixed one."""
    alarm: str | None
    """What was met and what to do; None is quiet."""
    note: str = ""


def available() -> tuple[str, ...]:
    """The names of the monitors: the files of this folder."""
    return tuple(sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py")))


def about(name: str) -> str:
    """The first line of a monitor's docstring."""
    return (_module(name).__doc__ or "").partition("\n")[0]


def read(run: Path | str) -> list[Reading]:
    """Return what every monitor measures in a run, finished or not; only finished stages count.

    Raises StoreError if the folder holds no run.
    """
    from selftrain.observed import Observed

    store = Store(Path(run))
    if not store.exists():
        raise StoreError(f"{run} is no run of selftrain: it has no run.yaml")
    store.check_format()
    return measured(Observed(store), available())


def measured(seen: "Observed", names: Iterable[str]) -> list[Reading]:
    """Return what the named monitors measure, by monitor, then in their own order."""
    return [replace(each, monitor=name) for name in names for each in _measuring(name)(seen)]


def reading(
    name: str,
    round: int,
    found: Estimate,
    unit: str,
    *,
    band: Band | None = None,
    alarm: str | None = None,
    note: str = "",
) -> Reading:
    """Return an estimate as a reading; what could not be estimated has no value."""

    def known(value: float) -> float | None:
        return float(value) if value == value else None

    low, high = known(found.low), known(found.high)
    plain = band and (None if band[0] is None else float(band[0]), None if band[1] is None else float(band[1]))
    return Reading("", name, round, known(found.value), low, high, unit, plain, alarm, note)


def missing(seen: "Observed", why: str) -> Reading:
    """Return a reading without a value that says why there is none, under the last round."""
    return Reading("", "", seen.last, None, None, None, "", None, None, f"not applicable: {why}")


def above(found: Estimate, band: Band) -> bool:
    """Whether the whole interval lies above the band, and enough problems were measured."""
    return band[1] is not None and found.n >= FEWEST and found.low > band[1]


def below(found: Estimate, band: Band) -> bool:
    """Whether the whole interval lies below the band, and enough problems were measured."""
    return band[0] is not None and found.n >= FEWEST and found.high < band[0]


def alarms(found: Sequence[Reading], round: int | None = None) -> list[Reading]:
    """Return those that alarm, of one round or of all."""
    return [each for each in found if each.alarm is not None and round in (None, each.round)]


def lines(found: Sequence[Reading]) -> list[str]:
    """Return a line for each reading that alarms in some round: in which ones, and what its last alarm says."""
    by_reading: dict[tuple[str, str], list[Reading]] = {}
    for each in alarms(found):
        by_reading.setdefault((each.monitor, each.name), []).append(each)
    return [
        f"alarm: {monitor} (round {', '.join(str(each.round) for each in said)}): {said[-1].alarm}"
        for (monitor, _), said in by_reading.items()
    ]


def _measuring(name: str) -> "Callable[[Observed], Iterable[Reading]]":
    found: Callable[[Observed], Iterable[Reading]] = _module(name).readings
    return found


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"{__name__}.{name}")
