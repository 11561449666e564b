"""Make problems of the rows of a file or a hub set, by a mapping of its columns."""

import json
import math
from dataclasses import asdict, dataclass

from selftrain.datafiles import FileRow
from selftrain.errors import DataError, near
from selftrain.records import JsonValue, Message, Problem
from selftrain.verification.answers import own_verifier

ROLES = ("system", "user", "assistant", "tool")
"""Who speaks in a conversation; chat templates know no others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Which column holds what; None takes the column of that very name where there is one."""

    prompt: str = "prompt"
    answer: str | None = None
    solution: str | None = None
    tests: str | None = None
    id: str | None = None
    choices: str | None = None
    """A list of options, for the verifier `choice`."""
    verifier: str | None = None
    """A column, or else one verifier for all rows; by default `number` for answers that are numbers, else `exact`."""
    meta: tuple[str, ...] = ()
    """Further columns to keep with the problem."""

    def problem(self, row: FileRow) -> Problem:
        """Make the problem of a row; raises DataError, with the line, where a column is not there or holds no text."""
        answer = self._text(row, "answer", self.answer)
        meta = {name: _json(row.values[_there(row, name)]) for name in self.meta}
        if "choices" in row.values or self.choices:
            meta["choices"] = self._options(row)
        problem = Problem.of(
            self._prompt(row),
            answer=answer,
            solution=self._text(row, "solution", self.solution),
            tests=self._text(row, "tests", self.tests),
            verifier=self._verifier(row, answer),
            id=self._text(row, "id", self.id),
            meta=meta,
        )
        try:
            json.dumps(asdict(problem), ensure_ascii=False).encode()
        except UnicodeEncodeError:  # legal in JSON, and can be written to no file
            raise DataError(f"{row.where} has half a surrogate pair (\\ud800 to \\udfff), which is no text") from None
        return problem

    def _options(self, row: FileRow) -> JsonValue:
        name = self.choices or "choices"
        found = _json(row.values[_there(row, name)])
        plain = isinstance(found, list) and all(isinstance(each, str | int | float) for each in found)
        if self.choices and not (isinstance(found, list) and plain and len(found) > 1):
            met = json.dumps(found)[:80]
            raise DataError(f"{row.where}: {name!r} must be a list of two options or more, not {met}")
        return found

    def _verifier(self, row: FileRow, answer: str | None) -> str:
        if self.verifier is not None and self.verifier not in row.values:
            return self.verifier
        named = self._text(row, "verifier", self.verifier)
        if named and ".py" in named:
            # Data may come from anywhere: what it says is never executed.
            raise DataError(
                f"{row.where} names the verifier {named!r}, a program, which data can't; say verifier=FILE.py"
            )
        return named or own_verifier(answer)

    def _text(self, row: FileRow, name: str, column: str | None) -> str | None:
        if column is None and name not in row.values:
            return None
        value = row.values[_there(row, column or name)]
        if value in (None, "") and column is None:
            return None
        if value == "" and name in ("answer", "id"):
            raise DataError(f"{row.where}: {column or name!r} is empty; leave the row out, or name another column")
        if isinstance(value, str | int | float) and value not in (math.inf, -math.inf):
            return str(value)
        if name == "tests" and isinstance(value, list | dict):
            return json.dumps(value)
        raise DataError(
            f"{row.where}: {column or name!r} must be a text or a number, not {json.dumps(_json(value))[:80]}"
        )

    def _prompt(self, row: FileRow) -> str | list[Message]:
        value = row.values[_there(row, self.prompt)]
        if isinstance(value, str) and value.strip():
            return value
        turns: list[Message] = []
        for turn in value if isinstance(value, list) and value else [None]:
            if not isinstance(turn, dict) or not all(isinstance(turn.get(key), str) for key in ("role", "content")):
                met = json.dumps(_json(value))[:80]
                raise DataError(
                    f"{row.where}: {self.prompt!r} must be a text or a list of {{role, content}}, not {met}"
                )
            if turn["role"] not in ROLES:
                raise DataError(f"{row.where}: a turn's role is {turn['role']!r}; it can be {', '.join(ROLES)}")
            turns.append({"role": turn["role"], "content": turn["content"]})
        return turns


def _there(row: FileRow, column: str) -> str:
    if column not in row.values:
        raise DataError(
            f"{row.where} has no column {column!r}{near(column, row.values)} (it has {', '.join(row.values)})"
        )
    return column


def _json(value: object) -> JsonValue:
    """Return a value as JSON has it: Parquet's dates and bytes become texts."""
    plain: JsonValue = json.loads(json.dumps(value, default=str))
    return plain
