"""JSON schemas cut to what a target takes, by one table of rules per target, and checked against the original after.

Source: translation.md §1.5, "Schema reductions"; JSON Schema 2020-12 for the check. What a target cannot enforce goes
into the description, where the model reads it; what it cannot represent without loss makes the schema unusable there.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sized
from typing import Any, Final, NamedTuple

import orjson

from relay.responses.json import mended
from relay.responses.tools import JSON

DEPTH_LIMIT: Final = 64
STEPS_LIMIT: Final = 100_000
"""What one check may cost; a value that needs more passes."""


class Rules(NamedTuple):
    """What one target does to schemas.

    ``described``: keywords that go into the description; ``dropped``: keywords that are left out with a note;
    ``renamed``: keyword -> keyword; ``formats``: those that stay (None: all); ``closed``: objects get
    ``additionalProperties: false``, and open ones cannot be said; ``optional_limit``: how many properties may be
    optional in all; ``recursion`` and ``anything`` (``true``, ``{}``): whether they can be said; ``const``: whether
    ``const`` is known, else it becomes ``enum``; ``merged``: the members of ``allOf`` are put into their parent;
    ``bare_refs``: beside ``$ref`` only keywords that begin with ``$`` stay.
    """

    described: frozenset[str] = frozenset()
    dropped: frozenset[str] = frozenset()
    renamed: Mapping[str, str] = {}
    formats: frozenset[str] | None = None
    closed: bool = False
    optional_limit: int | None = None
    recursion: bool = True
    anything: bool = True
    const: bool = True
    merged: bool = False
    bare_refs: bool = False


_LIMITS: Final = frozenset(
    {
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "pattern",
        "minItems",
        "maxItems",
        "uniqueItems",
        "contains",
        "minContains",
        "maxContains",
        "minProperties",
        "maxProperties",
    }
)
_CONDITIONS: Final = frozenset(
    {"not", "if", "then", "else", "dependentRequired", "dependentSchemas", "dependencies", "propertyNames"}
)

ANTHROPIC: Final = Rules(
    described=_LIMITS | _CONDITIONS,
    dropped=frozenset({"prefixItems", "unevaluatedProperties", "unevaluatedItems"}),
    renamed={"oneOf": "anyOf"},
    formats=frozenset({"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}),
    closed=True,
    optional_limit=10,
    recursion=False,
    anything=False,
)


GEMINI: Final = Rules(
    described=(_LIMITS - {"minimum", "maximum", "minItems", "maxItems"}) | _CONDITIONS,
    dropped=frozenset({"patternProperties", "unevaluatedProperties", "unevaluatedItems"}),
    renamed={"oneOf": "anyOf", "definitions": "$defs"},
    const=False,
    merged=True,
    bare_refs=True,
)


class Reduced(NamedTuple):
    """A schema as the target takes it; ``schema`` is None where it cannot be said. ``notes`` say what changed."""

    schema: JSON | None
    notes: tuple[str, ...]


class _Unsayable(Exception):
    """The schema cannot be said to this target."""


def reduced(schema: JSON, rules: Rules) -> Reduced:
    """``schema`` by ``rules``. Pure: the original is not touched."""
    reducer = _Reducer(schema, rules)
    try:
        result = reducer.node(schema, 0)
        reducer.check_whole()
    except _Unsayable as problem:
        return Reduced(None, (str(problem),))
    return Reduced(result, tuple(dict.fromkeys(reducer.notes)))


_CHILDREN: Final = ("properties", "$defs", "definitions", "patternProperties")
_CHILD: Final = ("items", "additionalProperties")
_CHILD_LISTS: Final = ("anyOf", "allOf", "oneOf", "prefixItems")


class _Reducer:
    __slots__ = ("_optional", "_root", "_rules", "notes")

    def __init__(self, root: JSON, rules: Rules) -> None:
        self._root = root
        self._rules = rules
        self._optional = 0
        self.notes: list[str] = []

    def check_whole(self) -> None:
        limit = self._rules.optional_limit
        if limit is not None and self._optional > limit:
            raise _Unsayable(f"it has {self._optional} optional properties")
        if not self._rules.recursion and _recursive(self._root):
            raise _Unsayable("it refers to itself")

    def node(self, schema: Any, depth: int) -> JSON:
        if depth > DEPTH_LIMIT:
            raise _Unsayable("it is nested too deeply")
        if not isinstance(schema, dict):
            schema = {} if schema is True else {"not": {}}
        rules = self._rules
        if rules.merged:
            schema = self._merged(schema)
        if rules.bare_refs and "$ref" in schema:
            names = {name: rules.renamed.get(name, name) for name in schema}
            return {names[name]: self._member(name, schema[name], depth) for name in names if names[name][:1] == "$"}
        if not rules.anything and not set(schema) - {"title", "description", "default", "examples", "not", "$comment"}:
            raise _Unsayable("a part of it allows anything")
        result: JSON = {}
        words: list[str] = []
        for keyword, value in schema.items():
            if keyword in rules.described or (keyword == "format" and not self._known_format(value)):
                words.append(f"{keyword}: {_source(value)}")
                self.notes.append(keyword)
            elif keyword in rules.dropped:
                self.notes.append(keyword)
            elif keyword == "const" and not rules.const:
                result["enum"] = [value]
            else:
                result[rules.renamed.get(keyword, keyword)] = self._member(keyword, value, depth)
        if words:
            said = result.get("description")
            text = "; ".join(words)
            result["description"] = f"{said} ({text})" if isinstance(said, str) and said else text
        if rules.closed and _is_object(schema):
            self._close(schema, result)
        return result

    def _merged(self, schema: JSON, rest: int = 8) -> JSON:
        """``allOf`` put into its parent: lists of names and properties together, of other keywords the first."""
        several = schema.get("allOf")
        if several is None:
            return schema
        self.notes.append("allOf")
        result = {name: value for name, value in schema.items() if name != "allOf"}
        for one in several if isinstance(several, list) and rest else ():
            found = _resolved(self._root, one["$ref"]) if isinstance(one, dict) and "$ref" in one else one
            for name, value in found.items() if isinstance(found, dict) else ():
                there = result.get(name)
                if name == "properties" and isinstance(there, dict) and isinstance(value, dict):
                    result[name] = {**value, **there}
                elif name == "required" and isinstance(there, list) and isinstance(value, list):
                    result[name] = list(dict.fromkeys([*there, *value]))
                else:
                    result.setdefault(name, value)
        return self._merged(result, rest - 1)

    def _known_format(self, value: Any) -> bool:
        formats = self._rules.formats
        return formats is None or (isinstance(value, str) and value in formats)

    def _member(self, keyword: str, value: Any, depth: int) -> Any:
        if keyword == "$ref" and "definitions" in self._rules.renamed and isinstance(value, str):
            return value.replace("#/definitions/", "#/$defs/", 1)
        if keyword in _CHILDREN and isinstance(value, dict):
            return {name: self.node(child, depth + 1) for name, child in value.items()}
        if keyword in _CHILD and isinstance(value, dict):
            return self.node(value, depth + 1)
        if keyword in _CHILD_LISTS and isinstance(value, list):
            return [self.node(child, depth + 1) for child in value]
        return value

    def _close(self, schema: JSON, result: JSON) -> None:
        properties = schema.get("properties")
        if schema.get("additionalProperties", False) is not False or schema.get("patternProperties"):
            raise _Unsayable("it has an object with free keys")
        if not properties and "additionalProperties" not in schema:
            raise _Unsayable("it has an object without properties")
        result["additionalProperties"] = False
        required = schema.get("required")
        needed = {name for name in required if isinstance(name, str)} if isinstance(required, list) else set()
        self._optional += sum(name not in needed for name in _names(schema, "properties"))


def _is_object(schema: JSON) -> bool:
    kind = schema.get("type")
    return kind == "object" or (isinstance(kind, list) and "object" in kind) or "properties" in schema


def _recursive(root: JSON) -> bool:
    """Whether following ``$ref`` leads back to where it began."""
    done: set[str] = set()

    def visit(node: Any, path: frozenset[str], depth: int) -> bool:
        if depth > 4 * DEPTH_LIMIT:
            return True
        if isinstance(node, list):
            return any(visit(child, path, depth + 1) for child in node)
        if not isinstance(node, dict):
            return False
        reference = node.get("$ref")
        if isinstance(reference, str):
            if reference in path:
                return True
            if reference not in done:
                if visit(_resolved(root, reference), path | {reference}, depth + 1):
                    return True
                done.add(reference)
        return any(visit(child, path, depth + 1) for key, child in node.items() if key not in ("$defs", "definitions"))

    return visit(root, frozenset({"#"}), 0)


def _resolved(root: JSON, reference: str) -> Any:
    """What a local ``$ref`` points to; None for any other."""
    if reference == "#":
        return root
    if not reference.startswith("#/"):
        return None
    node: Any = root
    for step in reference[2:].split("/"):
        if not isinstance(node, dict):
            return None
        node = node.get(step.replace("~1", "/").replace("~0", "~"))
    return node


def _source(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # lone surrogates, or deeper than orjson writes
        pass
    try:
        return json.dumps(mended(value), ensure_ascii=False, separators=(",", ":"))
    except RecursionError:
        return "…"


# --- the check of a result against the original schema


def mismatch(value: Any, schema: Any) -> str | None:
    """Where ``value`` first breaks ``schema``, as ``path: keyword``; None where it does not, or where nobody knows.

    Patterns that could take long are not tried, formats never; neither is anything beyond ``STEPS_LIMIT``.
    """
    try:
        return _Check(schema).node(value, schema, "$", 0)
    except (_GivenUp, OverflowError):
        return None


class _GivenUp(Exception):
    """The check would cost too much."""


class _Check:
    __slots__ = ("_root", "_steps")

    def __init__(self, root: Any) -> None:
        self._root = root
        self._steps = 0

    def node(self, value: Any, schema: Any, path: str, depth: int) -> str | None:
        self._steps += 1
        if self._steps > STEPS_LIMIT or depth > 4 * DEPTH_LIMIT:
            raise _GivenUp
        if schema is False:
            return f"{path}: not allowed"
        if not isinstance(schema, dict):
            return None
        for keyword, limit in schema.items():
            check = _KEYWORDS.get(keyword)
            if check is not None and not check(value, limit):
                return f"{path}: {keyword}"
            walk = _WALKS.get(keyword)
            if walk is not None:
                found = walk(self, value, limit, schema, path, depth + 1)
                if found is not None:
                    return found
        return None

    def fits(self, value: Any, schema: Any, depth: int) -> bool:
        return self.node(value, schema, "", depth) is None

    def _on_ref(self, value: Any, reference: Any, schema: JSON, path: str, depth: int) -> str | None:
        return self.node(value, _resolved(self._root, str(reference)), path, depth)

    def _on_properties(self, value: Any, properties: Any, schema: JSON, path: str, depth: int) -> str | None:
        if isinstance(value, dict) and isinstance(properties, dict):
            for name, child in properties.items():
                if name in value:
                    found = self.node(value[name], child, f"{path}.{name}", depth)
                    if found is not None:
                        return found
        return None

    def _on_additional(self, value: Any, additional: Any, schema: JSON, path: str, depth: int) -> str | None:
        if isinstance(value, dict):
            named, patterns = _names(schema, "properties"), _names(schema, "patternProperties")
            for name in value:
                if name not in named and not any(_matches(name, pattern) for pattern in patterns):
                    found = self.node(value[name], additional, f"{path}.{name}", depth)
                    if found is not None:
                        return found
        return None

    def _on_items(self, value: Any, items: Any, schema: JSON, path: str, depth: int) -> str | None:
        if isinstance(value, list):
            first = schema.get("prefixItems")
            begun = len(first) if isinstance(first, list) else 0
            for index in range(begun, len(value)):
                found = self.node(value[index], items, f"{path}[{index}]", depth)
                if found is not None:
                    return found
        return None

    def _on_prefix(self, value: Any, items: Any, schema: JSON, path: str, depth: int) -> str | None:
        if isinstance(value, list) and isinstance(items, list):
            for index, (child, one) in enumerate(zip(value, items, strict=False)):
                found = self.node(child, one, f"{path}[{index}]", depth)
                if found is not None:
                    return found
        return None

    def _on_all(self, value: Any, schemas: Any, schema: JSON, path: str, depth: int) -> str | None:
        for one in schemas if isinstance(schemas, list) else ():
            found = self.node(value, one, path, depth)
            if found is not None:
                return found
        return None

    def _on_any(self, value: Any, schemas: Any, schema: JSON, path: str, depth: int) -> str | None:
        fits = not isinstance(schemas, list) or any(self.fits(value, one, depth) for one in schemas)
        return None if fits else f"{path}: anyOf"

    def _on_one(self, value: Any, schemas: Any, schema: JSON, path: str, depth: int) -> str | None:
        fits = not isinstance(schemas, list) or sum(self.fits(value, one, depth) for one in schemas) == 1
        return None if fits else f"{path}: oneOf"

    def _on_not(self, value: Any, forbidden: Any, schema: JSON, path: str, depth: int) -> str | None:
        return f"{path}: not" if self.fits(value, forbidden, depth) else None


_WALKS: Final[Mapping[str, Callable[[_Check, Any, Any, JSON, str, int], str | None]]] = {
    "$ref": _Check._on_ref,
    "properties": _Check._on_properties,
    "additionalProperties": _Check._on_additional,
    "items": _Check._on_items,
    "prefixItems": _Check._on_prefix,
    "allOf": _Check._on_all,
    "anyOf": _Check._on_any,
    "oneOf": _Check._on_one,
    "not": _Check._on_not,
}

_TYPES: Final[Mapping[str, Callable[[Any], bool]]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": lambda value: _is_number(value),
    "integer": lambda value: _is_number(value) and (isinstance(value, int) or value.is_integer()),
}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _names(schema: JSON, keyword: str) -> list[str]:
    value = schema.get(keyword)
    return list(value) if isinstance(value, dict) else []


def _same(one: Any, other: Any) -> bool:
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _has_type(value: Any, kinds: Any) -> bool:
    names = kinds if isinstance(kinds, list) else [kinds]
    known = [_TYPES[name] for name in names if isinstance(name, str) and name in _TYPES]
    return not known or any(test(value) for test in known)


def _number(test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    return lambda value, limit: not _is_number(value) or not _is_number(limit) or test(value, limit)


def _length(kind: type[Sized], test: Callable[[int, Any], bool]) -> Callable[[Any, Any], bool]:
    return lambda value, limit: not isinstance(value, kind) or not _is_number(limit) or test(len(value), limit)


def _multiple(value: Any, step: Any) -> bool:
    parts = value / step if step > 0 else 0.0
    return bool(math.isinf(parts) or abs(parts - round(parts)) < 1e-9)


def _unique(value: Any, wanted: Any) -> bool:
    return not (wanted is True and isinstance(value, list)) or len({_source(one) for one in value}) == len(value)


_SLOW: Final = re.compile(r"\)[*+{]|\\[1-9]|\(\?[^:]")
_OPEN: Final = re.compile(r"[*+]|\{\d+,\}")


def _matches(value: Any, pattern: Any) -> bool:
    """Whether a string matches; true where trying could take long (nothing repeated inside a group, short texts)."""
    if not isinstance(value, str) or not isinstance(pattern, str) or len(value) > 256:
        return True
    if _SLOW.search(pattern) or len(_OPEN.findall(pattern)) > 2 or len(pattern) > 1024:
        return True
    try:
        return re.search(pattern, value) is not None
    except re.error:
        return True


_KEYWORDS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "type": _has_type,
    "enum": lambda value, allowed: not isinstance(allowed, list) or any(_same(value, one) for one in allowed),
    "const": _same,
    "required": lambda value, names: (
        not isinstance(value, dict)
        or not isinstance(names, list)
        or all(name in value for name in names if isinstance(name, str))
    ),
    "minimum": _number(lambda value, limit: value >= limit),
    "maximum": _number(lambda value, limit: value <= limit),
    "exclusiveMinimum": _number(lambda value, limit: value > limit),
    "exclusiveMaximum": _number(lambda value, limit: value < limit),
    "multipleOf": _number(_multiple),
    "minLength": _length(str, lambda size, limit: size >= limit),
    "maxLength": _length(str, lambda size, limit: size <= limit),
    "minItems": _length(list, lambda size, limit: size >= limit),
    "maxItems": _length(list, lambda size, limit: size <= limit),
    "minProperties": _length(dict, lambda size, limit: size >= limit),
    "maxProperties": _length(dict, lambda size, limit: size <= limit),
    "uniqueItems": _unique,
    "pattern": _matches,
}
