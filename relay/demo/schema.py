"""A value that fits a JSON schema, always the same one for the same schema.

Source: JSON Schema 2020-12 (the keywords that function parameters and structured outputs use), and OpenAPI 3.0's
spelling of them as Gemini's ``Schema`` has it (types in capitals, ``nullable``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

_DEEPEST: Final = 6  # optional properties and array items end here, so that a recursive schema does too
_LIMIT: Final = 60  # required recursion ends here

_FORMATS: Final[dict[str, str]] = {
    "date": "2026-11-22",
    "date-time": "2026-11-22T12:00:00Z",
    "time": "12:00:00Z",
    "duration": "PT1H",
    "email": "demo@example.com",
    "hostname": "example.com",
    "uri": "https://example.com/",
    "url": "https://example.com/",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def example(schema: Any, text: str = "demo") -> Any:
    """A value for ``schema``; strings without further rules are ``text``."""
    return _value(schema, schema, text, 0)


def _value(schema: Any, root: Any, text: str, depth: int) -> Any:
    if not isinstance(schema, dict) or depth > _LIMIT:
        return None if depth > _LIMIT else {}
    schema = _resolved(schema, root)
    for keyword in ("const", "default"):
        if keyword in schema:
            return schema[keyword]
    if schema.get("enum"):
        return schema["enum"][0]
    if schema.get("examples"):
        return schema["examples"][0]
    make = _MAKERS.get(_type(schema))
    return make(schema, root, text, depth) if make else None


def _resolved(schema: dict[str, Any], root: Any) -> dict[str, Any]:
    """Follow ``$ref``, take the first alternative that is not null, and fold ``allOf`` into one schema."""
    for _ in range(32):
        if isinstance(schema.get("$ref"), str):
            rest = {key: value for key, value in schema.items() if key != "$ref"}
            schema = {**_target(schema["$ref"], root), **rest}
        elif alternatives := schema.get("anyOf") or schema.get("oneOf"):
            rest = {key: value for key, value in schema.items() if key not in ("anyOf", "oneOf")}
            chosen = next((one for one in alternatives if not _is_null(one)), alternatives[0])
            schema = _merged(rest, chosen if isinstance(chosen, dict) else {})
        elif parts := schema.get("allOf"):
            whole = {key: value for key, value in schema.items() if key != "allOf"}
            for part in parts:
                whole = _merged(whole, _resolved(part, root) if isinstance(part, dict) else {})
            schema = whole
        else:
            break
    return schema


def _is_null(schema: Any) -> bool:
    return isinstance(schema, dict) and str(schema.get("type", "")).lower() == "null"


def _merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    merged = {**one, **other}
    if "properties" in one and "properties" in other:
        merged["properties"] = {**one["properties"], **other["properties"]}
    if "required" in one and "required" in other:
        merged["required"] = [*one["required"], *other["required"]]
    return merged


def _target(reference: str, root: Any) -> dict[str, Any]:
    node = root
    for step in reference.removeprefix("#").strip("/").split("/"):
        if step and isinstance(node, dict):
            node = node.get(step.replace("~1", "/").replace("~0", "~"), {})
    return node if isinstance(node, dict) else {}


def _type(schema: dict[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if str(one).lower() != "null"), "null")
    if kind is None:
        kind = "object" if "properties" in schema or "additionalProperties" in schema or not schema else "string"
        if "items" in schema or "prefixItems" in schema:
            kind = "array"
    return str(kind).lower()


def _object(schema: dict[str, Any], root: Any, text: str, depth: int) -> dict[str, Any]:
    properties = schema.get("properties") or {}
    required = schema.get("required") or ()
    made = {
        name: _value(one, root, text, depth + 1)
        for name, one in properties.items()
        if name in required or depth < _DEEPEST
    }
    for name in required:
        made.setdefault(name, text)
    return made


def _array(schema: dict[str, Any], root: Any, text: str, depth: int) -> list[Any]:
    made = [_value(one, root, text, depth + 1) for one in schema.get("prefixItems") or ()]
    least = int(schema.get("minItems") or 0)
    most = schema.get("maxItems")
    wanted = max(least, 1 if depth < _DEEPEST and not made and (most is None or int(most) > 0) else 0)
    items = schema.get("items", {"type": "string"})
    while len(made) < min(wanted, 100):
        value = _value(items, root, text, depth + 1)
        if schema.get("uniqueItems"):
            value = _different(value, items, made)
        made.append(value)
    return made


def _different(value: Any, items: Any, made: list[Any]) -> Any:
    if isinstance(items, dict) and items.get("enum"):
        return next((one for one in items["enum"] if one not in made), value)
    if isinstance(value, str):
        return value if value not in made else f"{value}{len(made)}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value + len(made)
    return value


def _string(schema: dict[str, Any], root: Any, text: str, depth: int) -> str:
    made = _FORMATS.get(str(schema.get("format")), text)
    least, most = schema.get("minLength"), schema.get("maxLength")
    if least is not None and len(made) < int(least):
        made += "x" * (int(least) - len(made))
    return made if most is None else made[: int(most)]


def _number(schema: dict[str, Any], root: Any, text: str, depth: int) -> int | float:
    whole = _type(schema) == "integer"
    step = schema.get("multipleOf") or 1
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    least = None if low is None else (low if "minimum" in schema else low + (1 if whole else 1e-3))
    most = None if high is None else (high if "maximum" in schema else high - (1 if whole else 1e-3))
    value: int | float = step
    if least is not None and value < least:
        value = math.ceil(least / step) * step if whole or "multipleOf" in schema else least
    if most is not None and value > most:
        value = math.floor(most / step) * step if whole or "multipleOf" in schema else most
        if least is not None and value < least:
            value = least
    return int(value) if whole else value


_MAKERS: Final[dict[str, Callable[[dict[str, Any], Any, str, int], Any]]] = {
    "object": _object,
    "array": _array,
    "string": _string,
    "number": _number,
    "integer": _number,
    "boolean": lambda *_: True,
    "null": lambda *_: None,
}
