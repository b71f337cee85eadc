"""Schemas cut to what a target takes, by one row of ``rules`` a target, in one pass that is paid for in steps.

Source: decision 55; translation.md §1.5, "Schema reductions". What a target cannot enforce goes into the description,
where the model reads it; what it cannot represent at all makes the schema unusable there. What several references share
is said once, under ``$defs``, so that nothing grows by being copied.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from relay.providers.schema.budget import DEPTH, Budget, SpentError
from relay.providers.schema.clean import clean
from relay.providers.schema.flat import Flattener, UnsayableError
from relay.providers.schema.names import Names
from relay.providers.schema.pointers import Pointers
from relay.providers.schema.rules import Rules
from relay.providers.schema.shape import shaped
from relay.providers.schema.words import told
from relay.responses.tools import JSON


class Reduced(NamedTuple):
    """A schema as the target takes it; ``schema`` is None where it cannot be said, and ``notes`` say why.

    Else ``notes`` are the keywords that were not said as they stood; ``names``: the client's property names -> those of
    the target, where they differ.
    """

    schema: JSON | None
    notes: tuple[str, ...]
    names: Mapping[str, str] = {}


def reduced(schema: Any, rules: Rules) -> Reduced:
    """``schema`` by ``rules``. Pure: the original is not touched."""
    try:
        reducer = _Reducer(schema, rules)
        result = reducer.whole(schema)
    except UnsayableError as problem:
        return Reduced(None, (str(problem),))
    except SpentError:
        return Reduced(None, ("it is too large",))
    return Reduced(result, tuple(dict.fromkeys(reducer.notes)), reducer.names.wire)


ROOT: Final = "#"
_SILENT: Final = frozenset({"title", "description", "default", "examples", "not"})
"""Keywords that say nothing of what may stand there."""

_PLAIN_TYPES: Final = ("string", "integer", "number", "boolean")
_UNFIT: Final = re.compile(r"[^A-Za-z0-9_.-]")


class _Reducer:
    __slots__ = (
        "_defs",
        "_edges",
        "_needs",
        "_optional",
        "_owner",
        "_refs",
        "_rules",
        "_used",
        "_waiting",
        "budget",
        "flattener",
        "names",
        "notes",
        "pointers",
    )

    def __init__(self, root: Any, rules: Rules) -> None:
        self._rules = rules
        self.budget = Budget()
        self.pointers = Pointers(root, self.budget)
        self.names = Names(root if isinstance(root, dict) else {}, rules.names, rules.name_limit, self.budget)
        self.notes: list[str] = []
        self.flattener = Flattener(self.pointers, self.budget, self.notes)
        self._optional = 0
        self._defs: dict[str, str] = {ROOT: ROOT}
        self._used: set[str] = set()
        self._waiting: deque[tuple[str, Any]] = deque()
        self._owner = ROOT
        self._refs: list[str] = []
        self._edges: dict[str, set[str]] = {}
        self._needs: list[tuple[JSON, str, str, frozenset[str]]] = []

    def whole(self, schema: Any) -> JSON:
        """The schema with all that it refers to."""
        rules = self._rules
        result = self.node(self.flattener.tool(schema) if rules.tool else schema, 0)
        defs: JSON = {}
        while self._waiting:
            self._owner, target = self._waiting.popleft()
            self._refs.clear()
            defs[self._owner.removeprefix("#/$defs/")] = self.node(target, 1)
        if defs:
            result["$defs"] = defs
        if rules.optional_limit is not None and self._optional > rules.optional_limit:
            raise UnsayableError(f"it has {self._optional} optional properties")
        if rules.recursion != "yes":
            self._uncoil()
        return result

    def node(self, schema: Any, depth: int) -> JSON:
        """One schema and what it holds."""
        if depth > DEPTH:
            raise UnsayableError("it is nested too deeply")
        rules = self._rules
        self.budget.node()
        if _is_plain(schema):
            return dict(schema)
        if not isinstance(schema, dict):
            schema = {"not": {}} if schema is False else {}
        schema = clean(schema, self.budget)
        if rules.merged:
            schema = self.flattener.merged(schema)
        if "$ref" in schema:
            if self.pointers.target(schema["$ref"]) is None:
                schema = {name: value for name, value in schema.items() if name != "$ref"}
            elif rules.bare_refs:
                return {"$ref": self._reference(schema["$ref"], depth)}
        if not rules.anything and not set(schema) - _SILENT:
            raise UnsayableError("a part of it allows anything")
        words: list[str] = []
        schema = shaped(schema, rules, self.budget, words, self.notes)
        result: JSON = {}
        for keyword, value in schema.items():
            self._say(keyword, value, schema, result, words, depth)
        if words:
            said = result.get("description")
            text = "; ".join(words)
            result["description"] = f"{said} ({text})" if isinstance(said, str) and said else text
        if rules.closed and _is_object(schema):
            self._close(schema, result)
        return result

    def _say(self, keyword: str, value: Any, schema: JSON, result: JSON, words: list[str], depth: int) -> None:
        rules = self._rules
        unknown = keyword == "format" and rules.formats is not None and value not in rules.formats
        if keyword in rules.described or unknown:
            words.append(told(keyword, value))
            self.notes.append(keyword)
        elif keyword in rules.dropped:
            self.notes.append(keyword)
        else:
            name = rules.renamed.get(keyword, keyword)
            if keyword == "properties":
                result[name] = self._properties(schema, result, depth)
            elif rules.known is None or name in rules.known:
                result[name] = _MEMBERS.get(keyword, _Reducer._value)(self, value, depth)

    # --- members

    def _child(self, value: Any, depth: int) -> Any:
        if isinstance(value, bool) and self._rules.booleans and self._rules.anything:
            return value
        return self.node(value, depth + 1)

    def _open_child(self, value: Any, depth: int) -> Any:
        """``additionalProperties``, which may be true or false everywhere."""
        return value if isinstance(value, bool) else self.node(value, depth + 1)

    def _children(self, values: list[Any], depth: int) -> list[Any]:
        return [self._child(value, depth) for value in values]

    def _by_name(self, values: JSON, depth: int) -> JSON:
        return {name: self._child(value, depth) for name, value in values.items()}

    def _by_property(self, values: JSON, depth: int) -> JSON:
        return {self.names.of(name): self._child(value, depth) for name, value in values.items()}

    def _properties(self, schema: JSON, holder: JSON, depth: int) -> JSON:
        result: JSON = {}
        needed = set(schema.get("required", ()))
        for name, value in schema["properties"].items():
            begun = len(self._refs)
            wire = self.names.of(name)
            result[wire] = self._child(value, depth)
            if len(self._refs) > begun and name in needed:
                self._needs.append((holder, wire, self._owner, frozenset(self._refs[begun:])))
            elif name not in needed:
                del self._refs[begun:]  # what is not required may refer to where it stands
        return result

    def _required(self, values: list[str], depth: int) -> list[str]:
        self.budget.spend(len(values) // 8)
        return [self.names.of(name) for name in values]

    def _dependent(self, values: Mapping[str, list[str]], depth: int) -> JSON:
        return {self.names.of(name): self._required(value, depth) for name, value in values.items()}

    def _reference(self, reference: str, depth: int) -> str:
        name = self._defs.get(reference)
        if name is None:
            stem = _UNFIT.sub("_", reference.rpartition("/")[2].removeprefix("#"))[:64] or "schema"
            name, number = f"#/$defs/{stem}", 1
            while name in self._used:
                number += 1
                name = f"#/$defs/{stem}_{number}"
            self._used.add(name)
            self.budget.spend(number)
            self._defs[reference] = name
            self._waiting.append((name, self.pointers.target(reference)))
        self._refs.append(name)
        self._edges.setdefault(self._owner, set()).add(name)
        return name

    def _value(self, value: Any, depth: int) -> Any:
        """A value that is no schema: the names in it are those of properties too."""
        if not isinstance(value, dict | list):
            return value
        if depth > DEPTH:
            raise UnsayableError("it is nested too deeply")
        self.budget.spend(1 + len(value))
        if isinstance(value, list):
            return [self._value(one, depth + 1) for one in value]
        return {self.names.of(name): self._value(one, depth + 1) for name, one in value.items()}

    # --- what concerns the whole

    def _close(self, schema: JSON, result: JSON) -> None:
        properties = schema.get("properties")
        if schema.get("additionalProperties", False) is not False or schema.get("patternProperties"):
            raise UnsayableError("it has an object with free keys")
        if not properties and "additionalProperties" not in schema:
            raise UnsayableError("it has an object without properties")
        result["additionalProperties"] = False
        needed = set(schema.get("required", ()))
        self._optional += sum(name not in needed for name in properties or ())

    def _uncoil(self) -> None:
        """What refers to itself cannot be said, or only in properties that are not required."""
        coils = _coils(self._edges)
        if coils and self._rules.recursion == "no":
            raise UnsayableError("it refers to itself")
        for holder, wire, owner, refs in self._needs:
            if any(owner in coils and coils[owner] == coils.get(one) for one in refs):
                holder["required"].remove(wire)
                self.notes.append("required")


def _is_plain(schema: Any) -> bool:
    """Whether a schema says what every target takes: most do."""
    return (
        isinstance(schema, dict)
        and schema.get("type") in _PLAIN_TYPES
        and (len(schema) == 1 or (len(schema) == 2 and isinstance(schema.get("description"), str)))
    )


def _is_object(schema: JSON) -> bool:
    kind = schema.get("type")
    return kind == "object" or (isinstance(kind, list) and "object" in kind) or "properties" in schema


def _coils(edges: Mapping[str, set[str]]) -> dict[str, str]:
    """What refers to itself, by way of others or not: name -> a name of the circle that it is in (Kosaraju)."""
    back: dict[str, set[str]] = {}
    for name, others in edges.items():
        for other in others:
            back.setdefault(other, set()).add(name)
    order: list[str] = []
    seen: set[str] = set()
    for name in edges:
        _reach(name, edges, seen, order)
    coils: dict[str, str] = {}
    seen.clear()
    for name in reversed(order):
        circle: list[str] = []
        _reach(name, back, seen, circle)
        if len(circle) > 1 or name in edges.get(name, ()):
            coils.update(dict.fromkeys(circle, name))
    return coils


def _reach(start: str, edges: Mapping[str, set[str]], seen: set[str], order: list[str]) -> None:
    """Append what can be reached from ``start`` and was not ``seen``, the farthest first."""
    if start in seen:
        return
    seen.add(start)
    path = [(start, iter(edges.get(start, ())))]
    while path:
        other = next((one for one in path[-1][1] if one not in seen), None)
        if other is None:
            order.append(path.pop()[0])
        else:
            seen.add(other)
            path.append((other, iter(edges.get(other, ()))))


_MEMBERS: Final[Mapping[str, Callable[[_Reducer, Any, int], Any]]] = {
    "$ref": _Reducer._reference,
    "patternProperties": _Reducer._by_name,
    "dependentSchemas": _Reducer._by_property,
    "dependentRequired": _Reducer._dependent,
    "required": _Reducer._required,
    "additionalProperties": _Reducer._open_child,
    **dict.fromkeys(("items", "unevaluatedItems", "unevaluatedProperties", "contentSchema"), _Reducer._child),
    **dict.fromkeys(("not", "if", "then", "else", "contains", "propertyNames"), _Reducer._child),
    **dict.fromkeys(("anyOf", "oneOf", "allOf", "prefixItems"), _Reducer._children),
}
