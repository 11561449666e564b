"""Draw problems from reasoning-gym, in a child process.

A child, because some of its tasks depend on Python's hash order, which only a process's start can fix; and because its
import takes seconds that nobody else should pay.
"""

import importlib.util
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from selftrain.backends.process import Child, die_with_owner, owner_pipe, start
from selftrain.backends.sandbox_wire import WireError, lenient, pack
from selftrain.errors import ConfigError, DataError, UserError, near
from selftrain.records import Json, JsonValue

BLOCK = 500
"""Items of one reasoning-gym set: few enough for the tasks that prepare all of a set at its start."""
LIMIT = 120.0
"""Seconds an item may take."""
_OURS = ("seed", "size")


class GymItem(NamedTuple):
    """One item as reasoning-gym draws it."""

    question: str
    answer: str | None
    metadata: Json
    packed: JsonValue = None
    """The metadata as `sandbox_wire.pack` says it, where JSON alone would change it: some scorers want tuples."""


class GymTask:
    """A task of reasoning-gym with its settings."""

    def __init__(self, name: str, settings: Mapping[str, JsonValue]) -> None:
        """Start the child; raises DataError and ConfigError for a task or a setting that isn't there."""
        if importlib.util.find_spec("reasoning_gym") is None:
            raise DataError(f"gym:{name} needs the package reasoning-gym: pip install 'selftrain[gym]'")
        self.name = name
        self._folder = tempfile.TemporaryDirectory(prefix="selftrain-gym-")
        self._child: Child = start(
            "selftrain.backends.gym",
            log=Path(self._folder.name) / "log",
            env={"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"},
        )
        try:
            self._ask((name, dict(settings)))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def items(self, first: int) -> Iterator[GymItem]:
        """Yield the task's items from index `first` on, without end."""
        while True:
            for at in range(BLOCK):
                yield GymItem(*self._ask((first, at)))
            first += BLOCK

    def close(self) -> None:
        """End the child."""
        self._child.close()
        self._folder.cleanup()

    def _ask(self, question: object) -> Any:
        try:
            self._child.send(question)
            if not self._child.poll(LIMIT):
                raise DataError(f"gym:{self.name} drew no item in {LIMIT:g} s; choose easier settings")
            answer = self._child.recv()
        except (EOFError, OSError) as error:
            raise self._child.failure(f"gym:{self.name}: the process that draws its problems ended") from error
        if isinstance(answer, UserError):
            raise answer
        return answer


def main() -> None:
    """Serve one owner: first a task and its settings, then items by their set's first index and their place in it."""
    die_with_owner()
    pipe = owner_pipe()
    name, settings = pipe.recv()
    try:
        _check(name, settings)
        pipe.send("ready")
        opened: tuple[int, Any] = (-1, None)
        while True:
            first, at = pipe.recv()
            if opened[0] != first:
                opened = (first, _set(name, settings, first))
            pipe.send(_item(opened[1][at]))
    except UserError as error:
        pipe.send(error)
    except EOFError:
        return


def _check(name: str, settings: Mapping[str, JsonValue]) -> None:
    from reasoning_gym.factory import DATASETS

    if name not in DATASETS:
        raise DataError(f"reasoning-gym has no task {name!r}{near(name, DATASETS)} (it has {len(DATASETS)} tasks)")
    known = [field.name for field in fields(DATASETS[name][1]) if field.name not in _OURS]
    for key in settings:
        if key not in known:
            raise ConfigError(f"gym:{name} has no setting {key!r}{near(key, known)} (it has {', '.join(known)})")


def _set(name: str, settings: Mapping[str, JsonValue], first: int) -> Any:
    import reasoning_gym

    # Item i comes from seed + i: this is the set of the first seed from index `first` on.
    try:
        return reasoning_gym.create_dataset(name, seed=first, size=BLOCK, **settings)
    except (AssertionError, ValueError, TypeError) as error:
        raise ConfigError(f"gym:{name} does not take these settings: {error}") from error


def _item(row: Mapping[str, Any]) -> tuple[str, str | None, Json, JsonValue]:
    answer = row["answer"]
    metadata: Json = json.loads(json.dumps(row["metadata"], default=str, skipkeys=True))
    packed = None if metadata == row["metadata"] else _packed(row["metadata"])
    return (str(row["question"]), None if answer is None else str(answer), metadata, packed)


def _packed(metadata: Mapping[str, Any]) -> JsonValue:
    """Say metadata so that its scorer gets back what it wrote, or None where it holds more than builtin values."""
    try:
        return json.loads(json.dumps(pack(metadata, lenient)))
    except WireError:
        return None


if __name__ == "__main__":
    main()
