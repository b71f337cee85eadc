"""Schemas cut by rules, and values checked against schemas; jsonschema's own words are the reference where it is there.

Source: translation.md §1.5; JSON Schema 2020-12.
"""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.providers.schema import ANTHROPIC, Rules, mismatch, reduced

Json = dict[str, Any]


def closed(**properties: Json) -> Json:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def cut(schema: Json) -> Json:
    """What Anthropic is sent."""
    found = reduced(schema, ANTHROPIC).schema
    assert found is not None
    return found


def test_what_can_be_said_stays() -> None:
    schema = closed(
        a={"type": ["string", "null"], "enum": ["x", None]},
        b={"type": "array", "items": {"$ref": "#/$defs/item"}},
        c={"anyOf": [{"type": "integer"}, {"const": "none"}]},
        d={"type": "string", "format": "date-time", "description": "When."},
    ) | {"$defs": {"item": closed(e={"type": "number"})}}
    assert cut(schema) == schema
    assert reduced(schema, ANTHROPIC).notes == ()


def test_limits_become_words() -> None:
    schema = closed(
        a={"type": "string", "pattern": "^a$", "minLength": 2, "description": "Letters."},
        b={"type": "string", "format": "semver"},
    )
    assert cut(schema)["properties"] == {
        "a": {"type": "string", "description": 'Letters. (pattern: "^a$"; minLength: 2)'},
        "b": {"type": "string", "description": 'format: "semver"'},
    }
    assert reduced(schema, ANTHROPIC).notes == ("pattern", "minLength", "format")
    assert schema["properties"]["a"]["pattern"] == "^a$"


def test_keywords_of_other_names_and_those_that_go() -> None:
    schema = closed(
        a={"oneOf": [{"type": "string"}, {"type": "null"}]}, b={"type": "array", "prefixItems": [{"type": "null"}]}
    )
    assert cut(schema)["properties"] == {
        "a": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "b": {"type": "array"},
    }
    assert reduced(schema, ANTHROPIC).notes == ("prefixItems",)


def test_objects_are_closed() -> None:
    assert cut({"properties": {"a": {"type": "string"}}, "required": ["a"]})["additionalProperties"] is False
    assert cut({"type": ["object", "null"], "properties": {}, "additionalProperties": False})


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"type": "object", "additionalProperties": True, "properties": {"a": {"type": "string"}}},
        {"type": "object", "additionalProperties": {"type": "string"}},
        {"type": "object", "properties": {"a": {"type": "string"}}, "patternProperties": {"x": {"type": "null"}}},
        closed(a={}),
        closed(a={"description": "anything"}),
        closed(a=True),  # type: ignore[arg-type]
        closed(a=False),  # type: ignore[arg-type]
        closed(a={"type": "array", "items": True}) | {"$defs": {"x": True}},
        {"type": "object", "properties": {f"p{n}": {"type": "null"} for n in range(11)}},
        closed(a={"$ref": "#"}),
        {**closed(a={"$ref": "#/$defs/n"}), "$defs": {"n": {"type": "array", "items": {"$ref": "#/$defs/n"}}}},
    ],
)
def test_what_cannot_be_said(schema: Json) -> None:
    found = reduced(schema, ANTHROPIC)
    assert found.schema is None
    assert found.notes


def test_schemas_that_are_nested_too_deeply() -> None:
    schema: Json = {"type": "string"}
    for _ in range(80):
        schema = {"type": "array", "items": schema}
    assert reduced(schema, ANTHROPIC).schema is None
    deep: Any = "x"
    for _ in range(300):
        deep = [deep]
    assert reduced({"type": "string", "enum": [deep]}, ANTHROPIC).schema is None


def test_references_that_lead_nowhere_or_twice_to_one_place() -> None:
    twice = closed(a={"$ref": "#/$defs/x~1y"}, b={"$ref": "#/$defs/x~1y"}) | {"$defs": {"x/y": {"type": "string"}}}
    one = {"$ref": "#/$defs/x_1y"}
    assert cut(twice) == closed(a=one, b=one) | {"$defs": {"x_1y": {"type": "string"}}}
    for reference in ("#/$defs/none/deep", "other.json", "#/properties/a/$ref/x"):
        assert reduced(closed(a={"$ref": reference}), ANTHROPIC).notes == ("a part of it allows anything",)
        assert reduced(closed(a={"$ref": reference}), Rules()).schema == closed(a={})


