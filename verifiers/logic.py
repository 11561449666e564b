"""The response says rightly whether premises entail a conclusion; z3 decides (`pip install 'selftrain[logic]'`).

`meta["premises"]` is a list of propositional formulas (`rain -> wet`, `not rain`;
`selftrain/verification/propositions.py` says how they are written) and `meta["conclusion"]` is one; or they are
SMT-LIB: `meta["smtlib"]`, with declarations and assertions, and `meta["conclusion"]`, a term. The conclusion is
entailed, contradicted (its opposite is entailed), or unknown. The response's answer is what it marks, or what follows
"answer is" or "answer:" in its last line, or that line, or the last word of its last clause, if nothing is negated
there: entailed, true, yes; contradicted, false, no; unknown, uncertain, neither, ... The problem's gold answer is not
looked at. Premises that contradict each other, and what z3 can't decide, are errors.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from selftrain.errors import DataError, PluginError
from selftrain.records import Case, Json, Problem, Score
from selftrain.verification.answers import marked, normal
from selftrain.verification.propositions import Formula, read_formula

try:
    import z3
except ImportError as missing:
    raise PluginError("verifier 'logic' needs z3; run: pip install 'selftrain[logic]'") from missing

Answer = Literal["entailed", "contradicted", "unknown"]

_RAIN = {"premises": ["rain -> wet", "rain"], "conclusion": "wet"}
_DRY = {"premises": ["rain -> wet", "not wet"], "conclusion": "rain"}
_OPEN = {"premises": ["rain -> wet", "wet"], "conclusion": "rain"}
_SMT = {"smtlib": "(declare-const x Int) (assert (> x 3))", "conclusion": "(> x 2)"}
_ALL = "(declare-sort S 0) (declare-fun cat (S) Bool) (declare-fun shy (S) Bool) (declare-const tom S)"
_CATS = {
    "smtlib": _ALL + "(assert (forall ((x S)) (=> (cat x) (shy x)))) (assert (cat tom))",
    "conclusion": "(not (shy tom))",
}
cases = (
    Case(meta=_RAIN, response="It rains, so it is wet.\n#### entailed", expect="pass"),
    Case(meta=_RAIN, response="The answer is: True.", expect="pass"),
    Case(meta=_RAIN, response="Yes", expect="pass"),
    Case(meta=_RAIN, response="false", expect="fail"),
    Case(meta=_RAIN, response=r"\boxed{\text{unknown}}", expect="fail"),
    Case(meta=_DRY, response="Contradiction.", expect="pass"),
    Case(meta=_DRY, response="true", expect="fail"),
    Case(meta=_OPEN, response="It could be a hose: uncertain", expect="pass"),
    Case(meta=_OPEN, response="Not enough information", expect="pass"),
    Case(meta=_OPEN, response="true", expect="fail"),
    Case(meta=_SMT, response="entailed", expect="pass"),
    Case(meta=_SMT, response="contradicted", expect="fail"),
    Case(meta=_CATS, response="false", expect="pass"),
    Case(meta=_RAIN, response="", expect="fail"),
    Case(meta=_RAIN, response="はい", expect="fail"),
    Case(meta=_RAIN, response="not entailed", expect="fail"),
    Case(meta=_RAIN, response="It cannot be true", expect="fail"),
    Case(meta=_OPEN, response="It isn't wet for sure, so it is unknown.", expect="pass"),
    Case(meta=_RAIN, response="true or false " * 10_000, expect="fail"),
    Case(meta={"premises": ["a", "not a"], "conclusion": "b"}, response="true", expect="error"),
    Case(meta={"premises": ["a ->"], "conclusion": "b"}, response="true", expect="error"),
    Case(meta={"smtlib": "(assert", "conclusion": "true"}, response="true", expect="error"),
    Case(response="true", expect="error"),
)

_WORDS: dict[str, Answer] = {
    **dict.fromkeys(("entailed", "entailment", "entails", "true", "yes", "follows", "proved", "valid"), "entailed"),
    **dict.fromkeys(("contradicted", "contradiction", "contradictory", "false", "no", "disproved"), "contradicted"),
    **dict.fromkeys(
        ("unknown", "uncertain", "undetermined", "neither", "neutral", "not enough information"), "unknown"
    ),
}
_SAID = re.compile(r"\banswer(?:\s+is)?\s*[:=]?\s*(.+)", re.IGNORECASE)
_NEGATED = re.compile(r"\b(?:not|cannot|no|never|nor|or)\b(?=.)|n't\b")
_TEXT = re.compile(r"\\text\{([^{}]*)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """Decides entailment."""

    seconds: float = 2.0
    """How long z3 may take for each of its questions."""

    def verify(self, *, problem: Problem, response: str) -> Score:
        """Pass if the response's answer is z3's."""
        answer = _answer(response)
        try:
            right = self._decided(*_read(problem.meta))
        except DataError as error:
            return Score(status="error", why=str(error), answer=answer)
        if answer is None:
            return Score(status="fail", why="the response doesn't say entailed, contradicted or unknown")
        if answer == right:
            return Score(status="pass", answer=answer)
        return Score(status="fail", why=f"it says {answer}; z3 says {right}", answer=answer)

    def _decided(self, premises: Sequence[Any], conclusion: Any) -> Answer:
        if not self._possible(premises):
            raise DataError("the premises contradict each other")
        if not self._possible([*premises, z3.Not(conclusion)]):
            return "entailed"
        return "unknown" if self._possible([*premises, conclusion]) else "contradicted"

    def _possible(self, formulas: Sequence[Any]) -> bool:
        solver = z3.Solver()
        solver.set("timeout", int(self.seconds * 1000))
        solver.add(*formulas)
        found = solver.check()
        if found == z3.unknown:
            raise DataError(f"z3 can't decide it in {self.seconds} s: {solver.reason_unknown()}")
        return bool(found == z3.sat)


def _read(meta: Json) -> tuple[list[Any], Any]:
    """Return the premises and the conclusion as z3's formulas."""
    premises, conclusion, smtlib = meta.get("premises"), meta.get("conclusion"), meta.get("smtlib")
    if not isinstance(conclusion, str) or not (isinstance(smtlib, str) or isinstance(premises, list | tuple)):
        raise DataError('the problem needs meta["conclusion"], and meta["premises"], a list, or meta["smtlib"]')
    if not isinstance(smtlib, str):
        return [_formula(read_formula(str(each))) for each in premises or ()], _formula(read_formula(conclusion))
    try:
        # The conclusion is read with the declarations, as a further assertion: the last one.
        *read, last = z3.parse_smt2_string(f"{smtlib}\n(assert {conclusion})")
    except z3.Z3Exception as error:
        raise DataError(f"z3 can't read the SMT-LIB: {error}") from error
    return read, last


def _formula(formula: Formula) -> Any:
    if isinstance(formula, str):
        return z3.BoolVal(formula == "true") if formula in ("true", "false") else z3.Bool(formula)
    operands = [_formula(each) for each in formula.operands]
    match formula.operator:
        case "not":
            return z3.Not(*operands)
        case "and":
            return z3.And(*operands)
        case "or":
            return z3.Or(*operands)
        case "xor":
            return z3.Xor(*operands)
        case "implies":
            return z3.Implies(*operands)
        case _:
            return operands[0] == operands[1]


def _answer(response: str) -> Answer | None:
    lines = [line for line in response.splitlines() if line.strip()] or [""]
    said = _SAID.findall(lines[-1])
    text = _plain(marked(response) or (said[-1] if said else lines[-1]))
    clause = re.split(r"[,.;:]", text)[-1].strip()
    if text in _WORDS or _NEGATED.search(clause):
        return _WORDS.get(text)
    return _WORDS.get(clause) or _WORDS.get(clause.rpartition(" ")[2])


def _plain(text: str) -> str:
    return normal(_TEXT.sub(r"\1", text[-1000:])).strip(" .!*\"'`:")
