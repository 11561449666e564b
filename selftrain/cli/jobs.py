"""Launching a run, and where it stands."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from selftrain.cli.console import AsJson, Said, Settings, out
from selftrain.errors import Blocked

if TYPE_CHECKING:
    from selftrain.loop import controlled


def run(
    recipe: Annotated[str, typer.Argument(help="A recipe's name, a .py file, or a run file (.yaml).")],
    settings: Settings = None,
    model: Annotated[str | None, typer.Option(help="A known model's name, a folder, or a hub id.")] = None,
    data: Annotated[str | None, typer.Option(help="A data set: sums, gym:TASK, gsm8k, hub:ID, or a file.")] = None,
    eval: Annotated[str | None, typer.Option(help="Other data for the valid and test splits.")] = None,
    out_folder: Annotated[Path | None, typer.Option("--out", help="The run's folder; the same one resumes.")] = None,
    preset: Annotated[str | None, typer.Option(help="A named set of settings that the recipe comes with.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    max_hours: Annotated[float | None, typer.Option(help="Stop at the next stage boundary after so long.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Stop at the next stage boundary after so many.")] = None,
    controls: Annotated[bool, typer.Option("--controls", help="Then run its controls, at the same budget.")] = False,
) -> None:
    """Launch a self-training run, or go on with an interrupted one."""
    from selftrain.after import summary
    from selftrain.loop import config, controlled, launch, progress, runfile

    given = runfile.overrides(settings or [])
    named: dict[str, Any] = {"model": model, "data": data, "eval": eval, "out": out_folder and str(out_folder)}
    named |= {"max_hours": max_hours, "max_tokens": max_tokens}
    given |= {key: value for key, value in named.items() if value is not None}
    prepared = launch.prepare(config.load(recipe, given, preset=preset), Said())
    for line in prepared.plan.lines:
        out.print(line, markup=False, highlight=False, soft_wrap=not out.is_terminal)
    for line in controlled.planned(prepared) if controls else ():
        out.print(line, markup=False, highlight=False, soft_wrap=not out.is_terminal)
    if dry_run:
        return
    out.print(
        f"{'folder':<9} {prepared.store.root} (the same command goes on after an interruption)",
        markup=False,
        highlight=False,
    )
    with progress.watcher(out) as watcher:
        done = prepared.execute(watcher)
    out.print(summary.table(done))
    out.print(summary.sentence(done), markup=False, highlight=False)
    spent = {name: seconds for name, seconds in summary.phases(done).items() if seconds >= 1}
    out.print(
        "time: " + ", ".join(f"{name} {seconds:.0f} s" for name, seconds in spent.items()),
        markup=False,
        highlight=False,
    )
    if controls and not done.ended:
        with progress.watcher(out) as watcher:
            beside = controlled.run_beside(prepared, watcher)
        _print_controls(beside)
    out.print(f"look: selftrain report {prepared.store.root} --open", markup=False, highlight=False)
    if done.ended:
        out.print(f"stopped: {done.ended}; the same command without the limit goes on", markup=False, highlight=False)
    elif not done.improved:
        raise Blocked("no round was accepted by the gate; nothing is better than the base model")
    else:
        out.print(f"next: selftrain export {prepared.store.root} --to PATH --merge", markup=False, highlight=False)


def _print_controls(beside: "controlled.Beside") -> None:
    from selftrain.loop import controlled

    out.print(controlled.table(beside))
    for line in controlled.notes(beside):
        out.print(line, markup=False, highlight=False, soft_wrap=True)


def status(folder: Annotated[Path, typer.Argument(help="A run's folder.")], as_json: AsJson = False) -> None:
    """Say where a run stands: rounds, stages, counts, metrics, and what its monitors say."""
    from selftrain import monitors
    from selftrain.after import summary
    from selftrain.loop import controlled, launch
    from selftrain.store import Store

    found = launch.Run.open(folder)
    store = Store(folder)
    stages = {
        number: {
            name: {"done": each.done(), "shards": len(each.shards()), **each.summary()}
            for name, each in store.stages(number).items()
        }
        for number in store.rounds()
    }
    if as_json:
        rounds = [
            {
                "round": result.number,
                "decision": result.decision.outcome if result.decision else None,
                "metrics": {
                    f"{m.name}[{m.split}]" if m.split else m.name: m.value for m in result.metrics if not m.step
                },
                "stages": stages[result.number],
            }
            for result in found.history.rounds
        ]
        readings = [asdict(each) for each in found.monitors()]
        said = {"folder": str(folder), "best": found.best, "rounds": rounds, "monitors": readings}
        typer.echo(json.dumps({**said, "controls": controlled.stored(folder)}, indent=1))
        return
    out.print(summary.table(found))
    for number, each in stages.items():
        open_ones = [f"{name} ({info['shards']} shards)" for name, info in each.items() if not info["done"]]
        if open_ones:
            out.print(f"round {number}: unfinished: {', '.join(open_ones)}", markup=False, highlight=False)
    out.print(summary.sentence(found), markup=False, highlight=False)
    if told := controlled.stored(folder):
        for line in controlled.stored_lines(told):
            out.print(line, markup=False, highlight=False, soft_wrap=True)
    for line in monitors.lines(found.monitors()):
        out.print(line, markup=False, highlight=False, soft_wrap=not out.is_terminal)
