"""Find the program in a response: one rule for all verifiers that run code.

1. What stands before the last `</think>` is not looked at.
2. Fenced blocks (three or more backticks or tildes) marked with the wanted language count; if there are none, those
   without a mark; blocks of other languages never do. A block that nothing closes runs to the end.
3. Of several, the last one that defines the name asked for; if none does, or no name is asked for, the last one.
4. A response without such a block is a program as it stands.
"""

import ast
import re
import warnings
from collections.abc import Sequence
from typing import NamedTuple

PYTHON = ("python", "py", "python3")
SQL = ("sql", "sqlite", "sqlite3")
_FENCE = re.compile(r"^(?P<indent>[ \t]*)(?P<fence>`{3,}|~{3,})[ \t]*(?P<mark>[\w+#.-]*)[^\n]*$", re.MULTILINE)


class Block(NamedTuple):
    """A fenced block of a response."""

    language: str
    text: str


def code_in(response: str, *, languages: Sequence[str] = PYTHON, defines: str = "") -> str:
    """Return the program of a response, by the rule above."""
    response = response.rpartition("</think>")[2]
    found = list(blocks(response))
    wanted = [each.text for each in found if each.language in languages]
    wanted = wanted or [each.text for each in found if not each.language]
    if not wanted:
        return response
    defining = [each for each in wanted if defines and defined(each, defines)]
    return (defining or wanted)[-1]


def blocks(response: str) -> list[Block]:
    """Return the fenced blocks of a text, in order, without the indentation of their fences."""
    found, at = [], 0
    while (opening := _FENCE.search(response, at)) is not None:
        body = response[opening.end() + 1 :]
        closing = re.search(rf"^[ \t]*{opening['fence']}[ \t]*$", body, re.MULTILINE)
        text = body[: closing.start()] if closing else body
        at = len(response) - len(body) + closing.end() if closing else len(response)
        indent = opening["indent"]
        lines = [line.removeprefix(indent) for line in text.splitlines()]
        found.append(Block(opening["mark"].lower(), "\n".join(lines) + "\n"))
    return found


def defined(program: str, name: str) -> bool:
    """Whether a program defines a name at its top level; one that does not parse is read line by line."""
    try:
        body = ast.parse(program).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return re.search(rf"^(?:(?:async )?def|class) {re.escape(name)}\b", program, re.MULTILINE) is not None
    return any(name in _bound(statement) for statement in body)


def completed(prompt: str, code: str, name: str) -> str:
    """Return a whole program of a problem's code and a response's: its own definition of `name`, or the prompt's rest.

    A response that defines the name keeps what the prompt has before its definition (imports, helper functions). Any
    other is taken as what follows the prompt, indented if it must be.
    """
    if not prompt:
        return code
    if defined(code, name):
        match = re.search(rf"^(?:@.*\n)*(?:async )?def {re.escape(name)}\b", prompt, re.MULTILINE)
        return _future_first(f"{prompt[: match.start()] if match else ''}\n{code}")
    whole = f"{prompt.rstrip()}\n{code.lstrip(chr(10))}"
    if _compiles(whole):
        return whole
    indented = "".join(f"    {line}\n" for line in code.strip("\n").splitlines())
    return f"{prompt.rstrip()}\n{indented}" if _compiles(f"{prompt.rstrip()}\n{indented}") else whole


def _bound(statement: ast.stmt) -> set[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name for alias in statement.names}
    stored = (node for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
    return {node.id for node in stored}


def _future_first(program: str) -> str:
    """Put `from __future__` imports where alone they may stand."""
    lines = program.splitlines(keepends=True)
    future = [line for line in lines if line.startswith("from __future__ ")]
    return "".join([*future, *(line for line in lines if not line.startswith("from __future__ "))])


def _compiles(program: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(program, "program.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
