"""The report of one run, from what it has stored."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from selftrain.after import summary
from selftrain.loop.plan import duration
from selftrain.recipe import Recipe
from selftrain.report import accuracy, alarms, beside, coverage, flow, responses, settings, spending, verdicts
from selftrain.report.parts import Section, count, interval, percent
from selftrain.report.view import View


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What stands above the sections, and the sections."""

    head: dict[str, Any]
    sections: Sequence[Section]


def content(view: View, *, price: float | None = None) -> Content:
    """Read the run and return its report; `price` is an hour's of the machine."""
    sections = (
        accuracy.section(view),
        beside.section(view),
        coverage.section(view),
        alarms.section(view.readings),
        responses.section(view),
        flow.section(view),
        verdicts.section(view),
        spending.section(view, price),
        settings.plan(view),
        settings.settings(view),
    )
    return Content(head=_head(view, alarms.told(view.readings)), sections=[each for each in sections if each])


def _head(view: View, alarming: Sequence[str]) -> dict[str, Any]:
    named = "no alarms" if not alarming else f"{len(alarming)} alarm{'s' if len(alarming) > 1 else ''}"
    return {
        "name": view.name,
        "state": view.state,
        "about": _about(view),
        "verdict": f"{summary.sentence(view.run).rstrip('.')}; {named}.",
        "alarms": alarming,
        "facts": _facts(view),
        "progress": _progress(view),
    }


def _about(view: View) -> str:
    file, recipe = view.file, view.recipe
    model, data = file.get("model", {}), file.get("data", {})
    said = [f"recipe {file['recipe']}" if "recipe" in file else "", recipe.paper if isinstance(recipe, Recipe) else ""]
    if isinstance(model, dict):
        said.append(", ".join(f"{role} {name}" for role, name in model.items()))
    if isinstance(data, dict):
        own = ", ".join(f"{name}={value}" for name, value in data.items() if name != "name")
        said.append(f"data {data.get('name', '')}{f' ({own})' if own else ''}" if data else "")
    return " \u00b7 ".join(filter(None, said))


def _facts(view: View) -> list[tuple[str, str, str]]:
    """Figures with their names and a note, for the tiles."""
    split = "test" if view.run.metric("accuracy", split="test", round=0) else "valid"
    before, after = (view.run.metric("accuracy", split=split, round=number) for number in (0, view.shown))
    gain = view.run.metric("accuracy_gain_base", split=split, round=view.shown)
    facts = []
    if before is not None:
        facts.append((f"Base on {split}", percent(before.value), f"{interval(before.low, before.high)} (95 %)"))
    if after is not None and view.shown:
        facts.append(
            (f"Round {view.shown} on {split}", percent(after.value), f"{interval(after.low, after.high)} (95 %)")
        )
    if gain is not None:
        said = f"{interval(gain.low, gain.high)} points, paired, {gain.n} problems"
        facts.append(("Gain", f"{100 * gain.value:+.1f} points", said))
    rounds = len(view.run.history.rounds) - 1
    facts.append(("Rounds", str(max(0, rounds)), f"best is {view.run.best}" if rounds > 0 else ""))
    samples, problems = view.database.rows("SELECT count(*), count(DISTINCT given) FROM attempts")[0]
    facts.append(("Samples", count(samples), f"of {count(problems)} problems"))
    rows = view.database.one("SELECT count(*) FROM rows")
    facts.append(("Rows trained on", count(rows), "over all rounds"))
    found = spending.spent(view).values()
    wall, tokens = sum(each["wall"] for each in found), sum(each["tokens"] for each in found)
    facts.append(("Time", duration(wall), f"{count(tokens)} tokens sampled"))
    return facts


def _progress(view: View) -> str:
    """Of a run that isn't finished, the stages that have begun, with the shards they have done."""
    if view.state == "finished":
        return ""
    rounds = view.store.rounds()
    if not rounds:
        return "Nothing is stored yet."
    stages = view.store.stages(rounds[-1])
    done = [name for name, folder in stages.items() if folder.done()]
    begun = [f"{name} ({len(folder.shards())} shards stored)" for name, folder in stages.items() if not folder.done()]
    said = f"Round {rounds[-1]}: done are {', '.join(done) or 'no stages'}"
    under_way = "under way" if view.state == "running" else "unfinished"
    return f"{said}; {under_way}: {', '.join(begun) or 'none'}."
