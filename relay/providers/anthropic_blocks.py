"""Content blocks of Anthropic Messages as source text: cut out of an upstream's bytes, sealed, checked, put back.

Source: decision 22 (opaque blocks are slices of the source), translation.md §2.6; pain.md 13, 14. A thinking block
comes in deltas, so its text and signature are written anew, with every other member as it came.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import orjson

from relay.errors import RelayError
from relay.responses.json import loads
from relay.responses.tools import JSON

FAMILY: Final = "anthropic"

THOUGHTS: Final = frozenset({"thinking", "redacted_thinking"})
"""Blocks that only the model that made them may get back."""

_DECODER: Final = json.JSONDecoder(strict=False)
_BLANKS: Final = " \t\r\n"


def too_deep() -> RelayError:
    """A block that nobody can read."""
    return RelayError("upstream_bad_response", "The upstream sent a block that is nested too deeply.")


def source(value: Any) -> str:
    """The JSON text of a value, lone surrogates escaped as they were."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        pass
    try:
        return json.dumps(value, separators=(",", ":"))
    except RecursionError:
        raise too_deep() from None


def members(text: str) -> dict[str, str]:
    """The members of a JSON object by name, each as its own source text. Raises: ValueError, RelayError."""
    try:
        return _members(text)
    except RecursionError:
        raise too_deep() from None


def _members(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    at = _blank(text, 0)
    if text[at : at + 1] != "{":
        raise ValueError("not an object")
    at = _blank(text, at + 1)
    while text[at : at + 1] != "}":
        name, at = _DECODER.raw_decode(text, at)
        at = _blank(text, at)
        if text[at : at + 1] != ":":
            raise ValueError("no colon")
        start = _blank(text, at + 1)
        _, at = _DECODER.raw_decode(text, start)
        found[str(name)] = text[start:at]
        at = _blank(text, at)
        if text[at : at + 1] == ",":
            at = _blank(text, at + 1)
    return found


def _blank(text: str, at: int) -> int:
    while text[at : at + 1] and text[at] in _BLANKS:
        at += 1
    return at


def with_members(text: str, changed: Mapping[str, str]) -> str:
    """A JSON object's source text with some members replaced or added."""
    parts = {**members(text), **changed}
    return "{" + ",".join(f"{source(name)}:{value}" for name, value in parts.items()) + "}"


def opened(blocks: tuple[str, ...]) -> list[tuple[JSON, str]]:
    """Blocks of an envelope with their source text; what is no block that a translator of ours sealed is left out.

    A client could have made the envelope itself: nothing but whole blocks of known types may reach the upstream.
    """
    found = []
    for text in blocks:
        try:
            block = loads(text)
        except ValueError:
            continue
        if isinstance(block, dict) and is_replayable(block.get("type")):
            found.append((block, text))
    return found


def is_replayable(kind: Any) -> bool:
    """Whether blocks of this type go back to the upstream."""
    return isinstance(kind, str) and (
        kind in THOUGHTS or kind in ("server_tool_use", "mcp_tool_use") or kind.endswith("_tool_result")
    )
