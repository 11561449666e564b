"""Find recipes, verifiers and data sets: by name, by path, or from other packages.

A plug-in is a file. Its name is its id; what it must define is said in `KINDS`. Built-in plug-ins lie in the folders
`pipelines/`, `verifiers/` and `data/` and have no other way in than a user's own: the engine lists the folders and
never imports a plug-in by module path. Another package plugs in by having folders of the same names and one line,
`[project.entry-points."selftrain.plugins"] acme = "acme_selftrain"`.
"""

import ast
import functools
import hashlib
import importlib
import importlib.util
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, TypeVar

import selftrain
from selftrain import paths
from selftrain.errors import PluginError, UserError, near

KINDS = {
    "recipe": ("pipelines", ("recipe",)),
    "verifier": ("verifiers", ("Verifier", "verify", "verify_group")),
    "data": ("data", ("load",)),
}
"""Kind -> its folder, and the names of which a file of it defines one."""


T = TypeVar("T")
FILE = "selftrain_plugin_"
"""How the module names of plug-ins given by path begin."""
_guard = threading.Lock()
_closed: ContextVar[tuple[Path, ...]] = ContextVar("_closed", default=())
"""Folders of runs that are looked at, of which nothing is loaded."""
_typed: ContextVar[frozenset[Path]] = ContextVar("_typed", default=frozenset())
"""Programs that the user names himself while he looks at a run."""
NAMING = {
    "recipe": "selftrain run {} --dry-run",
    "verifier": "selftrain run rest_em verifier={} --dry-run",
    "data": "selftrain run rest_em data={} --dry-run",
}
"""Kind -> a command that names a program of it, and so has it loaded."""


class Found(NamedTuple):
    """A plug-in that is there but not loaded yet."""

    name: str
    kind: str
    module: str
    path: Path


def available(kind: str) -> dict[str, Found]:
    """Return every plug-in of a kind by name; built-ins first, then `package/name` of other packages."""
    folder = KINDS[kind][0]
    found = {f.name: f for f in _listed(kind, "selftrain", f"selftrain.{folder}", "")}
    for entry in _entries(tuple((each, _changed(each)) for each in sys.path)):
        found |= {f.name: f for f in _listed(kind, entry.value, f"{entry.value}.{folder}", f"{entry.name}/")}
    return found


def load(kind: str, name: str) -> ModuleType:
    """Return the module of a plug-in, by name or by path to a .py file.

    Raises PluginError when it is not there, does not import, or defines none of the names its kind needs.
    """
    found = find(kind, name)
    try:
        module = _imported(found)
    except (Exception, SystemExit) as error:
        raise PluginError(f"{kind} {name!r} ({found.path}) does not load: {type(error).__name__}: {error}") from error
    if found.module.startswith(FILE) and not _closed.get():
        _note(found.path)
    wanted = KINDS[kind][1]
    if not any(callable(getattr(module, each, None)) for each in wanted):
        raise PluginError(f"{kind} {name!r} ({found.path}) must define {' or '.join(wanted)}")
    return module


@contextmanager
def none_of(folder: Path, *, typed: object = None) -> Iterator[None]:
    """Load meanwhile no program that may have come with a run's folder: who looks at a run executes nothing of it.

    That is what lies in the folder, and of what lies elsewhere all that the user has never named: neither in the
    settings that were `typed` now, nor in a run on this machine.
    """
    before = _closed.set((*_closed.get(), folder.resolve()))
    named = _typed.set(_typed.get() | {paths.typed(text).resolve() for text in _texts(typed)})
    try:
        yield
    finally:
        _typed.reset(named)
        _closed.reset(before)


def _texts(said: object) -> Iterator[str]:
    """The paths of programs in settings."""
    if isinstance(said, Mapping):
        said = list(said.values())
    if isinstance(said, list | tuple):
        for each in said:
            yield from _texts(each)
    elif isinstance(said, str) and said.endswith(".py"):
        yield said


