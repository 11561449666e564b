r"""Read what a judge says: a number on a scale, yes or no, or which of two is better. None where it can't be told.

One rule for all three. What stands before the last `</think>` is not read. A reply may mark its verdict, and the last
mark counts: `[[7]]`, `\boxed{7}`, a JSON value (`{"score": 7}`), or a label with a colon, an equals sign or "is"
("Rating: 7", "**Score:** 7/10", "the verdict is B", "Winner: Response A"). Without a mark the whole reply, and else its
last line, must be the verdict and nothing more, but for stars, quotes, brackets and a full stop around it. Anything
else is not read: to guess at a judge's words would be to judge in its place.
"""

import re

_NUMBER = r"[-+]?\d+(?:\.\d+)?"
_OVER = rf"(?P<value>{_NUMBER})(?:\s*(?:/|out of)\s*(?P<over>{_NUMBER}))?"
_SIDE = (
    r"(?:the\s+)?(?:(?:response|assistant|answer|option)\s+)?(?P<side>(?-i:[ABC])|first|second|tie|both|neither|equal)"
)
_YES = r"(?P<yes>yes|no|true|false|correct|incorrect|right|wrong)"
_LABELS = {
    "number": "rating|score|grade|mark|points",
    "side": "verdict|winner|better(?: response| one)?|preferred(?: response)?|choice|answer|preference|decision",
    "yes": "verdict|answer|judge?ment|decision|correct|conclusion",
}
_FORMS = {"number": _OVER, "side": _SIDE, "yes": _YES}
_AFTER = {
    "number": r"(?![\w%]|\.\d|\s*(?:[-–/]|or|to|out)\s*\d)",
    "side": r"(?!\w|\s*(?:[-–/]|or|and)\s*(?-i:[ABC])\b)",
    # Not "the answer is no more than 5".
    "yes": r"(?=[ \t*_`\"')\]}]*(?:[.,;!]|$))",
}
"""What may follow a verdict after its label, where nothing else marks its end."""
_AROUND = r"[\s*_`\"'()\[\]]*"
_SAYS = r"(?:\s*[:=]\s*|\s+is\s+)"


def _marks(kind: str) -> re.Pattern[str]:
    form = _FORMS[kind]
    marks = (
        rf"\[\[\s*{form}\s*\]\]",
        rf"\\boxed\s*\{{\s*(?:\\text\s*\{{)?\s*{form}\s*\}}",
        rf"\b(?:{_LABELS[kind]})\b{_AROUND}{_SAYS}{_AROUND}{form}{_AFTER[kind]}",
    )
    # A name can stand only once in an expression, so each way of marking has names of its own.
    return re.compile(
        "|".join(re.sub(r"\?P<(\w+)>", rf"?P<\g<1>{at}>", mark) for at, mark in enumerate(marks)),
        re.IGNORECASE | re.MULTILINE,
    )


_MARKS = {kind: _marks(kind) for kind in _FORMS}
_ALONE = {kind: re.compile(rf"{_AROUND}{form}{_AROUND}[.!]?{_AROUND}", re.IGNORECASE) for kind, form in _FORMS.items()}


def number(reply: str, low: float, high: float) -> float | None:
    """Return the rating; None too where it is off the scale, or out of another number than the scale's upper end."""
    found = _found(reply, "number")
    if found is None:
        return None
    value, over = float(found["value"]), found.get("over")
    if not low <= value <= high or (over is not None and float(over) != high):
        return None
    return value


def yes(reply: str) -> bool | None:
    """Return whether it says yes."""
    found = _found(reply, "yes")
    return None if found is None else found["yes"].lower() in ("yes", "true", "correct", "right")


def better(reply: str) -> float | None:
    """Return 1 where the first of two is better, 0 for the second, 0.5 for a tie."""
    found = _found(reply, "side")
    if found is None:
        return None
    side = found["side"].lower()
    return {"a": 1.0, "first": 1.0, "b": 0.0, "second": 0.0}.get(side, 0.5)


def _found(reply: str, kind: str) -> dict[str, str] | None:
    said = reply.rpartition("</think>")[2].strip()
    marks = list(_MARKS[kind].finditer(said))
    last = marks[-1] if marks else None
    if last is None:
        lines = said.splitlines()
        for text in (said, *lines[-1:]):
            if (alone := _ALONE[kind].fullmatch(text)) is not None:
                last = alone
                break
    if last is None:
        return None
    return {name.rstrip("0123456789"): text for name, text in last.groupdict().items() if text is not None}
