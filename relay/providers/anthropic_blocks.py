"""Content blocks of Anthropic Messages as source text: cut out of an upstream's bytes, sealed, checked, put back.

Source: decision 22 (opaque blocks are slices of the source), translation.md §2.6; pain.md 13, 14. Blocks that come in
deltas are written anew where a delta filled them, with every other member as it came. A ``compaction`` block is the
summary that the server made of the conversation so far, a ``fallback`` block says that another model took over
(platform.claude.com, "Compaction", "Refusals and fallback").
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from relay.errors import RelayError
from relay.responses.output import Item
from relay.responses.tools import JSON

FAMILY: Final = "anthropic"

THOUGHTS: Final = frozenset({"thinking", "redacted_thinking"})
"""Blocks that only the model that made them may get back."""

HIDDEN: Final = frozenset({"compaction", "fallback", "container_upload", "mcp_tool_listing"})
"""Blocks that nobody is shown and the upstream gets back where they stood."""

CALLS: Final = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})
"""Blocks that are filled with arguments."""

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


def is_sound(block: JSON) -> bool:
    """Whether a block of an envelope is one that goes back to the upstream (``Envelope.opened``)."""
    return is_replayable(block.get("type"))


def is_replayable(kind: Any) -> bool:
    """Whether blocks of this type go back to the upstream."""
    return isinstance(kind, str) and (
        kind in THOUGHTS
        or kind in HIDDEN
        or kind in ("server_tool_use", "mcp_tool_use")
        or kind.endswith("_tool_result")
    )


def echoed(blocks: list[tuple[str, str]]) -> list[str]:
    """What of an assistant's blocks, as type and source text, goes back: thoughts and calls of a model that gave way to
    another stay behind, its text does not ("Refusals and fallback", continuing the conversation).
    """
    last = max((at for at, (kind, _) in enumerate(blocks) if kind == "fallback"), default=0)
    left = {*THOUGHTS, "tool_use"}
    return [text for at, (kind, text) in enumerate(blocks) if at >= last or kind not in left]


# --- blocks that come in


def blocks_of(content: Any) -> list[JSON]:
    """The content of a whole message as blocks: it may be a string, one block, or any object, which is its JSON."""
    found = content if isinstance(content, list) else [content]
    return [block for block in map(_block_of, found) if block is not None]


def _block_of(one: Any) -> JSON | None:
    if isinstance(one, dict):
        return one if kind_of(one) else {"type": "text", "text": source(one)}
    return {"type": "text", "text": one} if isinstance(one, str) else None


def kind_of(start: JSON) -> str:
    """The type of a block, which its members say where it does not itself; empty where nothing does."""
    kind = start.get("type")
    if isinstance(kind, str):
        return kind
    return next((name for name in ("text", "thinking") if isinstance(start.get(name), str)), "")


def delta_kind_of(delta: JSON) -> str:
    """The type of a delta, likewise; some servers give it the type of its block."""
    kind = delta.get("type")
    if isinstance(kind, str):
        return f"{kind}_delta" if kind in ("text", "thinking") else kind
    return next((kind for name, kind in _DELTA_MEMBERS.items() if name in delta), "")


_DELTA_MEMBERS: Final = {
    "text": "text_delta",
    "thinking": "thinking_delta",
    "signature": "signature_delta",
    "partial_json": "input_json_delta",
    "citation": "citations_delta",
}


class Block:
    """One content block while it comes in. ``origin`` is the source text of its start.

    ``told``: the upstream said that it begins, and is to say that it ends. ``deltas``: what takes its deltas, by type.
    ``added``: members that deltas brought.
    """

    __slots__ = (
        "added",
        "citations",
        "deltas",
        "item",
        "kind",
        "offset",
        "origin",
        "pieces",
        "signature",
        "start",
        "told",
    )

    def __init__(
        self, kind: str, start: JSON, origin: str, deltas: Mapping[str, Callable[..., None]], *, told: bool
    ) -> None:
        self.kind = kind
        self.deltas = deltas
        self.start = start
        self.origin = origin
        self.told = told
        self.pieces: list[str | bytes] = []
        self.signature = ""
        self.citations: list[JSON] = []
        self.added: JSON = {}
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
        if self.pieces:
            return self.joined
        given = self.start.get("input")
        return (given if given.strip() else "{}") if isinstance(given, str) else source(given or {})


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
    filled = WHOLE[block.kind](block) if block.kind in WHOLE else {}
    return with_members(block.origin, filled) if filled else block.origin


def _whole_text(block: Block) -> dict[str, str]:
    said = {"text": source(block.joined)}
    return {**said, "citations": source(block.citations)} if block.citations else said


def _whole_summary(block: Block) -> dict[str, str]:
    """The server takes null for a summary that failed, and no empty one."""
    said = block.joined
    added = {name: source(value) for name, value in block.added.items()}
    return {**added, "content": source(said)} if said else added


WHOLE: Final[Mapping[str, Callable[[Block], dict[str, str]]]] = {
    "text": _whole_text,
    "thinking": lambda block: {"thinking": source(block.joined), "signature": source(block.signature)},
    "tool_use": lambda block: {"input": block.input_text()},
    "server_tool_use": lambda block: {"input": block.input_text()},
    "mcp_tool_use": lambda block: {"input": block.input_text()},
    "compaction": _whole_summary,
}
"""Block type -> the members that deltas fill."""
