"""From problems to samples to rows: what was kept, what was dropped, and which rule said so."""

from collections.abc import Iterator, Sequence

from selftrain.report import figures
from selftrain.report.parts import Figure, Grid, Section, Table, Text
from selftrain.report.view import View
from selftrain.rules import name_of

DRAWN = 6
"""Rounds that get a chart: the last ones; the table has all."""
GOES_ON, LEAVES = "go on", "end here"


def section(view: View) -> Section:
    """A funnel for each round, a table of all, and what could not be processed."""
    rounds = [number for number in view.store.rounds() if number > 0]
    steps = {number: list(_steps(view, number)) for number in rounds}
    drawn = [_figure(number, steps[number]) for number in rounds if len(steps[number]) > 1][-DRAWN:]
    table = Table(
        head=("round", "step", GOES_ON, LEAVES),
        rows=[(number, name, on, out or None) for number in rounds for name, on, out in steps[number]],
        caption="Every step of every round",
        folded=True,
    )
    parts: list[Text | Grid | Table] = [
        Text(
            text="Each bar is what reached a step; its second part is what ended there. A sample that a rule drops"
            " is stored with the name of that rule."
        ),
        Grid(figures=drawn),
        table,
    ]
    if quarantined := _quarantined(view):
        parts.append(quarantined)
    return Section(id="flow", title="From problems to rows", parts=parts)


def _steps(view: View, number: int) -> Iterator[tuple[str, int, int]]:
    """Step, how many go on, how many end there."""
    of = view.database.rows
    problems = view.database.one(
        "SELECT count(DISTINCT given) FROM attempts WHERE round = ? AND split = 'train'", number
    )
    yield "problems", problems, 0
    for stage, n in of(
        "SELECT stage, count(*) FROM attempts WHERE round = ? AND split = 'train' GROUP BY 1 ORDER BY 1", number
    ):
        yield f"samples: {stage}", n, 0
    picks = of("SELECT stage, rule, side, count(*) FROM picks WHERE round = ? GROUP BY ALL", number)
    # A sample may be in several pairs; it is one sample all the same.
    of_stage = of("SELECT stage, count(DISTINCT sample) FROM picks WHERE round = ? GROUP BY 1 ORDER BY 1", number)
    for stage, left in of_stage:
        here = [row[1:] for row in picks if row[0] == stage]
        dropped = {rule: n for rule, side, n in here if side == "dropped"}
        for rule in _order(view, number, stage, list(dropped)):
            left -= dropped.get(rule, 0)
            yield f"{stage}: {rule}", left, dropped.get(rule, 0)
        for side in ("chosen", "rejected"):
            if n := sum(n for _, each, n in here if each == side):
                yield f"{stage}: {side}, in pairs", n, 0
    for stage, kind, n in of(
        "SELECT stage, kind, count(*) FROM rows WHERE round = ? GROUP BY ALL ORDER BY 1, 2", number
    ):
        yield f"rows: {stage}{'' if kind == 'example' else f' ({kind})'}", n, 0


def _order(view: View, number: int, stage: str, found: Sequence[str]) -> list[str]:
    """The rules of a stage in their order, as its plan has them; those that it doesn't know follow."""
    stages = view.stages(number)
    given = [each for each in stages if each.name == stage] if not isinstance(stages, str) else []
    planned = [name_of(rule) for each in given for rule in getattr(each, "rules", ())]
    # A threshold found in the data stands in the plan as its name, in picks as its value.
    known = [rule for rule in planned if rule in found or "FromData" not in rule]
    return [*known, *(rule for rule in found if rule not in known)]


def _figure(number: int, steps: Sequence[tuple[str, int, int]]) -> Figure:
    rows = [
        {"name": name, "part": part, "value": value}
        for name, on, out in steps
        for part, value in ((GOES_ON, on), (LEAVES, out))
        if value or part == GOES_ON
    ]
    return Figure(
        id=f"flow-{number}",
        title=f"Round {number}",
        says="",
        spec=figures.stacked(
            rows,
            x="Problems, samples, rows",
            y="",
            series="At this step",
            order=[name for name, _, _ in steps],
            kinds=(GOES_ON, LEAVES),
        ),
    )


def _quarantined(view: View) -> Table | None:
    found = view.database.rows(
        "SELECT round, stage, regexp_replace(why, '[0-9]+', 'N', 'g') AS reason, count(*), any_value(why)"
        " FROM quarantined GROUP BY 1, 2, 3 ORDER BY 4 DESC LIMIT 20"
    )
    if not found:
        return None
    return Table(
        head=("round", "stage", "count", "why, for example"),
        rows=[(number, stage, n, why) for number, stage, _, n, why in found],
        caption="What could not be processed, and why",
    )
