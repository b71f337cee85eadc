"""Schemas of tools as each upstream takes them (decision 55).

What an upstream takes is written down here a second time, as a small validator each, from its own pages and error
texts (the sources are in ``relay.providers.schema.rules``); JSON Schema 2020-12 itself is ``jsonschema``'s metaschema.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.errors import RelayError
from relay.providers import anthropic, chat, gemini, openai
from relay.providers.base import Target
from relay.providers.schema import (
    ANTHROPIC_TOOL,
    CHAT_TOOLS,
    GEMINI,
    GEMINI_TOOL,
    Reduced,
    Rules,
    back,
    reduced,
    tool_schema,
)
from relay.providers.schema import tools as remembered
from relay.responses import request as requests
from relay.responses.emitter import Emitter
from relay.responses.sinks import NullSink
from relay.responses.tools import Tool
from tests.providers import anthropic_support, chat_support, gemini_support
from tests.support import assert_linear, cpu_seconds

Json = dict[str, Any]


# --- what upstreams take, told a second time

CHILD_MAPS = ("properties", "$defs", "patternProperties", "dependentSchemas")
CHILD_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
CHILDREN = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames")


def nodes(schema: Any) -> Iterator[Any]:
    yield schema
    if isinstance(schema, dict):
        for name in CHILD_MAPS:
            for child in schema.get(name, {}).values():
                yield from nodes(child)
        for name in CHILD_LISTS:
            for child in schema.get(name, []):
                yield from nodes(child)
        for name in CHILDREN:
            if name in schema and not isinstance(schema[name], bool):
                yield from nodes(schema[name])


def is_draft_2020(schema: Json) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(schema)


def has_plain_root(schema: Json) -> None:
    assert schema["type"] == "object"
    assert not schema.keys() & {"anyOf", "oneOf", "allOf", "enum", "not", "$ref"}


def references_lead_somewhere(schema: Json) -> None:
    for node in nodes(schema):
        if isinstance(node, dict) and "$ref" in node:
            name = node["$ref"]
            assert name == "#" or name.removeprefix("#/$defs/") in schema["$defs"], name


def anthropic_takes(schema: Json) -> None:
    is_draft_2020(schema)
    has_plain_root(schema)
    references_lead_somewhere(schema)
    for node in nodes(schema):
        for name in node.get("properties", {}) if isinstance(node, dict) else ():
            assert re.fullmatch(r"[a-zA-Z0-9_.-]{1,64}", name), name


def kinds_of(node: Json) -> list[str]:
    kinds = node.get("type", [])
    return kinds if isinstance(kinds, list) else [kinds]


def openai_takes(schema: Json) -> None:
    is_draft_2020(schema)
    has_plain_root(schema)
    references_lead_somewhere(schema)
    assert "properties" in schema or "additionalProperties" in schema
    for node in nodes(schema):
        assert isinstance(node, dict)
        assert "array" not in kinds_of(node) or "items" in node
        assert not node.get("required") or "properties" in node  # Groq
        assert "prefixItems" not in node


GEMINI_KEYWORDS = {
    "$id",
    "$defs",
    "$ref",
    "$anchor",
    "type",
    "format",
    "title",
    "description",
    "enum",
    "items",
    "prefixItems",
    "minItems",
    "maxItems",
    "minimum",
    "maximum",
    "anyOf",
    "oneOf",
    "properties",
    "additionalProperties",
    "required",
    "propertyOrdering",
}


def gemini_takes(schema: Json) -> None:
    is_draft_2020(schema)
    has_plain_root(schema)
    references_lead_somewhere(schema)
    for node in nodes(schema):
        assert isinstance(node, dict)
        assert node.keys() <= GEMINI_KEYWORDS
        assert "$ref" not in node or set(node) == {"$ref"}
        kinds = kinds_of(node)
        assert len(kinds) < 2 or (len(kinds) == 2 and "null" in kinds and not {"array", "object"} & set(kinds))
        assert ("array" in kinds) == ("items" in node)
        assert "properties" not in node or kinds == ["object"]
        assert set(node.get("required", ())) <= set(node.get("properties", ()))
        for value in node.get("enum", ()):
            assert isinstance(value, str | int | float)
            assert not isinstance(value, bool)
            assert value != ""


MFJS_KEYWORDS = {
    "$defs",
    "$ref",
    "$id",
    "description",
    "default",
    "anyOf",
    "properties",
    "additionalProperties",
    "items",
    "type",
    "enum",
    "required",
}


def moonshot_takes(schema: Json) -> None:
    is_draft_2020(schema)
    has_plain_root(schema)
    references_lead_somewhere(schema)
    for node in nodes(schema):
        assert isinstance(node, dict)
        assert node.keys() <= MFJS_KEYWORDS
        assert "$ref" not in node or set(node) == {"$ref"}
        assert "$ref" in node or ("anyOf" in node) != ("type" in node)
        assert isinstance(node.get("type", ""), str)
        assert set(node.get("required", ())) <= set(node.get("properties", ()))
        values = node.get("enum", [])
        assert all(isinstance(one, str) for one in values) or all(type(one) in (int, float) for one in values)


def llamacpp_takes(schema: Json) -> None:
    openai_takes(schema)
    for node in nodes(schema):
        assert not node.keys() & {"pattern", "not", "if", "then", "else", "maxLength"}


TARGETS: dict[str, tuple[Rules, Callable[[Json], None]]] = {
    "anthropic": (ANTHROPIC_TOOL, anthropic_takes),
    "openai": (CHAT_TOOLS["openai"], openai_takes),
    "gemini": (GEMINI_TOOL, gemini_takes),
    "moonshot": (CHAT_TOOLS["mfjs"], moonshot_takes),
    "llamacpp": (CHAT_TOOLS["grammar"], llamacpp_takes),
}


def cut(schema: Any, target: str) -> Json:
    """What a target is sent, which it takes."""
    rules, takes = TARGETS[target]
    found = reduced(schema, rules)
    assert found.schema is not None, found.notes
    takes(found.schema)
    return found.schema


def prop(schema: Any, target: str) -> Any:
    """What a target is sent for one property."""
    return cut({"type": "object", "properties": {"p": schema}}, target)["properties"].get("p")


# --- roots

ROOTS: dict[str, Any] = {
    "nothing": {},
    "no type": {"properties": {"q": {"type": "string"}}},
    "null as type": {"type": None},
    "null": {"type": "null"},
    "python's null": {"type": "None"},
    "type list": {"type": ["object", "null"], "properties": {}},
    "capitals": {"type": "OBJECT", "properties": {"q": {"type": "STRING"}}},
    "nulls": {"type": "object", "properties": None, "required": None, "description": None},
    "anyOf": {"type": "object", "anyOf": [{"required": ["a"]}, {"required": ["b"]}], "properties": {"a": {}, "b": {}}},
    "oneOf": {"oneOf": [{"type": "object", "properties": {"a": {"type": "string"}}}, {"type": "null"}]},
    "allOf": {"allOf": [True, {"properties": {"a": {}}}, {"properties": {"b": {}}, "required": ["b"]}]},
    "$ref": {"$ref": "#/$defs/x", "$defs": {"x": {"type": "object", "properties": {"a": {"type": "string"}}}}},
    "itself": {"$ref": "#", "type": "object"},
    "a circle": {"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {}]}}},
    "enum": {"type": "object", "enum": [{"a": 1}], "properties": {"a": {"type": "integer"}}},
    "const": {"type": "object", "const": {"a": 1}},
    "not": {"type": "object", "not": {"required": ["a"]}},
    "required alone": {"type": "object", "required": ["a"]},
    "draft-07": {"$schema": "http://json-schema.org/draft-07/schema#", "$id": "x", "type": "object", "definitions": {}},
    "booleans": {"type": "object", "properties": {"a": True, "b": False, "c": 5, "d": None}, "required": ["a", "b"]},
    "draft-03": {"type": "object", "properties": {"a": {"type": "string", "required": True}}},
    "if": {"type": "object", "if": {"required": ["a"]}, "then": {"required": ["b"]}},
    "items beside": {"type": "object", "items": {"type": "string"}, "properties": {"a": {}}},
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("root", ROOTS)
def test_roots(root: str, target: str) -> None:
    cut(ROOTS[root], target)


def test_alternatives_at_a_root_may_all_be_given() -> None:
    schema = {
        "properties": {"kind": {"type": "string"}},
        "required": ["kind"],
        "anyOf": [
            {"properties": {"n": {"type": "integer"}, "m": {"type": "string"}}, "required": ["n", "x"]},
            {"properties": {"n": {"type": "string"}, "m": {"type": "string"}}, "required": ["n"]},
            {"type": "null"},
            True,
        ],
    }
    found = cut(schema, "anthropic")
    assert found["properties"] == {
        "kind": {"type": "string"},
        "n": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
        "m": {"type": "string"},
    }
    assert found["required"] == ["kind", "n"]
    assert found["description"].startswith("anyOf: [{")


def test_all_of_a_root_holds() -> None:
    schema = {
        "description": "Does.",
        "allOf": [{"$ref": "#/$defs/a"}, {"properties": {"b": {"type": "null"}}, "required": ["b"]}],
        "$defs": {"a": {"properties": {"a": {"type": "string"}}, "required": ["a"], "description": "other"}},
        "not": {"required": ["c"]},
    }
    assert cut(schema, "openai") == {
        "type": "object",
        "description": 'Does. (not: {"required":["c"]})',
        "properties": {"a": {"type": "string"}, "b": {"type": "null"}},
        "required": ["a", "b"],
    }


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": {"type": "string"}},
        {"type": "string"},
        {"type": ["string", "null"]},
        {"items": {"type": "string"}},
        {"prefixItems": [{}]},
        {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        {"$ref": "#/$defs/x", "$defs": {"x": {"type": "boolean"}}},
    ],
)
@pytest.mark.parametrize("target", TARGETS)
def test_roots_that_are_no_object_cannot_be_saved(schema: Json, target: str) -> None:
    found = reduced(schema, TARGETS[target][0])
    assert found.schema is None
    assert "not an object" in found.notes[0]


# --- what stands inside

PARTS: dict[str, Any] = {
    "tuple": {"type": "array", "items": [{"type": "number"}, {"type": "string"}], "additionalItems": False},
    "tuple of one": {"type": "array", "items": [{"type": "number"}]},
    "tuple with more": {"type": "array", "items": [{"type": "number"}], "additionalItems": {"type": "string"}},
    "prefixItems": {"type": "array", "prefixItems": [{"type": "number"}, {"type": "number"}], "items": False},
    "empty tuple": {"type": "array", "items": []},
    "tuple of nonsense": {"type": "array", "items": [5, None]},
    "array": {"type": "array"},
    "array or text": {"type": ["string", "array"]},
    "array or null": {"type": ["array", "null"], "items": {"type": ["object", "null"], "properties": {"v": True}}},
    "anything": {},
    "true": True,
    "exclusive": {"type": "integer", "minimum": 0, "exclusiveMinimum": True},
    "exclusive alone": {"type": "integer", "exclusiveMaximum": True},
    "not exclusive": {"type": "integer", "maximum": 0, "exclusiveMaximum": False},
    "types": {"type": ["string", "integer", "null"], "minimum": 1, "maxLength": 5, "enum": ["a", 1, None]},
    "types and enum": {"type": ["boolean", "null"], "enum": [True]},
    "empty enum": {"type": "string", "enum": []},
    "blank enum": {"type": "string", "enum": ["", "a", "a"]},
    "only blank": {"type": "string", "enum": [""]},
    "mixed enum": {"enum": [1, "a", None, True, 1.5, [1], {"b": 2}]},
    "boolean enum": {"enum": [True, False]},
    "numbers": {"type": "integer", "enum": [1, 2]},
    "const": {"const": "x"},
    "const null": {"const": None},
    "nullable": {"type": "string", "nullable": True, "enum": ["a"]},
    "nullable ref": {"anyOf": [{"type": "string"}], "nullable": True},
    "nullable already": {"type": ["string", "null"], "nullable": True, "enum": ["a", None]},
    "nullable anything": {"nullable": True},
    "format": {"type": "string", "format": "uri", "pattern": "\\S", "minLength": 1, "maxLength": 65536},
    "free": {"type": "object", "additionalProperties": {"type": "string"}},
    "patterned": {"type": "object", "patternProperties": {"^x": {"type": "string"}}},
    "closed": {"type": "object", "additionalProperties": False},
    "not": {"not": {"type": "string"}},
    "if": {"if": {}, "then": {"type": "string"}, "else": False},
    "dependencies": {"type": "object", "dependencies": {"a": ["b"], "c": {"required": ["d"]}, "e": 5, "f": True}},
    "dependent": {"type": "object", "dependentRequired": {"a": ["b", "b"]}, "dependentSchemas": {"a": True}},
    "oneOf": {"oneOf": [{"type": "string"}, {"type": "object", "properties": {"a": {}}}], "description": "x"},
    "type beside anyOf": {"type": "object", "properties": {"a": {}}, "anyOf": [{"required": ["a"]}, {"type": "null"}]},
    "anyOf properties": {"properties": {"a": {}}, "required": ["a"], "anyOf": [{"properties": {"b": {}}}, True, False]},
    "anyOf none": {"anyOf": [False]},
    "anyOf requires": {
        "required": ["a"],
        "properties": {"a": {}},
        "anyOf": [{"required": ["b"], "properties": {"b": {}}}],
    },
    "types beside anyOf": {"type": ["string", "integer"], "anyOf": [{"minLength": 1}, {"minimum": 1}]},
    "allOf": {"allOf": [{"type": "string"}, {"minLength": 1}, True, {"allOf": [{"maxLength": 5}]}]},
    "allOf twice": {"allOf": [{"allOf": [{"title": "x"}]}, {"allOf": [{"title": "x"}, {"title": "y"}]}]},
    "allOf ref": {"allOf": [{"$ref": "#/$defs/x"}], "description": "y"},
    "allOf refs": {"allOf": [{"$ref": "#/$defs/x"}, {"$ref": "#/$defs/gone"}], "required": ["a"]},
    "ref with more": {"$ref": "#/$defs/x", "description": "y"},
    "ref to a property": {"$ref": "#/properties/q"},
    "ref to a list": {"$ref": "#/properties/t/items/0"},
    "ref past a list": {"$ref": "#/properties/t/items/7"},
    "ref nowhere": {"$ref": "https://example.com/schema"},
    "ref to no schema": {"$ref": "#/title"},
    "ref by name": {"anyOf": [{"$ref": "#named"}, {"$ref": "whole"}, {"$ref": "#other"}]},
    "ref to false": {"$ref": "#/$defs/never"},
    "wrong": {"type": 5, "minLength": -1, "maxLength": "x", "pattern": 5, "multipleOf": 0, "required": 5, "items": "x"},
    "wrong too": {"properties": 5, "enum": 5, "anyOf": 5, "prefixItems": 5, "dependentRequired": 5, "uniqueItems": "y"},
    "half": {"minItems": 1.5, "maxItems": 2.0, "minimum": True, "examples": [], "title": 5, "additionalProperties": 5},
    "unknown": {"type": "string", "x-order": {"$y": 1}, "example": "a", "deprecated": True},
    "values": {"type": "object", "default": {"$filter": [{"$top": 1}]}},
    "properties of text": {"type": "string", "properties": {"a": {}}, "required": ["a"], "items": {}},
    "items alone": {"items": {"type": "string"}, "contains": True, "unevaluatedItems": False},
    "unevaluated": {"type": "object", "unevaluatedProperties": False, "propertyNames": {"pattern": "^a"}},
}
WHOLE: Json = {
    "type": "object",
    "title": "Whole",
    "properties": {"q": {"type": "string"}, "t": {"type": "array", "items": [{"type": "null"}]}},
    "$defs": {
        "x": {"type": "object", "properties": {"a": {"type": "string"}, "again": {"$ref": "#/$defs/x"}}},
        "never": False,
        "n": {"$anchor": "named", "type": "string"},
        "w": {"$id": "whole", "type": "integer"},
    },
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("part", PARTS)
def test_parts(part: str, target: str) -> None:
    whole = {**WHOLE, "properties": {**WHOLE["properties"], "p": PARTS[part]}, "required": ["p", "gone"]}
    before = json.dumps(whole)
    found = cut(whole, target)
    assert "gone" not in found.get("required", ())
    assert json.dumps(whole) == before
    # and deeper
    cut(
        {
            "properties": {"a": {"type": "array", "items": {"anyOf": [PARTS[part], {"type": "null"}]}}},
            "$defs": WHOLE["$defs"],
        },
        target,
    )


def test_tuples() -> None:
    pair = {"type": "array", "items": [{"type": "number"}, {"type": "string"}], "additionalItems": False}
    assert prop(pair, "anthropic") == {
        "type": "array",
        "prefixItems": [{"type": "number"}, {"type": "string"}],
        "items": False,
    }
    either = {"type": "array", "items": {"anyOf": [{"type": "number"}, {"type": "string"}]}}
    assert prop(pair, "moonshot") == {**either, "description": "maxItems: 2"}
    assert prop(pair, "openai") == {**either, "maxItems": 2}
    same = {"type": "array", "prefixItems": [{"type": "number"}] * 2, "maxItems": 1}
    assert prop(same, "openai") == {"type": "array", "items": {"type": "number"}, "maxItems": 1}


def test_limits_of_draft_04() -> None:
    assert prop({"type": "integer", "minimum": 0, "exclusiveMinimum": True}, "anthropic") == {
        "type": "integer",
        "exclusiveMinimum": 0,
    }
    assert prop({"maximum": 9, "exclusiveMaximum": False}, "anthropic") == {"maximum": 9}


def test_types() -> None:
    union = {"type": ["string", "integer", "null"], "minimum": 1, "maxLength": 5, "description": "x"}
    assert prop(union, "anthropic") == union
    assert prop(union, "gemini") == {
        "description": "x",
        "anyOf": [{"type": "string", "description": "maxLength: 5"}, {"type": "integer", "minimum": 1}],
    }
    assert [one["type"] for one in prop(union, "moonshot")["anyOf"]] == ["string", "integer", "null"]
    assert prop({"type": ["string", "null"]}, "gemini") == {"type": ["string", "null"]}
    assert prop({"type": ["object", "null"]}, "gemini") == {"type": "object"}
    assert prop({"type": ["str", "FLOAT", "novel", "str"]}, "anthropic") == {"type": ["string", "number"]}
    assert prop({"type": "novel"}, "anthropic") == {}


def test_enums() -> None:
    assert prop({"type": "string", "enum": ["a", "", "a"]}, "gemini") == {"type": "string", "enum": ["a"]}
    assert prop({"type": "string", "enum": ["a", "", "a"]}, "anthropic") == {"type": "string", "enum": ["a", ""]}
    mixed = prop({"enum": ["a", 1, True]}, "moonshot")
    assert mixed == {"type": "string", "enum": ["a"], "description": 'enum: ["a",1,true]'}
    assert prop({"enum": [True, False]}, "gemini") == {"type": "boolean", "description": "enum: [true,false]"}


def test_what_is_forbidden_is_not_offered() -> None:
    schema = {"type": "object", "properties": {"a": False, "b": True}, "required": ["a", "b"]}
    assert cut(schema, "openai") == {"type": "object", "properties": {"b": {}}, "required": ["b"]}
    assert cut(schema, "anthropic") == schema


def test_a_recursive_schema_is_required_nowhere_at_gemini() -> None:
    node = {
        "type": "object",
        "properties": {"next": {"$ref": "#/$defs/node"}, "v": {"type": "string"}, "leaf": {"$ref": "#/$defs/leaf"}},
        "required": ["next", "v", "leaf"],
    }
    schema = {"$ref": "#/$defs/node", "$defs": {"node": node, "leaf": {"type": "null"}}}
    for rules in (GEMINI, GEMINI_TOOL):
        found = reduced(schema, rules)
        assert found.schema is not None
        assert found.schema["$defs"]["node"]["required"] == ["v", "leaf"]
        assert "required" in found.notes
    mutual = {
        "type": "object",
        "properties": {"a": {"type": "array", "items": {"$ref": "#/$defs/b"}}},
        "required": ["a"],
        "$defs": {"b": {"properties": {"c": {"$ref": "#"}, "d": {"$ref": "#"}}, "required": ["c"]}},
    }
    found = cut(mutual, "gemini")
    assert (found["required"], found["$defs"]["b"]["required"]) == ([], [])
    assert cut(mutual, "openai")["required"] == ["a"]


# --- names


def test_names_are_mapped_both_ways() -> None:
    schema = {
        "type": "object",
        "properties": {
            "$filter": {"type": "string"},
            "_filter": {"type": "string"},
            "filter[name]": {"type": "object", "properties": {"@id": {}}, "required": ["@id"]},
            "k" * 66: {"default": {"$filter": 1}},
            "k" * 65: {"dependentRequired": {"$filter": ["@id"]}, "dependentSchemas": {"é": True}},
            "": {},
        },
        "required": ["$filter", "filter[name]"],
    }
    found = reduced(schema, ANTHROPIC_TOOL)
    assert found.schema is not None
    anthropic_takes(found.schema)
    assert found.names["$filter"] == "_filter_2"
    assert len(set(found.names.values()) | {"_filter"}) == len(found.names) + 1
    assert found.schema["required"] == ["_filter_2", found.names["filter[name]"]]
    assert found.schema["properties"][found.names["k" * 66]]["default"] == {"_filter_2": 1}
    assert "é" in found.names
    assert reduced(schema, ANTHROPIC_TOOL) == found


def test_many_names_of_one_stem_are_linear() -> None:
    def cut_them(size: int) -> None:
        schema = {"properties": {"$" * 70 + f"{number}": {"type": "string"} for number in range(size)}}
        assert reduced(schema, ANTHROPIC_TOOL).schema is not None

    assert_linear(cut_them, 2000)


TOOL: Json = {
    "type": "function",
    "name": "t",
    "parameters": {
        "type": "object",
        "properties": {
            "$filter": {"type": "string"},
            "page": {"type": "object", "properties": {"@odata.count": {"type": "integer"}}},
        },
        "required": ["$filter"],
    },
}
ARGUMENTS = '{ "$filter" : "a eq \\"$filter\\"", "page":{"@odata.count":1}, "more":[{"$filter":2}]}'


def test_history_has_the_names_of_the_upstream() -> None:
    items: list[Json] = [
        {"role": "user", "content": "go"},
        {"type": "function_call", "call_id": "c", "name": "t", "arguments": ARGUMENTS},
        {"type": "function_call_output", "call_id": "c", "output": "done"},
    ]
    for strict in (False, True):
        body = anthropic_support.sent({"tools": [{**TOOL, "strict": strict}], "input": items})
        names = list(body["tools"][0]["input_schema"]["properties"])
        assert names == ["_filter", "page"]
        assert body["messages"][1]["content"][0]["input"] == {
            "_filter": 'a eq "$filter"',
            "page": {"_odata.count": 1},
            "more": [{"_filter": 2}],
        }
    # an undeclared tool's arguments stay
    body = anthropic_support.sent({"input": items})
    assert body["messages"][1]["content"][0]["input"]["$filter"] == 'a eq "$filter"'
    assert chat_support.sent({"tools": [TOOL], "input": items})["messages"][1]["tool_calls"][0]["function"] == {
        "name": "t",
        "arguments": ARGUMENTS,
    }


# --- what cannot be saved

BAD: Json = {"type": "function", "name": "bad", "parameters": {"type": "array"}}
GOOD: Json = {"type": "function", "name": "good", "parameters": {"type": "object"}}


def offered(body: Json, dialect: str) -> list[str]:
    if dialect == "chat":
        return [tool["function"]["name"] for tool in chat_support.sent(body).get("tools", ())]
    if dialect == "anthropic":
        return [tool["name"] for tool in anthropic_support.sent(body).get("tools", ())]
    tools = gemini_support.sent(body).get("tools", [{"functionDeclarations": []}])
    return [tool["name"] for tool in tools[0]["functionDeclarations"]]


@pytest.mark.parametrize("dialect", ["chat", "anthropic", "gemini"])
def test_a_tool_that_cannot_be_saved_costs_itself(dialect: str) -> None:
    support = {"chat": chat_support, "anthropic": anthropic_support, "gemini": gemini_support}[dialect]
    body: Json = {"input": "hi", "tools": [BAD, GOOD]}
    assert offered(body, dialect) == ["good"]
    ((param, reason),) = support.build(body).warnings
    assert param == "tools"
    assert "'bad' was left out" in reason
    with pytest.raises(RelayError) as caught:
        support.build(body, strict=True)
    assert caught.value.param == "tools"
    for choice, left in (
        ("auto", ["good"]),
        ("required", ["good"]),
        ({"type": "function", "name": "good"}, ["good"]),
        ({"type": "allowed_tools", "mode": "required", "tools": [{"name": "bad"}, {"name": "good"}]}, ["good"]),
    ):
        assert offered({**body, "tool_choice": choice}, dialect) == left
    with pytest.raises(RelayError) as caught:
        support.build({**body, "tool_choice": {"type": "function", "name": "bad"}})
    assert (caught.value.status, caught.value.param) == (400, "tool_choice")
    assert offered({**body, "tools": [BAD], "tool_choice": "required"}, dialect) == []


def test_openai_gets_the_allowed_tools_that_are_offered() -> None:
    choice = {"type": "allowed_tools", "mode": "auto", "tools": [{"name": "bad"}, {"name": "good"}]}
    body = chat_support.sent({"input": "hi", "tools": [BAD, GOOD], "tool_choice": choice}, quirks="openai")
    (tool,) = body["tool_choice"]["allowed_tools"]["tools"]
    assert tool["function"]["name"] == "good"


def test_a_format_with_names_that_no_tool_may_have_is_asked_for_in_words() -> None:
    free = {"type": "object", "properties": {"$filter": {}}, "additionalProperties": {"type": "string"}}
    body: Json = {"input": "hi", "text": {"format": {"type": "json_schema", "name": "x", "schema": free}}}
    sent = anthropic_support.sent(body, model="claude-opus-4-6")
    assert "tools" not in sent
    assert '"$filter"' in sent["system"][0]["text"]


def test_moonshot_and_llamacpp_have_their_own_rules() -> None:
    body: Json = {"input": "hi", "tools": [{**TOOL, "parameters": {"properties": {"p": {"pattern": "\\S"}}}}]}
    sent = chat_support.sent(body, quirks="llamacpp")["tools"][0]["function"]["parameters"]
    assert sent["properties"]["p"] == {"description": 'pattern: "\\\\S"'}
    moonshot_takes(chat_support.sent(body, quirks="moonshot")["tools"][0]["function"]["parameters"])
    sent = chat_support.sent(body, capabilities={"tool_schema": "novel"})["tools"][0]["function"]["parameters"]
    assert sent["properties"]["p"] == {"pattern": "\\S"}


# --- bounds


@pytest.mark.parametrize("target", TARGETS)
def test_depth_and_size_are_bounded(target: str) -> None:
    rules, _ = TARGETS[target]
    for depth, good in ((60, True), (66, False), (3000, False)):
        schema: Json = {"type": "string"}
        for _ in range(depth):
            schema = {"type": "array", "items": schema}
        found = reduced({"type": "object", "properties": {"a": schema}}, rules)
        assert (found.schema is not None) == good
    for size, good in ((3_000, True), (10_001, False)):
        wide = {"type": "object", "properties": {f"p{number}": {"type": "string"} for number in range(size)}}
        assert (reduced(wide, rules).schema is not None) == good
    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    if target in ("anthropic", "openai"):
        assert reduced({"type": "object", "default": deep}, rules).notes == ("it is nested too deeply",)


def doubling(levels: int, link: Callable[[str], Json]) -> Json:
    defs = {
        f"d{n}": {"type": "object", "properties": {"x": link(f"#/$defs/d{n + 1}"), "y": link(f"#/$defs/d{n + 1}")}}
        for n in range(levels)
    }
    return {
        "type": "object",
        "properties": {"r": link("#/$defs/d0")},
        "$defs": {**defs, f"d{levels}": {"type": "string"}},
    }


LINKS: dict[str, Callable[[str], Json]] = {
    "$ref": lambda name: {"$ref": name},
    "allOf": lambda name: {"allOf": [{"$ref": name}]},
    "allOf with more": lambda name: {"allOf": [{"$ref": name}, {"minProperties": 1}]},
    "anyOf": lambda name: {"anyOf": [{"$ref": name}, {"$ref": name}]},
    "allOf twice": lambda name: {"allOf": [{"$ref": name}, {"$ref": name}], "title": "x"},
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("link", LINKS)
def test_what_doubles_costs_little(link: str, target: str) -> None:
    for schema in (
        doubling(40, LINKS[link]),
        {**doubling(40, LINKS[link]), "allOf": [LINKS[link]("#/$defs/d0")] * 2},
        {"$defs": {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 4} for n in range(40)}, "$ref": "#/$defs/d0"},
        {"$defs": {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 4} for n in range(40)}, "$ref": "#/$defs/d0"},
    ):
        assert cpu_seconds(lambda: reduced(schema, TARGETS[target][0]), 3) < 0.15  # noqa: B023
        found = reduced(schema, TARGETS[target][0])
        if found.schema is not None:
            TARGETS[target][1](found.schema)
    if link in ("$ref", "allOf"):
        cut(doubling(40, LINKS[link]), target)


SHAPES: dict[str, Callable[[int], Json]] = {
    "properties": lambda n: {"properties": {f"p{i}": {"type": "string"} for i in range(n)}},
    "required": lambda n: {"required": [f"p{i}" for i in range(n)], "properties": {f"p{i}": {} for i in range(n)}},
    "enum": lambda n: {"properties": {"p": {"enum": list(range(n * 4))}}},
    "branches": lambda n: {"anyOf": [{"properties": {f"p{i}": {}}, "required": [f"p{i}"]} for i in range(n)]},
    "same branches": lambda n: {
        "anyOf": [{"properties": {"p": {"title": str(i)}}, "required": ["p"]} for i in range(n)]
    },
    "all": lambda n: {"allOf": [{"properties": {f"p{i}": {}}, "required": [f"p{i}"]} for i in range(n // 8)]},
    "types": lambda n: {"properties": {f"p{i}": {"type": ["string", "array", "null"]} for i in range(n // 4)}},
    "refs": lambda n: {
        "properties": {f"p{i}": {"$ref": f"#/$defs/d{i}"} for i in range(n // 2)},
        "$defs": {f"d{i}": {"properties": {"q": {"$ref": f"#/$defs/d{i + 1}"}}} for i in range(n)},
    },
    "one name": lambda n: {
        "properties": {f"p{i}": {"$ref": f"#/x/{i}/same"} for i in range(n)},
        "x": [{"same": {}}] * n,
    },
    "keywords": lambda n: {f"x{i}": i for i in range(n * 8)},
    "values": lambda n: {"default": [{"a": i} for i in range(n)]},
    "tuple": lambda n: {"properties": {"p": {"items": [{"title": str(i)} for i in range(n)]}}},
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("shape", SHAPES)
def test_cost_grows_with_size_only(shape: str, target: str) -> None:
    rules, _ = TARGETS[target]

    schemas = {size: SHAPES[shape](size) for size in (600, 1200, 60_000)}
    assert_linear(lambda size: reduced(schemas[size], rules), 600)
    assert cpu_seconds(lambda: reduced(schemas[60_000], rules), 3) < 0.15


# --- anything at all

WORDS = st.sampled_from(
    [
        "type",
        "enum",
        "const",
        "required",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "multipleOf",
        "minLength",
        "pattern",
        "uniqueItems",
        "properties",
        "additionalProperties",
        "items",
        "additionalItems",
        "patternProperties",
        "prefixItems",
        "allOf",
        "anyOf",
        "oneOf",
        "not",
        "$ref",
        "$defs",
        "definitions",
        "format",
        "description",
        "title",
        "if",
        "then",
        "else",
        "nullable",
        "default",
        "dependencies",
        "dependentRequired",
        "$id",
        "id",
        "contains",
        "propertyNames",
        "unevaluatedProperties",
        "x-novel",
        "minItems",
        "maxItems",
    ]
)
NAMES = st.sampled_from(["a", "b", "$filter", "é", "", "k" * 65, "a[b]"])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["string", "object", "array", "integer", "#", "#/$defs/a", "#/properties/a", "x", "\ud83d", ""])
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(WORDS | NAMES, inner, max_size=4)
        | st.builds(lambda one: {"properties": {"a": one}}, inner)
        | st.builds(lambda one, two: {"anyOf": [one, two]}, inner, inner)
        | st.builds(lambda one: {"type": ["array", "null"], "items": one}, inner)
    ),
    max_leaves=14,
)


def finite(value: Any) -> Any:
    return json.loads(json.dumps(value), parse_constant=lambda name: 0.5)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(WORDS, ANYTHING, max_size=6), st.sampled_from(list(TARGETS)))
def test_whatever_is_sent_is_taken(schema: Any, target: str) -> None:
    rules, takes = TARGETS[target]
    schema = finite(schema)
    found = reduced(schema, rules)
    if found.schema is not None:
        takes(found.schema)
        again = reduced(found.schema, rules)
        assert again.schema is not None
        takes(again.schema)
    reduced(schema, GEMINI)


@settings(max_examples=200, deadline=None)
@given(ANYTHING)
def test_no_schema_at_all_never_raises(schema: Any) -> None:
    for rules, _ in TARGETS.values():
        reduced(schema, rules)


# --- what is remembered


def test_a_schema_is_cut_once() -> None:
    first = tool_schema({"type": "object", "properties": {"once": {}}}, ANTHROPIC_TOOL)
    assert tool_schema({"type": "object", "properties": {"once": {}}}, ANTHROPIC_TOOL) is first
    other = tool_schema({"type": "object", "properties": {"once": {}}}, GEMINI_TOOL)
    assert isinstance(other, Reduced)
    assert tool_schema({"type": "object", "title": "\ud83d"}, ANTHROPIC_TOOL).schema is not None


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "LIMIT", 100)
    monkeypatch.setattr(remembered, "LARGEST", 60)
    small = [{"type": "object", "title": f"bounded {number}"} for number in range(3)]
    kept = [tool_schema(schema, ANTHROPIC_TOOL) for schema in small]
    assert tool_schema(small[2], ANTHROPIC_TOOL) is kept[2]
    assert tool_schema(small[0], ANTHROPIC_TOOL) is not kept[0]
    large = {"type": "object", "title": "x" * 100}
    assert tool_schema(large, ANTHROPIC_TOOL) is not tool_schema(large, ANTHROPIC_TOOL)


# --- the way back


@pytest.mark.parametrize(
    ("pieces", "arguments"),
    [
        (['{"_fil', 'ter": "a"', ', "b": 1}'], '{"$filter": "a", "b": 1}'),
        (['{"_', "fil", 'ter":1}'], '{"$filter":1}'),
        (['{"_filter": "a", "b": 1}'], '{"$filter": "a", "b": 1}'),
        (['{"_filter'], '{"_filter'),
        ([], "{}"),
    ],
)
def test_calls_have_the_names_of_the_client(pieces: list[str], arguments: str) -> None:
    numbers = iter(range(99))
    emitter = Emitter({"id": "resp_1"}, NullSink(), lambda prefix: f"{prefix}_{next(numbers)}", lambda: 1)
    voice = emitter.voice({"t": Tool("t", "t", namespace="n", renamed=back({"$filter": "_filter"}))})
    item = voice.call("c", "t")
    for piece in pieces:
        voice.arguments(item, piece)
    voice.call_end(item)
    assert (item.item["name"], item.item["namespace"], item.item["arguments"]) == ("t", "n", arguments)


def test_a_format_that_gemini_cannot_be_told() -> None:
    schema: Json = {"type": "string"}
    for _ in range(80):
        schema = {"type": "array", "items": schema}
    form = {"type": "json_schema", "name": "x", "schema": schema}
    call = gemini_support.build({"input": "hi", "text": {"format": form}})
    assert json.loads(call.body)["generationConfig"]["responseJsonSchema"] == {}
    assert ("text.format", "the schema was left out: it is nested too deeply") in call.warnings


def test_references_of_one_name_are_told_apart() -> None:
    x = {"a": {"same": {"type": "null"}}, "b": {"same": {"type": "boolean"}}}
    schema = {"properties": {name: {"$ref": f"#/x/{name}/same"} for name in x}, "x": x}
    found = cut(schema, "openai")
    assert found["properties"] == {"a": {"$ref": "#/$defs/same"}, "b": {"$ref": "#/$defs/same_2"}}
    assert found["$defs"] == {"same": {"type": "null"}, "same_2": {"type": "boolean"}}


def test_chains_of_references_end() -> None:
    defs = {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(20)}
    schema = {"properties": {"p": {"allOf": [{"$ref": "#/$defs/d0"}, {"title": "x"}]}}, "$defs": {**defs, "d20": {}}}
    for target in TARGETS:
        cut(schema, target)
    twice = {"anyOf": [{"properties": {"a": {}}}], "properties": {"a": {"type": "null"}}}
    assert cut(twice, "openai")["properties"] == {"a": {"type": "null"}}
    assert cut({"anyOf": [True]}, "openai") == {"type": "object", "properties": {}, "description": "anyOf: [true]"}


@pytest.mark.parametrize("provider", [anthropic.PROVIDER, chat.PROVIDER, gemini.PROVIDER, openai.PROVIDER])
@pytest.mark.parametrize("costs", ["title", "$ref"])
def test_schemas_are_cut_ahead_of_the_request_with_a_step_ahead_of_what_costs(provider: Any, costs: str) -> None:
    name = f"ahead_{provider.name}_{costs}"
    large = {"title": "x" * 3_000} if costs == "title" else {"$ref": "#/$defs/d", "$defs": {"d": {"type": "object"}}}
    tools = [
        {"type": "function", "name": f"{name}_{n}", "parameters": {"description": f"{name}_{n}", **large}}
        for n in range(3)
    ]
    tools[0]["strict"] = True
    small = {"type": "function", "name": "small", "parameters": {"description": name}}
    request = requests.parse({"model": "m", "input": "hi", "tools": [*tools, small]})
    steps = list(provider.cut_schemas(request, Target("up", "m")))
    assert len(steps) == {"anthropic": 4, "responses": 0}.get(provider.name, 3)
    assert list(provider.cut_schemas(request, Target("up", "m"))) == []
    if steps:
        known = {key for _, found in remembered._KNOWN.values() for key in found}
        assert {json.dumps(tool["parameters"], separators=(",", ":")).encode() for tool in tools} <= known
