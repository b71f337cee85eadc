"""A value checked against a schema, as far as the steps reach.

Source: JSON Schema 2020-12. Formats are never checked, patterns where ``patterns`` says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sized
from typing import Any, Final

from relay.providers.schema.budget import DEPTH, NODE, Budget, SpentError
from relay.providers.schema.patterns import Patterns
from relay.providers.schema.pointers import Pointers
from relay.providers.schema.words import source
from relay.responses.tools import JSON

_SHOWN: Final = 200


def mismatch(value: Any, schema: Any) -> str | None:
    """Where ``value`` first breaks ``schema``, as ``path: keyword``; None where it does not, or where nobody knows.

    A value that would need more than ``budget.STEPS`` passes.
    """
    try:
        found = _Check(schema).node(value, schema, 0)
    except (SpentError, OverflowError):
        return None
    return None if found is None else f"${found}"[:_SHOWN]


class _Check:
    """One check. What is found is told from the inside out, so that no path is built for what fits."""

    __slots__ = ("budget", "enums", "patterns", "pointers")

    def __init__(self, root: Any) -> None:
        self.budget = Budget()
        self.patterns = Patterns(self.budget)
        self.pointers = Pointers(root, self.budget)
        self.enums: dict[int, tuple[frozenset[Any], list[Any]]] = {}

    def node(self, value: Any, schema: Any, depth: int) -> str | None:
        if schema is False:
            return ": not allowed"
        if not isinstance(schema, dict):
            return None
        if depth > 2 * DEPTH:
            raise SpentError
        self.budget.node(len(schema))
        for keyword, limit in schema.items():
            check = _KEYWORDS.get(keyword)
            if check is not None and not check(self, value, limit):
                return f": {keyword}"
            walk = _WALKS.get(keyword)
            if walk is not None:
                found = walk(self, value, limit, schema, depth + 1)
                if found is not None:
                    return found
        return None

    def fits(self, value: Any, schema: Any, depth: int) -> bool:
        return self.node(value, schema, depth) is None

    def same(self, one: Any, other: Any, depth: int = 0) -> bool:
        """Equality as JSON has it: 1 is 1.0, and true is not 1."""
        if isinstance(one, str):
            self.budget.spend(1 + (len(one) // 512 if isinstance(other, str) and len(one) == len(other) else 0))
            return bool(one == other)
        self.budget.spend(1)
        if isinstance(one, dict) and isinstance(other, dict):
            return len(one) == len(other) and all(
                name in other and self._deeper(item, other[name], depth) for name, item in one.items()
            )
        if isinstance(one, list) and isinstance(other, list):
            pairs = zip(one, other, strict=False)
            return len(one) == len(other) and all(self._deeper(mine, its, depth) for mine, its in pairs)
        return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)

    def _deeper(self, one: Any, other: Any, depth: int) -> bool:
        if depth > DEPTH:
            raise SpentError
        return self.same(one, other, depth + 1)

    def one_of(self, value: Any, allowed: list[Any]) -> bool:
        """Whether a value is in an ``enum``: of simple ones in one look."""
        if id(allowed) not in self.enums:
            self.budget.spend(len(allowed))
            simple = frozenset((isinstance(one, bool), one) for one in allowed if _is_simple(one))
            self.enums[id(allowed)] = simple, [one for one in allowed if not _is_simple(one)]
        simple, others = self.enums[id(allowed)]
        if _is_simple(value):
            return (isinstance(value, bool), value) in simple
        return any(self.same(value, one) for one in others)

    # --- keywords that look at the value itself

    def _has_type(self, value: Any, kinds: Any) -> bool:
        names = kinds if isinstance(kinds, list) else [kinds]
        known = [_TYPES[name] for name in names[: len(_TYPES)] if isinstance(name, str) and name in _TYPES]
        return not known or any(test(value) for test in known)

    def _in_enum(self, value: Any, allowed: Any) -> bool:
        return not isinstance(allowed, list) or self.one_of(value, allowed)

    def _has_names(self, value: Any, names: Any) -> bool:
        if not isinstance(value, dict) or not isinstance(names, list):
            return True
        self.budget.spend(len(names))
        return all(name in value for name in names if isinstance(name, str))

    def _is_unique(self, value: Any, wanted: Any) -> bool:
        if wanted is not True or not isinstance(value, list):
            return True
        seen = set()
        for one in value:
            text = source(one)
            self.budget.spend(NODE + len(text) // 64)
            seen.add(text)
        return len(seen) == len(value)

    def _is_found(self, value: Any, pattern: Any) -> bool:
        return self.patterns.matches(value, pattern)

    # --- keywords that walk on

    def _on_ref(self, value: Any, reference: Any, schema: JSON, depth: int) -> str | None:
        return self.node(value, self.pointers.target(reference), depth)

    def _on_properties(self, value: Any, properties: Any, schema: JSON, depth: int) -> str | None:
        if isinstance(value, dict) and isinstance(properties, dict):
            fewer, more = sorted((value, properties), key=len)
            self.budget.spend(len(fewer))
            for name in fewer:
                if name in more:
                    found = self.node(value[name], properties[name], depth)
                    if found is not None:
                        return f".{name[:64]}{found}"
        return None

    def _on_additional(self, value: Any, additional: Any, schema: JSON, depth: int) -> str | None:
        if isinstance(value, dict):
            named, patterns = _members(schema, "properties"), _members(schema, "patternProperties")
            for name in value:
                self.budget.spend(1 + len(patterns))
                if name not in named and not any(self.patterns.matches(name, pattern) for pattern in patterns):
                    found = self.node(value[name], additional, depth)
                    if found is not None:
                        return f".{name[:64]}{found}"
        return None

    def _on_items(self, value: Any, items: Any, schema: JSON, depth: int) -> str | None:
        if isinstance(value, list):
            first = schema.get("prefixItems")
            begun = len(first) if isinstance(first, list) else 0
            for index in range(begun, len(value)):
                found = self.node(value[index], items, depth)
                if found is not None:
                    return f"[{index}]{found}"
        return None

    def _on_prefix(self, value: Any, items: Any, schema: JSON, depth: int) -> str | None:
        if isinstance(value, list) and isinstance(items, list):
            for index, (child, one) in enumerate(zip(value, items, strict=False)):
                found = self.node(child, one, depth)
                if found is not None:
                    return f"[{index}]{found}"
        return None

    def _on_all(self, value: Any, schemas: Any, schema: JSON, depth: int) -> str | None:
        for one in schemas if isinstance(schemas, list) else ():
            found = self.node(value, one, depth)
            if found is not None:
                return found
        return None

    def _on_any(self, value: Any, schemas: Any, schema: JSON, depth: int) -> str | None:
        fits = not isinstance(schemas, list) or any(self.fits(value, one, depth) for one in schemas)
        return None if fits else ": anyOf"

    def _on_one(self, value: Any, schemas: Any, schema: JSON, depth: int) -> str | None:
        fits = not isinstance(schemas, list) or sum(self.fits(value, one, depth) for one in schemas) == 1
        return None if fits else ": oneOf"

    def _on_not(self, value: Any, forbidden: Any, schema: JSON, depth: int) -> str | None:
        return ": not" if self.fits(value, forbidden, depth) else None


_WALKS: Final[Mapping[str, Callable[[_Check, Any, Any, JSON, int], str | None]]] = {
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


def _is_simple(value: Any) -> bool:
    """Whether a value can be looked up; of numbers over 64 bits any number could have one hash."""
    return not isinstance(value, dict | list) and (not isinstance(value, int) or abs(value) < 2**64)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _members(schema: JSON, keyword: str) -> JSON:
    value = schema.get(keyword)
    return value if isinstance(value, dict) else {}


Check = Callable[[_Check, Any, Any], bool]


def _number(test: Callable[[Any, Any], bool]) -> Check:
    return lambda check, value, limit: not _is_number(value) or not _is_number(limit) or test(value, limit)


def _length(kind: type[Sized], test: Callable[[int, Any], bool]) -> Check:
    return lambda check, value, limit: not isinstance(value, kind) or not _is_number(limit) or test(len(value), limit)


def _multiple(value: Any, step: Any) -> bool:
    parts = value / step if step > 0 else 0.0
    return bool(math.isinf(parts) or abs(parts - round(parts)) < 1e-9)


_KEYWORDS: Final[Mapping[str, Check]] = {
    "type": _Check._has_type,
    "enum": _Check._in_enum,
    "const": _Check.same,
    "required": _Check._has_names,
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
    "uniqueItems": _Check._is_unique,
    "pattern": _Check._is_found,
}
