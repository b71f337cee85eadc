"""The content of one Anthropic answer: blocks and their deltas in, verbs out.

Source: translation.md §3.4; decisions 44, 49. Blocks begin, are filled and end by their index; deltas that no open
block takes find one or open one. Hosted tools are ``anthropic_hosted``, source text is ``anthropic_blocks``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from relay.errors import RelayError
from relay.providers.anthropic_blocks import (
    CALLS,
    FAMILY,
    HIDDEN,
    Block,
    delta_kind_of,
    kind_of,
    origin_of,
    source,
    whole,
)
from relay.providers.anthropic_hosted import MCP, SERVER_TOOLS, Use
from relay.providers.anthropic_notes import annotation_of, dicts
from relay.providers.splice import Spliced
from relay.responses.emitter import Voice
from relay.responses.envelope import seal
from relay.responses.json import loads, mended, mended_text
from relay.responses.output import Item
from relay.responses.tools import JSON, are_empty

BLOCK_BYTES: Final = 256
"""What a block takes at least while its answer lasts, so that the bound of the output bounds their number."""


@dataclass(frozen=True, slots=True)
class Context:
    """What the translator needs to know of its request, and of the hops before it.

    ``json_tool``: the tool whose arguments are the text; ``schema``: what the text is checked against; ``sources`` and
    ``outputs``: what to show of hosted tools; ``paths``: where thinking blocks were sent, and of which items.
    """

    model: str = ""
    json_tool: str | None = None
    schema: JSON | None = None
    limit_tokens: int | None = None
    sources: bool = False
    outputs: bool = False
    paths: Mapping[str, str] = field(default_factory=dict)
    base: bytes | None = None
    """The body of the first hop, where this is a later one."""
    said: tuple[tuple[str, str], ...] = ()
    """The blocks of earlier hops: type and source text."""
    text: tuple[str, ...] = ()
    """The text of earlier hops, where it is to be checked."""
    uses: tuple[tuple[str, Use], ...] = field(default=(), repr=False)
    """Hosted calls of earlier hops whose results are still to come."""
    container: str = ""


class Content(Spliced):
    """The blocks of one answer, spoken to one voice. The translator of the message is built on it."""

    __slots__ = (
        "_begun",
        "_blocks",
        "_closed",
        "_context",
        "_cut_calls",
        "_implied",
        "_kept",
        "_length",
        "_moved",
        "_odd",
        "_opened",
        "_text",
        "_text_block",
        "_unended",
        "_uses",
        "container",
        "voice",
    )

    def __init__(self, voice: Voice, context: Context) -> None:
        super().__init__()
        self.voice = voice
        self._context = context
        self._text_block: Block | None = None
        self._blocks: dict[Any, Block] = {}
        self._closed: dict[Any, Block] = {}
        self._implied: tuple[Any] | None = None
        """The key of the block that nobody said begins: whatever begins next ends it."""
        self._kept: list[Block] = []
        self._uses: dict[str, Use] = dict(context.uses)
        self._text: list[str] | None = list(context.text) if context.schema is not None else None
        self._cut_calls: list[Item] = []
        self._begun = False
        self._opened = False
        self._unended = False
        """Whether a block that the upstream began was never ended."""
        self._length = 0
        self._moved = True
        self._odd = False
        self.container = context.container

    def _on_block_start(self, event: JSON, payload: bytes) -> None:
        start = event.get("content_block")
        if isinstance(start, dict):
            self._open(key_of(event.get("index")), start, payload)

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self.voice.begin()

    def _open(self, key: Any, start: JSON, payload: bytes | None) -> None:
        origin = origin_of(payload) or source(start)
        before = self._blocks.get(key)
        if before is not None:
            if before.told and before.origin == origin and not before.pieces:
                return  # the same start, told twice
            self._abandon(key, before)
        self._put(key, Block(kind := kind_of(start), start, origin, DELTAS.get(kind, {}), told=True))

    def _put(self, key: Any, block: Block) -> None:
        self._begin()
        self.voice.emitter.retain(BLOCK_BYTES)
        if self._implied is not None:
            self._end(self._implied[0])
        self._implied = None if block.told else (key,)
        self._opened = True
        self._splice.ready = False
        self.wait = None
        self._closed.pop(key, None)
        self._blocks[key] = block
        handler = STARTS.get(block.kind)
        if handler is not None:
            handler(self, block)
        elif block.kind.endswith("_tool_result"):
            self._start_result(block)
        elif block.kind not in HIDDEN:
            self.voice.emitter.left_out(f"a content block of the type '{block.kind}'")

    def _on_block_stop(self, event: JSON, payload: bytes) -> None:
        key = key_of(event.get("index"))
        self._end(key)
        for kind in _BESIDE:
            self._end((key, kind))

    def _end(self, key: Any) -> None:
        block = self._blocks.pop(key, None)
        if block is None:
            return
        self._splice.ready = False
        stop = STOPS.get(block.kind)
        if stop is not None:
            stop(self, block)
        if block.kind != "text" or block.pieces:
            self._kept.append(block)
        if block.kind == "thinking" or block.kind in CALLS:
            self._closed[key] = block

    def _settle(self) -> None:
        """Nothing comes any more: what is open was never ended."""
        for key, block in list(self._blocks.items()):
            self._abandon(key, block)

    def _abandon(self, key: Any, block: Block) -> None:
        self._unended = self._unended or block.told
        if block.kind in CALLS:
            del self._blocks[key]  # its item stays open, and is cut with the response
        else:
            self._end(key)

    def _on_odd_delta(self, key: Any, delta: Any) -> None:
        """A delta that no open block takes as it is: its block never began, has ended, or is of another type."""
        if not isinstance(delta, dict):
            return
        kind = delta_kind_of(delta)
        opens = OPENS.get(kind)
        block = self._blocks.get(key)
        if block is not None and kind in block.deltas:
            block.deltas[kind](self, block, delta)
            self._on_more(delta)
        elif kind == "input_json_delta":
            self._on_stray_input(key, delta)
        elif opens is None:
            self.voice.emitter.left_out(f"a delta of the type '{kind}'")
        elif any(value for name, value in delta.items() if name != "type"):
            self._on_stray_content(key, opens, kind, delta)

    def _on_stray_input(self, key: Any, delta: JSON) -> None:
        if delta.get("partial_json") or not (key in self._blocks or key in self._closed):
            raise RelayError("upstream_bad_response", "The upstream sent arguments of a tool call that is not open.")

    def _on_stray_content(self, key: Any, opens: str, kind: str, delta: JSON) -> None:
        """Text and thoughts open the block that they need; the one that is open ends, unless it is no text itself."""
        before, told = self._blocks.get(key), False
        closed = self._closed.get(key)
        if before is not None and before.kind in _BESIDE:
            told = before.told
            self._end(key)
        elif before is not None:
            key = (key, opens)
        elif kind == "signature_delta" and closed is not None and closed.kind == "thinking":
            if not closed.signature:
                self._on_signature(closed, delta)
                self._stop_thinking(closed)
            return
        block = self._blocks.get(key)
        if block is None:
            start = {"type": opens}
            block = Block(opens, start, source(start), DELTAS[opens], told=told)
            self._put(key, block)
        block.deltas[kind](self, block, delta)

    @property
    def _spoke(self) -> bool:
        return bool(self._kept) or any(
            block.pieces or block.kind not in ("text", "thinking") for block in self._blocks.values()
        )

    def _on_more(self, delta: JSON) -> None:
        """After the reason for the end: what is output takes it back."""
        if any(value for name, value in delta.items() if name != "type"):
            self.wait = None

    # text

    def _start_text(self, block: Block) -> None:
        block.offset = self._offset()
        text = block.start.get("text")
        if isinstance(text, str):
            self._on_text(block, {"text": text})
        block.citations.extend(dicts(block.start.get("citations")))

    def _on_text(self, block: Block, delta: JSON) -> None:
        # hot: bench/test_translators.py
        text = delta.get("text")
        if not text or text.__class__ is not str:
            return
        block.pieces.append(text)
        if self._text is not None:
            self._text.append(text)
        if self._odd:
            self._moved = True
        self._length += len(text)
        self.voice.text(text)

    def _on_citation(self, block: Block, delta: JSON) -> None:
        if isinstance(delta.get("citation"), dict):
            block.citations.append(delta["citation"])

    def _stop_text(self, block: Block) -> None:
        for citation in block.citations:
            annotation = annotation_of(mended(citation), block.offset, self._offset())
            if annotation is not None:
                self.voice.annotation(annotation)
            else:
                self.voice.emitter.left_out(f"a citation of the type '{citation.get('type')}'")

    def _offset(self) -> int:
        """Characters of the open text part, counted again only where something else may have come between."""
        if self._moved:
            self._length = self.voice.text_length()
            self._moved = False
        return self._length

    # thinking

    def _start_thinking(self, block: Block) -> None:
        self._on_thinking(block, block.start)
        self._on_signature(block, block.start)

    def _on_thinking(self, block: Block, delta: JSON) -> None:
        text = delta.get("thinking")
        if isinstance(text, str) and text:
            block.pieces.append(text)
            self._moved = True
            self.voice.summary(text)

    def _on_signature(self, block: Block, delta: JSON) -> None:
        if isinstance(delta.get("signature"), str):
            block.signature = delta["signature"]

    def _on_summary(self, block: Block, delta: JSON) -> None:
        for name, value in delta.items():
            if name == "content" and isinstance(value, str):
                block.pieces.append(value)
            elif name != "type" and value is not None:
                block.added[name] = value

    def _stop_hidden(self, block: Block) -> None:
        self._seal(whole(block))

    def _stop_thinking(self, block: Block) -> None:
        if block.signature:
            self._seal(whole(block))
        # without a signature it was cut: it stays open until something else follows

    def _start_redacted(self, block: Block) -> None:
        if block.start.get("data"):
            self._seal(block.origin)

    def _seal(self, *blocks: str) -> None:
        """Opaque blocks as a reasoning item of their own, or at the end of the open one."""
        self._moved = True
        self.voice.envelope(seal(FAMILY, self._context.model, list(blocks)))
        self.voice.reasoning_end()

    # calls

    def _start_call(self, block: Block) -> None:
        name = block.start.get("name")
        if not name or not isinstance(name, str):
            raise RelayError("upstream_bad_response", "The upstream began a tool call without a name.")
        if name != self._context.json_tool:
            self._moved = True
            block.item = self.voice.call(mended_text(block.id) or None, mended_text(name))

    def _on_input(self, block: Block, delta: JSON) -> None:
        fragment = delta.get("partial_json")
        if isinstance(fragment, dict):
            fragment = source(fragment)
        if not isinstance(fragment, str) or not fragment:
            return
        if not block.pieces and are_empty(fragment):
            return  # ahead of the real ones; where none follow, the end of the block says so
        block.pieces.append(fragment)
        if block.kind == "tool_use":
            self._argue(block, fragment)
        elif block.kind == "mcp_tool_use":
            self._argue_hosted(block, fragment)

    def _argue(self, block: Block, fragment: str) -> None:
        if block.item is not None:
            self.voice.arguments(block.item, fragment)
            return
        if self._text is not None:
            self._text.append(fragment)
        self.voice.text(fragment)

    def _stop_call(self, block: Block) -> None:
        if not block.pieces:
            self._argue(block, block.input_text())
        if block.item is None:
            return
        if _is_json(block.input_text()):
            self.voice.call_end(block.item)
        else:
            self._cut_calls.append(block.item)  # whether it was cut is said by the stop reason

    # hosted tools

    def _start_use(self, block: Block) -> None:
        row = MCP if block.kind == "mcp_tool_use" else SERVER_TOOLS.get(str(block.start.get("name")))
        self._moved = True
        self._uses[block.id] = Use(None if row is None else row.open(self, mended(block.start)), row, {}, "")

    def _argue_hosted(self, block: Block, fragment: str) -> None:
        use = self._uses.get(block.id)
        if use is not None:
            MCP.argue(self, use, fragment)

    def _stop_use(self, block: Block) -> None:
        if block.kind == "mcp_tool_use" and not block.pieces:
            self._argue_hosted(block, block.input_text())
        use = self._uses.get(block.id)
        if use is None:
            return
        text = block.input_text()
        given = mended(loads(text)) if _is_json(text) else None
        use = use._replace(given=given if isinstance(given, dict) else {}, origin=whole(block))
        self._uses[block.id] = use
        if use.row is not None:
            use.row.asked(self, use)

    def _start_result(self, block: Block) -> None:
        use = self._uses.pop(str(block.start.get("tool_use_id")), None)
        if use is None:
            return
        self._moved = True
        if use.row is not None:
            use.row.answered(self, use, mended(block.start))
        if use.origin:
            self._seal(use.origin, block.origin)

    @property
    def shows_sources(self) -> bool:
        """Whether the client asked for the sources of web searches."""
        return self._context.sources

    @property
    def shows_outputs(self) -> bool:
        """Whether the client asked for the outputs of code."""
        return self._context.outputs


ON_TEXT: Final = Content._on_text
"""What takes nearly every delta."""

STARTS: Final[Mapping[str, Callable[[Content, Block], None]]] = {
    "text": Content._start_text,
    "thinking": Content._start_thinking,
    "redacted_thinking": Content._start_redacted,
    "tool_use": Content._start_call,
    "server_tool_use": Content._start_use,
    "mcp_tool_use": Content._start_use,
}
_SUMMARY: Final = {"compaction_delta": Content._on_summary}
_INPUT: Final = {"input_json_delta": Content._on_input}
DELTAS: Final[Mapping[str, Mapping[str, Callable[[Content, Block, JSON], None]]]] = {
    "text": {"text_delta": ON_TEXT, "citations_delta": Content._on_citation},
    "thinking": {"thinking_delta": Content._on_thinking, "signature_delta": Content._on_signature},
    "compaction": _SUMMARY,
    **dict.fromkeys(CALLS, _INPUT),
}
"""Block type -> delta type -> what takes it."""

_BESIDE: Final = ("text", "thinking", "compaction")
"""Blocks that a delta may open; beside an open block of any other type they have a key of their own."""

OPENS: Final = {kind: block for block in _BESIDE for kind in DELTAS[block]}
"""Delta type -> the type of the block that it needs."""

STOPS: Final[Mapping[str, Callable[[Content, Block], None]]] = {
    "text": Content._stop_text,
    "thinking": Content._stop_thinking,
    "tool_use": Content._stop_call,
    **dict.fromkeys(HIDDEN, Content._stop_hidden),
    "server_tool_use": Content._stop_use,
    "mcp_tool_use": Content._stop_use,
}


def _is_json(text: str) -> bool:
    try:
        loads(text)
    except ValueError:
        return False
    return True


def key_of(index: Any) -> Any:
    """What a block is known by; what can be no index counts as none."""
    return index if isinstance(index, int | float | str) else None
