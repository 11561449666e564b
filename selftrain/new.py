"""Write a plug-in that works as it stands, with its test: what `selftrain new` does.

What is written lies in `starters/`: one file a kind, and its test; another kind is two files more.
"""

import keyword
from pathlib import Path
from typing import NamedTuple

from selftrain.errors import ConfigError, near
from selftrain.plugins import KINDS, available

STARTERS = Path(__file__).with_name("starters")
PLACEHOLDER = "NAME"
LONGEST = 30
"""Characters of a name; with more, lines of what is written become too long."""

NEXT = {
    "verifier": (
        "selftrain verify {path} --check",
        "selftrain run rest_em --preset nano verifier={path}",
    ),
    "recipe": ("selftrain run {path} --model nano --data sums --dry-run",),
    "data": ("selftrain run rest_em --model nano --data {path} --dry-run",),
}
"""What can be done with a new file at once."""


class Written(NamedTuple):
    """A new plug-in."""

    path: Path
    test: Path
    next: tuple[str, ...]
    """Commands that work with it as it stands."""


def new(kind: str, name: str, folder: Path) -> Written:
    """Write NAME.py and test_NAME.py into a folder; raises ConfigError for a name or place that can't be had."""
    if kind not in KINDS:
        raise ConfigError(f"cannot write a new {kind!r}{near(kind, KINDS)}; it can be {', '.join(KINDS)}")
    _check_name(kind, name)
    path, test = folder / f"{name}.py", folder / f"test_{name}.py"
    for each in (path, test):
        if each.exists():
            raise ConfigError(f"{each} is there already; choose another name, another --in, or delete it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for source, target in ((f"{kind}.py", path), (f"test_{kind}.py", test)):
            text = (STARTERS / source).read_text(encoding="utf-8").replace(PLACEHOLDER, name)
            with target.open("x", encoding="utf-8") as file:
                file.write(text)
    except (FileExistsError, NotADirectoryError) as error:
        raise ConfigError(f"cannot write into {folder}: {error.filename} is a file that is there already") from error
    except OSError as error:
        raise ConfigError(f"cannot write into {folder}: {error.strerror}; choose another --in") from error
    shown = str(path) if path.is_absolute() else f"./{path}"
    return Written(path, test, tuple(each.format(path=shown) for each in NEXT[kind]))


def _check_name(kind: str, name: str) -> None:
    if not (name.isidentifier() and name.isascii() and name == name.lower()) or keyword.iskeyword(name):
        raise ConfigError(
            f"{name!r} can't be the name of a {kind}: it needs a Python name in small letters (my_{kind})"
        )
    if name.startswith(("_", "test_")):
        raise ConfigError(f"{name!r} can't be the name of a {kind}: files that begin with _ or test_ are not listed")
    if len(name) > LONGEST:
        raise ConfigError(f"{name!r} can't be the name of a {kind}: it is longer than {LONGEST} characters")
    if name in available(kind):
        raise ConfigError(
            f"{name!r} is a {kind} of selftrain already; choose another name (`selftrain list` names all)"
        )
