"""In a sandbox of its own, in the process forked for it: run a problem's tests against a program that runs elsewhere.

The tests and what they expect are here; the program is at the other end of a channel, in another pid namespace. Its
functions are called by name, with arguments and results of exact builtin types, so no object of the program's ever
takes part in a comparison. What the tests need beyond the program (a helper function that the problem's own text
gives, a callable they pass) is executed here, by its author's code.
"""

import ast
import builtins
import os
import random
import socket
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

from selftrain.backends.sandbox_wire import (
    WireError,
    lenient,
    pack,
    read,
    read_sheet,
    receive_with,
    send_with,
    unpack,
    write,
)

NAME = "tests.py"
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


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
        """Know where it is; `load` waits for it."""
        self._channel = channel
        self._limit = seconds
        self.spent = 0.0
        self.calls = 0
        self.last = ""
        self._callables: dict[int, Any] = {}

    def load(self) -> None:
        """Wait until the program is loaded."""
        said = self._heard()
        if not _is(said, "loaded"):
            failed = said.get("failed") if isinstance(said, dict) else None
            raise Over("raised", f"it does not load: {_shown(failed)}" if failed else "it does not load")

    def close(self) -> None:
        """Hang up: then the program's process ends."""
        self._channel.close()

    def about(self, names: Sequence[str]) -> dict[str, Any]:
        """Ask what of these names the program has: a `Remote` for what can be called, else the value."""
        if not names:
            return {}
        self._say({"names": list(names)})
        said = self._heard()
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
        try:
            self._channel.settimeout(max(self._limit - self.spent, 0.001))
            write(self._channel, message)
        except TimeoutError:
            raise Over("time", "") from None
        except OSError:
            raise Over("gone", "its process ended") from None

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


class Question:
    """A problem's tests, ready to be put to one program after another."""

    def __init__(self, tests: str, entry: str, prompt: str) -> None:
        """Compile; what does not load is kept to be said of every program."""
        self.tests = tests
        self.entry = entry
        self.trouble = ""
        try:
            self.tree = ast.parse(tests)
            self._code = compile(self.tree, NAME, "exec")
            self._prompt = compile(prompt, "prompt.py", "exec")
            self.wanted = sorted((set(_free(self.tree)) - set(self._namespace())) | ({entry} if entry else set()))
        except Exception as error:
            self.trouble = f"the problem's tests do not load: {type(error).__name__}: {error}"

    def judge(self, program: Program) -> tuple[str, str]:
        """Return a status and a reason; whatever a program did before, the names are made anew."""
        if self.trouble:
            return "tests", self.trouble
        program.load()
        known = program.about(self.wanted)
        if self.entry and not isinstance(known.get(self.entry), Remote):
            return "raised", f"it does not define {self.entry}"
        namespace = self._namespace() | known
        if self.entry:
            namespace.setdefault("candidate", known[self.entry])
        asked = any(not isinstance(value, Remote) for value in known.values())
        try:
            exec(self._code, namespace)
            _called(namespace, self.entry, self.tree)
        except Over:
            raise
        except BaseException as error:
            return self._failed(error, program, asked=asked or program.calls > 0, known=known)
        if not asked and not program.calls:
            return "tests", "the problem's tests never asked the program anything"
        return "passed", ""

    def _namespace(self) -> dict[str, Any]:
        namespace: dict[str, Any] = {"__name__": "tests", "__builtins__": builtins}
        exec(self._prompt, namespace)
        return namespace

    def _failed(
        self, error: BaseException, program: Program, *, asked: bool, known: Mapping[str, Any]
    ) -> tuple[str, str]:
        """Say what a test that did not end means: that the program is wrong, or that the tests are."""
        frames = [each for each in traceback.extract_tb(error.__traceback__) if each.filename == NAME]
        lines = self.tests.splitlines()
        where = lines[frames[-1].lineno - 1].strip()[:300] if frames and frames[-1].lineno else ""
        after = f" ({program.last})" if program.last else ""
        if isinstance(error, NameError) and error.name in self.wanted and error.name not in known:
            return "raised", f"it does not define {error.name}"
        if not asked:
            return "tests", f"the problem's tests fail by themselves: {type(error).__name__}: {error} at {where}"
        if isinstance(error, AssertionError):
            return "wrong", f"{where}{after}"
        return "raised", f"{type(error).__name__}: {error} at {where}{after}"


def work(job: Any, descriptors: Sequence[int]) -> NoReturn:
    """Judge programs, one after another: each comes as a channel, the first of a problem with the problem's sheet.

    The process goes on from problem to problem as long as their tests leave it as it was.
    """
    owner = socket.socket(fileno=descriptors[0])
    before = dict(vars(builtins))
    question: Question | None = None
    while threading.active_count() == 1 and vars(builtins) == before:
        try:
            asked, (channel, *sheets) = receive_with(owner)
        except (EOFError, OSError):
            break
        if sheets or question is None:
            question = Question(**read_sheet(sheets[0]))
        random.seed(0)
        program = Program(socket.socket(fileno=channel), asked["seconds"])
        try:
            status, why = question.judge(program)
        except Over as over:
            status, why = over.status, over.why
        program.close()
        send_with(owner, {"status": status, "why": why[:900], "seconds": program.spent}, [])
    os._exit(0)


def _called(namespace: dict[str, Any], entry: str, tree: ast.Module) -> None:
    """Call what the tests only define: `check(candidate)` as in HumanEval, or functions named test_..."""
    if entry and callable(namespace.get("check")) and not isinstance(namespace["check"], Remote):
        namespace["check"](namespace[entry])
        return
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef) and statement.name.startswith("test_"):
            namespace[statement.name]()


def _free(tree: ast.Module) -> Iterator[str]:
    """The names that tests use without defining them: what the program has to have."""
    used: set[str] = set()
    bound = set(dir(builtins))
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else bound).add(node.id)
        elif isinstance(node, _DEFINITIONS):
            bound.add(node.name)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.alias):
            bound.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.ExceptHandler) and node.name:
            bound.add(node.name)
    yield from used - bound - {"candidate", "__name__"}


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