def test_other_rules() -> None:
    rules = Rules(const=False, formats=None)
    schema = {"const": 1, "format": "anything", "items": True, "properties": {"a": {}, "b": False}}
    assert reduced(schema, rules).schema == {
        "enum": [1],
        "format": "anything",
        "items": True,
        "properties": {"a": {}, "b": False},
    }
    assert cut({"type": "string", "pattern": "\ud83d"})["description"] == 'pattern: "\ufffd"'


# --- the check


@pytest.mark.parametrize(
    ("schema", "right", "wrong", "where"),
    [
        ({"type": "string"}, "a", 1, "$: type"),
        ({"type": ["string", "null"]}, None, 1, "$: type"),
        ({"type": "integer"}, 2.0, 2.5, "$: type"),
        ({"type": "integer"}, 2, True, "$: type"),
        ({"type": "boolean"}, True, 1, "$: type"),
        ({"type": "array"}, [], {}, "$: type"),
        ({"type": "number"}, 1.5, "1", "$: type"),
        ({"enum": [1, "a"]}, "a", True, "$: enum"),
        ({"const": 1}, 1, True, "$: const"),
        ({"const": {"a": "x"}}, {"a": "x"}, {"a": "y"}, "$: const"),
        ({"const": ["x"]}, ["x"], ["y"], "$: const"),
        ({"const": [1]}, [1], ["x"], "$: const"),
        ({"required": ["a"]}, {"a": 1}, {"b": 1}, "$: required"),
        ({"minimum": 2}, 2, 1, "$: minimum"),
        ({"maximum": 2}, 2, 3, "$: maximum"),
        ({"exclusiveMinimum": 2}, 3, 2, "$: exclusiveMinimum"),
        ({"exclusiveMaximum": 2}, 1, 2, "$: exclusiveMaximum"),
        ({"multipleOf": 0.1}, 0.3, 0.25, "$: multipleOf"),
        ({"minLength": 2}, "ab", "a", "$: minLength"),
        ({"maxLength": 2}, "ab", "abc", "$: maxLength"),
        ({"minItems": 1}, [1], [], "$: minItems"),
        ({"maxItems": 1}, [1], [1, 2], "$: maxItems"),
        ({"minProperties": 1}, {"a": 1}, {}, "$: minProperties"),
        ({"maxProperties": 1}, {"a": 1}, {"a": 1, "b": 2}, "$: maxProperties"),
        ({"uniqueItems": True}, [1, 2], [1, 1], "$: uniqueItems"),
        ({"pattern": "^[a-z]+$"}, "abc", "ABC", "$: pattern"),
        ({"properties": {"a": {"type": "null"}}}, {"a": None, "b": 1}, {"a": 1}, "$.a: type"),
        ({"additionalProperties": False}, {}, {"a": 1}, "$.a: not allowed"),
        ({"additionalProperties": {"type": "null"}}, {"a": None, "b": None}, {"a": None, "b": 1}, "$.b: type"),
        ({"additionalProperties": False, "patternProperties": {"^x": {}}}, {"x1": 1}, {"a": 1}, "$.a: not allowed"),
        ({"items": {"type": "null"}}, [None], [None, 1], "$[1]: type"),
        ({"prefixItems": [{"type": "null"}], "items": False}, [None], [1], "$[0]: type"),
        ({"prefixItems": [{"type": "null"}], "items": False}, [None], [None, 1], "$[1]: not allowed"),
        ({"allOf": [{"minimum": 1}, {"maximum": 2}]}, 2, 3, "$: maximum"),
        ({"anyOf": [{"type": "null"}, {"minimum": 1}]}, None, 0, "$: anyOf"),
        ({"oneOf": [{"minimum": 1}, {"maximum": 5}]}, 0, 3, "$: oneOf"),
        ({"not": {"type": "null"}}, 1, None, "$: not"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "null"}}}, None, 1, "$: type"),
        (
            {"properties": {"a": {"$ref": "#"}}, "required": ["b"]},
            {"a": {"b": 1}, "b": 1},
            {"b": 1, "a": {}},
            "$.a: required",
        ),
    ],
)
def test_the_check(schema: Json, right: Any, wrong: Any, where: str) -> None:
    assert mismatch(right, schema) is None
    assert mismatch(wrong, schema) == where


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (True, 1),
        ({"type": "novel"}, 1),
        ({"novel": 1}, 1),
        ({"minimum": "x"}, 1),
        ({"minLength": "x"}, "a"),
        ({"enum": 5}, 1),
        ({"required": 5}, {}),
        ({"properties": 5}, {"a": 1}),
        ({"prefixItems": 5}, []),
        ({"allOf": 5}, 1),
        ({"anyOf": 5}, 1),
        ({"oneOf": 5}, 1),
        ({"multipleOf": 0}, 1),
        ({"pattern": "("}, "a"),
        ({"pattern": 5}, "a"),
        ({"pattern": "(a+)+$"}, "b"),
        ({"pattern": "a*a*a*b"}, "c"),
        ({"pattern": "^a$"}, "b" * 300),
        ({"pattern": "^" + "a" * 2000}, "b"),
        ({"uniqueItems": False}, [1, 1]),
        ({"$ref": "elsewhere"}, 1),
        ({"format": "email"}, "no email"),
    ],
)
def test_what_nobody_knows_passes(schema: Any, value: Any) -> None:
    assert mismatch(value, schema) is None


