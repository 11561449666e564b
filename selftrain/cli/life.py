"""A run afterwards: explained, forked, listed, compared, tidied."""

import json
from pathlib import Path
from typing import Annotated

import typer

from selftrain.cli.console import AsJson, Said, Settings, out

Folder = Annotated[Path, typer.Argument(help="A run's folder.")]


def explain(
    folder: Folder,
    id: Annotated[str, typer.Argument(metavar="ID", help="A training row's id; or a sample's, or a problem's.")],
    as_json: AsJson = False,
) -> None:
    """Say where a training row comes from: samples, verdicts, rules. Or what became of a sample or a problem."""
    from selftrain.after import explained
    from selftrain.after.explain import explain

    found = explain(folder, id)
    if as_json:
        typer.echo(json.dumps(found, indent=1, ensure_ascii=False))
        return
    for line in explained.lines(found):
        _say(line)


def fork(
    folder: Folder,
    from_round: Annotated[
        int, typer.Option("--from-round", help="The last round that both runs share; 0 is the base.")
    ],
    to: Annotated[Path, typer.Option("--out", help="The new run's folder.")],
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Make a new run that shares a run's first rounds and goes on with other settings."""
    from selftrain.after.fork import fork
    from selftrain.loop import runfile

    made = fork(folder, to, runfile.overrides(settings or []), from_round=from_round, watcher=Said())
    command = f"selftrain run {to / 'run.yaml'}"
    if as_json:
        told = {"folder": str(made.root), "from": str(made.source), "round": made.round, "changed": list(made.changed)}
        typer.echo(json.dumps({**told, "linked": made.linked, "copied": made.copied, "next": command}, indent=1))
        return
    rounds = "round 0" if made.round == 0 else f"rounds 0 to {made.round}"
    _say(f"{made.root} shares {rounds} of {made.source}: {made.linked} files linked, {made.copied} copied")
    for line in made.changed or ("nothing is changed: the next round is sampled anew",):
        _say(f"  {line}")
    _say(f"next: {command}")


def gc(
    folder: Folder,
    keep: Annotated[str | None, typer.Option(help="best,last and every:K, or all; by default as the run says.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Free them.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say which checkpoints' weights could be freed, and how many bytes; free them with --yes."""
    from selftrain.after.gc import tidy

    done = tidy(folder, keep, yes=yes)
    if as_json:
        typer.echo(json.dumps(done.as_json(), indent=1))
        return
    for line in done.lines():
        _say(line)


def runs(
    folder: Annotated[Path, typer.Argument(help="A folder of runs.")] = Path("runs"), as_json: AsJson = False
) -> None:
    """List the runs of a folder: recipe, model, data, state, rounds, best metric, disk."""
    from selftrain.after.runs import notes, runs, table

    found = runs(folder)
    if as_json:
        typer.echo(json.dumps([each.as_json() for each in found], indent=1))
    elif found:
        out.print(table(found, folder))
        for line in notes(found, folder):
            _say(line)
    else:
        _say(f"{folder} holds no runs")


def diff(
    first: Annotated[Path, typer.Argument(help="A run's folder.")],
    second: Annotated[Path, typer.Argument(help="Another one's.")],
    as_json: AsJson = False,
) -> None:
    """Say what is other in a second run: settings, versions, metrics with paired intervals."""
    from selftrain.after.diff import diff

    found = diff(first, second)
    if as_json:
        typer.echo(json.dumps(found.as_json(), indent=1))
        return
    for line in found.lines():
        _say(line)


def _say(text: str) -> None:
    out.print(text, markup=False, highlight=False, soft_wrap=True)
