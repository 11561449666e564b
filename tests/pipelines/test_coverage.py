"""The table of what is covered: every recipe that it names is there, and every composition that it writes out fits."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from selftrain import pairings, plugins, proposals, rules, stages
from selftrain.recipe import FromData, Model, Recipe

TABLE = Path(plugins.find("recipe", "rest_em").path).with_name("README.md")
ROWS = {
    "yes": "1 2 3 4 5 6 9 10 14 15 16 17 18 19 24 30 31 34 37 38 44 45 48 52 56 65 89 91 98 99 100 101 102 106 107",
    "partly": "11 21 26 28 40 42 47 50 51 53 55 57 58 70 82 86 88 90 92 94 108 109 112 115 116 117 119 123",
    "named besides": "27 49 103",
}


class Line(NamedTuple):
    """A row of the table."""

    row: str
    method: str
    run: str
    needs: str
    state: str


def lines() -> list[Line]:
    """The table's rows."""
    text = TABLE.read_text(encoding="utf-8").partition("## What of METHODS is covered")[2]
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return [Line(*row) for row in rows[2:]]


def known() -> dict[str, Any]:
    """What a composition may be made of."""
    found: dict[str, Any] = {name: getattr(stages, name) for name in stages.__all__}
    for module in (rules, pairings, proposals):
        found |= {name: value for name, value in vars(module).items() if not name.startswith("_")}
    sector = plugins.load("recipe", "sector")
    return found | {"FromData": FromData, "AtOnce": sector.AtOnce, "Window": sector.Window}


def test_every_row_that_the_first_milestones_cover_is_in_it_once() -> None:
    there = [line.row for line in lines() if line.row != "-"]
    assert sorted(there) == sorted({f"M{row}" for rows in ROWS.values() for row in rows.split()})
    assert all(line.method and line.needs for line in lines())


@pytest.mark.parametrize("line", lines(), ids=lambda line: line.method)
def test_a_row_says_what_there_is(line: Line) -> None:
    assert line.state in ("recipe", "control", "composable", "open")
    if line.state in ("recipe", "control"):
        names = line.run.replace("`", "").split(", ")
        assert set(names) <= set(plugins.available("recipe"))
    elif line.state == "composable":
        source = line.run.removeprefix("composable: ").strip("`")
        models = {name: Model() for name in ("policy", "teacher", "weak", "student")}
        made = Recipe(paper="none", models=models, each_round=eval(f"[{source}]", known()))
        made.check()
