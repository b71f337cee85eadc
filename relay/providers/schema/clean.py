"""One schema as JSON Schema 2020-12 has it: what earlier drafts and OpenAPI wrote otherwise is rewritten, and a keyword
whose value cannot be one of its own is left out. Only this level is looked at.

Source: the metaschemas of https://json-schema.org/draft/2020-12/schema; draft-04 §5.1.2 (``exclusiveMinimum``),
draft-07 §6.4 (``items`` as a list, ``dependencies``); OpenAPI 3.0.3 "Schema Object" (``nullable``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from relay.providers.schema.budget import Budget
from relay.responses.tools import JSON

GONE: Final = frozenset(
    {
        "$anchor",
        "$comment",
        "$defs",  # what is referred to is put back (``reduce``)
        "$dynamicAnchor",
        "$dynamicRef",
        "$id",
        "$recursiveAnchor",
        "$recursiveRef",
        "$schema",
        "$vocabulary",
        "additionalItems",
        "definitions",
        "dependencies",
        "divisibleBy",
        "id",
        "nullable",
    }
)

TYPES: Final = ("object", "array", "string", "number", "integer", "boolean", "null")
_TYPE_NAMES: Final = {
    **{name: name for name in TYPES},
    "str": "string",
    "int": "integer",
    "float": "number",
    "double": "number",
    "bool": "boolean",
    "dict": "object",
    "list": "array",
    "none": "null",
}

Form = Callable[[Any], Any]
"""A keyword's value as it may be; None where it may not be at all."""


def _types(value: Any) -> Any:
    names = value if isinstance(value, list) else [value]
    known = dict.fromkeys(_TYPE_NAMES.get(name.lower()) for name in names if isinstance(name, str))
    found = [name for name in known if name]
    return found[0] if len(found) == 1 else found or None


def _names(value: Any) -> Any:
    return list(dict.fromkeys(one for one in value if isinstance(one, str))) if isinstance(value, list) else None


def _schema(value: Any) -> Any:
    return value if isinstance(value, dict | bool) else None


def _schemas(value: Any) -> Any:
    return [one for one in value if isinstance(one, dict | bool)] or None if isinstance(value, list) else None


def _schemas_by_name(value: Any) -> Any:
    if not isinstance(value, dict):
        return None
    return {name: one if isinstance(one, dict | bool) else {} for name, one in value.items()}


def _names_by_name(value: Any) -> Any:
    return {name: _names(one) or [] for name, one in value.items()} if isinstance(value, dict) else None


def _number(value: Any) -> Any:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _positive(value: Any) -> Any:
    return value if _number(value) is not None and value > 0 else None


def _count(value: Any) -> Any:
    whole = _number(value) is not None and value >= 0 and value == value // 1
    return int(value) if whole and value < 2**53 else None


def _text(value: Any) -> Any:
    return value if isinstance(value, str) else None


def _list(value: Any) -> Any:
    return value if isinstance(value, list) and value else None


def _flag(value: Any) -> Any:
    return value if isinstance(value, bool) else None


FORMS: Final[Mapping[str, Form]] = {
    "type": _types,
    "enum": _list,
    "examples": _list,
    "required": _names,
    **dict.fromkeys(("properties", "patternProperties", "dependentSchemas"), _schemas_by_name),
    "dependentRequired": _names_by_name,
    **dict.fromkeys(("anyOf", "allOf", "oneOf", "prefixItems"), _schemas),
    **dict.fromkeys(("items", "additionalProperties", "unevaluatedItems", "unevaluatedProperties"), _schema),
    **dict.fromkeys(("not", "if", "then", "else", "contains", "propertyNames", "contentSchema"), _schema),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _number),
    "multipleOf": _positive,
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems", "minContains", "maxContains"), _count),
    **dict.fromkeys(("minProperties", "maxProperties"), _count),
    **dict.fromkeys(("pattern", "format", "title", "description", "$ref"), _text),
    **dict.fromkeys(("contentEncoding", "contentMediaType"), _text),
    **dict.fromkeys(("uniqueItems", "deprecated", "readOnly", "writeOnly"), _flag),
}


def clean(schema: JSON, budget: Budget) -> JSON:
    """A copy of one level, in 2020-12. Clean again is the same. Raises: SpentError."""
    budget.spend(len(schema) // 2)
    result: JSON = {}
    for keyword, value in schema.items():
        form = FORMS.get(keyword)
        if form is None:
            if keyword not in GONE:
                result[keyword] = value
        else:
            if isinstance(value, dict | list):
                budget.spend(len(value) // 2)
            formed = form(value)
            if formed is not None:
                result[keyword] = formed
    for limit, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if schema.get(exclusive) is True and limit in result:
            result[exclusive] = result.pop(limit)
    if isinstance(schema.get("items"), list):
        _tuple(schema, result)
    if isinstance(schema.get("dependencies"), dict):
        budget.spend(len(schema["dependencies"]) // 2)
        _dependencies(schema["dependencies"], result)
    if isinstance(schema.get("properties"), dict):
        _required_by_themselves(schema["properties"], result)
    if schema.get("nullable") is True:
        _nullable(result)
    return result


def _tuple(schema: JSON, result: JSON) -> None:
    """``items`` as a list, with ``additionalItems`` for the rest (draft-07)."""
    several = _schemas(schema["items"])
    if several is None:
        return
    result.setdefault("prefixItems", several)
    rest = _schema(schema.get("additionalItems"))
    if rest is not None:
        result["items"] = rest


def _dependencies(dependencies: JSON, result: JSON) -> None:
    for name, value in dependencies.items():
        kind = "dependentRequired" if isinstance(value, list) else "dependentSchemas"
        if isinstance(value, list | dict | bool):
            there = result.setdefault(kind, {})
            there.setdefault(name, _names(value) if isinstance(value, list) else value)


def _required_by_themselves(properties: JSON, result: JSON) -> None:
    """``required: true`` in a property (draft-03)."""
    named = [name for name, one in properties.items() if isinstance(one, dict) and one.get("required") is True]
    if named:
        result["required"] = list(dict.fromkeys([*result.get("required", []), *named]))


def _nullable(result: JSON) -> None:
    kinds = result.get("type")
    if kinds is not None:
        names = kinds if isinstance(kinds, list) else [kinds]
        result["type"] = names if "null" in names else [*names, "null"]
    if "enum" in result and None not in result["enum"]:
        result["enum"] = [*result["enum"], None]
    for keyword in ("anyOf", "oneOf"):
        if keyword in result:
            result[keyword] = [*result[keyword], {"type": "null"}]
