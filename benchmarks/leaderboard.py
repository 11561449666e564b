"""Every recipe beside its natural control, on nano or by another preset: same checkpoint, problems and budget.

python -m benchmarks.leaderboard --work WORK [--seeds 5] [--rounds 2] [--jobs 2] [--only rest_em star]
                                 [--preset nano] [--rates 0.0005 0.003]

With --only, the other lines of the preset's table stay as an earlier call with the same sizes left them.

The control is the one that the recipe names. It gets the recipe's budget: as many sampled tokens (by its samples a
problem; proposals, judgements, critiques and revisions of the recipe count) and as many trained tokens (by its steps a
round). Both choose their learning rate from the same few by accuracy on valid, in a seed that is used for nothing
else; of one rate there is no choice. Each counts with its last round: no gate chooses for it. Differences are paired by
test problem; their intervals are over seeds and problems, their p-values corrected for the number of lines (Holm). Runs
lie in WORK and go on where an earlier call was stopped.
"""

import argparse
import csv
import fcntl
import multiprocessing
import os
import shlex
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from benchmarks.paired import RESULTS, against, commit, machine, outcomes
from selftrain import plugins, statistics
from selftrain.errors import SelftrainError
from selftrain.loop import config
from selftrain.loop.budget import Spent, spent
from selftrain.loop.launch import Run
from selftrain.loop.plan import cores
from selftrain.records import digest
from selftrain.store import Store

PRESETS = {"code_dpo": "nano-programs"}
TUNING = 97
"""The seed in which a learning rate is chosen."""
NEAR = 0.15
"""Budgets that differ by no more are equal."""


@dataclass(frozen=True)
class Line:
    """What came of one recipe beside its control."""

    recipe: str
    control: str
    claim: str
    rates: str
    base: str
    last: str
    control_last: str
    sampled: str
    trained: str
    gain: str
    over: str
    value: float
    low: float
    high: float
    p: float
    commit: str
    sizes: str
    corrected: float = 1.0

    @property
    def verdict(self) -> str:
        """Whether the paper's direction is seen here."""
        if self.low <= 0 <= self.high:
            return "the interval holds 0"
        seen = "better" if self.value > 0 else "worse"
        chance = "" if self.corrected < 0.05 else ", not after correction"
        return ("as claimed" if seen == self.claim else "against the claim") + chance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=cores())
    parser.add_argument("--pool", type=int, default=150)
    parser.add_argument("--valid", type=int, default=100)
    parser.add_argument("--test", type=int, default=200)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--preset", default="nano")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.0005, 0.003])
    asked = parser.parse_args()
    kept = earlier(asked) if asked.only else []
    names = asked.only or [n for n in sorted(plugins.available("recipe")) if config.load(n, {}).recipe.control]
    # Engines of two threads beside each other wait for one another: runs side by side have one core each.
    if asked.jobs > 1:
        os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(asked.jobs, multiprocessing.get_context("spawn")) as pool:
        found = [each for each in pool.map(line, names, [asked] * len(names)) if each is not None]
    found += [each for each in kept if each.recipe not in {new.recipe for new in found}]
    corrected = statistics.holm([each.p for each in found])
    lines = [Line(**{**asdict(each), "corrected": p}) for each, p in zip(found, corrected, strict=True)]
    write(sorted(lines, key=lambda each: -each.value), asked)


def sizes(asked: argparse.Namespace) -> str:
    return (
        f"--seeds {asked.seeds} --rounds {asked.rounds} --pool {asked.pool} --valid {asked.valid} --test {asked.test}"
        f" --rates {' '.join(f'{rate:g}' for rate in asked.rates)}"
    )


def earlier(asked: argparse.Namespace) -> list[Line]:
    """Return the lines of the table as it is; those of other sizes can't stand beside new ones."""
    table = _table(asked).with_suffix(".csv")
    if not table.exists():
        return []
    with table.open(newline="", encoding="utf-8") as file:
        found = TypeAdapter(list[Line]).validate_python(list(csv.DictReader(file)))
    if others := {each.sizes for each in found} - {sizes(asked)}:
        raise SystemExit(f"{table.name} has lines of other sizes ({', '.join(others)}); move it away, or ask for those")
    return found


