"""What can be named, how to add to it, and what the machine has."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from selftrain.cli.console import AsJson, out
from selftrain.errors import UserError


def new(
    kind: Annotated[str, typer.Argument(help="verifier, recipe or data.")],
    name: Annotated[str, typer.Argument(help="Its name, which is its file's name.")],
    folder: Annotated[Path, typer.Option("--in", help="The folder to write into.")] = Path(),
) -> None:
    """Write a plug-in that works as it stands, and its test."""
    from selftrain import new as starting

    written = starting.new(kind, name, folder)
    for line in (f"wrote {written.path} and {written.test}", "next:", *(f"  {each}" for each in written.next)):
        out.print(line, markup=False, highlight=False, soft_wrap=True)


def list_plugins(
    what: Annotated[str, typer.Argument(help="recipes, verifiers, data or monitors.")], as_json: AsJson = False
) -> None:
    """List what can be named: recipes, verifiers, data sets, monitors."""
    from selftrain import monitors, plugins

    kinds = {"recipes": "recipe", "verifiers": "verifier", "data": "data"}
    if what == "monitors":
        described = {name: monitors.about(name) for name in monitors.available()}
    elif what in kinds:
        described = {name: plugins.headline(each) for name, each in plugins.available(kinds[what]).items()}
    else:
        raise UserError(f"cannot list {what!r}; it can be recipes, verifiers, data or monitors")
    if as_json:
        typer.echo(json.dumps(described, indent=1, ensure_ascii=False))
        return
    table = Table.grid(padding=(0, 2))
    for name, text in described.items():
        table.add_row(f"[bold]{name}[/bold]", escape(text))
    out.print(table)


def doctor(
    deep: Annotated[bool, typer.Option("--deep", help="Also import the heavy libraries.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say what this machine has and lacks for a run."""
    from selftrain.doctor import diagnose

    findings = diagnose(deep=deep)
    if as_json:
        typer.echo(json.dumps([each.as_json() for each in findings], indent=1))
    else:
        colours = {"ok": "green", "warn": "yellow", "fail": "red"}
        for each in findings:
            advice = f" -> {each.do}" if each.do else ""
            state = Text(f"{each.state:<4} ", style=colours[each.state])
            out.print(state.append(f"{each.name:<14} {each.what}{advice}", style="default"), soft_wrap=True)
    if any(each.fatal for each in findings):
        raise typer.Exit(1)
