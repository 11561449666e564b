"""What judging a run's samples again came to, as plain values and as lines that fit a terminal."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, get_args

from selftrain.records import Json, Sample, Status, Verdict
from selftrain.statistics import Estimate
from selftrain.verification import rates


class Place(NamedTuple):
    """Which samples were judged, and which stage judged them before; '' where none has."""

    round: int
    stage: str
    split: str
    judge: str


@dataclass(slots=True)
class Compared:
    """What came of the samples of one place."""

    place: Place
    before: Counter[str] = field(default_factory=Counter)
    after: Counter[str] = field(default_factory=Counter)
    changes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(status before, status after) where the two differ."""
    same: int = 0
    by_problem: dict[str, list[int]] = field(default_factory=dict)
    """Problem -> how many passed before, how many pass after, how many there are."""

    @property
    def samples(self) -> int:
        """How many samples it is about."""
        return self.after.total()

    def add(self, sample: Sample, before: Verdict | None, after: Verdict) -> None:
        """Count one sample."""
        self.after[after.status] += 1
        counts = self.by_problem.setdefault(sample.problem, [0, 0, 0])
        counts[1] += after.status == "pass"
        counts[2] += 1
        if before is None:
            return
        self.before[before.status] += 1
        counts[0] += before.status == "pass"
        if before.status != after.status:
            self.changes[before.status, after.status] += 1
        elif before.status != "scored" or math.isclose(before.score or 0, after.score or 0, rel_tol=1e-5):
            self.same += 1

    def rate(self, which: int) -> Estimate | None:
        """The share of samples that passed before (0) or pass now (1); None where nothing is passed or failed."""
        if not {"pass", "fail"} & set((self.before, self.after)[which]):
            return None
        return rates.share([(each[which], each[2]) for each in self.by_problem.values()])

    def gain(self) -> Estimate | None:
        """The change of the pass rate."""
        if self.rate(0) is None or self.rate(1) is None:
            return None
        return rates.change([(after - before, n) for before, after, n in self.by_problem.values()])

    def lines(self) -> list[str]:
        """It as lines to read."""
        place, judge = self.place, self.place.judge
        judged = f", judged by {judge}" if judge else ", not judged before"
        lines = [f"round {place.round} {place.stage}, {place.split}: {self.samples} samples{judged}"]
        for name, counts, rate in (("before", self.before, self.rate(0)), ("after", self.after, self.rate(1))):
            if counts:
                passed = "" if rate is None else f"pass rate {_percent(rate)}"
                lines.append(f"  {name:<8}{passed:<36}{_counted(counts)}")
        if judge:
            changed = ", ".join(f"{one} -> {two} {n}" for (one, two), n in self.changes.most_common())
            gain = self.gain()
            moved = "" if gain is None else f"change {100 * gain.value:+.1f} points{_interval(gain, sign='+')}"
            lines.append(f"  {'same':<8}{f'{100 * self.same / self.samples:.1f} %':<10}{moved}".rstrip())
            lines += [f"  {'changed':<8}{changed}"] if changed else []
        return lines

    def as_json(self) -> Json:
        """It as plain values."""
        estimates = {"pass_rate_before": self.rate(0), "pass_rate_after": self.rate(1), "gain": self.gain()}
        return {
            **self.place._asdict(),
            "samples": self.samples,
            "before": dict(self.before),
            "after": dict(self.after),
            "same": self.same if self.place.judge else None,
            "changes": [{"before": one, "after": two, "count": n} for (one, two), n in self.changes.items()],
            **{name: None if found is None else found._asdict() for name, found in estimates.items()},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Reverified:
    """What judging a run again came to."""

    by: str
    root: str
    compared: tuple[Compared, ...]
    seconds: float
    counts: Mapping[str, int]
    """Samples by status now; one that two stages have judged counts once here."""
    first: Mapping[str, str]
    """The first reason given for error and for timeout."""

    def lines(self) -> list[str]:
        """It as lines to read; the last one is the summary."""
        lines = [line for each in self.compared for line in each.lines()]
        first = "".join(f"; first {status}: {why}" for status, why in self.first.items())
        summary = f"{sum(self.counts.values())} samples in {self.seconds:.1f} s: {_counted(self.counts)}{first}"
        return [*lines, f"{self.by}: {summary}"]

    def as_json(self) -> Json:
        """It as plain values."""
        places = [each.as_json() for each in self.compared]
        counts = {"counts": dict(self.counts), "first": dict(self.first)}
        return {"by": self.by, "run": self.root, "seconds": self.seconds, **counts, "places": places}


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{counts[s]} {s}" for s in get_args(Status) if counts.get(s)) or "no samples"


def _percent(found: Estimate) -> str:
    return f"{100 * found.value:.1f} %{_interval(found)}"


def _interval(found: Estimate, sign: str = "") -> str:
    return "" if math.isnan(found.low) else f" ({100 * found.low:{sign}.1f} to {100 * found.high:{sign}.1f})"
