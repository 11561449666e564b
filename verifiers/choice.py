r"""The response chooses the gold option, by letter or by the option's text.

The gold answer is a letter or an option's text. Options come from `meta["choices"]` (a list, the first one is A) or
from prompt lines such as `A. red` or `(A) red`. The choice is what the response marks (`#### B`, `\boxed{B}`), what
stands after its last "answer is", a last `(B)` or line `B. ...`, or the one option whose text the last line holds. The
article "a" in a sentence is no choice.
"""

import re
from dataclasses import dataclass

from selftrain.records import Case, Problem, Score
from selftrain.verification.answers import marked, normal

_PROMPT = "Which colour is the sky?\nA. red\nB. blue\nC. dark blue"
cases = (
    Case(prompt=_PROMPT, answer="B", response="B", expect="pass"),
    Case(prompt=_PROMPT, answer="B", response="(b)", expect="pass"),
    Case(prompt=_PROMPT, answer="B", response="A clear sky is blue, so the answer is (B).", expect="pass"),
    Case(prompt=_PROMPT, answer="blue", response=r"\boxed{\text{B}}", expect="pass"),
    Case(prompt=_PROMPT, answer="B", response="Let me think.\nThe sky is blue.", expect="pass"),
    Case(prompt=_PROMPT, answer="C", response="The sky is dark blue.", expect="pass"),
    Case(prompt="Sky?", meta={"choices": ["red", "blue"]}, answer="B", response="Answer: blue", expect="pass"),
    Case(prompt="Sky?", answer="B", response="**B**", expect="pass"),
    Case(prompt=_PROMPT, answer="A", response="A clear sky is blue.", expect="fail"),
    Case(prompt=_PROMPT, answer="B", response="Not (B). The answer is C", expect="fail"),
    Case(prompt=_PROMPT, answer="B", response="It is red or blue.", expect="fail"),
    Case(prompt=_PROMPT, answer="B", response="", expect="fail"),
    Case(prompt=_PROMPT, answer="green", response="B", expect="error"),
    Case(prompt=_PROMPT, response="B", expect="error"),
)

_OPTION = re.compile(r"^\s*\(?([A-Z])[.):]\s*(\S.*?)\s*$", re.MULTILINE)
_ANSWER = re.compile(r"\b(?:answer|choice|option)(?:\s+is)?\s*[:=]?\s*(\S.*)", re.IGNORECASE)
_LETTER = re.compile(r"[\s(*]*(?:\\text\{)?\s*\(?([A-Za-z])(?:[.):,*}]|\s*$)")
_BRACKETED = re.compile(r"\(([A-Z])\)|\*\*\(?([A-Z])\)?\*\*|^([A-Z])[.):](?=\s|$)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """Compares the chosen option."""

    def verify(self, *, problem: Problem, response: str) -> Score:
        """Pass if the response chooses the gold option."""
        options = _options(problem)
        chosen = _chosen(response, options)
        gold = _named(problem.answer or "", options)
        if gold is None:
            why = f"the gold answer {problem.answer!r} is none of the options"
            return Score(status="error", why=why, answer=chosen)
        if chosen is None:
            return Score(status="fail", why="the response chooses no option")
        if chosen == gold:
            return Score(status="pass", answer=chosen)
        return Score(status="fail", why=f"it chooses {chosen}, not {gold}", answer=chosen)


def _options(problem: Problem) -> dict[str, str]:
    listed = problem.meta.get("choices")
    if isinstance(listed, list | tuple):
        return {chr(ord("A") + at): normal(str(text)) for at, text in enumerate(listed)}
    return {letter: normal(text) for letter, text in _OPTION.findall(problem.text)}


def _named(text: str, options: dict[str, str]) -> str | None:
    """Return the letter of the option that a short text names by letter or by the option's own text."""
    plain = normal(text).strip(".*\"' ")
    for letter, option in options.items():
        if plain and plain == option.strip(". "):
            return letter
    match = _LETTER.match(text.strip())
    if match and (match[1].upper() in options or not options):
        return match[1].upper()
    return None


def _chosen(response: str, options: dict[str, str]) -> str | None:
    answers: list[str] = _ANSWER.findall(response)
    said = marked(response) or (answers[-1] if answers else response.strip())
    if (letter := _named(said, options)) is not None:
        return letter
    bracketed: list[str] = ["".join(found) for found in _BRACKETED.findall(response)]
    for letter in reversed(bracketed):
        if letter in options or not options:
            return letter
    return _mentioned(response, options)


def _mentioned(response: str, options: dict[str, str]) -> str | None:
    """Return the one option whose text stands in the last line; an option within another's text doesn't count."""
    lines = [line for line in response.splitlines() if line.strip()]
    last = normal(lines[-1]) if lines else ""
    held = {k: v for k, v in options.items() if v and re.search(rf"(?<!\w){re.escape(v)}(?!\w)", last)}
    longest = [k for k, v in held.items() if not any(v != w and v in w for w in held.values())]
    return longest[0] if len(longest) == 1 else None
