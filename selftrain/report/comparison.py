"""Several runs beside each other: who came how far, on the same problems, with which settings, at what cost."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from selftrain import statistics
from selftrain.after import summary
from selftrain.loop.plan import duration
from selftrain.records import Metric
from selftrain.report import alarms, figures, spending
from selftrain.report.browse import PER_ROUND, PROMPT, SAMPLES, TEXT, choices, problems_of, samples_of
from selftrain.report.content import Content
from selftrain.report.parts import Figure, Grid, Section, Table, Text, count, interval, percent
from selftrain.report.view import View

Views = Mapping[str, View]
SPLITS = ("test", "valid")


def comparison(roots: Sequence[Path], *, price: float | None = None) -> tuple[Content, dict[str, Any]]:
    """Read the runs and return their comparison, and what its sample browser holds.

    Raises StoreError if a folder holds no run.
    """
    with ExitStack() as stack:
        views: dict[str, View] = {}
        for name, root in zip(_names(roots), roots, strict=True):
            views[name] = View.open(root)
            stack.callback(views[name].close)
        sections = (_results(views), _accuracy(views), _costs(views, price), _alarms(views), _settings(views))
        return Content(head=_head(views), sections=sections), held(views)


def held(views: Views) -> dict[str, Any]:
    """Return held-out problems that the runs share, with what each run's base and best round said: those first on which
    the best rounds differ."""
    split = _split(views)
    outcomes = {name: _outcomes(view, split) for name, view in views.items()}
    shared = sorted(set.intersection(*(set(each) for each in outcomes.values())))
    apart = [id for id in shared if len({each[id] for each in outcomes.values()}) > 1]
    ids = [*apart, *(id for id in shared if id not in set(apart))][: SAMPLES // (PER_ROUND * len(views))]
    samples: list[dict[str, Any]] = []
    filters: dict[str, list[Any]] = {}
    for name, view in views.items():
        told = samples_of(view, ids, most=PER_ROUND // 2, longest=TEXT)
        samples += [{**s, "stage": f"{name}: {s['stage']}"} for s in told if s["round"] in (0, view.run.best)]
        for each, values in choices(view).items():
            values = [f"{name}: {value}" for value in values] if each == "stage" else values
            filters[each] = [*filters.get(each, []), *(v for v in values if v not in filters.get(each, []))]
    # Side by side what is alike: base of every run, then the best round of every run.
    samples.sort(key=lambda sample: bool(sample["round"] > 0))
    first = next(iter(views.values()))
    problems = [{**each, "bin": "", "change": "", "rate": None} for each in problems_of(first, ids, longest=PROMPT)]
    says = (
        f"{len(problems):,} of {len(shared):,} problems of {split} that all runs were asked, with samples of base and"
        f" of the best round: first the {len(apart):,} on which the best rounds differ."
    )
    return {"problems": problems, "samples": samples, "says": says, "choices": {**filters, "bin": [], "change": []}}


def _names(roots: Sequence[Path]) -> list[str]:
    """Folders' names; where two are alike, with the folder above, else with a number."""
    names = [root.resolve().name for root in roots]
    if len(set(names)) < len(names):
        names = ["/".join(root.resolve().parts[-2:]) for root in roots]
    seen = Counter(names)
    return [name if seen[name] == 1 else f"{name} ({at + 1})" for at, name in enumerate(names)]


def _split(views: Views) -> str:
    """test, where every run has measured it."""
    return next((s for s in SPLITS if all(v.run.metric("accuracy", split=s, round=0) for v in views.values())), "valid")


def _head(views: Views) -> dict[str, Any]:
    split = _split(views)
    ends = {name: view.run.metric("accuracy", split=split) for name, view in views.items()}
    known = {name: metric for name, metric in ends.items() if metric is not None}
    best = max(known, key=lambda name: known[name].value, default="")
    verdict = "Nothing was measured yet."
    if best:
        metric = known[best]
        said = f"{percent(metric.value)} ({interval(metric.low, metric.high)}, 95 %)"
        verdict = f"Highest on {split}: {best} with {said}; the paired differences below say how sure that is."
    facts = [(name, percent(metric.value), f"best is round {views[name].run.best}") for name, metric in known.items()]
    return {
        "name": f"{len(views)} runs",
        "state": "finished" if all(view.state == "finished" for view in views.values()) else "unfinished among them",
        "about": ", ".join(views),
        "verdict": verdict,
        "alarms": [],
        "facts": facts,
        "progress": "",
    }


def _results(views: Views) -> Section:
    split = _split(views)
    rows = []
    for name, view in views.items():
        base, end = (view.run.metric("accuracy", split=split, round=number) for number in (0, view.run.best))
        gain = view.run.metric("accuracy_gain_base", split=split)
        rows.append(
            (
                name,
                str(view.file.get("recipe", "")),
                view.state,
                _with(base),
                _with(end),
                "" if gain is None else f"{100 * gain.value:+.1f} ({interval(gain.low, gain.high)})",
                f"{view.run.best} of {max(0, len(view.run.history.rounds) - 1)}",
                count(view.database.one("SELECT count(*) FROM attempts")),
                count(view.database.one("SELECT count(*) FROM rows")),
            )
        )
    head = ("run", "recipe", "state", "base", "best round", "gain, points", "best", "samples", "rows")
    parts: list[Text | Table] = [Text(text=f"{name}: {summary.sentence(view.run)}") for name, view in views.items()]
    parts.append(Table(head=head, rows=rows, caption=f"Accuracy on {split}, with 95 % intervals"))
    parts.append(_differences(views, split))
    return Section(id="results", title="Results", parts=parts)


