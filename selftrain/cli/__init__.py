"""The command line: every command, and how one ends."""

import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import typer

import selftrain
from selftrain.cli import checkpoints, jobs, life, plugins, report, verifiers
from selftrain.cli.console import err
from selftrain.errors import Blocked, SelftrainError, UserError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Language models that get better on their own output, round by round.",
)
COMMANDS: dict[str, Callable[..., None]] = {
    "run": jobs.run,
    "status": jobs.status,
    "explain": life.explain,
    "fork": life.fork,
    "gc": life.gc,
    "runs": life.runs,
    "diff": life.diff,
    "report": report.report,
    "compare": report.compare,
    "export": checkpoints.export,
    "export-data": checkpoints.export_data,
    "eval": checkpoints.evaluate,
    "verify": verifiers.verify,
    "audit": verifiers.audit,
    "reverify": verifiers.reverify,
    "list": plugins.list_plugins,
    "new": plugins.new,
    "doctor": plugins.doctor,
}
for name, command in COMMANDS.items():
    app.command(name=name)(command)

INTERRUPTED = 130
PATHS = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR)
"""Errors of the operating system about a path that was typed."""
MACHINE = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.ETIMEDOUT, errno.ENOTCONN),
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM),
)
"""Errors of the operating system that the user can mend: no room, no permission, a disk that fails or is gone."""


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
    if isinstance(error, OSError) and error.errno in PATHS:
        return _failed(f"{error.strerror}: {str(error.filename)[:200]}; name another path", 2)
    if isinstance(error, MemoryError):
        return _failed("there is not enough memory; free some or use less, then run the same command again", 1)
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
