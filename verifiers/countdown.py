r"""The response's expression makes the target out of given numbers: Countdown, and the Game of 24.

Numbers and target come from `meta["numbers"]` and `meta["target"]`, or from the settings; for the Game of 24 write
`{"name": "countdown", "target": 24}`. The numbers are whole. The expression is what stands in the last
`<answer>...</answer>`, else what the response marks (`#### ...`, `\boxed{...}`), else what follows "answer is" or
"answer:" in its last line, else that line. `3 * 4 = 12` counts as `3 * 4` if the equation holds, and ×, ·, ÷, −,
`\times`, `\div`, `\cdot` as the plain signs. It has + - * / and parentheses only, and is computed exactly.
"""

import ast
import re
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from selftrain.records import Case, JsonValue, Problem, Score
from selftrain.verification.answers import marked, read_number

_GAME = {"numbers": [3, 4, 6, 8], "target": 24}
_24 = {"target": 24}
_SOME = {"use": "at most once"}
cases = (
    Case(meta=_GAME, response="8 * 6 / (4 - 3) - 24", expect="fail"),
    Case(meta=_GAME, response="(8 - 6) * 3 * 4", expect="pass"),
    Case(meta=_GAME, response="Let me see.\n(8 − 6) × 3 × 4 = 24", expect="pass"),
    Case(meta=_GAME, response="First 8-6 is 2. <answer>3*4*(8-6)</answer> Good.", expect="pass"),
    Case(meta=_GAME, response=r"So \boxed{3 \times 4 \times (8 - 6)}.", expect="pass"),
    Case(meta=_GAME, response="#### 24 = 3*4*(8-6)", expect="pass"),
    Case(meta={"numbers": [3, 3, 8, 8]}, settings=_24, response="8/(3-8/3)", expect="pass"),
    Case(meta={"numbers": [1, 2], "target": "1/2"}, response="The answer is 1 / 2.", expect="pass"),
    Case(meta={"numbers": [-2, 12], "target": -24}, response="-2 * 12", expect="pass"),
    Case(meta=_GAME, settings=_SOME, response="4 * 6", expect="pass"),
    Case(meta=_GAME, response="4 * 6", expect="fail"),
    Case(meta=_GAME, settings=_SOME, response="4 * 4 + 8", expect="fail"),
    Case(meta=_GAME, response="(8 - 6) * 3 * 4 = 25", expect="fail"),
    Case(meta=_GAME, response="24", expect="fail"),
    Case(meta=_GAME, response="3 * 8 ** 1 + 4 * 0 * 6", expect="fail"),
    Case(meta=_GAME, response="__import__('os').getpid()", expect="fail"),
    Case(meta=_GAME, response="8 / (3 - 3) + 4 + 6", expect="fail"),
    Case(meta=_GAME, response="3 * 4 * (8 - 6", expect="fail"),
    Case(meta=_GAME, response="", expect="fail"),
    Case(meta=_GAME, response="答案：3×4×(8−6)", expect="fail"),
    Case(meta=_GAME, response="(" * 10_000, expect="fail"),
    Case(meta={"numbers": [1, 2]}, response="1 + 2", expect="error"),
    Case(meta={"numbers": ["1/2"], "target": 1}, response="1", expect="error"),
    Case(response="1 + 2", expect="error"),
)

