"""The response follows all of the problem's instructions that a program can check: IFEval's (arXiv:2311.07911).

The instructions come from `meta["instructions"]`, a list of `{"id": "punctuation:no_comma"}`, `{"id":
"length_constraints:number_words", "relation": "at least", "num_words": 300}`, ..., with IFEval's ids and arguments, or
as IFEval's data has them, from `meta["instruction_id_list"]` and `meta["kwargs"]`. It passes when all are followed; the
score is the share that is. An unknown id, or a missing argument, is an error. How each is checked is said in
`selftrain/verification/instructions.py`.
"""

from dataclasses import dataclass
from typing import Any

from selftrain.errors import DataError
from selftrain.records import Case, Problem, Score
from selftrain.verification.instructions import followed, read_instructions

_Instruction = tuple[str, dict[str, Any]]


def _asked(*instructions: _Instruction) -> dict[str, Any]:
    return {"instructions": [{"id": name, **arguments} for name, arguments in instructions]}


_NO_COMMA: _Instruction = ("punctuation:no_comma", {})
_WORDS: _Instruction = ("length_constraints:number_words", {"relation": "at least", "num_words": 4})
_FIRST: _Instruction = (
    "length_constraints:nth_paragraph_first_word",
    {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "so"},
)
_IFEVAL = {
    "instruction_id_list": ["keywords:existence", "change_case:english_lowercase"],
    "kwargs": [{"keywords": ["sea", "wind"], "num_words": None}, {"keywords": None}],
}
cases = (
    Case(meta=_asked(_NO_COMMA, _WORDS), response="four words and more", expect="pass"),
    Case(meta=_asked(_NO_COMMA, _WORDS), response="three, four words", expect="fail"),
    Case(meta=_asked(_FIRST), response="It rains.\n\nSo, we stay.", expect="pass"),
    Case(meta=_asked(_FIRST), response="It rains.\n\nThus we stay.", expect="fail"),
    Case(meta=_asked(("detectable_format:title", {})), response="<<Ode to joy>>\nFreude!", expect="pass"),
    Case(meta=_asked(("detectable_format:json_format", {})), response='```json\n{"a": [1]}\n```', expect="pass"),
    Case(meta=_asked(("detectable_format:json_format", {})), response="{'a': 1}", expect="fail"),
    Case(meta=_asked(("startend:quotation", {})), response='"All of it."', expect="pass"),
    Case(
        meta=_asked(("language:response_language", {"language": "de"})),
        response="Das Wetter ist heute schön, und wir gehen spazieren.",
        expect="pass",
    ),
    Case(meta=_IFEVAL, response="the sea is calm today but the wind is rising over the hills", expect="pass"),
    Case(meta=_IFEVAL, response="The sea is calm today but the wind is rising over the hills", expect="fail"),
    Case(
        meta=_asked(("detectable_format:number_bullet_lists", {"num_bullets": 2})),
        settings={"loose": True},
        response="* Here you are:\n* one\n* two",
        expect="pass",
    ),
    Case(meta=_asked(_WORDS), response="", expect="fail"),
    Case(meta=_asked(("punctuation:no_coma", {})), response="yes", expect="error"),
    Case(meta=_asked(("keywords:existence", {})), response="yes", expect="error"),
    Case(response="yes", expect="error"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """Checks instructions."""

    loose: bool = False
    """Whether it is enough that they are followed without the first or last line or the asterisks, IFEval's loose."""

    def verify(self, *, problem: Problem, response: str) -> Score:
        """Pass if the response follows all instructions; score the share that it follows."""
        try:
            instructions = read_instructions(problem.meta)
        except DataError as error:
            return Score(status="error", why=str(error))
        missed = [each.id for each in instructions if not followed(each, response, loose=self.loose)]
        share = 1 - len(missed) / len(instructions)
        if missed:
            return Score(status="fail", score=share, why=f"it doesn't follow {', '.join(missed)}")
        return Score(status="pass", score=share)
