"""What came of a run, as a table of rounds, a sentence, and the time by phase."""

from collections import defaultdict
from collections.abc import Mapping

from rich.table import Table

from selftrain.loop.launch import Run
from selftrain.records import Metric
from selftrain.store import Store


def table(run: Run) -> Table:
    """Return the rounds with their intervals, narrow enough for 80 columns."""
    out = Table(title=None, header_style="bold", pad_edge=False)
    for name in ("round", "valid", "test", "95 % interval", "rows", "gate"):
        out.add_column(name, justify="right" if name in ("round", "valid", "test", "rows") else "left", no_wrap=True)
    for result in run.history.rounds:
        find = {(m.name, m.split): m for m in result.metrics}
        test, valid = find.get(("accuracy", "test")), find.get(("accuracy", "valid"))
        shown = test or valid
        rows = find.get(("train/rows", ""))
        decision = result.decision.outcome.replace("_", " ") if result.decision else ""
        mark = " *" if result.number == run.best else ""
        out.add_row(
            f"{result.number}{mark}",
            _percent(valid),
            _percent(test),
            f"{_percent_of(shown.low)} to {_percent_of(shown.high)}" if shown else "",
            f"{rows.value:.0f}" if rows else "",
            decision or ("base" if result.number == 0 else ""),
        )
    return out


def sentence(run: Run, round: int | None = None) -> str:
    """Say in one sentence what a round (by default the best) gained, on test where there is one."""
    shown = run.best if round is None else round
    split = "test" if run.metric("accuracy", split="test", round=0) else "valid"
    before, after = (run.metric("accuracy", split=split, round=r) for r in (0, shown))
    if before is None or after is None:
        return "nothing was measured yet"
    if shown == 0:
        return f"No round is better than the base model ({_percent(before)} accuracy on {split})."
    gain = run.metric("accuracy_gain_base", split=split, round=shown)
    rounds = len(run.history.rounds) - 1
    interval = ""
    if gain is not None and gain.low is not None and gain.high is not None:
        interval = (
            f" ({100 * gain.value:+.1f} points, 95 % interval {100 * gain.low:+.1f} to {100 * gain.high:+.1f},"
            f" {gain.n} problems)"
        )
    return (
        f"Accuracy on {split}: {_percent(before)} -> {_percent(after)}{interval}; best is round {run.best} of {rounds}."
    )


def phases(run: Run) -> Mapping[str, float]:
    """Return wall seconds by phase, over all rounds; stages that ran as one pipeline count under its first."""
    store = Store(run.root)
    spent: dict[str, float] = defaultdict(float)
    for number in store.rounds():
        for name, folder in store.stages(number).items():
            spent[name] += float(folder.summary().get("wall_seconds", 0.0))
    return dict(sorted(spent.items(), key=lambda item: -item[1]))


def _percent(metric: Metric | None) -> str:
    return _percent_of(metric.value) if metric else ""


def _percent_of(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"
