r"""The response's answer is the gold text, but for case and white space.

The answer is what the response marks (`#### yes`, `\boxed{yes}`), what stands after its last "answer is" or "answer:",
or else the whole response or its last line. A full stop at the end and quotes around it don't count.
"""

import re
from dataclasses import dataclass

from selftrain.records import Case, Problem, Score
from selftrain.verification.answers import marked, normal

cases = (
    Case(answer="Paris", response="paris", expect="pass"),
    Case(answer="Paris", response="It lies on the Seine.\nParis.", expect="pass"),
    Case(answer="a b", response="I think the answer is: 'A   b'.", expect="pass"),
    Case(answer="YES", response="#### yes", expect="pass"),
    Case(answer="Paris", response="Paris or London", expect="fail"),
    Case(answer="no", response="not", expect="fail"),
    Case(answer="Paris", response="", expect="fail"),
    Case(response="Paris", expect="error"),
)

_ANSWER = re.compile(r"\banswer(?:\s+is)?\s*[:=]?\s*(.+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """Compares texts."""

    case: bool = False
    """Whether upper and lower case differ."""

    def verify(self, *, problem: Problem, response: str) -> Score:
        """Pass if the response's answer is the gold text."""
        candidates = [self._form(text) for text in _candidates(response)]
        # Votes count this, so it must not depend on the gold answer.
        taken = candidates[-1] or None
        if problem.answer is None:
            return Score(status="error", why="the problem has no gold answer", answer=taken)
        if self._form(problem.answer) in candidates:
            return Score(status="pass", answer=taken)
        return Score(status="fail", why=f"{(taken or '')[:80]!r} is not {problem.answer[:80]!r}", answer=taken)

    def _form(self, text: str) -> str:
        text = " ".join(text.split()) if self.case else normal(text)
        return text.removesuffix(".").strip("\"'`* ")


def _candidates(response: str) -> tuple[str, ...]:
    if (mark := marked(response)) is not None:
        return (mark,)
    lines = [line for line in response.splitlines() if line.strip()] or [""]
    said = _ANSWER.findall(response)
    return (response, lines[-1], *said[-1:])
