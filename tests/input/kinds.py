"""Kinds of wrong input: what is typed, what lies there, what is said; and that nothing stands in the way afterwards."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.front_door import call, refused

NANO = ("model=nano", "pool=4", "valid=2", "test=2", "samples=1", "max_new_tokens=8")
SMALL = (*NANO, "data=sums", "data.max_digits=1")


class Kind(NamedTuple):
    """One kind of wrong input."""

    name: str
    command: Sequence[object]
    said: str
    """A part of the line that names the place and what to do."""
    files: Mapping[str, str | bytes] = {}
    """What lies in the folder where the command is typed."""
    mended: Mapping[str, str | bytes] = {}
    """What lies there afterwards."""
    right: Sequence[object] = ()
    """The command that then works; the same one where files are mended, none where nothing can have been written."""


def run(*settings: object) -> tuple[object, ...]:
    """A small run's command, plan only."""
    return ("run", "rest_em", "rounds=1", *SMALL, *settings, "--dry-run")


def tabled(kinds: Sequence[Kind]) -> "pytest.MarkDecorator":
    """Make a test of each kind."""
    names = [kind.name for kind in kinds]
    assert len(set(names)) == len(names), sorted(name for name in names if names.count(name) > 1)
    return pytest.mark.parametrize("kind", kinds, ids=names)


def check(kind: Kind, folder: Path) -> None:
    """One clear line, exit code 2, nothing written; and the corrected command works in the same place."""
    put(folder, kind.files)
    before = listing(folder)
    line = refused(*kind.command)
    assert kind.said in line
    assert listing(folder) == before
    right = kind.right or (kind.command if kind.mended else ())
    if right:
        put(folder, kind.mended)
        answer = call(*right)
        assert answer.code == 0, answer


def put(folder: Path, files: Mapping[str, str | bytes]) -> None:
    """Write files; a name that ends in a slash is a folder."""
    for name, content in files.items():
        path = folder / name
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def listing(folder: Path) -> dict[str, bytes]:
    """Every file of a folder with its content; folders are empty."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in sorted(folder.rglob("*"))
        if "__pycache__" not in path.parts
    }
