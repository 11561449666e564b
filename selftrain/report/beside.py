"""The recipe beside its controls, where the run has run them."""

from typing import Any

from selftrain.loop import controlled
from selftrain.report import figures
from selftrain.report.parts import Figure, Grid, Section, Table, Text, count, interval, percent
from selftrain.report.view import View


def section(view: View) -> Section | None:
    """How far the recipe is ahead of each control, at what cost; None where none has run."""
    told = controlled.stored(view.run.root)
    if told is None:
        return None
    split, runs = told["split"], [told["recipe"], *told["controls"]]
    table = Table(
        head=(
            "run",
            f"best round on {split}",
            "recipe ahead by, points",
            "rows",
            "tokens sampled",
            "tokens trained on",
        ),
        rows=[
            (
                each["name"],
                _with(each["accuracy"]),
                "" if each["difference"] is None else _points(each["difference"]),
                count(each["rows"]),
                count(each["sampled_tokens"]),
                count(each["trained_tokens"]),
            )
            for each in runs
        ],
        caption=f"Best rounds on {split}, with 95 % intervals; differences are paired by problem",
    )
    rows = [
        {"name": each["name"], **{name: 100 * each["difference"][name] for name in ("value", "low", "high")}}
        for each in told["controls"]
        if each["difference"] is not None
    ]
    parts: list[Text | Table | Grid] = [table]
    if rows:
        figure = Figure(
            id="controls",
            title="How far the recipe is ahead of each control",
            says="At equal budget, with 95 % intervals. One that reaches 0 is not told apart from the recipe.",
            spec=figures.differences(rows, x="Points of accuracy"),
        )
        parts.insert(0, Grid(figures=[figure]))
    for name, word in (("left_out", "left out"), ("failed", "failed")):
        parts += [Text(text=f"{each['name']}: {word}: {each['why']}") for each in told[name]]
    return Section(id="controls", title="Beside controls", parts=parts)


def _with(found: dict[str, Any]) -> str:
    return f"{percent(found['value'])} ({interval(found['low'], found['high'])})"


def _points(found: dict[str, Any]) -> str:
    return f"{100 * found['value']:+.1f} ({interval(found['low'], found['high'])})"
