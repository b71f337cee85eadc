"""One level of a schema brought into the shape that a target takes: types, enums, tuples, and what belongs where.

Source: issue texts and pages in ``rules``.
"""

from __future__ import annotations

from typing import Any, Final

from relay.providers.schema.budget import NODE, Budget
from relay.providers.schema.rules import Rules
from relay.providers.schema.words import source, told
from relay.responses.tools import JSON

_OF: Final = {
    "object": frozenset(
        {
            *(
                "properties",
                "required",
                "additionalProperties",
                "patternProperties",
                "propertyNames",
                "propertyOrdering",
            ),
            *("minProperties", "maxProperties", "dependentRequired", "dependentSchemas", "unevaluatedProperties"),
        }
    ),
    "array": frozenset(
        {
            *("items", "prefixItems", "minItems", "maxItems", "uniqueItems", "contains", "minContains", "maxContains"),
            "unevaluatedItems",
        }
    ),
    "string": frozenset({"minLength", "maxLength", "pattern", "format", "contentEncoding", "contentMediaType"}),
    "number": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "format"}),
    "integer": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "format"}),
    "boolean": frozenset(),
    "null": frozenset(),
}
_SCOPED: Final = frozenset().union(*_OF.values())
_BUILT: Final = _OF["object"] | _OF["array"]
"""Keywords that only make sense beside one type."""

_ANYTHING: Final = [
    {"type": "string"},
    {"type": "number"},
    {"type": "boolean"},
    {"type": "object"},
    {"type": "array", "items": {"type": "string"}},
    {"type": "null"},
]


def shaped(schema: JSON, rules: Rules, budget: Budget, words: list[str], notes: list[str]) -> JSON:
    """A clean level in the target's shape, itself clean; ``words``: what it says no longer. Raises: SpentError."""
    schema = dict(schema)
    if "const" in schema and not rules.const:
        schema["enum"] = [schema.pop("const")]
    if "enum" in schema:
        _enum(schema, rules, budget, words, notes)
    if not rules.booleans and rules.anything:
        _without_booleans(schema)
    if "prefixItems" in schema and not rules.tuples:
        _no_tuple(schema, budget, notes)
    if rules.scoped and "type" not in schema:
        _infer(schema)
    if isinstance(schema.get("type"), list) and rules.unions != "kept":
        schema = _split(schema, rules, budget)
    if rules.scoped and "anyOf" in schema:
        _spread(schema, budget)
    if rules.scoped and isinstance(schema.get("type"), str):
        others = _BUILT - _OF[schema["type"]]
        schema = {name: value for name, value in schema.items() if name not in others}
    if rules.typed and not schema.keys() & {"type", "anyOf", "$ref"}:
        schema["anyOf"] = _ANYTHING
    kinds = schema.get("type")
    if rules.needs_items and (kinds == "array" or (isinstance(kinds, list) and "array" in kinds)):
        schema.setdefault("items", {})
    if rules.needs_properties and kinds == "object" and "additionalProperties" not in schema:
        schema.setdefault("properties", {})
    _needed(schema, rules)
    return schema


def _needed(schema: JSON, rules: Rules) -> None:
    """``required`` names what there is. Where any JSON Schema is taken it may stand alone, as alternatives have it."""
    names = schema.get("required")
    if not names or (rules.booleans and "properties" not in schema):
        return
    properties = schema.get("properties", {})
    kept = [name for name in names if name in properties]
    if kept:
        schema["required"] = kept
    else:
        del schema["required"]


# --- enums


def _enum(schema: JSON, rules: Rules, budget: Budget, words: list[str], notes: list[str]) -> None:
    values = _different(schema["enum"], budget)
    kept = [one for one in values if _is_sayable(one)] if rules.simple_enums else values
    if rules.one_type_enums:
        kept = [one for one in kept if isinstance(one, str) == isinstance(kept[0], str)]
    blank = sum(one is None or one == "" for one in values) if rules.simple_enums else 0
    if len(kept) + blank < len(values):
        words.append(told("enum", values))
        notes.append("enum")
    if kept:
        schema["enum"] = kept
    else:
        del schema["enum"]
    if rules.scoped and not schema.keys() & {"type", "anyOf", "oneOf", "$ref"}:
        kinds = list(dict.fromkeys(map(_type_of, kept or values)))
        schema["type"] = kinds[0] if len(kinds) == 1 else kinds


def _is_sayable(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool) and value != ""


