"""What the monitors measured, a small chart each with the band it was expected in; alarms first."""

from collections.abc import Mapping, Sequence

from selftrain import monitors
from selftrain.monitors import Reading
from selftrain.report import figures
from selftrain.report.parts import Code, Figure, Grid, Section, Table, Text, interval

Name = tuple[str, str]


def section(readings: Sequence[Reading]) -> Section:
    """What alarms as charts, then, behind a title, what is quiet, and what could not be measured and why."""
    measured = [each for each in readings if each.value is not None]
    names: dict[Name, list[Reading]] = {}
    for each in measured:
        names.setdefault((each.monitor, each.name), []).append(each)
    loud = {name: found for name, found in names.items() if any(each.alarm for each in found)}
    quiet = {name: found for name, found in names.items() if name not in loud}
    said = f"{len(measured)} readings of {len({each.monitor for each in measured})} monitors: "
    tone = "bad" if loud else "good" if measured else ""
    parts: list[Text | Grid | Table | Code] = [Text(text=said + _counted(loud), tone=tone)]
    parts.append(Grid(figures=[_figure(found) for found in loud.values() if len(found) > 1]))
    several = [_figure(found) for found in quiet.values() if len(found) > 1]
    parts.append(Grid(figures=several, folded=f"The {len(several)} that are quiet"))
    if single := [found[0] for found in names.values() if len(found) == 1]:
        parts.append(_single(single))
    if lacking := [each for each in readings if each.value is None]:
        lines = "\n".join(sorted({f"{each.monitor}: {each.note}" for each in lacking}))
        parts.append(Code(title="What this run has no data for", text=lines))
    return Section(id="monitors", title="Monitors", parts=parts)


def told(readings: Sequence[Reading]) -> list[str]:
    """Return a line for each thing that alarms: in which rounds, and what its last alarm says."""
    found: dict[Name, list[Reading]] = {}
    for each in monitors.alarms(readings):
        found.setdefault((each.monitor, each.name), []).append(each)
    return [f"{_rounds([each.round for each in same])}, {_title(same[0])}: {same[-1].alarm}" for same in found.values()]


def _rounds(numbers: Sequence[int]) -> str:
    if len(numbers) == 1:
        return f"Round {numbers[0]}"
    return f"Rounds {', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"


def _counted(loud: Mapping[Name, Sequence[Reading]]) -> str:
    if not loud:
        return "none alarms."
    return f"{len(loud)} alarm{'' if len(loud) == 1 else 's'}, said at the top."


def _title(reading: Reading) -> str:
    return f"{reading.monitor}, {reading.name}" if reading.name else reading.monitor


def _figure(readings: Sequence[Reading]) -> Figure:
    first = readings[0]
    band = next((each.band for each in reversed(readings) if each.band is not None), None)
    rows = [
        {
            "round": each.round,
            "series": "alarm" if each.alarm else "reading",
            "value": each.value,
            "low": each.low,
            "high": each.high,
        }
        for each in readings
    ]
    rounds = sorted({each.round for each in readings})
    alarms = [each.round for each in readings if each.alarm]
    expected = f"Expected: {_said(band)}" if _said(band) else ""
    notes = "; ".join(dict.fromkeys(each.note for each in readings if each.note))
    return Figure(
        id="monitor-" + "".join(char if char.isalnum() else "-" for char in _title(first)),
        title=_title(first) + (f" (alarm: {_rounds(alarms).lower()})" if alarms else ""),
        says=". ".join(filter(None, [monitors.about(first.monitor).rstrip("."), notes, expected])) + ".",
        spec=figures.reading(rows, y=first.unit or "value", band=band, rounds=rounds),
        table=Table(
            head=("round", "value", "95 % interval", "expected", "alarm"),
            rows=[
                (
                    each.round,
                    f"{each.value:.4g}",
                    interval(each.low, each.high, scale=1, digits=3),
                    _said(each.band),
                    each.alarm or "",
                )
                for each in readings
                if each.value is not None
            ],
        ),
    )


def _single(readings: Sequence[Reading]) -> Table:
    rows = [
        (
            _title(each),
            each.round,
            f"{each.value:.4g}",
            each.unit,
            interval(each.low, each.high, scale=1, digits=3),
            _said(each.band),
            each.alarm or each.note,
        )
        for each in readings
        if each.value is not None
    ]
    head = ("monitor", "round", "value", "unit", "95 % interval", "expected", "said")
    return Table(head=head, rows=rows, caption="Measured once")


def _said(band: tuple[float | None, float | None] | None) -> str:
    if band is None or band == (None, None):
        return ""
    low, high = band
    if low is None:
        return f"at most {high:.3g}"
    return f"at least {low:.3g}" if high is None else f"{low:.3g} to {high:.3g}"