def _with(metric: Metric | None) -> str:
    return "" if metric is None else f"{percent(metric.value)} ({interval(metric.low, metric.high)})"


def _outcomes(view: View, split: str) -> dict[str, float]:
    found = view.database.rows(
        "SELECT problem, any_value(value) FROM outcomes WHERE round = ? AND split = ? AND name = 'accuracy' GROUP BY 1",
        view.run.best,
        split,
    )
    return dict(found)


def _differences(views: Views, split: str) -> Table:
    """Every run against the first, paired over the problems that both were asked."""
    (first, one), *others = views.items()
    before = _outcomes(one, split)
    rows: list[tuple[str, ...]] = []
    for name, view in others:
        after = _outcomes(view, split)
        both = sorted(set(before) & set(after))
        if not both:
            rows.append((f"{name} - {first}", "no problem in common", "", "", "", ""))
            continue
        found = statistics.difference([after[id] for id in both], [before[id] for id in both])
        more, less = (sum(after[id] * s > before[id] * s for id in both) for s in (1, -1))
        alike = len(both) - more - less
        said = "higher" if found.low > 0 else "lower" if found.high < 0 else "not told apart"
        figures_of = (f"{100 * found.value:+.1f} ({interval(found.low, found.high)})", count(len(both)))
        rows.append((f"{name} - {first}", *figures_of, f"{more} / {less} / {alike}", said, ""))
    return Table(
        head=("difference", "points (95 %)", "problems of both", "better / worse / alike", "so it is"),
        rows=[row[:5] for row in rows],
        caption=f"Best rounds on {split}, paired by problem",
    )


def _accuracy(views: Views) -> Section:
    drawn = []
    for split in SPLITS:
        rows: list[dict[str, Any]] = [
            {
                "round": result.number,
                "series": name,
                "value": 100 * m.value,
                "low": None if m.low is None else 100 * m.low,
                "high": None if m.high is None else 100 * m.high,
            }
            for name, view in views.items()
            for result in view.run.history.rounds
            for m in result.metrics
            if m.name == "accuracy" and m.split == split and m.value == m.value
        ]
        if rows:
            table = Table(
                head=("run", "round", "accuracy (%)", "95 % interval"),
                rows=[
                    (row["series"], row["round"], f"{row['value']:.1f}", interval(row["low"], row["high"], scale=1))
                    for row in rows
                ],
            )
            drawn.append(
                Figure(
                    id=f"accuracy-{split}",
                    title=f"Accuracy on {split}",
                    says="A line a run, with 95 % intervals over problems.",
                    spec=figures.by_round(rows, y="accuracy (%)", series="Run"),
                    table=table,
                )
            )
    return Section(id="accuracy", title="Accuracy by round", parts=[Grid(figures=drawn)])


def _costs(views: Views, price: float | None) -> Section:
    rows: list[dict[str, Any]] = []
    table = []
    for name, view in views.items():
        found = spending.spent(view)
        by_stage: dict[str, float] = defaultdict(float)
        for (_, stage), each in found.items():
            by_stage[stage] += each["wall"]
        rows += [{"name": name, "part": stage, "value": wall} for stage, wall in by_stage.items() if wall >= 1]
        wall, tokens = (sum(each[key] for each in found.values()) for key in ("wall", "tokens"))
        cost = () if price is None else (f"{wall / 3600 * price:.4f}",)
        table.append((name, duration(wall), count(tokens), *cost))
    kinds = list(dict.fromkeys(str(row["part"]) for row in rows))
    unit, scale = ("Minutes", 1 / 60) if sum(row["value"] for row in rows) > 600 else ("Seconds", 1.0)
    rows = [{**row, "value": scale * row["value"]} for row in rows]
    figure = Figure(
        id="time",
        title="Wall time by stage",
        says="Stages that ran as one pipeline count under its first.",
        spec=figures.stacked(rows, x=unit, y="", series="Stage", order=list(views), kinds=kinds),
        table=Table(
            head=("run", "stage", unit.lower()), rows=[(r["name"], r["part"], f"{r['value']:.1f}") for r in rows]
        ),
    )
    head = ("run", "wall time", "tokens sampled", *(() if price is None else (f"cost at {price:g} an hour",)))
    return Section(id="cost", title="Time and tokens", parts=[Grid(figures=[figure]), Table(head=head, rows=table)])


def _alarms(views: Views) -> Section:
    rows = [(name, said) for name, view in views.items() for said in alarms.told(view.readings)]
    if not rows:
        return Section(id="monitors", title="Monitors", parts=[Text(text="None alarms.", tone="good")])
    return Section(id="monitors", title="Monitors", parts=[Table(head=("run", "alarm"), rows=rows)])


def _settings(views: Views) -> Section:
    asked = {name: dict(_flat(view.file)) for name, view in views.items()}
    versions = {name: dict(_flat(view.environment.get("packages", {}))) for name, view in views.items()}
    parts: list[Text | Table] = []
    for caption, found in (("Settings that differ", asked), ("Packages that differ", versions)):
        keys = dict.fromkeys(key for each in found.values() for key in each)
        differing = [key for key in keys if key != "out" and len({each.get(key, "") for each in found.values()}) > 1]
        if differing:
            rows = [(key, *(found[name].get(key, "") for name in views)) for key in differing]
            parts.append(Table(head=("setting", *views), rows=rows, caption=caption))
        else:
            parts.append(Text(text=f"{caption}: none."))
    return Section(id="settings", title="What differs", parts=parts)


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, each in value.items():
        if isinstance(each, Mapping):
            yield from _flat(each, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(each)