def _table(asked: argparse.Namespace) -> Path:
    return RESULTS / f"leaderboard-{asked.preset}"


def line(name: str, asked: argparse.Namespace) -> Line | None:
    """Run a recipe and its control in all seeds; None where it does not run, which is said."""
    try:
        return _line(name, asked)
    except SelftrainError as error:
        print(f"{name}: left out: {error}", flush=True)
        return None


def _line(name: str, asked: argparse.Namespace) -> Line:
    recipe = config.load(name, {}).recipe
    control, *words = shlex.split(recipe.control)
    given = dict(word.split("=", 1) for word in words)
    # What is one round by its paper is one here; a control without a number of its own has as many as the recipe.
    rounds = min(recipe.rounds, asked.rounds)
    mine = Side(name, {}, rounds, PRESETS.get(name, asked.preset), asked)
    theirs = Side(control, given, min(int(given.pop("rounds", rounds)), asked.rounds), mine.preset, asked)
    rate, other_rate = mine.chosen(), theirs.chosen()
    own = [mine.made(seed, learning_rate=rate) for seed in range(asked.seeds)]
    others = [theirs.matched(seed, spent(Store(run.root)), learning_rate=other_rate) for seed, run in enumerate(own)]
    gains = [against(outcomes(run, last(run)), outcomes(run, 0)) for run in own]
    over = [against(outcomes(run, last(run)), outcomes(off, last(off))) for run, off in zip(own, others, strict=True)]
    gain, _ = statistics.nested(gains)
    difference, p = statistics.nested(over)
    mine_spent, equal = ([spent(Store(run.root)) for run in runs] for runs in (own, others))
    return Line(
        recipe=name,
        control=recipe.control,
        claim=recipe.claim,
        rates=f"{rate:g} / {other_rate:g}",
        base=each([accuracy(run, 0) for run in own]),
        last=each([accuracy(run, last(run)) for run in own]),
        control_last=each([accuracy(run, last(run)) for run in others]),
        sampled=f"{mean([s.sampled for s in mine_spent]):,} / {mean([s.sampled for s in equal]):,}",
        trained=f"{mean([s.trained for s in mine_spent]):,} / {mean([s.trained for s in equal]):,}",
        gain=points(gain),
        over=points(difference),
        value=difference.value,
        low=difference.low,
        high=difference.high,
        p=p,
        commit=commit(),
        sizes=sizes(asked),
    )


@dataclass(frozen=True)
class Side:
    """A recipe or its control with its own settings, and how it is run."""

    name: str
    settings: dict[str, Any]
    rounds: int
    preset: str
    asked: argparse.Namespace

    def made(self, seed: int, **more: Any) -> Run:
        """Return a run, made first if it isn't there."""
        import selftrain

        settings = {**self.settings, **more}
        asked = self.asked
        size = {"rounds": self.rounds, "seed": seed, "pool": asked.pool, "valid": asked.valid, "test": asked.test}
        out = asked.work / f"{self.name}-{seed}-{digest(settings, size, *{self.preset} - {'nano'})}"
        begun = time.monotonic()
        stages = config.load(self.name, dict(self.settings)).recipe.given()
        gate = {"gate.patience": 99} if any(stage.name == "gate" for stage in stages) else {}
        asked.work.mkdir(parents=True, exist_ok=True)
        with out.with_suffix(".lock").open("w") as lock:  # two lines may share a control, and want it at once
            fcntl.flock(lock, fcntl.LOCK_EX)
            run = selftrain.run(self.name, preset=self.preset, out=str(out), **{**size, **gate, **settings})
        if time.monotonic() - begun > 2:
            print(f"{out.name} {settings}: {time.monotonic() - begun:.0f} s", flush=True)
        return run

    def chosen(self) -> float:
        """Return the learning rate whose last round is best on valid, of equal ones the first."""
        rates: list[float] = self.asked.rates
        if len(rates) == 1:
            return rates[0]
        found = {rate: self.made(TUNING, learning_rate=rate) for rate in rates}
        return max(rates, key=lambda rate: accuracy(found[rate], last(found[rate]), "valid"))

    def matched(self, seed: int, theirs: Spent, **more: Any) -> Run:
        """Return a run with another's budget; as it is by itself where its budget is near to that."""
        plain = self.made(seed, **more)
        own = spent(Store(plain.root))
        found: dict[str, Any] = {}
        if own.sampled and "samples" in config.load(self.name, {}).args and not near(theirs.sampled, own.sampled):
            samples = int(self.settings.get("samples", 8))
            found["samples"] = max(1, round(samples * theirs.sampled / own.sampled))
        if own.trained and theirs.trained and not near(theirs.trained, own.trained):
            steps = sum(sum(each) for each in own.steps.values()) * theirs.trained / own.trained
            found["max_steps"] = max(1, round(steps / self.rounds))
        return self.made(seed, **more, **found) if found else plain


