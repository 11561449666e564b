"""Charts as Vega-Lite specifications: plain data, without colours and width, which the page's theme gives.

Series differ by shape and dash too, never by colour alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
Spec = dict[str, Any]

HEIGHT = 230
SPREAD = 0.07
"""How far the series of a round stand apart, in rounds, so that their intervals don't cover each other."""


def by_round(rows: Sequence[Row], *, y: str, series: str, zero: bool = True) -> Spec:
    """A line for each series over rounds with its intervals; rows have round, series, value, low, high (None: none)."""
    names = list(dict.fromkeys(row["series"] for row in rows))
    spread = {name: SPREAD * (at - (len(names) - 1) / 2) for at, name in enumerate(names)}
    values = [{**row, "at": row["round"] + spread[row["series"]], "dash": row["series"]} for row in rows]
    rounds = sorted({row["round"] for row in rows})
    ticks = rounds if len(rounds) <= 12 else rounds[:: -(-len(rounds) // 12)]
    x = {
        "field": "at",
        "type": "quantitative",
        "title": "Round (0: base model)",
        "axis": {"values": ticks, "format": "d", "grid": False},
        "scale": {"domain": [rounds[0] - 0.3, rounds[-1] + 0.3], "nice": False} if rounds else {},
    }
    up = {"type": "quantitative", "title": y, "scale": {"zero": zero}}
    colour = _colour(names, series)
    layers: list[Spec] = []
    layers += _intervals(rows, {"x": x, "color": colour}, up)
    layers += [
        {
            "mark": {"type": "line", "strokeWidth": 2},
            "encoding": {"x": x, "y": {**up, "field": "value"}, "color": colour, "strokeDash": _dash()},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 64, "opacity": 1},
            "encoding": {
                "x": x,
                "y": {**up, "field": "value"},
                "color": colour,
                "shape": _shape(names, series),
                "tooltip": _tips(
                    ("round", "Round"), ("series", series or "Series"), ("value", y), ("low", "Low"), ("high", "High")
                ),
            },
        },
    ]
    return {"data": {"values": values}, "height": HEIGHT, "layer": layers}


def curves(rows: Sequence[Row], *, x: str, y: str, series: str, log: bool = False, zero: bool = False) -> Spec:
    """A line for each series over steps; rows have at, series, value."""
    names = list(dict.fromkeys(row["series"] for row in rows))
    across: Spec = {"field": "at", "type": "quantitative", "title": x, "axis": {"grid": False, "tickMinStep": 1}}
    if log:
        ticks = sorted({row["at"] for row in rows})
        across |= {"scale": {"type": "log", "base": 2}, "axis": {"grid": False, "values": ticks, "format": "d"}}
    up = {"field": "value", "type": "quantitative", "title": y, "scale": {"zero": zero}}
    colour = _colour(names, series)
    layers: list[Spec] = [
        {
            "mark": {"type": "line", "strokeWidth": 1.8},
            "encoding": {"x": across, "y": up, "color": colour, "strokeDash": _dash()},
        }
    ]
    if len(rows) <= 400:
        layers.append(
            {
                "mark": {"type": "point", "filled": True, "size": 40, "opacity": 1},
                "encoding": {
                    "x": across,
                    "y": up,
                    "color": colour,
                    "shape": _shape(names, series),
                    "tooltip": _tips(("at", x), ("series", series), ("value", y)),
                },
            }
        )
    values = [{**row, "dash": row["series"]} for row in rows]
    return {"data": {"values": values}, "height": HEIGHT, "layer": layers}


def stacked(
    rows: Sequence[Row], *, x: str, y: str, series: str, order: Sequence[str], across: bool = True, kinds: Sequence[str]
) -> Spec:
    """Bars of parts, each part labelled; rows have name, part, value. `across`: bars lie, names stand left of them."""
    base = [{**row, "rank": list(kinds).index(row["part"])} for row in rows]
    totals: dict[str, float] = {}
    for row in rows:
        totals[row["name"]] = totals.get(row["name"], 0) + row["value"]
    most = max(totals.values(), default=0)
    shown = [{**row, "label": _label(row, most), "ink": f"ink-{row['rank']}"} for row in base]
    names: Spec = {"field": "name", "type": "nominal", "sort": list(order), "title": (y if across else x) or None}
    names["axis"] = {"labelLimit": 170, "grid": False} if across else {"labelAngle": 0, "grid": False}
    numbers: Spec = {"field": "value", "type": "quantitative", "title": x if across else y, "stack": "zero"}
    numbers["axis"] = {"tickMinStep": 1, "format": ",d" if most >= 5 else ".2~f", "tickCount": 5}
    length, place = ("x", "y") if across else ("y", "x")
    common = {place: names, length: numbers, "order": {"field": "rank"}}
    bar = {
        "mark": {"type": "bar", "stroke": "panel", "strokeWidth": 1},
        "encoding": {
            **common,
            "color": _parts(rows, kinds, series),
            "tooltip": _tips(("name", y if across else x), ("part", series), ("value", x if across else y)),
        },
    }
    text = {
        "mark": {"type": "text", "fontSize": 11, "fontWeight": 600},
        "encoding": {
            **common,
            length: {**numbers, "bandPosition": 0.5},
            "text": {"field": "label"},
            "color": {"field": "ink", "type": "nominal", "scale": None},
            "detail": {"field": "part"},
        },
    }
    height = 12 + 30 * len(totals) if across else HEIGHT
    small = [
        {"name": name, "end": total, "label": _beside([row for row in base if row["name"] == name], most)}
        for name, total in totals.items()
        if across and not any(row["label"] for row in shown if row["name"] == name)
    ]
    aside = {
        "data": {"values": small},
        "mark": {"type": "text", "align": "left", "dx": 5, "fontSize": 11, "color": "plain-text"},
        "encoding": {
            place: names,
            length: {"field": "end", "type": "quantitative"},
            "text": {"field": "label"},
        },
    }
    return {"data": {"values": shown}, "height": height, "layer": [bar, text, *([aside] if small else [])]}


def _beside(rows: Sequence[Row], most: float) -> str:
    """What stands beside a bar that is too short to be written on."""
    said = [(row["part"].partition(",")[0], _number(row["value"], most)) for row in rows if row["value"]]
    return ", ".join(f"{part} {number}" for part, number in said)


def _number(value: float, most: float) -> str:
    return f"{value:,.0f}" if most >= 10 or value == int(value) else f"{value:.1f}"


def _label(row: Row, most: float) -> str:
    """What stands on a bar's part: its name too, where there is room."""
    share = row["value"] / most if most else 0
    number = _number(row["value"], most)
    if share < 0.07:
        return ""
    named = f"{row['part'].partition(',')[0]}: {number}"
    return named if share > 0.03 * len(named) else number


def _intervals(rows: Sequence[Row], encoding: Spec, up: Spec) -> list[Spec]:
    if all(row["low"] is None or row["high"] is None for row in rows):
        return []
    return [
        {
            "mark": {"type": "rule", "strokeWidth": 1.5, "opacity": 0.8},
            "transform": [{"filter": "isValid(datum.low) && isValid(datum.high)"}],
            "encoding": {**encoding, "y": {**up, "field": "low"}, "y2": {"field": "high"}},
        }
    ]


def _band(band: tuple[float | None, float | None], up: Spec) -> list[Spec]:
    low, high = band
    encoding: Spec = {}
    if low is not None:
        encoding["y"] = {**up, "datum": low}
    if high is not None:
        encoding["y2" if low is not None else "y"] = {"datum": high} if low is not None else {**up, "datum": high}
    if not encoding:
        return []
    if low is None or high is None:
        return [{"mark": {"type": "rule", "strokeDash": [3, 3], "color": "band-line"}, "encoding": encoding}]
    return [{"mark": {"type": "rect", "color": "band-fill", "opacity": 0.35}, "encoding": encoding}]


def _legend(names: Sequence[str], title: str) -> Spec | None:
    return {"title": title or None, "orient": "bottom", "columns": 3, "labelLimit": 220} if len(names) > 1 else None


def _colour(names: Sequence[str], title: str) -> Spec:
    return {"field": "series", "type": "nominal", "scale": {"domain": list(names)}, "legend": _legend(names, title)}


def _parts(rows: Sequence[Row], kinds: Sequence[str], title: str) -> Spec:
    """Every kind has its colour, here or not, so that it is the same in all charts; the legend has those that are."""
    here = [kind for kind in kinds if any(row["part"] == kind for row in rows)]
    legend = _legend(here, title)
    return {
        "field": "part",
        "type": "nominal",
        "scale": {"domain": list(kinds)},
        "legend": legend and {**legend, "values": here},
    }


def _shape(names: Sequence[str], title: str) -> Spec:
    return {"field": "series", "type": "nominal", "scale": {"domain": list(names)}, "legend": _legend(names, title)}


def _dash() -> Spec:
    # Without a domain: legends of one domain are made one, dashes and points on each other.
    return {"field": "dash", "type": "nominal", "legend": None}


def _tips(*fields: tuple[str, str]) -> list[Spec]:
    return [{"field": name, "title": title} for name, title in fields]


def differences(rows: Sequence[Row], *, x: str) -> Spec:
    """A point with its interval for each name, and a line at 0; rows have name, value, low, high."""
    across: Spec = {"type": "quantitative", "title": x}
    names: Spec = {"field": "name", "type": "nominal", "sort": None, "title": None, "axis": {"labelLimit": 170}}
    tips = _tips(("name", "Run"), ("value", x), ("low", "Low"), ("high", "High"))
    layers: list[Spec] = [
        {
            "mark": {"type": "rule", "strokeDash": [3, 3], "color": "band-line"},
            "encoding": {"x": {**across, "datum": 0}},
        },
        {
            "mark": {"type": "rule", "strokeWidth": 2},
            "encoding": {"x": {**across, "field": "low"}, "x2": {"field": "high"}, "y": names},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
            "encoding": {"x": {**across, "field": "value"}, "y": names, "tooltip": tips},
        },
    ]
    return {"data": {"values": list(rows)}, "height": 20 + 30 * len(rows), "layer": layers}


def reading(
    rows: Sequence[Row], *, y: str, band: tuple[float | None, float | None] | None, rounds: Sequence[int]
) -> Spec:
    """A monitor's line over rounds in its band; what alarms is a cross in another colour."""
    x: Spec = {
        "field": "round",
        "type": "quantitative",
        "title": "Round",
        "axis": {"values": list(rounds)[:: -(-len(rounds) // 10)], "format": "d", "grid": False},
        "scale": {"domain": [rounds[0] - 0.3, rounds[-1] + 0.3], "nice": False},
    }
    up: Spec = {"type": "quantitative", "title": y, "scale": {"zero": False}}
    kinds = ("reading", "alarm")
    value = {"x": x, "y": {**up, "field": "value"}}
    layers = _band(band, up) if band is not None else []
    layers += _intervals(rows, {"x": x}, up)
    layers += [
        {"mark": {"type": "line", "strokeWidth": 1.5}, "encoding": value},
        {
            "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1},
            "encoding": {
                **value,
                "color": {"field": "series", "type": "nominal", "scale": {"domain": list(kinds)}, "legend": None},
                "shape": {
                    "field": "series",
                    "type": "nominal",
                    "scale": {"domain": list(kinds), "range": ["circle", "cross"]},
                    "legend": None,
                },
                "tooltip": _tips(("round", "Round"), ("value", y), ("low", "Low"), ("high", "High"), ("series", "Is")),
            },
        },
    ]
    return {"data": {"values": list(rows)}, "height": 130, "layer": layers}
