"""The response, or the answer that it marks, matches a regular expression of the problem.

The pattern comes from `meta["pattern"]`, or from the setting; it is Python's, with its inline flags: `(?i)`, `(?s)`. A
pattern that is none is an error; one that takes for ever is ended by the worker pool, as a timeout.
"""

import re
from dataclasses import dataclass
from typing import Literal

from selftrain.records import Case, Problem, Score
from selftrain.verification.answers import marked

_DATE = {"pattern": r"\d{4}-\d\d-\d\d"}
_SEARCH = {"match": "search"}
_MARKED = {"part": "answer"}
cases = (
    Case(meta=_DATE, response="2024-02-29", expect="pass"),
    Case(meta=_DATE, response=" 2024-02-29\n", expect="pass"),
    Case(meta=_DATE, response="It is 2024-02-29.", expect="fail"),
    Case(meta=_DATE, response="29 February", expect="fail"),
    Case(meta=_DATE, response="", expect="fail"),
    Case(meta={"pattern": ".*"}, response="", expect="pass"),
    Case(meta={"pattern": "(?s).*"}, response="ä\n雨" * 10_000, expect="pass"),
    Case(settings=_SEARCH, meta=_DATE, response="It is 2024-02-29.", expect="pass"),
    Case(settings=_SEARCH, meta={"pattern": "^(?i:yes)$"}, response="YES", expect="pass"),
    Case(settings=_SEARCH, meta={"pattern": r"\bno\b"}, response="nothing", expect="fail"),
    Case(settings=_MARKED, meta=_DATE, response="Hence\n#### 2024-02-29", expect="pass"),
    Case(settings=_MARKED, meta=_DATE, response=r"Hence \boxed{tomorrow}, not 2024-02-29", expect="fail"),
    Case(settings=_MARKED, meta=_DATE, response="2024-02-29", expect="fail"),
    Case(settings={"pattern": "a+"}, response="aaa", expect="pass"),
    Case(meta={"pattern": "(a"}, response="a", expect="error"),
    Case(response="a", expect="error"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """Matches a pattern."""

    pattern: str = ""
    """The pattern for problems that bring none."""
    match: Literal["full", "search"] = "full"
    """Whether it must match the whole text, white space around it aside, or be found somewhere."""
    part: Literal["response", "answer"] = "response"
    r"""What is matched: the response, or what it marks (`#### ...`, `\boxed{...}`)."""

    def verify(self, *, problem: Problem, response: str) -> Score:
        """Pass if the pattern matches."""
        answer = marked(response)
        text = response.strip() if self.part == "response" else answer
        pattern = problem.meta.get("pattern", self.pattern or None)
        if not isinstance(pattern, str):
            why = f'the pattern is {pattern!r}; give a text as meta["pattern"], or the setting'
            return Score(status="error", why=why, answer=answer)
        try:
            compiled = re.compile(pattern)
        except re.error as error:
            return Score(status="error", why=f"the pattern {pattern!r} is wrong: {error}", answer=answer)
        if text is None:
            return Score(status="fail", why="the response marks no answer")
        found = compiled.fullmatch(text) if self.match == "full" else compiled.search(text)
        if found is None:
            return Score(status="fail", why=f"{text[:80]!r} doesn't match {pattern!r}", answer=answer)
        return Score(status="pass", answer=answer)