def test_the_check_gives_up_in_time() -> None:
    loop = {"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}
    wide = {"$defs": {}, "$ref": "#/$defs/n0"}
    wide["$defs"] = {f"n{n}": {"allOf": [{"$ref": f"#/$defs/n{n + 1}"}] * 4} for n in range(40)}
    begun = time.process_time()
    assert mismatch(1, loop) is None
    assert mismatch(1, wide) is None
    assert time.process_time() - begun < 0.5


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["a", "b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=6,
)
SCHEMAS = st.recursive(
    st.sampled_from(
        [
            {"type": "string"},
            {"type": "integer"},
            {"type": "object"},
            {"type": "array"},
            {"enum": ["a", 1]},
            {"minimum": 0},
            {"required": ["a"]},
            True,
            False,
        ]
    ),
    lambda inner: (
        st.builds(lambda one: {"items": one}, inner)
        | st.builds(lambda one, two: {"properties": {"a": one}, "additionalProperties": two}, inner, inner)
        | st.builds(lambda one, two: {"anyOf": [one, two]}, inner, inner)
        | st.builds(lambda one, two: {"oneOf": [one, two]}, inner, inner)
        | st.builds(lambda one: {"not": one}, inner)
    ),
    max_leaves=5,
)


WORDS = (
    "type enum const required minimum multipleOf minLength pattern uniqueItems properties additionalProperties items "
    "patternProperties prefixItems allOf anyOf oneOf not $ref $defs format description title if"
)
KEYWORDS = st.sampled_from(WORDS.split())
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["string", "object", "#", "#/$defs/a", "\ud83d"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYWORDS | st.just("a"), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(KEYWORDS, ANYTHING, max_size=5), ANYTHING)
def test_nonsense_never_raises(schema: Any, value: Any) -> None:
    reduced(schema, ANTHROPIC)
    reduced(schema, Rules())
    mismatch(value, schema)


def test_values_that_cannot_be_written() -> None:
    deep: Any = []
    for _ in range(400):
        deep = [deep]
    assert mismatch([deep, deep], {"uniqueItems": True}) == "$: uniqueItems"
    for _ in range(5000):
        deep = [deep]
    described = reduced({"default": deep}, Rules(described=frozenset({"default"})))
    assert described.schema == {"description": "default: …"}
    assert mismatch(10**400, {"multipleOf": 0.5}) is None


@settings(max_examples=300, deadline=None)
@given(SCHEMAS, VALUES)
def test_the_check_agrees_with_jsonschema(schema: Any, value: Any) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    assert (mismatch(value, schema) is None) == jsonschema.Draft202012Validator(schema).is_valid(value)
