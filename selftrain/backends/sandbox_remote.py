"""A program in another sandbox, as the judge sees it: functions to call within a time limit.

Loaded inside the judge's sandbox; standard library only.
"""

import builtins
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any

from selftrain.backends.sandbox_wire import WireError, lenient, pack, read, unpack, write


class Over(BaseException):
    """The verdict is certain before the tests have ended."""

    def __init__(self, status: str, why: str) -> None:
        """Keep both."""
        self.status, self.why = status, why


class Raised(Exception):
    """An exception of the program's own type."""


class Program:
    """The program at the other end: calls its functions within what is left of its time."""

    def __init__(self, channel: socket.socket, seconds: float) -> None:
        """Know where it is; `about` waits for it."""
        self._channel = channel
        self._limit = seconds
        self.spent = 0.0
        self.calls = 0
        self.last = ""
        self._callables: dict[int, Any] = {}

    def close(self) -> None:
        """Hang up: then the program's process ends."""
        self._channel.close()

    def about(self, names: Sequence[str]) -> dict[str, Any]:
        """Wait until the program is loaded; return what it has of these names: a `Remote` for what can be called."""
        self._say({"names": list(names)})
        said = self._heard()
        if isinstance(said, dict) and "failed" in said:
            raise Over("raised", f"it does not load: {_shown(said['failed'])}")
        found = said.get("names") if isinstance(said, dict) else None
        if not isinstance(found, dict):
            raise Over("broken", "it did not answer as a program does")
        known: dict[str, Any] = {}
        for name, about in found.items():
            if name in names and _is(about, "callable"):
                known[name] = Remote(self, name)
            elif name in names and isinstance(about, dict) and "value" in about:
                known[name] = self._value(about["value"])
        return known

    def call(self, name: str, positional: Sequence[Any], named: Mapping[str, Any]) -> Any:
        """Call one of its functions; raises what it raised, as the nearest builtin exception."""
        self.calls += 1
        number = self.calls
        try:
            self._say({"call": name, "id": number, "arguments": pack([list(positional), dict(named)], self._lend)})
        except WireError as error:
            raise Over("tests", f"the tests pass something to {name} that can't cross: {error}") from error
        said = self._heard()
        while isinstance(said, dict) and "callback" in said:
            self._call_back(said)
            said = self._heard()
        if not isinstance(said, dict) or said.get("id") != number:
            raise Over("broken", "it did not answer as a program does")
        if "value" not in said:
            self.last = f"{name} raised {_shown(said.get('raised'))}"
            raise _exception(said.get("raised"))
        value = self._value(said["value"])
        self.last = f"{name} returned {_short(value)}"
        if "arguments" in said:
            self._changed([list(positional), dict(named)], self._value(said["arguments"]))
        return value

    def _lend(self, value: object) -> object:
        if not callable(value):
            return lenient(value)
        number = len(self._callables)
        self._callables[number] = value
        return {"callable": number}

    def _call_back(self, said: Mapping[str, Any]) -> None:
        number = said["callback"]
        function = self._callables.get(number) if isinstance(number, int) else None
        if function is None:
            raise Over("broken", "it called what it was not given")
        arguments = self._value(said.get("arguments"))
        try:
            answer = {"value": pack(function(*arguments))}
        except Exception as error:
            answer = {"raised": f"{type(error).__name__}: {error}"[:500]}
        self._say(answer)

    def _changed(self, given: list[Any], after: Any) -> None:
        """Change lists, dicts and sets the way the program changed its copies of them."""
        try:
            (positional, named), (new_positional, new_named) = given, after
            pairs = [*zip(positional, new_positional, strict=True)]
            pairs += [(named[key], new_named[key]) for key in named]
        except (TypeError, ValueError, KeyError) as error:
            raise Over("broken", "it did not answer as a program does") from error
        for old, new in pairs:
            if type(old) is not type(new) or old == new:
                continue
            if type(old) is list:
                old[:] = new
            elif type(old) in (dict, set):
                old.clear()
                old.update(new)

    def _value(self, said: Any) -> Any:
        try:
            return unpack(said)
        except (WireError, RecursionError) as error:
            raise Over("broken", f"it did not answer as a program does: {error}") from error

    def _say(self, message: object) -> None:
        """Send; that nobody is there to receive is learnt by hearing, after what was said before going."""
        try:
            self._channel.settimeout(max(self._limit - self.spent, 0.001))
            write(self._channel, message)
        except TimeoutError:
            raise Over("time", "") from None
        except OSError:
            return

    def _heard(self) -> Any:
        """Wait for what it says; the waiting counts as its time."""
        started = time.monotonic()
        try:
            return self._read(started + self._limit - self.spent)
        except TimeoutError:
            raise Over("time", "") from None
        except (EOFError, OSError):
            raise Over("gone", "its process ended") from None
        except WireError as error:
            raise Over("broken", f"it did not answer as a program does: {error}") from None
        finally:
            self.spent += time.monotonic() - started

    def _read(self, deadline: float) -> Any:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._channel.settimeout(left)
        said = read(self._channel)
        if time.monotonic() > deadline:
            raise TimeoutError
        return said


class Remote:
    """A function of the program's, as the tests see it."""

    def __init__(self, program: Program, name: str) -> None:
        """Stand for the function of this name."""
        self._program = program
        self.__name__ = self.__qualname__ = name

    def __call__(self, *positional: Any, **named: Any) -> Any:
        """Call it where it is."""
        return self._program.call(self.__name__, positional, named)


def _exception(raised: Any) -> Exception:
    """Make the exception that the program says it raised."""
    if not isinstance(raised, list) or len(raised) != 3 or not all(isinstance(each, str) for each in raised):
        return Raised("something")
    builtin, name, message = raised
    kind = getattr(builtins, builtin, None)
    if isinstance(kind, type) and issubclass(kind, Exception) and kind is not Exception:
        try:
            return kind(message)
        except TypeError:  # UnicodeDecodeError and the like want more than a message
            return Raised(f"{name}: {message}")
    return Raised(f"{name}: {message}")


def _shown(raised: Any) -> str:
    if isinstance(raised, list) and len(raised) == 3:
        return f"{raised[1]}: {raised[2]}"[:300]
    return "something"


def _short(value: object) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of more digits than Python prints
        return f"a {type(value).__name__}"
    return text if len(text) <= 200 else f"{text[:200]}..."


def _is(said: object, key: str) -> bool:
    return isinstance(said, dict) and said.get(key) is True
