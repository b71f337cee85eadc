"""Anthropic Messages: streams and bodies written.

Source: platform.claude.com, Messages API and streaming; ``anthropic.types``; the recordings of
``corpus/anthropic-messages/anthropic``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import orjson

from relay.demo.anthropic_request import read_messages
from relay.demo.chat import new_id
from relay.demo.script import REFUSAL, SOURCE, Part, Refusal, Reply, Turn

if TYPE_CHECKING:
    from relay.demo.application import Target

_STOP: Final = {
    "stop": "end_turn",
    "stop_sequence": "stop_sequence",
    "calls": "tool_use",
    "length": "max_tokens",
    "refusal": "refusal",
    "pause": "pause_turn",
}
_ERROR_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}

# A block as it is written: its start, its deltas with the tokens in each, and what it is in a whole body.
Block = tuple[dict[str, Any], Iterator[tuple[dict[str, Any], int]], dict[str, Any]]


class Anthropic:
    """The Messages format."""

    def read(self, body: dict[str, Any], target: Target) -> Turn:
        """Raises: Refusal, in Anthropic's words."""
        if b"anthropic-version" not in target.headers:
            raise Refusal("anthropic-version: header is required")
        return read_messages(body)

    def stream(self, turn: Turn, reply: Reply) -> Iterator[tuple[bytes, int]]:
        """Events from ``message_start`` to ``message_stop``; a ping after the first."""
        message = {**_message(turn), "usage": _usage(reply, 1)}
        yield _event({"type": "message_start", "message": message}), 0
        yield _event({"type": "ping"}), 0
        for index, (start, deltas, _) in enumerate(_blocks(turn, reply)):
            at = b'{"type":"content_block_delta","index":%d,"delta":' % index
            yield _event({"type": "content_block_start", "index": index, "content_block": start}), 0
            for delta, tokens in deltas:  # hot: bench/ one token a write
                yield b"event: content_block_delta\ndata: " + at + orjson.dumps(delta) + b"}\n\n", tokens
            yield _event({"type": "content_block_stop", "index": index}), 0
        if turn.behaviour.nofinish:
            return
        usage = {"output_tokens": 0} if turn.behaviour.nousage else _usage(reply, reply.output_tokens, True)
        yield _event({"type": "message_delta", "delta": _ending(reply), "usage": usage}), 0
        yield _event({"type": "message_stop"}), 0

    def whole(self, turn: Turn, reply: Reply) -> dict[str, Any]:
        """A ``message``."""
        message = _message(turn)
        for _, deltas, block in _blocks(turn, reply):
            for _ in deltas:
                pass
            message["content"].append(block)
        ending = {} if turn.behaviour.nofinish else _ending(reply)
        return {**message, **ending, "usage": _usage(reply, reply.output_tokens, True)}

    def refused(self, refusal: Refusal) -> dict[str, Any]:
        """``{"type": "error", …}``."""
        kind = _ERROR_TYPES.get(refusal.status, "api_error" if refusal.status >= 500 else "invalid_request_error")
        return {"type": "error", "error": {"type": kind, "message": refusal.message}, "request_id": new_id("req_")}

    def stream_error(self, refusal: Refusal) -> bytes:
        """An ``error`` event."""
        return _event(self.refused(refusal))


def _event(data: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (data["type"].encode(), orjson.dumps(data))


def _message(turn: Turn) -> dict[str, Any]:
    return {
        "id": new_id("msg_"),
        "type": "message",
        "role": "assistant",
        "model": turn.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "stop_details": None,
    }


def _ending(reply: Reply) -> dict[str, Any]:
    details = {"type": "refusal", "category": None, "explanation": REFUSAL} if reply.finish == "refusal" else None
    return {"stop_reason": _STOP[reply.finish], "stop_sequence": reply.stop, "stop_details": details}


def _usage(reply: Reply, output_tokens: int, final: bool = False) -> dict[str, Any]:
    usage: dict[str, Any] = {
        "input_tokens": reply.input_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": output_tokens,
    }
    if final:
        usage["output_tokens_details"] = {"thinking_tokens": reply.thought_tokens}
    else:
        usage["service_tier"] = "standard"
    return usage


def _blocks(turn: Turn, reply: Reply) -> Iterator[Block]:
    """The content blocks in order; the body's form of a block is complete once its deltas have been taken."""
    for part in reply.parts:
        if part.kind == "thought":
            yield _thinking(turn, reply, part)
        elif part.kind == "call":
            yield _tool_use(part)
        elif part.kind == "text" and len(part.tokens):
            if turn.behaviour.cite:
                yield from _search(turn)
            yield _text(part, turn.behaviour.cite)
    if reply.finish == "pause":
        yield from _search(turn)


def _text(part: Part, cite: bool) -> Block:
    block: dict[str, Any] = {"type": "text", "text": ""}

    def deltas() -> Iterator[tuple[dict[str, Any], int]]:
        if cite:
            citation = {
                "type": "web_search_result_location",
                "cited_text": "What the source says.",
                "encrypted_index": "ZGVtbyBpbmRleA==",
                **SOURCE,
            }
            block["citations"] = [citation]
            yield {"type": "citations_delta", "citation": citation}, 0
        said: list[str] = []
        for token in part.tokens:
            said.append(token)
            yield {"type": "text_delta", "text": token}, 1
        block["text"] = "".join(said)

    return {"type": "text", "text": "", **({"citations": []} if cite else {})}, deltas(), block


def _thinking(turn: Turn, reply: Reply, part: Part) -> Block:
    if turn.behaviour.redacted:
        block: dict[str, Any] = {"type": "redacted_thinking", "data": reply.seal or ""}
        return block, iter(()), block
    text = "".join(part.tokens) if turn.show_reason else ""

    def deltas() -> Iterator[tuple[dict[str, Any], int]]:
        for token in part.tokens if turn.show_reason else ():
            yield {"type": "thinking_delta", "thinking": token}, 1
        if reply.seal is not None:
            yield {"type": "signature_delta", "signature": reply.seal}, 0

    start = {"type": "thinking", "thinking": "", "signature": ""}
    return start, deltas(), {"type": "thinking", "thinking": text, "signature": reply.seal or ""}


def _tool_use(part: Part) -> Block:
    call = part.call
    assert call is not None
    start = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}

    def deltas() -> Iterator[tuple[dict[str, Any], int]]:
        yield {"type": "input_json_delta", "partial_json": ""}, 0
        for token in part.tokens:
            yield {"type": "input_json_delta", "partial_json": token}, 1

    text = "".join(part.tokens)
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = {}  # cut by max_tokens
    return start, deltas(), {**start, "input": value}


def _search(turn: Turn) -> Iterator[Block]:
    """A web search that the server itself did."""
    call_id = new_id("srvtoolu_")
    query = {"query": turn.talk.text or "demo"}
    start = {"type": "server_tool_use", "id": call_id, "name": "web_search", "input": {}}
    text = orjson.dumps(query).decode()
    yield start, iter([({"type": "input_json_delta", "partial_json": text}, 0)]), {**start, "input": query}
    found = {"type": "web_search_result", "encrypted_content": "ZGVtbw==", "page_age": None, **SOURCE}
    result = {"type": "web_search_tool_result", "tool_use_id": call_id, "content": [found]}
    yield result, iter(()), result
