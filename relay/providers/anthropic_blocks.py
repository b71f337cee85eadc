"""Content blocks of Anthropic Messages as source text: cut out of an upstream's bytes, sealed, checked, put back.

Source: decision 22 (opaque blocks are slices of the source), translation.md §2.6; pain.md 13, 14. A thinking block
comes in deltas, so its text and signature are written anew, with every other member as it came.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from relay.errors import RelayError
from relay.responses.json import loads
from relay.responses.output import Item
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


# --- blocks that come in


class Block:
    """One content block while it comes in. ``origin`` is the source text of its start."""

    __slots__ = ("citations", "item", "kind", "offset", "origin", "pieces", "signature", "start")

    def __init__(self, kind: str, start: JSON, origin: str) -> None:
        self.kind = kind
        self.start = start
        self.origin = origin
        self.pieces: list[str | bytes] = []
        self.signature = ""
        self.citations: list[JSON] = []
        self.item: Item | None = None
        self.offset = 0

    @property
    def id(self) -> str:
        return str(self.start.get("id") or "")

    @property
    def joined(self) -> str:
        """The pieces as one string; bytes are the insides of JSON string literals."""
        return "".join(one if isinstance(one, str) else str(orjson.loads(b'"%b"' % one)) for one in self.pieces)

    def input_text(self) -> str:
        """The JSON text of a call's arguments: what was streamed, else what the start brought."""
        return self.joined or source(self.start.get("input") or {})


def origin_of(payload: bytes | None) -> str | None:
    """The source text of ``content_block`` in an event's payload."""
    if payload is None:
        return None
    try:
        return members(payload.decode()).get("content_block")
    except ValueError:  # bytes that are no UTF-8
        return None


def whole(block: Block) -> str:
    """The source text of a block, whole: its start as it came, with what the deltas added."""
    return with_members(block.origin, WHOLE[block.kind](block) if block.kind in WHOLE else {})


def _whole_text(block: Block) -> dict[str, str]:
    said = {"text": source(block.joined)}
    return {**said, "citations": source(block.citations)} if block.citations else said


WHOLE: Final[Mapping[str, Callable[[Block], dict[str, str]]]] = {
    "text": _whole_text,
    "thinking": lambda block: {"thinking": source(block.joined), "signature": source(block.signature)},
    "tool_use": lambda block: {"input": block.input_text()},
    "server_tool_use": lambda block: {"input": block.input_text()},
    "mcp_tool_use": lambda block: {"input": block.input_text()},
}
"""Block type -> the members that deltas fill."""
