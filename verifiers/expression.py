r"""The response's final expression is mathematically equal to the gold expression, by math-verify.

The final expression is what the response marks (`\boxed{...}`, `#### ...`), else its last line where that is a formula
without words, else what math-verify finds. A response without an expression fails; a gold answer that math-verify can't
read, and whatever it raises, is an error: by default it would turn an exception into "wrong". Its own time limits are
off, since they are alarms that can't stop everything; the worker pool ends an item that takes too long. Words are for
`exact`: here letters multiply, so a word equals its anagrams.
"""

import logging
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sympy
from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

from selftrain.records import Case, Problem, Score
from selftrain.verification.answers import marked

# With its time limits off math-verify warns, once per call site, that somebody else must keep time: the pool does.
logging.getLogger("math_verify").setLevel(logging.ERROR)

cases = (
    Case(answer=r"\frac{1}{2}", response=r"So it is \boxed{0.5}.", expect="pass"),
    Case(answer="x^2+1", response=r"Hence $f(x) = 1 + x^2$", expect="pass"),
    Case(answer="(x+1)^2", response=r"\boxed{x^2 + 2x + 1}", expect="pass"),
    Case(answer="x^2+1", response="x^2 + 1", expect="pass"),
    Case(answer="72", response="Half of 48 is 24.\n48 + 24 = 72", expect="pass"),
    Case(answer="72", response="48 + 24 = 72\n#### 72", expect="pass"),
    Case(answer=r"$\{1, 2\}$", response=r"The roots are $\{2, 1\}$.", expect="pass"),
    Case(answer=r"\sqrt{8}", response=r"\boxed{2\sqrt{2}}", expect="pass"),
    Case(answer=r"\frac{1}{2}", response=r"\boxed{\frac{1}{3}}", expect="fail"),
    Case(answer="72", response="#### 71", expect="fail"),
    Case(answer="72", response="", expect="fail"),
    Case(answer="72", response="(" * 20_000, expect="fail"),
    Case(answer="42", response="الجواب هو ٤٢.", expect="pass"),
    Case(answer="2", response=r"\boxed{\frac{1}{0}}", expect="fail"),
    Case(answer="$12:00$", response="$12:00$", expect="pass"),
    Case(answer="4", response=r"Not \boxed{3} but \boxed{4}, or both?", expect="fail"),
    Case(answer=r"\frac{", response=r"\boxed{1}", expect="error"),
    Case(response=r"\boxed{1}", expect="error"),
)

_TARGETS = (LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig())
_LATEX_SIGNS = ("$", r"\boxed", r"\(", r"\[", r"\)", r"\]")
_LONGEST = 10_000
"""Characters that are read of a response, at its end: math-verify's time grows faster than the text."""
_DEEPEST = 50
"""Brackets that may be open at once: with hundreds math-verify takes minutes, so such a text is no expression."""
_WORD = re.compile(r"(?<!\\)\b(?!(?:sin|cos|tan|log|exp|sqrt)\b)[A-Za-z]{3,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """Compares expressions."""

    decimals: int = 6
    """Places to which decimal numbers must agree."""
    strict: bool = True
    """Whether names of variables count, and sets differ from tuples."""
    relations: bool = False
    """Whether an inequality may stand for the interval it describes (math-verify's allow_set_relation_comp)."""

    def verify(self, *, problem: Problem, response: str) -> Score:
        """Pass if the response's final expression equals the gold one."""
        return _judged(problem.answer, response, self.decimals, self.strict, self.relations)


@lru_cache(maxsize=10_000)
def _judged(answer: str | None, response: str, decimals: int, strict: bool, relations: bool) -> Score:
    found = _found(response)
    taken = _written(found[0]) if found else None
    if answer is None:
        return Score(status="error", why="the problem has no gold answer", answer=taken)
    gold = _gold(answer)
    if taken is not None and _same_text(_gold(answer, fallback="first_match"), found):
        return Score(status="pass", answer=taken)
    if not gold:
        why = f"math-verify finds no expression in the gold answer {answer!r}"
        return Score(status="error", why=why, answer=taken)
    if taken is None:
        return Score(status="fail", why="no expression in the response")
    equal = verify(
        list(gold),
        found,
        float_rounding=decimals,
        strict=strict,
        allow_set_relation_comp=relations,
        timeout_seconds=None,
        raise_on_error=True,
    )
    if equal:
        return Score(status="pass", answer=taken)
    return Score(status="fail", why=f"{taken[:80]} is not {answer[:80]}", answer=taken)


@lru_cache(maxsize=10_000)
def _gold(answer: str, fallback: str = "no_fallback") -> tuple[Any, ...]:
    plain = not any(sign in answer for sign in _LATEX_SIGNS)
    return tuple(_parsed(f"\\boxed{{{answer}}}" if plain else answer, fallback=fallback))


def _written(found: Any) -> str:
    """Return an expression as a text that is read as the same expression again: votes compare it as a gold answer."""
    if isinstance(found, str) or getattr(found, "is_Rational", False):
        return str(found)
    return str(sympy.latex(found))


def _same_text(gold: Sequence[Any], found: Sequence[Any]) -> bool:
    """Whether both end in the same text: equal whether or not anybody can compute with it."""
    texts = [each[-1] if each and isinstance(each[-1], str) else "" for each in (gold, found)]
    return texts[0] == texts[1] != ""


def _found(response: str) -> list[Any]:
    response = _ascii_digits(response[-_LONGEST:])
    # A mark after the last box is the answer; boxes are math-verify's own matter, which reads several as a set.
    mark = marked(response[response.rfind(r"\boxed") + 1 :])
    last = response.rstrip().rpartition("\n")[2]
    if mark is None and not any(sign in last for sign in _LATEX_SIGNS) and last and not _WORD.search(last):
        mark = last
    text = response if mark is None else f"\\boxed{{{mark}}}"
    return [] if _depth(text) > _DEEPEST else _parsed(text, fallback="first_match")


def _ascii_digits(text: str) -> str:
    """Return the text with the decimal digits of all scripts as 0 to 9, the only ones that SymPy reads."""
    if text.isascii():
        return text
    return "".join(str(unicodedata.decimal(char)) if char.isdecimal() else char for char in text)


def _depth(text: str) -> int:
    """Return how many brackets are open at once, at most."""
    deepest = depth = 0
    for bracket in re.findall(r"[(\[{]|[)\]}]", text):
        depth = depth + 1 if bracket in "([{" else max(0, depth - 1)
        deepest = max(deepest, depth)
    return deepest


def _parsed(text: str, *, fallback: str) -> list[Any]:
    parsed: list[Any] = parse(text, _TARGETS, fallback_mode=fallback, parsing_timeout=None, raise_on_error=True)
    return parsed
