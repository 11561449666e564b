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
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

from selftrain.backends.sandbox_remote import Over, Program, Remote
from selftrain.backends.sandbox_wire import read_sheet, receive_with, send_with

NAME = "tests.py"
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


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