def _noted() -> Path:
    """The file with the programs that the user has had executed by naming them, a path a line."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "selftrain" / "programs"


def _known(path: Path) -> bool:
    noted = _noted()
    lines = noted.read_text(encoding="utf-8", errors="surrogateescape").splitlines() if noted.is_file() else []
    return path in _typed.get() or str(path) in lines


def _note(path: Path) -> None:
    if _known(path):
        return
    # A home that cannot be written costs no more than naming the program again when a run is looked at.
    with suppress(OSError):
        _noted().parent.mkdir(parents=True, exist_ok=True)
        with _noted().open("a", encoding="utf-8", errors="surrogateescape") as file:
            file.write(f"{path}\n")


def guarded(what: str, call: Callable[[], T]) -> T:
    """Call a plug-in's function; what it raises becomes a PluginError that names the place."""
    try:
        return call()
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        line = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{line.filename} line {line.lineno}"
        raise PluginError(f"{what} fails at {where}: {type(error).__name__}: {error}") from error


def find(kind: str, name: str) -> Found:
    """Return where a plug-in is, without loading it.

    Raises PluginError with the near names if it is nowhere, and for one in a folder of which nothing is to be loaded.
    """
    if name.endswith(".py"):
        path = paths.typed(name).resolve()
        if path.is_dir() or not path.exists():
            raise PluginError(f"{kind}: there is no file {name}")
        closed = next((folder for folder in _closed.get() if path.is_relative_to(folder)), None)
        if closed is not None:
            raise PluginError(
                f"{kind} {name} is a program in the run's own folder {closed}, which is not executed; if you trust it,"
                " copy it elsewhere and name that place"
            )
        if _closed.get() and not _known(path):
            raise PluginError(
                f"{kind} {name} is a program that you have never named on this machine, so it is not executed for a run"
                f" that names it; if you trust it, name it once: {NAMING[kind].format(name)}"
            )
        return Found(name, kind, f"{FILE}{hashlib.sha256(str(path).encode()).hexdigest()[:12]}", path)
    known = available(kind)
    if name not in known:
        raise PluginError(
            f"unknown {kind} {name!r}{near(name, known)} (`selftrain list` names all; a path ends in .py)"
        )
    return known[name]


def source_hash(kind: str, name: str) -> str:
    """Return the hash of a plug-in's source: part of a stage's key."""
    return hashlib.sha256(find(kind, name).path.read_bytes()).hexdigest()[:16]


def _listed(kind: str, package: str, module: str, prefix: str) -> Iterator[Found]:
    for folder in _folders(package, KINDS[kind][0]):
        for path in sorted(folder.glob("[!_]*.py")):
            if path.stem.startswith("test_"):  # pytest's, beside a plug-in
                continue
            yield Found(prefix + path.stem, kind, f"{module}.{path.stem}", path)


@functools.lru_cache(maxsize=4)
def _entries(path: tuple[tuple[str, float], ...]) -> tuple[EntryPoint, ...]:
    """Return what other packages offer: read of the files of all that is installed, so only when the path changes."""
    return tuple(entry_points(group="selftrain.plugins"))


def _changed(folder: str) -> float:
    try:
        return os.stat(folder or ".").st_mtime
    except OSError:
        return 0.0


def _folders(package: str, folder: str) -> list[Path]:
    if package == "selftrain":
        roots = list(selftrain.__path__)
    else:
        spec = importlib.util.find_spec(package)
        roots = list(spec.submodule_search_locations or []) if spec else []
    return [path for root in roots if (path := Path(root) / folder).is_dir()]


def _imported(found: Found) -> ModuleType:
    if not found.module.startswith(FILE):
        return importlib.import_module(found.module)
    with _guard:
        return sys.modules.get(found.module) or _from_file(found)


def _from_file(found: Found) -> ModuleType:
    spec = importlib.util.spec_from_file_location(found.module, found.path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{found.path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[found.module] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[found.module]
        raise
    return module


def presets() -> dict[str, Path]:
    """Return the presets by name: the YAML files that lie beside the built-in recipes."""
    folders = _folders("selftrain", KINDS["recipe"][0])
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}


def headline(found: Found) -> str:
    """Return the first line of a plug-in's docstring, without loading it."""
    try:
        text = ast.get_docstring(ast.parse(found.path.read_text(encoding="utf-8"))) or ""
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        return f"(cannot be read: {error})"
    return text.partition("\n")[0]