def near(one: int, other: int) -> bool:
    return abs(one - other) <= NEAR * max(one, other)


def last(run: Run) -> int:
    return run.history.rounds[-1].number


def accuracy(run: Run, round: int, split: str = "test") -> float:
    metric = run.metric("accuracy", split=split, round=round)
    return metric.value if metric else 0.0


def each(values: list[float]) -> str:
    return ", ".join(f"{100 * value:.1f}" for value in values)


def mean(values: list[int]) -> int:
    return sum(values) // max(1, len(values))


def points(found: statistics.Estimate) -> str:
    return f"{100 * found.value:+.1f} ({100 * found.low:+.1f} to {100 * found.high:+.1f})"


def write(lines: list[Line], asked: argparse.Namespace) -> None:
    """Write the table as Markdown and CSV, and a plot of the differences."""
    RESULTS.mkdir(exist_ok=True)
    outside = sum(not each.low <= 0 <= each.high for each in lines)
    left = sum(each.corrected < 0.05 for each in lines)
    text = [
        f"# Recipes beside their controls, preset {asked.preset}, {asked.rounds} rounds, {asked.seeds} seeds",
        "",
        f"`python -m benchmarks.leaderboard --work WORK --preset {asked.preset} {sizes(asked)}`",
        "",
        f"Commits {', '.join(sorted({each.commit for each in lines}))} (each line's is in the CSV file),"
        f" {machine()}. Greedy accuracy in % on"
        f" {asked.test} test problems by seed; differences in points with 95 % intervals over seeds and problems."
        f" Of {len(lines)} lines {outside} exclude 0, where {0.05 * len(lines):.1f} would by chance if no recipe"
        f" differed from its control; {left} are left after Holm's correction.",
        "",
        "| recipe | control | claim | base | recipe, last round | control, last round | recipe - base"
        " | recipe - control | p, Holm | seen | sampled tokens | trained tokens | learning rates |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    text += [
        f"| `{e.recipe}` | `{e.control}` | {e.claim} | {e.base} | {e.last} | {e.control_last} | {e.gain} | {e.over}"
        f" | {e.corrected:.3f} | {e.verdict} | {e.sampled} | {e.trained} | {e.rates} |"
        for e in lines
    ]
    table = _table(asked)
    table.with_suffix(".md").write_text("\n".join(text) + "\n", encoding="utf-8")
    with table.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow([*asdict(lines[0]), "verdict"] if lines else [])
        rows.writerows([*asdict(each).values(), each.verdict] for each in lines)
    plot(lines, table.with_suffix(".svg"))


def plot(lines: list[Line], to: Path) -> None:
    """Draw each difference with its interval."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 1 + 0.25 * len(lines)))
    for at, each in enumerate(reversed(lines)):
        axes.plot([100 * each.low, 100 * each.high], [at, at], color="0.5")
        axes.plot([100 * each.value], [at], "o", color="C0" if each.corrected < 0.05 else "0.5")
    axes.set_yticks(range(len(lines)), [f"{e.recipe} - {e.control.split()[0]}" for e in reversed(lines)], fontsize=7)
    axes.axvline(0, color="0.8", zorder=0)
    axes.set_xlabel("points of greedy accuracy on test, 95 % interval; blue: p < 0.05 after Holm")
    figure.tight_layout()
    figure.savefig(to)


if __name__ == "__main__":
    main()
