"""Combined schemas put into one: ``allOf`` where a target has none, and the root of a tool, where none takes any.

Source: issue texts in ``rules``. Of ``allOf`` the lists of names and the properties come together, of other keywords
the first stays. Of ``anyOf`` and ``oneOf`` at a root the properties of all alternatives may be given, and what all of
them require is required; what that loses is told in words.
"""

from __future__ import annotations

from typing import Any, Final

from relay.providers.schema.budget import DEPTH, NODE, Budget
from relay.providers.schema.clean import clean
from relay.providers.schema.pointers import Pointers
from relay.providers.schema.words import source, told
from relay.responses.tools import JSON

_ALTERNATIVES: Final = ("anyOf", "oneOf")
_ASIDE: Final = frozenset({"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"})
_FORBIDDEN: Final = ("enum", "const", "not")
_NESTED: Final = 8


class UnsayableError(Exception):
    """The schema cannot be said to this target."""


class Flattener:
    """Puts schemas of one document together."""

    __slots__ = ("_budget", "_notes", "_pointers")

    def __init__(self, pointers: Pointers, budget: Budget, notes: list[str]) -> None:
        self._pointers = pointers
        self._budget = budget
        self._notes = notes

    # --- allOf anywhere

    def merged(self, schema: JSON) -> JSON:
        """A clean schema without ``allOf``. One that only names another stays a reference: what is copied grows."""
        for _ in range(_NESTED):
            several = schema.get("allOf")
            if several is None:
                return schema
            rest = {name: value for name, value in schema.items() if name != "allOf"}
            if not set(rest) - _ASIDE and len(several) == 1 and isinstance(several[0], dict) and "$ref" in several[0]:
                return {**rest, "$ref": several[0]["$ref"]}
            self._notes.append("allOf")
            for one in several:
                self._join(rest, self._found(one))
            schema = _distinct(rest)
        return {name: value for name, value in schema.items() if name != "allOf"}

    def _found(self, schema: Any) -> JSON:
        """A member of ``allOf``, with what it refers to."""
        found: JSON = {}
        for _ in range(_NESTED):
            part = clean(schema, self._budget) if isinstance(schema, dict) else {}
            reference = part.pop("$ref", None)
            self._join(found, part)
            if reference is None:
                break
            schema = self._pointers.target(reference)
        return found

    def _join(self, result: JSON, part: JSON) -> None:
        """Put ``part`` into ``result``; both are clean, so their lists of names and properties are copies."""
        self._budget.spend(NODE + len(part))
        for name, value in part.items():
            there: Any = result.setdefault(name, value)
            if there is value:
                continue
            if name == "properties":
                self._budget.spend(len(value))
                for one, schema in value.items():
                    there.setdefault(one, schema)
            elif name in ("required", "allOf"):
                self._budget.spend(len(value))
                there.extend(value)

    # --- the root of a tool

    def tool(self, schema: Any) -> JSON:
        """The parameters of a tool as one object. Raises: UnsayableError where they are none."""
        root = self._flat(schema if isinstance(schema, dict) else {}, frozenset("#"), 0)
        kinds = root.get("type")
        named = [kinds] if isinstance(kinds, str) else kinds or []
        if not named and "properties" not in root and ("items" in root or "prefixItems" in root):
            named = ["array"]
        if named and "object" not in named and named != ["null"]:
            raise UnsayableError(f"it is of the type {named[0]}, not an object")
        words = [told(name, root.pop(name)) for name in _FORBIDDEN if name in root]
        _describe(root, words)
        return {**root, "type": "object"}

    def _flat(self, schema: JSON, seen: frozenset[str], depth: int) -> JSON:
        if depth > DEPTH:
            raise UnsayableError("it is nested too deeply")
        self._budget.node()
        result = clean(schema, self._budget)
        alternatives = [(name, result.pop(name)) for name in _ALTERNATIVES if name in result]
        parts = result.pop("allOf", [])
        reference = result.pop("$ref", None)
        if reference is not None and reference not in seen:
            parts = [*parts, self._pointers.target(reference)]
            seen |= {reference}
        for part in parts:
            if isinstance(part, dict):
                self._join(result, self._flat(part, seen, depth + 1))
        for name, several in alternatives:
            self._offer(result, name, several, seen, depth)
        return _distinct(result)

    def _offer(self, result: JSON, keyword: str, several: list[Any], seen: frozenset[str], depth: int) -> None:
        """What each alternative may hold, and what all of them must."""
        self._notes.append(keyword)
        branches = [self._flat(one, seen, depth + 1) for one in several if isinstance(one, dict)]
        objects = [one for one in branches if _may_be_object(one)]
        if branches and not objects and not _may_be_object({"type": "null", **result}):
            result["type"] = branches[0]["type"]
            return
        own = result.get("properties", {})
        offered: dict[str, dict[str, Any]] = {}
        for branch in objects:
            for name, value in branch.get("properties", {}).items():
                if name not in own:
                    text = source(value)
                    self._budget.spend(1 + len(text) // 64)
                    offered.setdefault(name, {})[text] = value
        if offered:
            joined = {name: _either(list(values.values())) for name, values in offered.items()}
            result["properties"] = {**own, **joined}
        needed = [branch.get("required", []) for branch in objects]
        self._budget.spend(sum(map(len, needed)))
        common = set.intersection(*map(set, needed)) if needed else set()
        if common:
            result["required"] = [*result.get("required", []), *(name for name in needed[0] if name in common)]
        _describe(result, [told(keyword, several)])


def _distinct(schema: JSON) -> JSON:
    if "required" in schema:
        schema["required"] = list(dict.fromkeys(schema["required"]))
    return schema


def _either(schemas: list[Any]) -> Any:
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _may_be_object(schema: JSON) -> bool:
    kinds = schema.get("type", "object")
    return "object" in kinds if isinstance(kinds, list) else kinds == "object"


def _describe(schema: JSON, words: list[str]) -> None:
    if words:
        said = schema.get("description")
        text = "; ".join(words)
        schema["description"] = f"{said} ({text})" if said else text
