"""Read propositional formulas: `rain -> wet`, `not (a and b) or c`, `p <-> ~q`.

Names are words, and may have dots and hyphens inside; `true` and `false` are what they say. The operators, from the one
that binds most: not ~ !, and & /\\, xor ^, or | \\/, implies -> =>, iff <-> <=>. Implications group to the right. White
space doesn't count, nor does the case of operators in words; names differ by case.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple, Union

from selftrain.errors import DataError

Formula = Union[str, "Operation"]
"""A name, or an operation; the names `true` and `false` are the two truth values."""


class Operation(NamedTuple):
    """An operator (not, and, xor, or, implies, iff) and what it joins."""

    operator: str
    operands: tuple["Formula", ...]


_SPELLINGS = {
    "not": ("not", "~", "!", "¬"),
    "and": ("and", "&", "&&", "/\\", "∧"),
    "xor": ("xor", "^", "⊕"),
    "or": ("or", "|", "||", "\\/", "∨"),
    "implies": ("implies", "->", "=>", "→", "⇒"),
    "iff": ("iff", "<->", "<=>", "↔", "⇔"),
}
_MEANT = {spelling: operator for operator, spellings in _SPELLINGS.items() for spelling in spellings}
_BINDS = {"iff": 1, "implies": 2, "or": 3, "xor": 4, "and": 5}
_TOKEN = re.compile(r"\s*(<->|<=>|->|=>|&&|\|\||/\\|\\/|[~!¬&∧^⊕|∨→⇒↔⇔()]|\w+(?:[.-]\w+)*)")
_DEEPEST = 200
"""Operators within each other: beyond it a formula is not read."""


def read_formula(text: str) -> Formula:
    """Read a formula; raises DataError where it is none."""
    tokens = list(_tokens(text))
    formula, at = _joined(text, tokens, 0, 0, 0)
    if at < len(tokens):
        raise DataError(f"{text!r}: there is {tokens[at]!r} where the formula could end")
    return formula


def _tokens(text: str) -> Iterator[str]:
    at, end = 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            raise DataError(f"{text!r}: {text[at:].strip()[:10]!r} is no part of a formula")
        yield _MEANT.get(match[1].lower(), match[1])
        at = match.end()


def _joined(text: str, tokens: list[str], at: int, least: int, depth: int) -> tuple[Formula, int]:
    """Read what operators join that bind at least so much; return it with the place behind it."""
    left, at = _single(text, tokens, at, depth)
    while at < len(tokens) and (binds := _BINDS.get(tokens[at], 0)) > 0 and binds >= least:
        operator = tokens[at]
        right, at = _joined(text, tokens, at + 1, binds + (operator != "implies"), depth + 1)
        left = Operation(operator, (left, right))
    return left, at


def _single(text: str, tokens: list[str], at: int, depth: int) -> tuple[Formula, int]:
    if depth > _DEEPEST:
        raise DataError(f"{text[:80]!r}: it is nested too deep")
    token = tokens[at] if at < len(tokens) else "its end"
    if token == "not":
        inner, at = _single(text, tokens, at + 1, depth + 1)
        return Operation("not", (inner,)), at
    if token == "(":
        inner, at = _joined(text, tokens, at + 1, 0, depth + 1)
        if at == len(tokens) or tokens[at] != ")":
            raise DataError(f"{text!r}: a parenthesis isn't closed")
        return inner, at + 1
    if at == len(tokens) or token in _BINDS or token == ")":
        raise DataError(f"{text!r}: there is {token!r} where a name or a parenthesis must stand")
    return token, at + 1
