"""Run a recipe's controls beside it, at its budget, and compare: `selftrain run RECIPE --controls`.

Each control is a fork of the run from round 0, in its folder `controls/NAME`: the same problems, the same base model
and the same measurement of it. `controls.json` in the run's folder says how the recipe stands beside them.
"""

import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

from selftrain import seals, statistics
from selftrain.after.fork import share
from selftrain.errors import SelftrainError, StoreError
from selftrain.loop import config, launch
from selftrain.loop.budget import Spent, spent
from selftrain.loop.controller import Watcher
from selftrain.loop.controls import CONTROLS, Figures, LeftOut, spec
from selftrain.loop.plan import USUAL, duration
from selftrain.loop.runfile import read_file
from selftrain.recipe import baseline
from selftrain.records import Json, Outcome, Verdict
from selftrain.round import History
from selftrain.statistics import Estimate
from selftrain.store import Store

FOLDER = "controls"
FILE = "controls.json"
SOLUTIONS = 200
"""So many gold solutions tell how long they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How one run came out: the recipe, or a control of it."""

    name: str
    headline: str
    folder: str
    """Relative to the recipe's folder; '.' is itself."""
    best: int
    last: int
    accuracy: Estimate
    """Of its best round, on the split that is compared."""
    accuracy_last: Estimate
    spent: Spent
    difference: Estimate | None = None
    """The recipe's best round minus this one's, paired by problem."""
    difference_last: Estimate | None = None

    def as_json(self) -> dict[str, Any]:
        """It as plain values."""
        estimates = ("accuracy", "accuracy_last", "difference", "difference_last")
        told = {name: getattr(self, name) for name in ("name", "headline", "folder", "best", "last")}
        for name in estimates:
            value: Estimate | None = getattr(self, name)
            told[name] = None if value is None else value._asdict()
        counts = {"sampled_tokens": self.spent.sampled, "trained_tokens": self.spent.trained, "rows": self.spent.rows}
        return {**told, **counts, "rounds": self.spent.rounds}


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """A recipe beside its controls."""

    split: str
    recipe: Result
    controls: tuple[Result, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    """Control -> why the recipe can't have it."""
    failed: dict[str, str] = field(default_factory=dict)
    """Control -> why it has no result; the same command tries again."""

    def as_json(self) -> dict[str, Any]:
        """It as plain values: what `controls.json` holds."""
        return {
            "format": 1,
            "split": self.split,
            "recipe": self.recipe.as_json(),
            "controls": [each.as_json() for each in self.controls],
            "left_out": [{"name": name, "why": why} for name, why in self.left_out.items()],
            "failed": [{"name": name, "why": why} for name, why in self.failed.items()],
        }


def run_beside(prepared: launch.Prepared, watcher: Watcher) -> Beside:
    """Run the controls of a finished run that can be, one after the other, and write down how they compare.

    What was done before is not done again. A control that fails is noted, and the next one goes on.
    """
    root = prepared.store.root
    figures = figures_of(prepared)
    split = "test" if prepared.splits.test else "valid"
    own = _Measuring(root, split, _evaluating(prepared.job))
    recipe = own.result(root, prepared.job.file.recipe, "the recipe itself", own.stage, None)
    controls: list[Result] = []
    left_out: dict[str, str] = {}
    failed: dict[str, str] = {}

    def found() -> Beside:
        return Beside(split=split, recipe=recipe, controls=tuple(controls), left_out=left_out, failed=failed)

    for name, control in CONTROLS.items():
        out = root / FOLDER / name
        try:
            _check_stored(out, spec(name, figures))
            made = _prepared(prepared, name, figures)
            watcher.say(f"control {name}: {control.headline}")
            if not made.store.exists():
                share(prepared.store, made, 0, [f"control was not set, is {name}"])
            if stopped := made.execute(watcher).ended:
                failed[name] = f"it stopped: {stopped}"
            else:
                controls.append(own.result(out, name, control.headline, control.evaluate or own.stage, recipe))
        except LeftOut as reason:
            left_out[name] = str(reason)
        except SelftrainError as error:
            failed[name] = str(error).partition("\n")[0]
        prepared.store.write_json(root / FILE, found().as_json())
    return found()


def figures_of(prepared: launch.Prepared) -> Figures:
    """Return what a finished run has come to."""
    store = prepared.store
    run = launch.Run.open(store.root)
    sums = spent(store)
    lengths = [run.metric("mean_length", split=split, round=0) for split in ("test", "valid")]
    verdicts = [f.columns(Verdict, ["answer"]) for f in store.stages(0).values() if f.files(Verdict)]
    return replace(
        _expected(prepared),
        rounds=sums.rounds,
        sampled=sums.sampled,
        trained=sums.trained,
        kept=sums.kept,
        steps=sums.steps,
        row=round(sums.row, 2),
        gold=_gold(prepared, store.root / run.checkpoint(0).path),
        response=round(next((each.value for each in lengths if each), 0.0), 2),
        answers=any(table.column(0).null_count < table.num_rows for table in verdicts),
    )


def planned(prepared: launch.Prepared) -> list[str]:
    """Return what the controls of a run that is still to come would cost, at most, or why one is left out."""
    figures = _expected(prepared)
    lines = []
    for name, control in CONTROLS.items():
        try:
            plan = _prepared(prepared, name, figures).plan
            cost = f"about {plan.tokens:,} tokens, {duration(plan.seconds)}, {plan.bytes / 1e9:.1f} GB of disk"
            lines.append(f"{'control':<9} {name}: {control.headline}; {cost}")
        except LeftOut as reason:
            lines.append(f"{'control':<9} {name}: left out: {reason}")
        except SelftrainError as error:
            lines.append(f"{'control':<9} {name}: cannot be: {error}")
    return lines


def table(found: Beside) -> Table:
    """Return the recipe beside its controls, narrow enough for 80 columns."""
    out = Table(header_style="bold", pad_edge=False)
    for name in ("run", f"best, {found.split}", "recipe ahead by, points", "rows", "sampled", "trained"):
        out.add_column(name, justify="left" if name == "run" or "ahead" in name else "right")
    for each in (found.recipe, *found.controls):
        gain = each.difference
        ahead = f"{100 * gain.value:+.1f} ({100 * gain.low:+.1f} to {100 * gain.high:+.1f})" if gain else ""
        spent = (each.spent.rows, each.spent.sampled, each.spent.trained)
        out.add_row(each.name, f"{100 * each.accuracy.value:.1f} %", ahead, *(f"{count:,}" for count in spent))
    return out


def stored(root: Path) -> dict[str, Any] | None:
    """Return what a run's controls.json says, as `Beside.as_json` has it; None where it has run no controls."""
    path = root / FILE
    return seals.read(path, "delete it: `run --controls` writes it anew") if path.exists() else None


def stored_lines(told: Json) -> list[str]:
    """Return what controls.json says, a line for each control."""
    lines = []
    for each in told["controls"]:
        gain = each["difference"]
        points = [100 * gain[name] for name in ("value", "low", "high")] if gain else []
        ahead = ", recipe ahead by {:+.1f} ({:+.1f} to {:+.1f}) points".format(*points) if points else ""
        lines.append(f"control {each['name']}: {100 * each['accuracy']['value']:.1f} % on {told['split']}{ahead}")
    for name in ("left_out", "failed"):
        lines += [f"control {each['name']}: {name.replace('_', ' ')}: {each['why']}" for each in told[name]]
    return lines


def notes(found: Beside) -> list[str]:
    """Return the lines that stand under the table."""
    told = [f"{name} is left out: {why}" for name, why in found.left_out.items()]
    return told + [f"{name} has failed: {why}; the same command tries again" for name, why in found.failed.items()]


def _prepared(prepared: launch.Prepared, name: str, figures: Figures) -> launch.Prepared:
    """Return a control, checked and ready; raises LeftOut where the recipe can't have it."""
    root = prepared.store.root
    out = root / FOLDER / name
    given = {key: value for key, value in prepared.job.as_file().items() if key not in ("recipe", "out", "control")}
    given["sampler"] = prepared.job.file.sampler
    job = config.load(prepared.job.file.recipe, {**given, "control": spec(name, figures), "out": str(out)})
    return launch.prepare(job)


def _check_stored(out: Path, asked: Json) -> None:
    """Refuse a control that stands beside the run as it was once, with other rounds or rows."""
    if Store(out).exists() and read_file(out / "run.yaml").get("control") != asked:
        raise StoreError(
            f"{out} was made beside this run as it was before (other rounds or rows); delete that folder"
            f" (rm -r {shlex.quote(str(out))}), and the same command makes it anew"
        )


def _expected(prepared: launch.Prepared) -> Figures:
    """What is known of a run before it runs, and what is usual for the rest."""
    splits, recipe = prepared.splits, prepared.job.recipe
    draw = min(recipe.draw or len(splits.train), len(splits.train))
    costs = [stage.cost(draw) for stage in recipe.stages(History()) if "train" in stage.splits]
    sampled = USUAL * sum(cost.tokens for cost in costs)
    return Figures(
        rounds=recipe.rounds,
        sampled=round(recipe.rounds * sampled),
        gold=float(any(problem.solution for problem in splits.train)),
        held_out=max(1, len(splits.valid) + len(splits.test)),
        response=sampled / max(1, sum(cost.samples for cost in costs)),
        pool=len(splits.train),
    )


def _gold(prepared: launch.Prepared, base: Path) -> float:
    """The mean tokens of a gold solution, its end included; 0 where there is none."""
    solutions = [problem.solution for problem in prepared.splits.train if problem.solution][:SOLUTIONS]
    if not solutions:
        return 0.0
    tokens = prepared.backends.tokens(base)
    return round(sum(len(tokens.encode(text)) + 1 for text in solutions) / len(solutions), 2)


def _evaluating(job: config.Job) -> str:
    """The stage that measures the recipe."""
    measuring = [stage for stage in baseline(job.recipe.stages(History())) if stage.outcomes]
    if not measuring:
        raise StoreError("the recipe measures nothing, so that no control can be compared with it")
    return measuring[0].name


class _Measuring(NamedTuple):
    """How results are read: of the recipe's folder, on one split, by the stage that measures the recipe."""

    root: Path
    split: str
    stage: str

    def result(self, out: Path, name: str, headline: str, stage: str, recipe: Result | None) -> Result:
        """Read how a run came out, beside the recipe's own result where that is given."""
        run = launch.Run.open(out)
        best, last = run.best, run.history.rounds[-1].number
        values = [self._outcomes(out, number, stage) for number in (best, last)]
        sums = spent(Store(out))
        if stage != self.stage:
            # Without training the budget goes into the answers themselves.
            sums = replace(sums, sampled=_sampled_by(Store(out), stage))
        differences: list[Estimate | None] = [None, None]
        if recipe is not None:
            theirs = [self._outcomes(self.root, number, self.stage) for number in (recipe.best, recipe.last)]
            differences = [_difference(one, other) for one, other in zip(theirs, values, strict=True)]
        return Result(
            name=name,
            headline=headline,
            folder=str(out.relative_to(self.root)),
            best=best,
            last=last,
            accuracy=statistics.mean(list(values[0].values())),
            accuracy_last=statistics.mean(list(values[1].values())),
            spent=sums,
            difference=differences[0],
            difference_last=differences[1],
        )

    def _outcomes(self, out: Path, number: int, stage: str) -> dict[str, float]:
        """Problem -> its outcome by the stage's headline."""
        rows = [each for each in Store(out).stages(number)[stage].read(Outcome, 0) if each.split == self.split]
        return {each.problem: each.value for each in rows if each.name == rows[0].name}


def _sampled_by(store: Store, stage: str) -> int:
    folders = [(name, each) for number in store.rounds() for name, each in store.stages(number).items()]
    return sum(int(each.summary().get("tokens", 0)) for name, each in folders if name.startswith(f"{stage}-"))


def _difference(one: dict[str, float], other: dict[str, float]) -> Estimate | None:
    """One minus other, paired by problem; None where the problems are others."""
    if one.keys() != other.keys():
        return None
    return statistics.difference(list(one.values()), [other[id] for id in one])