def _different(values: list[Any], budget: Budget) -> list[Any]:
    found: dict[str, Any] = {}
    for value in values:
        text = source(value)
        budget.spend(1 + len(text) // 64)
        found.setdefault(text, value)
    return list(found.values())


def _type_of(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return "null" if value is None else "boolean"
    return next(name for kind, name in _PYTHON if isinstance(value, kind))


_PYTHON: Final = ((str, "string"), (int, "integer"), (float, "number"), (list, "array"), (dict, "object"))


# --- true and false as schemas


def _without_booleans(schema: JSON) -> None:
    """``true`` is said as ``{}`` by whoever reads on; what ``false`` forbids is left out here."""
    if "properties" in schema:
        schema["properties"] = {name: one for name, one in schema["properties"].items() if one is not False}
    for name in ("anyOf", "oneOf", "prefixItems"):
        kept = [one for one in schema.get(name, ()) if one is not False]
        if kept:
            schema[name] = kept
        else:
            schema.pop(name, None)
    if schema.get("items") is False:
        schema["maxItems"] = min(schema.get("maxItems", 2**53), len(schema.get("prefixItems", ())))
        del schema["items"]
    for name in ("unevaluatedItems", "unevaluatedProperties", "contains", "propertyNames", "contentSchema"):
        if isinstance(schema.get(name), bool):
            del schema[name]


# --- arrays


def _no_tuple(schema: JSON, budget: Budget, notes: list[str]) -> None:
    """Each place of a tuple may hold what any of them may."""
    notes.append("prefixItems")
    places = schema.pop("prefixItems")
    rest = schema.get("items")
    several = _different([*places, *([rest] if isinstance(rest, dict) else [])], budget)
    schema["items"] = several[0] if len(several) == 1 else {"anyOf": several}


# --- types


def _infer(schema: JSON) -> None:
    for kind in ("object", "array"):
        if schema.keys() & _OF[kind] and not schema.keys() & {"$ref", "anyOf", "oneOf"}:
            schema["type"] = kind
            return


def _split(schema: JSON, rules: Rules, budget: Budget) -> JSON:
    """A list of types as alternatives of one type each, with the keywords that belong there."""
    kinds: list[str] = schema["type"]
    real = [kind for kind in kinds if kind != "null"]
    rest = {name: value for name, value in schema.items() if name != "type"}
    if rules.unions == "nullable" and len(real) == 1:
        simple = real[0] not in ("object", "array")
        return {**schema, "type": kinds if simple else real[0]}
    if "anyOf" in rest or "oneOf" in rest or "$ref" in rest:
        return rest  # these say what there may be
    branches: list[JSON] = []
    for kind in real if rules.unions == "nullable" else kinds:
        budget.spend(NODE)
        branch = {"type": kind} | {name: value for name, value in rest.items() if name in _OF[kind]}
        values = [one for one in rest.get("enum", ()) if _belongs(one, kind)]
        if values:
            branch["enum"] = values
        if values or "enum" not in rest or kind == "null":
            branches.append(branch)
    outside = {name: value for name, value in rest.items() if name not in _SCOPED and name != "enum"}
    return {**outside, "anyOf": branches} if branches else {**rest, "type": real[0]}


def _belongs(value: Any, kind: str) -> bool:
    of = _type_of(value)
    return of == kind or (of == "integer" and kind == "number")


def _spread(schema: JSON, budget: Budget) -> None:
    """What stands beside ``anyOf`` goes into each of its alternatives: where keywords belong to one type, the parent of
    alternatives has none."""
    beside = {name: schema.pop(name) for name in list(schema) if name in _SCOPED or name in ("type", "enum")}
    if not beside:
        return
    branches = []
    for one in schema["anyOf"]:
        branch = one if isinstance(one, dict) else {}
        budget.spend(NODE + len(beside))
        if "$ref" in branch or branch.get("type", beside.get("type")) != beside.get("type", branch.get("type")):
            branches.append(branch)
            continue
        joined = {**beside, **branch}
        if "properties" in beside and isinstance(branch.get("properties"), dict):
            budget.spend(len(beside["properties"]) + len(branch["properties"]))
            joined["properties"] = {**beside["properties"], **branch["properties"]}
        if "required" in beside and isinstance(branch.get("required"), list):
            joined["required"] = [*beside["required"], *branch["required"]]
        branches.append(joined)
    schema["anyOf"] = branches
