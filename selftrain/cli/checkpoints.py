"""Taking a checkpoint away, and measuring one."""

import json
from pathlib import Path
from typing import Annotated

import typer

from selftrain.cli.console import AsJson, Settings, err, out
from selftrain.errors import UserError


def export(
    folder: Annotated[Path, typer.Argument(help="A run's folder.")],
    to: Annotated[Path, typer.Option(help="Where the model goes.")],
    round: Annotated[str, typer.Option(help="best, or a round's number.")] = "best",
    merge: Annotated[bool, typer.Option("--merge/--adapter", help="Merged weights, or the adapter alone.")] = True,
    push: Annotated[str | None, typer.Option(help="A hub repository to push to.")] = None,
    model: Annotated[str, typer.Option(help="Which of the run's models.")] = "policy",
    dtype: Annotated[
        str, typer.Option(help="bfloat16, float32, float16; auto takes bfloat16 if it is exact.")
    ] = "auto",
) -> None:
    """Export an improved checkpoint with its model card; a merge that changes what the model says is refused."""
    from selftrain.after.release import export_round

    number = _number(round)
    with out.status("exporting, and comparing what was trained with what is exported"):
        exported = export_round(folder, to, round=number, merge=merge, push=push, model=model, dtype=dtype)
    out.print(f"exported to {exported.path} in {exported.dtype}", markup=False, highlight=False, soft_wrap=True)
    if exported.parity is not None:
        out.print(f"compared with what was trained: {exported.parity}", markup=False, highlight=False)
    if exported.url:
        out.print(f"pushed to {exported.url}", markup=False, highlight=False)


def export_data(
    folder: Annotated[Path, typer.Argument(help="A run's folder.")],
    to: Annotated[Path, typer.Option(help="Where the rows go.")],
    round: Annotated[str, typer.Option(help="best, or a round's number.")] = "best",
    push: Annotated[str | None, typer.Option(help="A hub repository to push to.")] = None,
) -> None:
    """Export the rows that a round was trained on, as a data set with its card."""
    from selftrain.after.rowset import export_rows

    with out.status("exporting rows"):
        exported = export_rows(folder, to, round=_number(round), push=push)
    counts = ", ".join(f"{count:,} of {name}" for name, count in exported.rows.items())
    out.print(f"exported to {exported.path}: {counts}", markup=False, highlight=False, soft_wrap=True)
    if exported.url:
        out.print(f"pushed to {exported.url}", markup=False, highlight=False)


def _harness(model: str, tasks: str, limit: int | None, as_json: bool) -> None:
    from selftrain.backends import harness

    with (err if as_json else out).status("measuring by lm-evaluation-harness"):
        found = harness.evaluate(model, [task.strip() for task in tasks.split(",") if task.strip()], limit=limit)
    if as_json:
        typer.echo(json.dumps(found.as_json(), indent=1))
        return
    for line in found.lines():
        out.print(line, markup=False, highlight=False, soft_wrap=True)


def _number(round: str) -> int | None:
    if round != "best" and not (round.isascii() and round.isdigit()):
        raise UserError(f"--round is {round!r}; it can be best or a number")
    return None if round == "best" else int(round)


def evaluate(
    model: Annotated[str, typer.Argument(help="A known model's name, a folder, or a hub id.")],
    settings: Settings = None,
    data: Annotated[
        str | None, typer.Option(help="A data set; by default the one of --like, or else sums.", show_default=False)
    ] = None,
    against: Annotated[str | None, typer.Option(help="Another model, compared problem by problem.")] = None,
    like: Annotated[Path | None, typer.Option(help="A run, whose protocol, data and verifier are used.")] = None,
    split: Annotated[str, typer.Option(help="valid or test.")] = "test",
    lm_eval: Annotated[
        str | None, typer.Option("--lm-eval", help="Instead: tasks of lm-evaluation-harness, by comma.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="With --lm-eval: so many examples a task.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure any model by a run's protocol, or by tasks of lm-evaluation-harness."""
    from selftrain.loop import measure, progress, runfile

    if lm_eval is not None:
        if settings or against or like:
            raise UserError("--lm-eval measures by the harness's own tasks: no settings, --against or --like beside it")
        _harness(model, lm_eval, limit, as_json)
        return

    with progress.watcher(err if as_json else out) as watcher:
        result = measure.evaluate(
            model,
            runfile.overrides(settings or []),
            data=data,
            against=against,
            like=like,
            split=split,
            watcher=watcher,
        )
    if as_json:
        typer.echo(json.dumps(result.as_json(), indent=1))
    else:
        for line in result.lines():
            out.print(line, markup=False, highlight=False)
