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
    """Cut the schema of each tool by each of its ``rules``, one with each step, for those who ask next."""
    for tool in tools.tools:
        for one in rules(tool):
            tool_schema(tool.schema, one)
            yield


def back(names: Mapping[str, str]) -> dict[str, str]:
    """The way back of ``Reduced.names``."""
    return {wire: name for name, wire in names.items()}


def tool_schema(schema: JSON, rules: Rules) -> Reduced:
    """``reduced`` for one of the module's own ``rules``. What is answered is shared: nobody may alter it."""
    try:
        key = orjson.dumps(schema)
    except TypeError:  # what orjson does not write is rare
        return reduced(schema, rules)
    _, known = _KNOWN.setdefault(id(rules), (rules, {}))
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