_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_SAID = re.compile(r"^.*\banswer(?:\s+is)?\s*:?", re.IGNORECASE)
_SIGNS = {
    "×": "*",
    "·": "*",
    "÷": "/",
    "−": "-",
    r"\times": "*",
    r"\cdot": "*",
    r"\div": "/",
    r"\left": "",
    r"\right": "",
}
_LONGEST = 1000
"""Characters: a longer expression than any game's is not read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """Computes an expression."""

    numbers: tuple[int, ...] = ()
    """The numbers for problems that bring none."""
    target: int | None = None
    """The target for problems that bring none."""
    use: Literal["once", "at most once"] = "once"
    """How often each number is used."""

    def verify(self, *, problem: Problem, response: str) -> Score:
        """Pass if the expression makes the target."""
        given = [_exact(each) for each in problem.meta.get("numbers", self.numbers)]
        target = _exact(problem.meta.get("target", self.target))
        numbers = [each for each in given if each is not None and each.denominator == 1]
        try:
            value, used, written = _computed(_expression(response), set(numbers))
        except _Refused as error:
            wrong, answer = str(error), None
        else:
            wrong, answer = self._wrong(value, used, numbers, target), written
        if target is None or not given or len(numbers) < len(given):
            why = 'whole numbers or the target are missing; give meta["numbers"] and meta["target"], or the settings'
            return Score(status="error", why=why, answer=answer)
        return Score(status="fail" if wrong else "pass", why=wrong, answer=answer)

    def _wrong(self, value: Fraction, used: Counter[Fraction], numbers: list[Fraction], target: Fraction | None) -> str:
        there = Counter(numbers)
        if extra := used - there:
            return f"it uses {_listed(extra)}, which it doesn't have (so often)"
        if self.use == "once" and (left := there - used):
            return f"it doesn't use {_listed(left)}"
        return "" if value == target else f"it makes {value}, not {target}"


class _Refused(Exception):
    """The text is no expression of the game."""


def _exact(value: JsonValue) -> Fraction | None:
    return read_number(str(value)) if isinstance(value, int | float | str) and not isinstance(value, bool) else None


def _listed(numbers: Counter[Fraction]) -> str:
    return ", ".join(str(each) for each in sorted(numbers.elements()))


def _expression(response: str) -> str:
    """Return the response's expression in plain signs, without the side of an equation that only says the result."""
    tagged = _TAGGED.findall(response)
    last = response.rstrip().rpartition("\n")[2]
    text = tagged[-1] if tagged else (marked(response) or _SAID.sub("", last[-_LONGEST - 1 :]).rstrip("."))
    if len(text) > _LONGEST:
        raise _Refused("it is too long for an expression")
    for sign, plain in _SIGNS.items():
        text = text.replace(sign, plain)
    sides = [side.strip().strip("$").strip() for side in text.split("=")]
    longest = max(sides, key=lambda side: len(re.findall(r"\d+", side)))
    value = _computed(longest, set())[0] if len(sides) > 1 else None
    for side in sides:
        if value is not None and _computed(side, set())[0] != value:
            raise _Refused(f"the equation {text.strip()[:80]!r} doesn't hold")
    return longest


def _computed(text: str, negatives: set[Fraction]) -> tuple[Fraction, Counter[Fraction], str]:
    """Return an expression's value, the numbers in it, and one form of it; a sign is read for given numbers only."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        used: Counter[Fraction] = Counter()
        return _value(tree, used, negatives), used, ast.unparse(tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _Refused(f"{text[:80]!r} is no expression: {type(error).__name__}") from error
    except ZeroDivisionError as error:
        raise _Refused(f"{text[:80]!r} divides by zero") from error


def _value(node: ast.expr, used: Counter[Fraction], negatives: set[Fraction]) -> Fraction:
    match node:
        case ast.Constant(value=int() as number) if not isinstance(number, bool):
            used[Fraction(number)] += 1
            return Fraction(number)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() as number)) if -number in negatives:
            used[Fraction(-number)] += 1
            return Fraction(-number)
        case ast.BinOp(left=left, op=operation, right=right):
            return _applied(operation, _value(left, used, negatives), _value(right, used, negatives))
        case _:
            raise _Refused(f"{ast.unparse(node)[:80]!r} is not a number, + - * / or parentheses")


def _applied(operation: ast.operator, left: Fraction, right: Fraction) -> Fraction:
    match operation:
        case ast.Add():
            return left + right
        case ast.Sub():
            return left - right
        case ast.Mult():
            return left * right
        case ast.Div():
            return left / right
        case _:
            raise _Refused(f"it has {type(operation).__name__}, not one of + - * /")
