import json
import socket
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selftrain.records import Problem, Score
from selftrain.verification.verify import load_verifier

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def judged(schema: object, response: str) -> Score:
    return load_verifier("json_schema").judge(problem=Problem.of("?", meta={"schema": schema}), response=response)


@settings(deadline=None)
@given(JSON)
def test_a_value_is_valid_where_its_schema_says_so(value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False)
    assert judged({"const": value}, text).status == "pass"
    assert judged({"not": {"const": value}}, f"```json\n{text}\n```").status == "fail"
    assert judged(True, text).answer == json.dumps(value, sort_keys=True, ensure_ascii=False)


def test_the_why_says_where() -> None:
    score = judged({"properties": {"a": {"items": {"type": "integer"}}}}, '{"a": [1, "2"]}')
    assert (score.status, score.why) == ("fail", "$.a[1]: '2' is not of type 'integer'")


def test_nothing_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: asked.append(address))
    score = judged({"$ref": "http://localhost:1/schema.json"}, "{}")
    assert score.status == "error"
    assert "http://localhost:1/schema.json" in score.why
    assert not asked


def test_references_within_the_schema_are_followed() -> None:
    tree = {"$defs": {"tree": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}, "$ref": "#/$defs/tree"}
    assert judged(tree, "[[], [[]]]").status == "pass"
    assert judged(tree, "[[], [1]]").status == "fail"


@pytest.mark.parametrize(
    "draft", ["http://json-schema.org/draft-04/schema#", "http://json-schema.org/draft-07/schema#"]
)
def test_the_schemas_own_draft_counts(draft: str) -> None:
    # What exclusiveMinimum means differs between the two.
    schema = {"$schema": draft, "minimum": 3, "exclusiveMinimum": True}
    assert judged(schema, "3").status == ("fail" if "04" in draft else "error")


def test_deep_json_is_no_error_of_the_verifier() -> None:
    assert judged(True, "[" * 10**6).status == "fail"
    assert judged({"type": "array"}, "[" * 300 + "]" * 300).status == "pass"
