"""How well the model does on held-out problems, round by round, and what the gate made of it."""

from collections.abc import Iterator
from typing import Any

from selftrain.records import Metric
from selftrain.report import figures
from selftrain.report.parts import Figure, Grid, Section, Table, count, interval, percent
from selftrain.report.view import View


def section(view: View) -> Section:
    """Accuracy and pass@k by round with their intervals, gains, and decisions."""
    parts: list[Figure | Grid | Table] = [_rounds(view)]
    names = sorted({m.name for _, m in _metrics(view) if m.name.rpartition("/")[2] in ("accuracy", "pass@1")})
    parts.append(Grid(figures=[_accuracy(view, name) for name in names]))
    if curves := [figure for split in ("valid", "test") if (figure := _pass_at_k(view, split))]:
        parts.append(Grid(figures=curves))
    parts.append(_every(view))
    return Section(id="accuracy", title="Accuracy by round", parts=parts)


def _metrics(view: View) -> Iterator[tuple[int, Metric]]:
    """Every held-out metric with its round."""
    for result in view.run.history.rounds:
        yield from ((result.number, m) for m in result.metrics if m.split)


def _accuracy(view: View, name: str) -> Figure:
    rows = [
        {
            "round": number,
            "series": m.split,
            "value": 100 * m.value,
            "low": None if m.low is None else 100 * m.low,
            "high": None if m.high is None else 100 * m.high,
        }
        for number, m in _metrics(view)
        if m.name == name and m.value == m.value
    ]
    table = Table(
        head=("round", "split", "value", "95 % interval", "problems"),
        rows=[
            (number, m.split, percent(m.value), interval(m.low, m.high), count(m.n))
            for number, m in _metrics(view)
            if m.name == name
        ],
    )
    return Figure(
        id=f"accuracy-{name.replace('/', '-').replace('@', '-')}",
        title=f"{name[:1].upper()}{name[1:]} on held-out problems",
        says="Lines with 95 % intervals (bootstrap over problems). Nothing steers by test; the gate reads valid.",
        spec=figures.by_round(rows, y=f"{name} (%)", series="Split"),
        table=table,
    )


def _pass_at_k(view: View, split: str) -> Figure | None:
    rows: list[dict[str, Any]] = [
        {"at": int(k), "series": f"round {number}", "value": 100 * m.value}
        for number, m in _metrics(view)
        if m.split == split and (k := m.name.removeprefix("pass@")).isdigit() and m.value == m.value
    ]
    if len({row["at"] for row in rows}) < 2:
        return None
    return Figure(
        id=f"pass-at-k-{split}",
        title=f"pass@k on {split}",
        says="The chance that one of k samples is right (unbiased, Chen et al. 2021). Curves that cross say that the"
        " model has become surer and knows less.",
        spec=figures.curves(rows, x="k (samples a problem)", y="pass@k (%)", series="Round", log=True, zero=True),
        table=Table(
            head=("round", "k", "pass@k"),
            rows=[(row["series"], row["at"], f"{row['value']:.1f} %") for row in rows],
        ),
    )


def _rounds(view: View) -> Table:
    """A line a round: headline, gain over base, rows, and the gate's word."""
    rows = []
    for result in view.run.history.rounds:
        find = {(m.name, m.split): m for m in result.metrics}
        valid, test = find.get(("accuracy", "valid")), find.get(("accuracy", "test"))
        gain = find.get(("accuracy_gain_base", "test")) or find.get(("accuracy_gain_base", "valid"))
        trained = [m.value for m in result.metrics if m.name.endswith("/rows") and not m.split]
        decision = result.decision
        rows.append(
            (
                f"{result.number}{' (best)' if result.number == view.run.best else ''}",
                _with(valid),
                _with(test),
                "" if gain is None else f"{100 * gain.value:+.1f} ({interval(gain.low, gain.high)})",
                count(sum(trained)) if trained else "",
                f"{decision.outcome.replace('_', ' ')}: {decision.why}" if decision else "",
            )
        )
    head = ("round", "valid", "test", "gain over base, points", "rows trained on", "gate")
    return Table(head=head, rows=rows, caption="Rounds, with 95 % intervals")


def _with(metric: Metric | None) -> str:
    return "" if metric is None else f"{percent(metric.value)} ({interval(metric.low, metric.high)})"


def _every(view: View) -> Table:
    """All held-out metrics of base and the round shown."""
    last = {(m.name, m.split): m for number, m in _metrics(view) if number == view.shown}
    base = {(m.name, m.split): m for number, m in _metrics(view) if number == 0}
    rows = [
        (name, split, _plain(base.get((name, split))), _plain(metric), count(metric.n))
        for (name, split), metric in last.items()
    ]
    head = ("metric", "split", "base", f"round {view.shown}", "n")
    return Table(head=head, rows=rows, caption="Every metric on held-out problems, as stored", folded=True)


def _plain(metric: Metric | None) -> str:
    if metric is None or metric.value != metric.value:
        return ""
    said = interval(metric.low, metric.high, scale=1, digits=3)
    return f"{metric.value:.3f}{f' ({said})' if said else ''}"
