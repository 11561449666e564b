"""Find the final answer in a response, and read numbers: for verifiers, votes and data sets.

What counts as a number: an optional sign, digits with or without commas between thousands, decimals, an exponent, or a
fraction `a/b` (LaTeX's \\frac{a}{b} too). Currency and percent signs are dropped: 50% reads as 50. A minus glued to
what stands before it is an operator: the last number of `12-7` is 7.
"""

import re
import unicodedata
from fractions import Fraction

_MARK = re.compile(r"\\boxed\s*\{|####")
_BRACE = re.compile(r"[{}]")
_FRACTION = re.compile(r"(-?)\\[dt]?frac\s*\{\s*(-?[\d.,]+)\s*\}\s*\{\s*([\d.,]+)\s*\}")
_LATEX = ((r"\left", ""), (r"\right", ""), ("{,}", ","), (r"\,", ""), (r"\!", ""), (r"\$", "$"), (r"\%", "%"))
_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+"
_NUMBER = re.compile(
    rf"(?<![A-Za-z0-9_.])(?P<sign>(?<![\w.)\]%])[-+](?=[$€£.\d]))?[$€£]?"
    rf"(?P<value>{_DIGITS})(?P<exponent>[eE][-+]?\d+)?(?:\s?/\s?(?P<over>{_DIGITS}))?"
)
_LONGEST = 1000
"""Digits, and exponent: beyond it a number is not read (a model's endless digits, 1e999999999)."""


def normal(text: str) -> str:
    """Return the text in one form of Unicode, case and white space: what texts are compared by."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def marked(response: str) -> str | None:
    r"""Return what the response marks as its answer, the last `\boxed{...}` or `#### ...`, or None if it marks none."""
    closing: dict[int, int] | None = None
    # The last mark first: what a model repeats without end is not read mark by mark.
    for mark in reversed(list(_MARK.finditer(response))):
        if mark[0] == "####":
            stop = response.find("\n", mark.end())
        else:
            closing = _closing(response) if closing is None else closing
            stop = closing.get(mark.end() - 1, mark.end())
        text = response[mark.end() : len(response) if stop < 0 else stop].strip()
        if text:
            return text
    return None


def number_in(text: str) -> str | None:
    """Return the last number of a text, as it is written, or None if there is none."""
    last = None
    for match in _NUMBER.finditer(_plain(text)):
        last = match
    return last[0] if last else None


def read_number(text: str) -> Fraction | None:
    """Return the exact value of a text that is a number and nothing else, or None."""
    plain = _plain(text).strip().removesuffix("%").rstrip().removesuffix(".")
    match = _NUMBER.fullmatch(plain)
    if match is None or len(plain) > _LONGEST:
        return None
    exponent = int(match["exponent"][1:]) if match["exponent"] else 0
    over = Fraction((match["over"] or "1").replace(",", ""))
    if abs(exponent) > _LONGEST or over == 0:
        return None
    value = Fraction(match["value"].replace(",", "")) * Fraction(10) ** exponent / over
    return -value if match["sign"] == "-" else value


def own_verifier(answer: str | None) -> str:
    """Return the verifier that suits a gold answer where the data says nothing: `number` for a number, else `exact`."""
    return "number" if answer is not None and read_number(answer) is not None else "exact"


def _plain(text: str) -> str:
    """Return the text with LaTeX's and Unicode's ways to write a number brought to the plain ones."""
    text = text.replace("−", "-").replace("–", "-")
    if "\\" in text or "{" in text:
        for latex, plain in _LATEX:
            text = text.replace(latex, plain)
        text = _FRACTION.sub(r"\1\2/\3", text)
    return text


def _closing(text: str) -> dict[int, int]:
    """Return, for each opening brace of a text that is closed, the place of the brace that closes it."""
    open_ones: list[int] = []
    found: dict[int, int] = {}
    for brace in _BRACE.finditer(text):
        if brace[0] == "{":
            open_ones.append(brace.start())
        elif open_ones:
            found[open_ones.pop()] = brace.start()
    return found
