"""The response is JSON that is valid under a JSON schema, from `meta["schema"]` or the setting.

The JSON is the response's last fenced block labelled json or not labelled at all, else the whole response: text around
bare JSON makes it fail. NaN and Infinity are not JSON. A schema that is none, or that refers to another document
(nothing is downloaded), is an error.
"""

import json
import re
from dataclasses import dataclass, field

from jsonschema import FormatChecker
from jsonschema.exceptions import SchemaError, best_match
from jsonschema.validators import validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

from selftrain.records import Case, Json, JsonValue, Problem, Score

_PERSON = {
    "schema": {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
        "required": ["name"],
        "additionalProperties": False,
    }
}
cases = (
    Case(meta=_PERSON, response='{"name": "Ada", "age": 36}', expect="pass"),
    Case(meta=_PERSON, response='Here it is:\n```json\n{"name": "Zoë"}\n```\nDone.', expect="pass"),
    Case(meta=_PERSON, response='```\n{"name": 1}\n```\nNo:\n```\n{"name": "李"}\n```', expect="pass"),
    Case(meta=_PERSON, response='```python\nprint(1)\n```\n```JSON\n{"name": "x"}\n```', expect="pass"),
    Case(meta={"schema": True}, response="null", expect="pass"),
    Case(settings={"schema": {"type": "array", "minItems": 2}}, response="[1, 2]", expect="pass"),
    Case(settings={"schema": {"type": "array", "minItems": 2}}, response="[1]", expect="fail"),
    Case(meta=_PERSON, response='{"age": 36}', expect="fail"),
    Case(meta=_PERSON, response='{"name": "Ada", "age": -1}', expect="fail"),
    Case(meta=_PERSON, response='{"name": "Ada", "job": "x"}', expect="fail"),
    Case(meta=_PERSON, response='The JSON is {"name": "Ada"}', expect="fail"),
    Case(meta=_PERSON, response="{'name': 'Ada'}", expect="fail"),
    Case(meta={"schema": {"type": "number"}}, response="NaN", expect="fail"),
    Case(meta={"schema": {"format": "date"}}, response='"2024-02-30"', expect="fail"),
    Case(meta=_PERSON, response="", expect="fail"),
    Case(meta=_PERSON, response="[" * 100_000, expect="fail"),
    Case(meta={"schema": {"type": "person"}}, response="{}", expect="error"),
    Case(meta={"schema": {"$ref": "https://example.com/schema.json"}}, response="{}", expect="error"),
    Case(response="{}", expect="error"),
)

_FENCED = re.compile(r"^[ \t]*```[ \t]*(?P<label>\w*)[ \t]*\n(?P<text>.*?)^[ \t]*```[ \t]*$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """Checks JSON against a schema."""

    schema: Json = field(default_factory=dict)
    """The schema for problems that bring none."""
    formats: bool = True
    """Whether "format" (date, email, ...) counts."""

    def verify(self, *, problem: Problem, response: str) -> Score:
        """Pass if the response's JSON is valid."""
        schema = problem.meta.get("schema", self.schema or None)
        if schema is None:
            return Score(status="error", why='there is no schema; give meta["schema"], or the setting')
        try:
            validator_for(schema).check_schema(schema)
        except SchemaError as error:
            return Score(status="error", why=f"the schema is wrong: {error.message}")
        try:
            value = json.loads(_written(response), parse_constant=_refused)
        except (ValueError, RecursionError) as error:
            return Score(status="fail", why=f"it isn't JSON: {error}")
        taken = json.dumps(value, sort_keys=True, ensure_ascii=False)
        return self._judged(schema, value, taken)

    def _judged(self, schema: JsonValue, value: JsonValue, taken: str) -> Score:
        checker = FormatChecker() if self.formats else None
        # An empty registry keeps jsonschema from downloading what a schema refers to.
        validator = validator_for(schema)(schema, registry=Registry(), format_checker=checker)
        try:
            wrong = best_match(validator.iter_errors(value))
        except Unresolvable as error:
            return Score(status="error", why=f"the schema refers to what isn't in it: {error}", answer=taken)
        if wrong is None:
            return Score(status="pass", answer=taken)
        return Score(status="fail", why=f"{wrong.json_path}: {wrong.message}", answer=taken)


def _written(response: str) -> str:
    blocks = [match["text"] for match in _FENCED.finditer(response) if match["label"].lower() in ("", "json")]
    return blocks[-1] if blocks else response


def _refused(constant: str) -> JsonValue:
    raise ValueError(f"{constant} is not JSON")
