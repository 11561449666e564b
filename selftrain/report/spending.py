"""Where time, tokens and money went, by stage and round."""

from collections import defaultdict

from selftrain.loop.plan import duration
from selftrain.report import figures
from selftrain.report.parts import Figure, Grid, Section, Table, count
from selftrain.report.view import View

LEAST = 0.5
"""Seconds below which a stage has no line."""


def section(view: View, price: float | None = None) -> Section:
    """Wall time, sampled and trained tokens by stage, and what that cost; `price` is an hour's of the machine."""
    parts: list[Grid | Table] = [Grid(figures=[_time(view), _tokens(view)]), _table(view, price)]
    return Section(id="spending", title="Time, tokens, cost", parts=parts)


def spent(view: View) -> dict[tuple[int, str], dict[str, float]]:
    """Round and stage -> seconds of wall time and work, tokens sampled; of finished stages."""
    return {
        (number, name): {
            "wall": float(said.get("wall_seconds", 0)),
            "busy": float(said.get("busy_seconds", 0)),
            "tokens": float(said.get("tokens", 0)),
        }
        for number in view.store.rounds()
        for name, folder in view.store.stages(number).items()
        if (said := folder.summary())
    }


def _trained(view: View) -> dict[tuple[int, str], float]:
    return {
        (result.number, m.name.removesuffix("/tokens")): m.value
        for result in view.run.history.rounds
        for m in result.metrics
        if m.name.endswith("/tokens") and not m.split
    }


def _stacks(found: dict[tuple[int, str], float], scale: float) -> tuple[list[dict[str, object]], list[str], list[str]]:
    """Rows for a chart of stages by round, its names, and its parts; stages of little weight are one part."""
    total: dict[str, float] = defaultdict(float)
    for (_, stage), value in found.items():
        total[stage] += value
    least = sum(total.values()) / 100
    shown = [name for name, _ in sorted(total.items(), key=lambda item: -item[1])[:5] if total[name] > least]
    rows: dict[tuple[int, str], float] = defaultdict(float)
    for (number, stage), value in found.items():
        rows[number, stage if stage in shown else "other"] += value * scale
    other = sum(value for (_, part), value in rows.items() if part == "other")
    kinds = [*shown, *(["other"] if other > least * scale else [])]
    names = [f"round {number}" for number in sorted({number for number, _ in found})]
    return (
        [{"name": f"round {n}", "part": part, "value": value} for (n, part), value in rows.items() if part in kinds],
        names,
        kinds,
    )


def _time(view: View) -> Figure:
    seconds = {key: each["wall"] for key, each in spent(view).items()}
    unit, scale = ("Minutes", 1 / 60) if sum(seconds.values()) > 600 else ("Seconds", 1.0)
    rows, names, kinds = _stacks(seconds, scale)
    return Figure(
        id="time",
        title="Wall time by stage",
        says="Stages that ran as one pipeline count under its first.",
        spec=figures.stacked(rows, x=unit, y="", series="Stage", order=names, kinds=kinds),
    )


def _tokens(view: View) -> Figure:
    tokens = {key: each["tokens"] for key, each in spent(view).items()}
    tokens |= {(number, f"{stage} (trained on)"): value for (number, stage), value in _trained(view).items()}
    rows, names, kinds = _stacks(tokens, 1)
    return Figure(
        id="tokens",
        title="Tokens sampled and trained on",
        says="Sampled tokens by stage, and tokens in the loss of each training.",
        spec=figures.stacked(rows, x="Tokens", y="", series="Stage", order=names, kinds=kinds),
    )


def _table(view: View, price: float | None) -> Table:
    found, trained = spent(view), _trained(view)
    cores = int(view.environment.get("cores", 0))
    total = sum(each["wall"] for each in found.values())

    def line(label: tuple[str | int, str], wall: float, busy: float, tokens: float, learned: float) -> list[str | int]:
        share = f"{100 * wall / total:.0f} %" if total else ""
        hours = f"{wall * cores / 3600:.3f}" if cores else ""
        cost = [] if price is None else [f"{wall / 3600 * price:.4f}"]
        said = [duration(each) if each >= LEAST else "" for each in (wall, busy)]
        counts = [count(each) if each else "" for each in (tokens, learned)]
        return [*label, said[0], share, said[1], hours, *counts, *cost]

    rows = [
        line(key, each["wall"], each["busy"], each["tokens"], trained.get(key, 0.0))
        for key, each in found.items()
        if each["wall"] >= LEAST or each["busy"] >= LEAST or each["tokens"]
    ]
    wall, busy, tokens = (sum(each[name] for each in found.values()) for name in ("wall", "busy", "tokens"))
    rows.append(line(("all", ""), wall, busy, tokens, sum(trained.values())))
    head = ("round", "stage", "wall time", "share", "work", "core-hours", "tokens sampled", "tokens trained on")
    return Table(
        head=(*head, *(() if price is None else (f"cost at {price:g} an hour",))),
        rows=rows,
        caption="By round and stage, without those under half a second. Work is summed over tasks that ran side by side"
        + ("; `--price N` adds a column of what it cost at N an hour" if price is None else ""),
    )
