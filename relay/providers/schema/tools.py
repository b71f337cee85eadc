"""The schemas of tools, cut once: agents send the same ones with every request."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import orjson

from relay.errors import RelayError
from relay.providers.base import Warnings
from relay.providers.schema.reduce import Reduced, reduced
from relay.providers.schema.rules import Rules
from relay.responses.tools import JSON, Tool, ToolSet

LARGEST: Final = 128 * 1024
"""Bytes of a schema that is remembered."""

SMALL: Final = 2 * 1024
"""Bytes of a schema that is cut in well under a millisecond, if it repeats none of its parts."""

LIMIT: Final = 4 * 1024 * 1024
"""Bytes of all of them, for each target; then all are forgotten."""

_KNOWN: Final[dict[int, tuple[Rules, dict[bytes, Reduced]]]] = {}
_SIZES: Final[dict[int, int]] = {}


def cut_tools(tools: ToolSet, rules: Callable[[Tool], Rules], warnings: Warnings) -> dict[str, Reduced]:
    """The schema of each tool that can be offered, by key; the others cost a warning, or an error where one must be
    called. Raises: RelayError."""
    cut: dict[str, Reduced] = {}
    for tool in tools.tools:
        found = tool_schema(tool.schema, rules(tool))
        if found.schema is not None:
            cut[tool.key] = found
            continue
        why = f"its schema cannot be sent to this upstream: {found.notes[0]}"
        if tools.choice.mode == "named" and tools.choice.key == tool.key:
            raise RelayError("unsupported_value", f"tool_choice names '{tool.name}', but {why}.", param="tool_choice")
        warnings.add("tools", f"'{tool.name}' was left out, {why}")
    return cut


def cut_ahead(tools: ToolSet, rules: Callable[[Tool], tuple[Rules, ...]]) -> Iterator[None]:
    """Cut the schema of each tool by each of its ``rules`` for those who ask next; a step ahead of each that may cost
    milliseconds, which one that is known or small does not."""
    for tool in tools.tools:
        for one in rules(tool):
            key = _key(tool.schema)
            if key is None or (key not in _known(one) and (len(key) > SMALL or b'"$ref"' in key)):
                yield
            tool_schema(tool.schema, one)


def back(names: Mapping[str, str]) -> dict[str, str]:
    """The way back of ``Reduced.names``."""
    return {wire: name for name, wire in names.items()}


def tool_schema(schema: JSON, rules: Rules) -> Reduced:
    """``reduced`` for one of the module's own ``rules``. What is answered is shared: nobody may alter it."""
    key = _key(schema)
    if key is None:
        return reduced(schema, rules)
    known = _known(rules)
    found = known.get(key)
    if found is None:
        found = reduced(schema, rules)
        if len(key) <= LARGEST:
            _SIZES[id(rules)] = _SIZES.get(id(rules), 0) + len(key)
            if _SIZES[id(rules)] > LIMIT:
                known.clear()
                _SIZES[id(rules)] = len(key)
            known[key] = found
    return found


def _key(schema: JSON) -> bytes | None:
    try:
        return orjson.dumps(schema)
    except TypeError:  # what orjson does not write is rare
        return None


def _known(rules: Rules) -> dict[bytes, Reduced]:
    return _KNOWN.setdefault(id(rules), (rules, {}))[1]
