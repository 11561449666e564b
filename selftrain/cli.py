"""The command line."""

import errno
import json
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

import selftrain
from selftrain.errors import Blocked, SelftrainError, UserError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Language models that get better on their own output, round by round.",
)
INTERRUPTED = 130
MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
"""Errors of the operating system that the user can mend."""
out = Console()
err = Console(stderr=True)

Settings = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings, as key=value.")]
Asked = Annotated[str | None, typer.Option("--model", help="Whom the verifier may ask: a name, folder or hub id.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
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
) -> None:
    """Launch a self-training run, or go on with an interrupted one."""
    from selftrain import config, launch, progress, runfile, summary

    given = runfile.overrides(settings or [])
    named: dict[str, Any] = {"model": model, "data": data, "eval": eval, "out": out_folder and str(out_folder)}
    named |= {"max_hours": max_hours, "max_tokens": max_tokens}
    given |= {key: value for key, value in named.items() if value is not None}
    prepared = launch.prepare(config.load(recipe, given, preset=preset), _Said())
    for line in prepared.plan.lines:
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
    if done.ended:
        out.print(f"stopped: {done.ended}; the same command without the limit goes on", markup=False, highlight=False)
    elif not done.improved:
        raise Blocked("no round was accepted by the gate; nothing is better than the base model")
    else:
        out.print(f"next: selftrain export {prepared.store.root} --to PATH --merge", markup=False, highlight=False)


@app.command()
def status(folder: Annotated[Path, typer.Argument(help="A run's folder.")], as_json: AsJson = False) -> None:
    """Say where a run stands: rounds, stages, counts, metrics."""
    from selftrain import launch, summary
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
        typer.echo(json.dumps({"folder": str(folder), "best": found.best, "rounds": rounds}, indent=1))
        return
    out.print(summary.table(found))
    for number, each in stages.items():
        open_ones = [f"{name} ({info['shards']} shards)" for name, info in each.items() if not info["done"]]
        if open_ones:
            out.print(f"round {number}: unfinished: {', '.join(open_ones)}", markup=False, highlight=False)
    out.print(summary.sentence(found), markup=False, highlight=False)


@app.command()
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
    from selftrain.release import export_round

    if round != "best" and not round.isdigit():
        raise UserError(f"--round is {round!r}; it can be best or a number")
    number = None if round == "best" else int(round)
    with out.status("exporting, and comparing what was trained with what is exported"):
        exported = export_round(folder, to, round=number, merge=merge, push=push, model=model, dtype=dtype)
    out.print(f"exported to {exported.path} in {exported.dtype}", markup=False, highlight=False, soft_wrap=True)
    if exported.parity is not None:
        out.print(f"compared with what was trained: {exported.parity}", markup=False, highlight=False)
    if exported.url:
        out.print(f"pushed to {exported.url}", markup=False, highlight=False)


@app.command(name="eval")
def evaluate(
    model: Annotated[str, typer.Argument(help="A known model's name, a folder, or a hub id.")],
    settings: Settings = None,
    data: Annotated[str, typer.Option(help="A data set.")] = "sums",
    against: Annotated[str | None, typer.Option(help="Another model, compared problem by problem.")] = None,
    like: Annotated[Path | None, typer.Option(help="A run, whose protocol, data and verifier are used.")] = None,
    split: Annotated[str, typer.Option(help="valid or test.")] = "test",
    as_json: AsJson = False,
) -> None:
    """Measure any model by a run's protocol."""
    from selftrain import measure, progress, runfile

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


@app.command()
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
        from selftrain.verify_file import verify_file

        found = verify_file(verifier, source, target if target else sys.stdout, model=model)
        typer.echo(json.dumps(asdict(found)) if as_json else str(found))
        return
    from selftrain import conformance

    with err.status("testing it"):
        report = conformance.check(verifier, model=model)
    typer.echo(json.dumps(report.as_json(), indent=1) if as_json else str(report))
    if not report.passed:
        raise typer.Exit(1)


@app.command()
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


@app.command()
def audit(
    verifier: Annotated[str, typer.Argument(help="A verifier's name, a .py file, or JSON with name and settings.")],
    labelled: Annotated[Path, typer.Option(help="JSONL: id, response, label, prompt?, answer?, tests?, meta?.")],
    against: Annotated[str | None, typer.Option(help="Another verifier, to see where the two disagree.")] = None,
    target: Annotated[Path | None, typer.Option("--out", help="JSONL of all disagreements, in full.")] = None,
    model: Asked = None,
    as_json: AsJson = False,
) -> None:
    """Measure how often a verifier is wrong, on responses with labels."""
    from selftrain import audit as auditing
    from selftrain import progress

    with progress.watcher(err) as watcher:
        found = auditing.audit(verifier, labelled, against=against, out=target, model=model, watcher=watcher)
    typer.echo(json.dumps(found.as_json(), indent=1) if as_json else "\n".join(found.lines()))


@app.command()
def reverify(
    folder: Annotated[Path, typer.Argument(help="A run's folder.")],
    verifier: Annotated[str, typer.Option("--with", help="A verifier's name, a .py file, or JSON.")],
    round: Annotated[int | None, typer.Option(help="One round; 0 is the base model.")] = None,
    target: Annotated[Path | None, typer.Option("--out", help="All verdicts, .jsonl or .parquet.")] = None,
    model: Asked = None,
    as_json: AsJson = False,
) -> None:
    """Judge a run's stored samples by another verifier, without sampling; the run is only read."""
    from selftrain import progress
    from selftrain import reverify as again

    with progress.watcher(err) as watcher:
        found = again.reverify(folder, verifier, round=round, out=target, model=model, watcher=watcher)
    typer.echo(json.dumps(found.as_json(), indent=1) if as_json else "\n".join(found.lines()))


@app.command(name="list")
def list_plugins(
    what: Annotated[str, typer.Argument(help="recipes, verifiers or data.")], as_json: AsJson = False
) -> None:
    """List what can be named: recipes, verifiers, data sets."""
    from selftrain import plugins

    kinds = {"recipes": "recipe", "verifiers": "verifier", "data": "data"}
    if what not in kinds:
        raise UserError(f"cannot list {what!r}; it can be recipes, verifiers or data")
    found = plugins.available(kinds[what])
    described = {name: plugins.headline(each) for name, each in found.items()}
    if as_json:
        typer.echo(json.dumps(described, indent=1, ensure_ascii=False))
        return
    table = Table.grid(padding=(0, 2))
    for name, text in described.items():
        table.add_row(f"[bold]{name}[/bold]", escape(text))
    out.print(table)


@app.command()
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


class _Said:
    """Prints what preparing a run has to say."""

    def say(self, text: str) -> None:
        err.print(text, markup=False, highlight=False, soft_wrap=True)

    def begin(self, stage: str, total: int, done: int) -> None:
        """Nothing runs yet."""

    def advance(self, stage: str, units: int) -> None:
        """Nothing runs yet."""

    def end(self, stage: str, text: str) -> None:
        """Nothing runs yet."""


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM end a run as Ctrl-C does: children ended, finished shards kept."""

    def stop(number: int, frame: Any) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def main() -> None:
    """Run a command; a user's mistake is one line and exit code 2, never a traceback."""
    # Before torch is loaded: an export compares models in this process.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    try:
        with _interruptible():
            code = app(standalone_mode=False) or 0
    except typer.Exit as stop:
        code = stop.exit_code
    except UserError as error:
        code = _failed(str(error), 2)
    except Blocked as error:
        code = _failed(str(error), 3)
    except SelftrainError as error:
        code = _failed(str(error), 1)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:
        code = _refused(error)
    if code == INTERRUPTED:  # typer makes Ctrl-C this code
        err.print(
            "interrupted; the same command goes on where this one stopped",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    sys.exit(code)


def _refused(error: Exception) -> int:
    """Say what typer refuses, or the machine; the rest is a bug of ours and shown whole."""
    if message := getattr(error, "format_message", None):
        if not sys.argv[1:]:
            error.show()  # type: ignore[attr-defined]
            return 2
        text = str(message()).rstrip(".")
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "selftrain"
        return _failed(f"{text[:1].lower()}{text[1:]}; `{command} --help` says more", 2)
    if isinstance(error, OSError) and error.errno in MACHINE:
        return _failed(
            f"{error.strerror}: {error.filename or 'the disk'}; mend that, then run the same command again", 1
        )
    if os.environ.get("SELFTRAIN_DEBUG"):
        raise error
    _failed(f"{type(error).__name__}: {error}", 1)
    err.print(f"this is a bug in selftrain {selftrain.__version__}; where it happened:", markup=False, highlight=False)
    err.print("".join(traceback.format_exception(error)), markup=False, highlight=False, soft_wrap=True)
    return 1


def _failed(text: str, code: int) -> int:
    err.print("[red]error:[/] ", end="")
    err.print(" ".join(text.splitlines()), markup=False, highlight=False, soft_wrap=True)
    return code


if __name__ == "__main__":
    main()
