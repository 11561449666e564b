"""Gate: believe a round's gain only where it is measured; else roll back, go on, or stop."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

from selftrain import statistics
from selftrain.errors import RecipeError, near
from selftrain.lab import Lab
from selftrain.monitors import Reading, alarms, available, measured
from selftrain.observed import Observed
from selftrain.recipe import Stage, later
from selftrain.records import Decision, Outcome
from selftrain.round import Part

Steer = Literal["warn", "rollback", "stop"]
"""What an alarm does to the round: it is written down; the round is rolled back; or the run stops after it."""


@dataclass(frozen=True, kw_only=True)
class Gate(Stage):
    """Compare with the best round so far, paired by problem.

    Interval above 0: accepted, the new best. Below 0: rolled back. Else the run goes on and the best stays. A monitor
    that it names and that alarms in the round goes before that; it sees what finished stages before the Gate have
    stored, and nothing of the test split.
    """

    metric: str = "accuracy"
    split: str = "valid"
    patience: int = 2
    """Rounds without a new best before the run stops."""
    evaluate: str = "evaluate"
    """The stage that measured it."""
    monitors: Mapping[str, Steer] = later(dict)
    """What an alarm of a monitor does: {"diversity": "rollback"}; monitors that are not named steer nothing."""

    scope: ClassVar[Literal["problem", "round"]] = "round"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.patience < 1:
            raise RecipeError(f"stage {self.name!r}: patience is {self.patience}, but must be at least 1 round")
        if self.split == "test":
            raise RecipeError(f"stage {self.name!r}: the test split is for the report; a gate reads valid")
        known, steers = available(), get_args(Steer)
        for name, steer in self.monitors.items():
            if name not in known:
                offer = near(name, known) or f" (there are {', '.join(known)})"
                raise RecipeError(f"stage {self.name!r}: there is no monitor {name!r}{offer}")
            if steer not in steers:
                offer = f"{near(str(steer), steers)} (it can be {', '.join(steers)})"
                raise RecipeError(f"stage {self.name!r}: an alarm of {name!r} cannot {steer!r}{offer}")

    @property
    def reads(self) -> tuple[type[Any], ...]:
        """Outcomes."""
        return (Outcome,)

    @property
    def writes(self) -> tuple[type[Any], ...]:
        """The decision."""
        return (Decision,)

    @property
    def gold(self) -> bool:
        """Accuracy on held-out problems is made from gold answers."""
        return True

    def words(self) -> dict[str, str]:
        """What it compares."""
        steering = "".join(f"; alarm of {name}: {steer}" for name, steer in self.monitors.items())
        return {
            "gate": f"{self.metric} on {self.split} against the best, stop after {self.patience} without a new best"
            + steering
        }

    def fits(self, earlier: Sequence[Stage]) -> None:
        """The stage it names measures its metric, on its split."""
        by_name = {stage.name: stage for stage in earlier if stage.outcomes}
        if self.evaluate not in by_name:
            offer = near(self.evaluate, by_name)
            raise RecipeError(f"stage {self.name!r}: no earlier stage {self.evaluate!r} measures anything{offer}")
        measured = by_name[self.evaluate]
        if self.metric not in measured.outcomes:
            offer = f"{near(self.metric, measured.outcomes)} (it measures {', '.join(measured.outcomes)})"
            raise RecipeError(f"stage {self.name!r}: {self.evaluate!r} does not measure {self.metric!r}{offer}")
        if self.split not in measured.splits:
            offer = ", ".join(measured.splits)
            raise RecipeError(f"stage {self.name!r}: {self.evaluate!r} measures on {offer}, not on {self.split!r}")

    def run(self, part: Part, lab: Lab) -> Iterator[Decision]:
        """Decide."""
        number, best = part.round.number, part.round.history.best
        after = self._outcomes(part, number)
        before = self._outcomes(part, best)
        # Where problems are made in the evaluation, another round may have made them of others.
        problems = sorted(set(after) & set(before))
        if not problems:
            raise RecipeError(
                f"stage {self.name!r}: {self.metric!r} on {self.split!r} was not measured by {self.evaluate!r} in both"
                f" round {number} and round {best}; is the split empty?"
            )
        gain = statistics.difference([after[id] for id in problems], [before[id] for id in problems])
        outcome: Literal["accepted", "undecided", "rolled_back"] = "undecided"
        if gain.low > 0:
            outcome = "accepted"
        elif gain.high < 0:
            outcome = "rolled_back"
        alarmed = self._alarms(part)
        if any(self.monitors[each.monitor] == "rollback" for each in alarmed):
            outcome = "rolled_back"
        kept = number if outcome == "accepted" else best
        why = (
            f"{self.metric} on {self.split} {100 * gain.value:+.1f} points against round {best}"
            f" (95 % interval {100 * gain.low:+.1f} to {100 * gain.high:+.1f}, {gain.n} problems)"
        )
        why += "".join(f"; {each.monitor} alarms ({self.monitors[each.monitor]}): {each.alarm}" for each in alarmed)
        stop = any(self.monitors[each.monitor] == "stop" for each in alarmed)
        yield Decision(outcome=outcome, best=kept, stop=stop or number - kept >= self.patience, why=why)

    def _alarms(self, part: Part) -> list[Reading]:
        """The alarms of this round, by what is stored before the Gate; of each monitor the first."""
        if not self.monitors:
            return []
        place = int(part.folder.name[:2])
        seen = Observed(part.round.store, before=(part.round.number, place))
        found = alarms(measured(seen, self.monitors), part.round.number)
        return list({each.monitor: each for each in reversed(found)}.values())

    def _outcomes(self, part: Part, round: int) -> dict[str, float]:
        found = part.outcomes(round, self.evaluate)
        return {o.problem: o.value for o in found if o.split == self.split and o.name == self.metric}
