"""Calls `selftrain` as a shell does, in this process."""

import contextlib
import io
import sys
from typing import NamedTuple

from selftrain import cli


class Answer(NamedTuple):
    """What a command gave back."""

    code: int
    out: str
    err: str


def call(*arguments: object) -> Answer:
    """Run a command; what it printed and its exit code."""
    out, err = io.StringIO(), io.StringIO()
    before, sys.argv = sys.argv, ["selftrain", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main()
    except SystemExit as stop:
        return Answer(int(stop.code or 0), out.getvalue(), err.getvalue())
    finally:
        sys.argv = before
    raise AssertionError("main always exits")


def refused(*arguments: object) -> str:
    """Run a command that must be refused as a user's mistake; its one line."""
    answer = call(*arguments)
    lines = answer.err.splitlines()
    assert answer.code == 2, answer
    assert len(lines) == 1, answer.err
    assert lines[0].startswith("error: "), answer.err
    assert "Traceback" not in answer.out + answer.err
    return lines[0]
