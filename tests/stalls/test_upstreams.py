"""What upstreams send, whatever it is, holds the worker for no longer than decision 61 says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import orjson
import pytest

from tests.app.test_linearity import calls
from tests.app.upstreams import first
from tests.stalls.harness import DIALECTS, END, MIB, Input, Stage, check, event, words

JSON = "application/json"
TOOLS = {"tools": [{"type": "function", "name": "f", "parameters": {}}, {"type": "custom", "name": "p"}]}


# --- chat/completions


def _chunk(delta: dict[str, Any], **fields: Any) -> bytes:
    return event({"choices": [{"index": 0, "delta": delta, "finish_reason": None, **fields}]})


def _call(index: int, arguments: str, **fields: Any) -> bytes:
    return _chunk({"tool_calls": [{"index": index, "function": {"arguments": arguments, **fields}}]})


def short_calls(count: int) -> bytes:
    """Calls of one character each, all open until the end."""
    pieces = [
        _chunk({"tool_calls": [{"index": at, "id": f"c{at}", "function": {"name": "f", "arguments": "1"}}]})
        for at in range(count)
    ]
    return b"".join(pieces) + END["chat"].replace(b'"stop"', b'"tool_calls"')


def custom_fragments(count: int, fragment: str, end: str) -> bytes:
    begin = _chunk({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "p", "arguments": ""}}]})
    return begin + _call(0, fragment) * count + _call(0, end) + END["chat"].replace(b'"stop"', b'"tool_calls"')


def chat_body(members: bytes, message: bytes = b'"content":"ok"') -> bytes:
    """A whole chat completion with more members."""
    choice = b'{"index":0,"finish_reason":"stop","message":{"role":"assistant",%b}}' % message
    return b'{"id":"x","object":"chat.completion","choices":[%b],%b}' % (choice, members)


def unread(one: bytes, size: int) -> bytes:
    """A member that nobody reads."""
    return b'"junk":[%b]' % b",".join([one] * (size // (len(one) + 1)))


def logprobs(count: int) -> dict[str, Any]:
    return {"content": [{"token": "a", "logprob": -0.1, "bytes": [97], "top_logprobs": []}] * count}


# --- the others


def anthropic_body(content: list[Any]) -> bytes:
    usage = {"input_tokens": 1, "output_tokens": 1}
    message = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": content}
    return orjson.dumps(message | {"stop_reason": "end_turn", "stop_sequence": None, "usage": usage})


def anthropic_blocks(count: int) -> bytes:
    head = first("anthropic").split(b"event: content_block_start")[0]
    blocks = []
    for index in range(count):
        block = {"type": "text", "text": ""}
        blocks.append(event({"type": "content_block_start", "index": index, "content_block": block}))
        delta = {"type": "text_delta", "text": "x"}
        blocks.append(event({"type": "content_block_delta", "index": index, "delta": delta}))
        blocks.append(event({"type": "content_block_stop", "index": index}))
    return head + b"".join(blocks) + END["anthropic"].split(b"\n\n", 1)[1]


def gemini_body(parts: list[Any], **candidate: Any) -> bytes:
    candidates = [{"content": {"role": "model", "parts": parts}, "finishReason": "STOP", "index": 0, **candidate}]
    return orjson.dumps({"candidates": candidates, "usageMetadata": {"promptTokenCount": 1, "totalTokenCount": 2}})


def native_response(output: list[Any], **fields: Any) -> dict[str, Any]:
    response = {"id": "resp_up", "object": "response", "created_at": 1, "status": "completed", "model": "m"}
    return response | {"output": output, "usage": None, **fields}


def native_items(count: int) -> list[Any]:
    part = {"type": "output_text", "text": "x", "annotations": []}
    item = {"type": "message", "role": "assistant", "status": "completed", "content": [part]}
    return [{"id": f"msg_{at}", **item} for at in range(count)]


def native_stream(output: list[Any]) -> bytes:
    pieces = [first("responses").split(b"event: response.output_item.added")[0]]
    number = 2
    for index, item in enumerate(output):
        opened = {**item, "status": "in_progress", "content": []}
        for kind, shown in (("added", opened), ("done", item)):
            content = {"type": f"response.output_item.{kind}", "output_index": index, "item": shown}
            pieces.append(event(content | {"sequence_number": number}))
            number += 1
    end = {"type": "response.completed", "response": native_response(output), "sequence_number": number}
    return b"".join([*pieces, event(end)])


def annotated(count: int) -> list[Any]:
    note = {"type": "url_citation", "url": "https://a.example", "title": "t", "start_index": 0, "end_index": 1}
    part = {"type": "output_text", "text": "x", "annotations": [note] * count, "logprobs": []}
    return [{"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}]


def sse(body: bytes) -> bytes:
    return b"data: " + body + b"\n\n"


ERROR = b'{"error":{"message":"%b","type":"server_error"}}'


def _each(
    name: str, answer: Any, dialect: str = "chat", transports: Iterable[str] = ("sse", "json"), **fields: Any
) -> Iterator[Input]:
    for transport in transports:
        yield Input(name, answer=answer, dialect=dialect, transport=transport, **fields)


def _bodies() -> Iterator[Input]:
    one = {"content_type": JSON}
    used = one | {"request": TOOLS}
    text = b'"content":"' + b"word " * (31 * MIB // 5 - 100) + b'"'
    many = b'"content":null,"tool_calls":[%b]' % b",".join(
        b'{"id":"c%d","type":"function","function":{"name":"f","arguments":"1"}}' % at for at in range(30_000)
    )
    blocks: list[Any] = [{"type": "text", "text": "x"}] * 100_000
    uses: list[Any] = [{"type": "tool_use", "id": f"t{at}", "name": "f", "input": {}} for at in range(30_000)]
    parts: list[Any] = [{"text": "x"}] * 100_000
    asked: list[Any] = [{"functionCall": {"name": "f", "args": {}}}] * 30_000
    events = b"[" + b",".join([gemini_body(parts[:1])] * 30_000) + b"]"
    for each in (b"{}", b"0", b'{"a":[0]}'):
        yield from _each(
            f"31-MiB-unread-{each.decode()}",
            partial(lambda each: chat_body(unread(each, 31 * MIB - 1_000)), each),
            transports=["json"],
            **one,
        )
    yield from _each("31-MiB-of-text", lambda: chat_body(b'"a":1', text), **one)
    yield from _each("30,000-calls-in-JSON", lambda: chat_body(b'"a":1', many), **used)
    yield from _each("100,000-blocks-in-JSON", lambda: anthropic_body(blocks), "anthropic", **one)
    yield from _each("30,000-calls-in-JSON", lambda: anthropic_body(uses), "anthropic", ["sse"], **used)
    yield from _each("100,000-parts-in-JSON", lambda: gemini_body(parts), "gemini", ["json"], **one)
    yield from _each("30,000-calls-in-JSON", lambda: gemini_body(asked), "gemini", ["sse"], **used)
    yield from _each("30,000-events-in-an-array", lambda: events, "gemini", ["sse"], **one)
    native: list[tuple[str, list[Any]]] = [("items", native_items(30_000)), ("annotations", annotated(100_000))]
    for name, output in native:
        answer = partial(lambda output: orjson.dumps(native_response(output)), output)
        yield from _each(f"{len(output):,}-{name}-in-JSON", answer, "responses", **one)


def _streams() -> Iterator[Input]:
    blanks, letters, escapes = (
        partial(custom_fragments, 60_000, *one) for one in ((" ", '{"input":"x"}'), ("x", ""), ("\\", ""))
    )
    yield from _each("40,000-calls", lambda: short_calls(40_000), request=TOOLS)
    yield from _each("60,000-blanks", blanks, transports=("sse", "json", "ws"), request=TOOLS)
    yield from _each("60,000-letters", letters, transports=["sse"], request=TOOLS)
    yield from _each("60,000-escapes", escapes, transports=["sse"], request=TOOLS)
    yield from _each("100,000-empty-events", lambda: b"data: {}\n\n" * 100_000 + words("chat"), transports=["sse"])
    yield from _each("1-MiB-of-comments", lambda: b":\n\n" * (MIB // 3) + words("chat"), transports=["sse"])
    yield from _each("1-MiB-of-lines", lambda: b"data:\n" * (MIB // 6) + b"\n" + words("chat"), transports=["sse"])
    yield from _each("1-MiB-of-returns", lambda: b"\r" * MIB + words("chat"), transports=["sse"])
    wide = b'{"choices":[{"index":0,"delta":{"content":"x"}}],%b}'
    yield from _each("15-MiB-unread-in-an-event", lambda: sse(wide % unread(b"[]", 15 * MIB)) + words("chat"))
    for at, dialect in enumerate(DIALECTS):
        some = (("sse", "json"), ("ws", "sse"), ("json", "ws"), ("sse", "ws"))[at]
        yield from _each("100,000-tokens", partial(words, dialect, "tok", 100_000), dialect, some)
        yield from _each("15-MiB-in-one-event", partial(words, dialect, "x" * (15 * MIB)), dialect, some)
        if dialect != "responses":  # which says the whole text itself in three more events
            yield from _each("30-MiB-retained", partial(words, dialect, "word " * 10_000, 600), dialect, some)
        yield from _each("calls", partial(calls, dialect, 5_000, 20_000), dialect, ["sse"], request=TOOLS)
    wanted = {"include": ["message.output_text.logprobs"], "top_logprobs": 1}
    measured = _chunk({"content": "x"}, logprobs=logprobs(100_000)) + words("chat")
    yield from _each("100,000-logprobs", lambda: measured, request=wanted)
    yield from _each("30,000-blocks", lambda: anthropic_blocks(30_000), "anthropic", ["sse"])
    yield from _each("100,000-parts", lambda: sse(gemini_body([{"text": "x"}] * 100_000)), "gemini", ["sse"])
    yield from _each("30,000-items", lambda: native_stream(native_items(30_000)), "responses", ["sse"])
    yield from _each("30,000-annotations", lambda: native_stream(annotated(30_000)), "responses", ["sse"])


def _errors() -> Iterator[Input]:
    long = b"per minute quota context length Bearer sk-" * (MIB // 42)
    for dialect in DIALECTS:
        for status in (429, 400, 503):
            yield Input(f"1-MiB-error-{status}", answer=ERROR % long, content_type=JSON, status=status, dialect=dialect)
        yield Input("1-MiB-error-in-the-stream", answer=sse(ERROR % long), dialect=dialect)
    nested = b'{"error":' * 100_000 + b"1" + b"}" * 100_000
    yield Input("nested-error", answer=nested, content_type=JSON, status=500)
    yield Input("1-MiB-page", answer=b"<html>" + b"<" * MIB, content_type="text/html", status=502)
    yield Input("unread-in-an-error", answer=b'{"error":{"message":"m"},%b}' % unread(b"[]", MIB), status=500)


SMALL = [Input("small", dialect=dialect, transport=how) for dialect in DIALECTS for how in ("sse", "json", "ws")]


@pytest.mark.parametrize("one", [*SMALL, *_bodies(), *_streams(), *_errors()], ids=str)
def test_others_are_served_meanwhile(stage: Stage, one: Input) -> None:
    play = check(stage, one)
    assert play.said
