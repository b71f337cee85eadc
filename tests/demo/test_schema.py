"""Made-up values fit their schemas, as ``jsonschema`` judges."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.demo.schema import example

NODE: dict[str, Any] = {
    "type": "object",
    "properties": {"value": {"type": "integer"}, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
    "required": ["value"],
}
SCHEMAS: list[Any] = [
    {"type": "object", "properties": {}},
    {"type": "object", "properties": {"a": {"const": 3}, "b": {"enum": ["x", "y"]}}, "required": ["a", "b"]},
    {"type": "array", "items": {"type": "string"}, "minItems": 3, "uniqueItems": True},
    {"type": "array", "items": {"type": "integer"}, "maxItems": 0},
    {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "boolean"}]},
    {"type": "string", "minLength": 10, "maxLength": 12},
    {"type": "string", "format": "date-time"},
    {"type": "integer", "minimum": 3, "maximum": 4, "multipleOf": 4},
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.5},
    {"type": "integer", "maximum": -5},
    {"type": ["null", "string"]},
    {"oneOf": [{"type": "null"}, {"type": "boolean"}]},
    {"allOf": [{"properties": {"a": {"type": "string"}}, "required": ["a"]}, {"type": "object", "required": ["b"]}]},
    {"$ref": "#/$defs/node", "$defs": {"node": NODE}},
    {"type": "object", "additionalProperties": {"type": "string"}},
    {"type": "object", "properties": {"a": {"description": "no type"}}, "required": ["a"]},
    {"type": "null"},
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=range(len(SCHEMAS)))
def test_fits(schema: Any) -> None:
    jsonschema.validate(example(schema), schema)
    assert example(schema) == example(schema)


def test_googles_spelling() -> None:
    schema = {"type": "OBJECT", "properties": {"n": {"type": "INTEGER"}, "s": {"type": "STRING", "nullable": True}}}
    assert example(schema) == {"n": 1, "s": "demo"}


def test_endless_recursion_ends() -> None:
    endless = {"$ref": "#/$defs/a", "$defs": {"a": {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}}}}
    assert isinstance(example(endless), dict)
    required = {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}
    assert isinstance(example(required), dict)
    assert example({"$ref": "#"}) is not ...


LEAVES = st.one_of(
    st.just({"type": "boolean"}),
    st.builds(
        lambda low, size: {"type": "integer", "minimum": low, "maximum": low + size},
        st.integers(-9, 9),
        st.integers(0, 9),
    ),
    st.builds(
        lambda low, size: {"type": "string", "minLength": low, "maxLength": low + size},
        st.integers(0, 9),
        st.integers(0, 9),
    ),
    st.builds(lambda values: {"enum": values}, st.lists(st.text(max_size=3), min_size=1, max_size=3)),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(
            lambda properties: {
                "type": "object",
                "properties": properties,
                "required": list(properties),
                "additionalProperties": False,
            },
            st.dictionaries(st.text(max_size=3), inner, max_size=3),
        ),
        st.builds(lambda items, least: {"type": "array", "items": items, "minItems": least}, inner, st.integers(0, 3)),
    ),
    max_leaves=8,
)


@settings(deadline=None, max_examples=100, database=None)
@given(TREES)
def test_fits_generated_schemas(schema: Any) -> None:
    jsonschema.validate(example(schema), schema)
