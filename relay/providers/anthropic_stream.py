"""The Anthropic translator: events in, verbs out.

Source: translation.md §3.4, §4.2; decisions 2, 3, 18, 19, 22–24, 44, 49, 51; design.md §4.12 (an unknown stop reason is
no success). Hosted tools are ``anthropic_hosted``. Per block index the block's state is kept; unknown events are
ignored, unknown blocks and deltas are left out with a warning, for the version policy allows new ones at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson

from relay.errors import RelayError
from relay.providers.anthropic_blocks import (
    CALLS,
    FAMILY,
    HIDDEN,
    Block,
    blocks_of,
    delta_kind_of,
    echoed,
    kind_of,
    origin_of,
    source,
    whole,
)
from relay.providers.anthropic_failures import error_of
from relay.providers.anthropic_hosted import MCP, SERVER_TOOLS, Use
from relay.providers.anthropic_notes import annotation_of, anthropic_usage, dicts
from relay.providers.base import Continue, Done, UpstreamRequest
from relay.providers.endings import ending_of, last_events, no_stream, wait_after_reason
from relay.providers.failures import is_error
from relay.providers.schema import mismatch
from relay.providers.splice import Spliced
from relay.responses.emitter import Voice
from relay.responses.envelope import seal
from relay.responses.json import loads, mended, mended_text
from relay.responses.output import Item
from relay.responses.tools import JSON
from relay.responses.usage import overlaid
from relay.wire.sse import Event

TIERS: Final = {"standard": "default", "batch": "default", "priority": "priority"}
"""``usage.service_tier`` -> ours."""

TRANSFORMATIONS: Final = {
    "model_binding_mismatch": "model_mismatch",
    "prefix_binding_mismatch": "prefix_mismatch",
    "organization_binding_mismatch": "organization_mismatch",
    "end_user_binding_mismatch": "end_user_mismatch",
}
"""``input_transformations[].reason`` -> ours."""


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


class AnthropicTranslator(Spliced):
    """One Anthropic answer, spoken to one voice."""

    __slots__ = (
        "_begun",
        "_blocks",
        "_closed",
        "_context",
        "_cut_calls",
        "_implied",
        "_kept",
        "_length",
        "_message",
        "_moved",
        "_odd",
        "_opened",
        "_reason",
        "_refusal",
        "_request",
        "_text",
        "_text_block",
        "_unended",
        "_usage",
        "_uses",
        "container",
        "voice",
    )

    ready: Final = True

    def __init__(self, voice: Voice, request: UpstreamRequest) -> None:
        super().__init__()
        self.voice = voice
        self._request = request
        self._context: Context = request.context or Context()
        self._text_block: Block | None = None
        self._blocks: dict[Any, Block] = {}
        self._closed: dict[Any, Block] = {}
        self._implied: tuple[Any] | None = None
        """The key of the block that nobody said begins: whatever begins next ends it."""
        self._kept: list[Block] = []
        self._uses: dict[str, Use] = dict(self._context.uses)
        self._text: list[str] | None = list(self._context.text) if self._context.schema is not None else None
        self._cut_calls: list[Item] = []
        self._usage: JSON = {}
        self._reason: str | None = None
        self._refusal = ""
        self._begun = False
        self._message: JSON | None = None
        self._unended = False
        """Whether a block that the upstream began was never ended."""
        self._length = 0
        self._moved = True
        self._odd = False
        self._opened = False
        self.container = self._context.container

    # --- input

    def _on_literals(self, literals: list[bytes]) -> None:
        assert self._text_block is not None  # it has the template
        self._text_block.pieces.append(b"".join(literals))
        self._moved = True
        self.voice.literals(literals)

    def _on_events(self, events: list[Event]) -> None:
        blocks = self._blocks
        said: tuple[bytes | None, bytes, Block | None, Any] | None = None
        for name, payload in events:
            # hot: bench/test_translators.py; nearly every event is a piece of text of an open block
            try:
                event = orjson.loads(payload)
            except ValueError:
                event = self._read(name, payload)
            if name == b"error":
                raise error_of(event)
            kind = event.get("type") if event.__class__ is dict else None
            if kind == "content_block_delta":
                delta, index = event.get("delta"), event.get("index")
                block = blocks.get(index if index.__class__ is int else _key(index))
                kind = delta.get("type") if delta.__class__ is dict else None
                handler = block.deltas.get(kind) if block is not None and kind.__class__ is str else None
                if handler is None:
                    self._on_odd_delta(_key(index), delta)
                    continue
                handler(self, block, delta)
                if handler is _ON_TEXT:
                    said = (name, payload, block, delta.get("text"))
                if self.wait is not None:
                    self._on_more(delta)
                continue
            self._on_event(kind, event, payload)
            if self.ended:
                return
        if said is not None and not self._splice.ready and self._text is None and self.wait is None:
            self._learn(*said)

    def _learn(self, name: bytes | None, payload: bytes, block: Block | None, text: Any) -> None:
        """The next pieces of this block's text may go on unparsed, until a block begins or ends."""
        if isinstance(text, str) and block in self._blocks.values():
            self._text_block = block
            self._splice.learn(name, payload, _TEXT, text)

    def _on_event(self, kind: Any, event: Any, payload: bytes) -> None:
        handler = EVENTS.get(kind) if kind.__class__ is str else None
        if handler is not None:
            handler(self, event, payload)
        elif event.__class__ is dict and (event.get("error") or (kind is None and is_error(event))):
            raise error_of(event)

    def _read(self, name: bytes | None, payload: bytes) -> Any:
        """What orjson refused: lone surrogates (decision 24), an error in plain words, garbage."""
        self._odd = True
        try:
            return loads(payload)
        except ValueError:
            if name == b"error":
                return {"error": payload.decode("utf-8", "replace")}
            if payload.strip() in (b"", b"[DONE]"):
                return {}
            raise RelayError("upstream_bad_response", "The upstream sent an event that is no JSON.") from None

    def from_body(self, body: JSON) -> None:
        """A whole answer. Raises: RelayError."""
        if body.get("type") == "error" or ("content" not in body and is_error(body)):
            raise error_of(body)
        content = body.get("content", 0)
        if not isinstance(content, list | str | dict | None) or not (content or body.get("stop_reason")):
            raise RelayError("upstream_bad_response", "The upstream sent no message.")
        self._on_message_start({"message": body}, b"")
        self._on_message_delta({"delta": body}, b"")
        self._on_message_stop({}, b"")

    def close(self) -> Done | Continue:
        """The input is over. Raises: RelayError where the upstream did not say so, or said that it failed."""
        if not self.ended:
            self._on_events(last_events(self._decoder, self.wait))
            if not self._begun and self._decoder.stray:
                raise no_stream()
        if not self.ended:
            if self.wait is None:
                raise _cut()
            self._on_message_stop({}, b"")
        done = self._ending()
        if self._unended and (done is None or done.status == "completed"):
            raise RelayError("upstream_ended_early", "The upstream's answer ended inside a content block.")
        if done is None:
            return Continue(self._next_hop())
        if self._refusal:
            self.voice.refusal(self._refusal)
        if done.reason != "max_output_tokens":
            for item in self._cut_calls:
                self.voice.call_end(item)
        for use in self._uses.values():
            if use.item is not None:  # it waits for something that this response does not hold
                self.voice.hosted_end(use.item, {"status": "incomplete"})
        if self._text is not None and done.status == "completed":
            self._check("".join(self._text))
        return done

    def _ending(self) -> Done | None:
        """How the response ends; None where another call goes on with it. Raises: RelayError for an unknown reason.

        What paused for a compaction goes on once: a request that asks for nothing else would ask for it each time.
        """
        reason = self._reason
        if not reason:
            return self._without_reason()
        if reason == "pause_turn" or (reason == "compaction" and self._context.base is None):
            return None
        done = Done("completed") if reason == "compaction" else ending_of(reason)
        if done is None:
            raise RelayError("upstream_error", f"The upstream stopped with the reason '{reason:.64}'.")
        return done

    def _without_reason(self) -> Done:
        limit = self._context.limit_tokens
        made = self._usage.get("output_tokens")
        reached = limit is not None and isinstance(made, int) and made >= limit
        return Done("incomplete", "max_output_tokens") if reached else Done("completed")

    def _check(self, text: str) -> None:
        """What nobody enforced is checked, and said where it is not so (§1.5)."""
        try:
            found = mismatch(loads(text), self._context.schema)
        except ValueError:
            found = "it is no JSON" if self._cut_or_said(text) else None
        if found is not None:
            self.voice.emitter.warn("text.format", f"the answer does not match the schema ({found[:200]})")

    def _cut_or_said(self, text: str) -> bool:
        return bool(text) or not self.voice.emitter.output

    def _next_hop(self) -> UpstreamRequest:
        """The same request with what was said so far as the assistant's message (decision 19)."""
        context = self._context
        base = context.base or self._request.body
        said = (*context.said, *((block.kind, whole(block)) for block in self._kept))
        message = '{"role":"assistant","content":[' + ",".join(echoed(list(said))) + "]}"
        return replace(
            self._request,
            body=base[:-2] + b"," + message.encode() + b"]}" if said else base,
            context=replace(
                context,
                base=base,
                said=said,
                text=tuple(self._text or ()),
                uses=tuple(self._uses.items()),
                container=self.container,
            ),
        )

    # --- the message

    def _on_message_start(self, event: JSON, payload: bytes) -> None:
        message = event.get("message")
        if not isinstance(message, dict):
            raise RelayError("upstream_bad_response", "The upstream sent a message that is no object.")
        if self._message is not None:
            if self._opened or message.get("id") != self._message.get("id"):
                raise RelayError("upstream_bad_response", "The upstream began a message inside another.")
            return
        self._message = {"id": message.get("id")}
        self._begin()
        self._count(message.get("usage"))
        self._note_container(message.get("container"))
        if self._context.base is None:
            for entry in dicts(message.get("input_transformations")):
                self._transformed(entry)
        for block in blocks_of(message.get("content")):
            self._open(None, block, None)
            self._end(None)

    def _on_message_delta(self, event: JSON, payload: bytes) -> None:
        self._count(event.get("usage"))
        delta = event.get("delta")
        if not isinstance(delta, dict):
            return
        self._note_container(delta.get("container"))
        reason = delta.get("stop_reason")
        if reason is not None:
            self._reason = str(reason)
        if reason and self.wait is None:
            self._splice.ready = False
            self.wait = wait_after_reason(None, spoke=self._spoke)
        details = delta.get("stop_details")
        if isinstance(details, dict) and isinstance(details.get("explanation"), str):
            self._refusal = details["explanation"]

    def _on_message_stop(self, event: JSON, payload: bytes) -> None:
        if not self._begun:
            raise RelayError("upstream_bad_response", "The upstream ended a message that it never began.")
        self._settle()
        self.ended = True

    @property
    def _spoke(self) -> bool:
        return bool(self._kept) or any(
            block.pieces or block.kind not in ("text", "thinking") for block in self._blocks.values()
        )

    def _on_more(self, delta: JSON) -> None:
        """After the reason for the end: what is output takes it back."""
        if any(value for name, value in delta.items() if name != "type"):
            self.wait = None

    def _on_error(self, event: JSON, payload: bytes) -> None:
        raise error_of(event)

    def _count(self, usage: Any) -> None:
        if isinstance(usage, dict):
            self._usage = overlaid(self._usage, usage)
            self.voice.usage(anthropic_usage(self._usage))
            tier = "priority" if usage.get("speed") == "fast" else TIERS.get(str(usage.get("service_tier")))
            if tier is not None:
                self.voice.emitter.tier(tier)

    def _note_container(self, container: Any) -> None:
        if isinstance(container, dict) and isinstance(container.get("id"), str):
            self.container = container["id"]

    def _transformed(self, entry: JSON) -> None:
        reason = TRANSFORMATIONS.get(str(entry.get("reason")))
        identifier = self._context.paths.get(str(entry.get("path")))
        if reason is not None and identifier is not None:
            self.voice.emitter.transformation(
                {"id": identifier, "type": "reasoning", "action": "removed", "reason": reason}
            )

    # --- blocks

    def _on_block_start(self, event: JSON, payload: bytes) -> None:
        start = event.get("content_block")
        if isinstance(start, dict):
            self._open(_key(event.get("index")), start, payload)

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
        key = _key(event.get("index"))
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


