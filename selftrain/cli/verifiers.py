"""Judging responses, and judging the judges."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from selftrain.cli.console import AsJson, err
from selftrain.errors import UserError

Asked = Annotated[str | None, typer.Option("--model", help="Whom the verifier may ask: a name, folder or hub id.")]


def verify(
    verifier: Annotated[str, typer.Argument(help="A verifier's name, a .py file, or JSON with name and settings.")],
    source: Annotated[
        Path | None, typer.Option("--in", help="JSONL: id, response, prompt?, answer?, tests?, meta?.")
    ] = None,
    target: Annotated[Path | None, typer.Option("--out", help="JSONL of verdicts; by default standard output.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Test the verifier itself instead of a file.")] = False,
    model: Asked = None,
    as_json: AsJson = False,
) -> None:
    """Judge a file of responses, or test the verifier; the last line on standard output is the summary."""
    if check == (source is not None) or (check and target):
        raise UserError("say either --in FILE, to judge its responses, or --check, to test the verifier")
    if source is not None:
        from selftrain.verification.verify_file import verify_file

        found = verify_file(verifier, source, target if target else sys.stdout, model=model)
        typer.echo(json.dumps(asdict(found)) if as_json else str(found))
        return
    from selftrain.verification import conformance

    with err.status("testing it"):
        report = conformance.check(verifier, model=model)
    typer.echo(json.dumps(report.as_json(), indent=1) if as_json else str(report))
    if not report.passed:
        raise typer.Exit(1)


def audit(
    verifier: Annotated[str, typer.Argument(help="A verifier's name, a .py file, or JSON with name and settings.")],
    labelled: Annotated[Path, typer.Option(help="JSONL: id, response, label, prompt?, answer?, tests?, meta?.")],
    against: Annotated[str | None, typer.Option(help="Another verifier, to see where the two disagree.")] = None,
    target: Annotated[Path | None, typer.Option("--out", help="JSONL of all disagreements, in full.")] = None,
    model: Asked = None,
    as_json: AsJson = False,
) -> None:
    """Measure how often a verifier is wrong, on responses with labels."""
    from selftrain.loop import progress
    from selftrain.verification import audit as auditing

    with progress.watcher(err) as watcher:
        found = auditing.audit(verifier, labelled, against=against, out=target, model=model, watcher=watcher)
    typer.echo(json.dumps(found.as_json(), indent=1) if as_json else "\n".join(found.lines()))


def reverify(
    folder: Annotated[Path, typer.Argument(help="A run's folder.")],
    verifier: Annotated[str, typer.Option("--with", help="A verifier's name, a .py file, or JSON.")],
    round: Annotated[int | None, typer.Option(help="One round; 0 is the base model.")] = None,
    target: Annotated[Path | None, typer.Option("--out", help="All verdicts, .jsonl or .parquet.")] = None,
    model: Asked = None,
    as_json: AsJson = False,
) -> None:
    """Judge a run's stored samples by another verifier, without sampling; the run is only read."""
    from selftrain.loop import progress
    from selftrain.verification import reverify as again

    with progress.watcher(err) as watcher:
        found = again.reverify(folder, verifier, round=round, out=target, model=model, watcher=watcher)
    typer.echo(json.dumps(found.as_json(), indent=1) if as_json else "\n".join(found.lines()))