Translate = AnthropicTranslator
_ON_TEXT: Final = Translate._on_text
_TEXT: Final = b'"text"'

EVENTS: Final[Mapping[str, Callable[[Translate, JSON, bytes], None]]] = {
    "message_start": Translate._on_message_start,
    "content_block_start": Translate._on_block_start,
    "content_block_stop": Translate._on_block_stop,
    "message_delta": Translate._on_message_delta,
    "message_stop": Translate._on_message_stop,
    "error": Translate._on_error,
}
STARTS: Final[Mapping[str, Callable[[Translate, Block], None]]] = {
    "text": Translate._start_text,
    "thinking": Translate._start_thinking,
    "redacted_thinking": Translate._start_redacted,
    "tool_use": Translate._start_call,
    "server_tool_use": Translate._start_use,
    "mcp_tool_use": Translate._start_use,
}
_SUMMARY: Final = {"compaction_delta": Translate._on_summary}
_INPUT: Final = {"input_json_delta": Translate._on_input}
DELTAS: Final[Mapping[str, Mapping[str, Callable[[Translate, Block, JSON], None]]]] = {
    "text": {"text_delta": _ON_TEXT, "citations_delta": Translate._on_citation},
    "thinking": {"thinking_delta": Translate._on_thinking, "signature_delta": Translate._on_signature},
    "compaction": _SUMMARY,
    **dict.fromkeys(CALLS, _INPUT),
}
"""Block type -> delta type -> what takes it."""

_BESIDE: Final = ("text", "thinking", "compaction")
"""Blocks that a delta may open; beside an open block of any other type they have a key of their own."""

OPENS: Final = {kind: block for block in _BESIDE for kind in DELTAS[block]}
"""Delta type -> the type of the block that it needs."""

STOPS: Final[Mapping[str, Callable[[Translate, Block], None]]] = {
    "text": Translate._stop_text,
    "thinking": Translate._stop_thinking,
    "tool_use": Translate._stop_call,
    **dict.fromkeys(HIDDEN, Translate._stop_hidden),
    "server_tool_use": Translate._stop_use,
    "mcp_tool_use": Translate._stop_use,
}


def _cut() -> RelayError:
    return RelayError("upstream_ended_early", "The upstream's stream ended before its answer was complete.")


def _is_json(text: str) -> bool:
    try:
        loads(text)
    except ValueError:
        return False
    return True


def _key(index: Any) -> Any:
    """What a block is known by; what can be no index counts as none."""
    return index if isinstance(index, int | float | str) else None
