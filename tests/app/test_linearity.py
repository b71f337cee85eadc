"""Time and memory grow with what an upstream says, not faster, and end at decision 7's bounds; for every dialect.

Source: issue 2 "What it must show" (Linearity: 2N takes at most 2.3 times as long as N), decision 7 (one event 16 MiB,
retained output 32 MiB). CPU time of the process: the relay's, and that of the test's own two sockets, which is linear.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import resource
from collections.abc import Callable, Iterable
from typing import Any

import orjson
import pytest

from relay.providers.base import Target
from relay.providers.registry import PROVIDERS
from relay.responses.emitter import Emitter
from relay.responses.request import parse
from relay.responses.response import template
from relay.responses.sinks import SSESink
from tests.app.support import PATHS, fronting, post
from tests.app.upstreams import HEAD, chunk, first, token, upstream
from tests.oracle import check_stream, parse_sse
from tests.server.support import Client
from tests.support import assert_linear, run

EVERY = pytest.mark.parametrize("dialect", sorted(PROVIDERS))
MIB = 2**20
READ_BYTES = 65_536


def _sse(name: str | None, content: dict[str, Any]) -> bytes:
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + orjson.dumps(content) + b"\n\n"


# --- what the upstreams say


def _chat(fields: dict[str, Any], finish: str | None = None) -> bytes:
    return _sse(None, {"choices": [{"index": 0, "delta": fields, "finish_reason": finish}]})


class _Chat:
    """Calls side by side, their fragments in turn."""

    @staticmethod
    def calls(count: int, fragments: int) -> Iterable[bytes]:
        for index in range(count):
            call = {"index": index, "id": f"call_{index}", "type": "function"}
            yield _chat({"tool_calls": [{**call, "function": {"name": "f", "arguments": '"'}}]})
        pieces = [_chat({"tool_calls": [{"index": index, "function": {"arguments": "x"}}]}) for index in range(count)]
        for number in range(fragments):
            yield pieces[number % count]
        for index in range(count):
            yield _chat({"tool_calls": [{"index": index, "function": {"arguments": '"'}}]})
        yield _chat({}, "tool_calls") + b"data: [DONE]\n\n"

    @staticmethod
    def end() -> bytes:
        return _chat({}, "stop") + b"data: [DONE]\n\n"


class _Responses:
    """Calls side by side, their fragments in turn."""

    @staticmethod
    def calls(count: int, fragments: int) -> Iterable[bytes]:
        number = itertools.count(2)

        def event(kind: str, index: int, **fields: Any) -> bytes:
            content = {"type": kind, "output_index": index, **fields, "sequence_number": next(number)}
            return _sse(kind, content)

        delta = "response.function_call_arguments.delta"
        opened = next(iter(first("responses").split(b"event: response.output_item.added")))
        yield opened
        for index in range(count):
            item = {"id": f"fc_{index}", "type": "function_call", "status": "in_progress", "arguments": ""}
            item |= {"call_id": f"call_{index}", "name": "f"}
            yield event("response.output_item.added", index, item=item)
            yield event(delta, index, item_id=f"fc_{index}", delta='"')
        for at in range(fragments):
            yield event(delta, at % count, item_id=f"fc_{at % count}", delta="x")
        for index in range(count):
            yield event(delta, index, item_id=f"fc_{index}", delta='"')
            said = '"' + "x" * (fragments // count + (index < fragments % count)) + '"'
            item = {"id": f"fc_{index}", "type": "function_call", "status": "completed", "arguments": said}
            item |= {"call_id": f"call_{index}", "name": "f"}
            yield event("response.function_call_arguments.done", index, item_id=f"fc_{index}", arguments=said)
            yield event("response.output_item.done", index, item=item)
        yield _Responses.end()

    @staticmethod
    def end() -> bytes:
        response = {"id": "resp_up", "object": "response", "status": "completed", "output": [], "usage": None}
        return _sse(None, {"type": "response.completed", "response": response, "sequence_number": 999_999_999})


class _Anthropic:
    """Calls one after the other, as the vendor has them."""

    @staticmethod
    def calls(count: int, fragments: int) -> Iterable[bytes]:
        yield first("anthropic").split(b"event: content_block_start")[0]
        for index in range(count):
            block = {"type": "tool_use", "id": f"toolu_{index}", "name": "f", "input": {}}
            yield _sse("content_block_start", {"type": "content_block_start", "index": index, "content_block": block})

            def delta(text: str, index: int = index) -> bytes:
                change = {"type": "input_json_delta", "partial_json": text}
                return _sse("content_block_delta", {"type": "content_block_delta", "index": index, "delta": change})

            yield delta('{"a":"')
            yield from itertools.repeat(delta("x"), fragments // count + (index < fragments % count))
            yield delta('"}')
            yield _sse("content_block_stop", {"type": "content_block_stop", "index": index})
        yield _Anthropic._stop("tool_use")

    @staticmethod
    def end() -> bytes:
        stop = _sse("content_block_stop", {"type": "content_block_stop", "index": 0})
        return stop + _Anthropic._stop("end_turn")

    @staticmethod
    def _stop(reason: str) -> bytes:
        delta = {"stop_reason": reason, "stop_sequence": None}
        content = {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 1}}
        return _sse("message_delta", content) + _sse("message_stop", {"type": "message_stop"})


class _Gemini:
    """Calls come whole: their fragments are in one event."""

    @staticmethod
    def calls(count: int, fragments: int) -> Iterable[bytes]:
        for index in range(count):
            text = "x" * (fragments // count + (index < fragments % count))
            call = {"functionCall": {"name": "f", "args": {"a": text}}}
            yield _sse(None, {"candidates": [{"content": {"role": "model", "parts": [call]}, "index": 0}]})
        yield _Gemini.end()

    @staticmethod
    def end() -> bytes:
        parts: list[Any] = []
        candidate = {"content": {"role": "model", "parts": parts}, "finishReason": "STOP", "index": 0}
        return _sse(None, {"candidates": [candidate]})


UPSTREAMS = {"chat": _Chat, "responses": _Responses, "anthropic": _Anthropic, "gemini": _Gemini}


@functools.lru_cache(maxsize=8)
def calls(dialect: str, count: int, fragments: int) -> bytes:
    """A stream with ``count`` calls whose arguments come in ``fragments`` fragments of one byte."""
    return b"".join(UPSTREAMS[dialect].calls(count, fragments))


@functools.lru_cache(maxsize=8)
def text(dialect: str, tokens: int, size: int) -> bytes:
    """A stream with tokens of ``size`` bytes."""
    said = b"".join(token(dialect, "x" * size, number) for number in range(tokens))
    return first(dialect) + said + UPSTREAMS[dialect].end()


# --- through a translator


def translate(dialect: str, stream: bytes, step: int = READ_BYTES) -> list[dict[str, Any]]:
    """Feed a stream in reads; the output of the final Response."""
    provider = PROVIDERS[dialect]
    tools = [{"type": "function", "name": "f", "parameters": {}}]
    request = parse({"model": "m", "input": "hi", "stream": True, "tools": tools})
    call = provider.build(request, Target("up", "m", "http://127.0.0.1:9/v1"), {}, frozenset())
    counter = itertools.count()
    sink = SSESink()
    emitter = Emitter(template(request, "resp_0", 1), sink, lambda p: f"{p}_{next(counter):024x}", lambda: 2)
    translator = provider.translator(call, emitter.voice(call.tools))
    for at in range(0, len(stream), step):
        translator.feed(stream[at : at + step])
        sink.take()
    done: Any = translator.close()
    response = emitter.conclude_with(done.response) if done.response is not None else emitter.conclude(done.status)
    assert response["status"] == "completed"
    output: list[dict[str, Any]] = response["output"]
    return output


@EVERY
def test_one_large_event(dialect: str) -> None:
    """4 MiB and 8 MiB of text in one event, in reads of 64 KiB."""
    (item,) = translate(dialect, text(dialect, 1, 4 * MIB))
    assert len(item["content"][0]["text"]) == 4 * MIB
    assert_linear(lambda size: translate(dialect, text(dialect, 1, size)), 4 * MIB)


@EVERY
def test_one_event_in_reads_of_a_few_bytes(dialect: str) -> None:
    assert_linear(lambda size: translate(dialect, text(dialect, 1, size), 7), MIB // 4)


@EVERY
def test_arguments_in_deltas_of_one_byte(dialect: str) -> None:
    (item,) = translate(dialect, calls(dialect, 1, 50_000))
    assert item["arguments"].count("x") == 50_000
    assert_linear(lambda size: translate(dialect, calls(dialect, 1, size)), 50_000)


@EVERY
def test_fragments_of_many_calls(dialect: str) -> None:
    """100,000 fragments, of a hundred calls in turn where the dialect can say that."""
    output = translate(dialect, calls(dialect, 100, 50_000))
    assert [item["arguments"].count("x") for item in output] == [500] * 100
    assert_linear(lambda size: translate(dialect, calls(dialect, 100, size)), 50_000)


@EVERY
def test_many_calls(dialect: str) -> None:
    assert len(translate(dialect, calls(dialect, 2_000, 4_000))) == 2_000
    assert_linear(lambda size: translate(dialect, calls(dialect, size, 2 * size)), 2_000)


@EVERY
def test_many_tokens(dialect: str) -> None:
    assert_linear(lambda size: translate(dialect, text(dialect, size, 4)), 25_000)


# --- through a whole relay


async def turn(dialect: str, stream: bytes, take: Callable[[bytes], object], limit_s: float = 30.0) -> None:
    """One turn on real sockets; ``take`` gets what the client reads."""
    async with upstream() as one, fronting(dialect, f"http://127.0.0.1:{one.port}{PATHS[dialect]}") as relay:
        client = await Client.connect(relay.port)
        tools = [{"type": "function", "name": "f", "parameters": {}}]
        body = {"model": "m", "input": "hi", "stream": True, "store": False, "tools": tools}
        client.write(post(body, "Connection: close"))
        await asyncio.wait_for(one.asked.wait(), 5)

        async def speak() -> None:
            one.write(HEAD)
            for at in range(0, len(stream), READ_BYTES):
                one.write(chunk(stream[at : at + READ_BYTES]))
                await one.drain()
            one.write(b"0\r\n\r\n")

        speaking = asyncio.create_task(speak())
        try:
            async with asyncio.timeout(limit_s):
                while data := await client.reader.read(MIB):
                    take(data)
        finally:
            speaking.cancel()
            await asyncio.gather(speaking, return_exceptions=True)


class Tail:
    """How much came, and its end."""

    def __init__(self) -> None:
        self.size = 0
        self.end = b""

    def __call__(self, data: bytes) -> None:
        self.size += len(data)
        self.end = (self.end + data)[-4096:]


@EVERY
@pytest.mark.parametrize(
    ("what", "size"), [("one event", 7 * MIB), ("one byte a delta", 10_000), ("many calls", 10_000)]
)
def test_a_whole_turn(dialect: str, what: str, size: int) -> None:
    streams: dict[str, Callable[[int], bytes]] = {
        "one event": lambda size: text(dialect, 1, size),
        "one byte a delta": lambda size: calls(dialect, 1, size),
        "many calls": lambda size: calls(dialect, 50, size),
    }

    def relayed(count: int) -> None:
        tail = Tail()
        run(turn(dialect, streams[what](count), tail), 40)
        assert tail.end.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"), tail.end

    relayed(size // 4)
    assert_linear(relayed, size)


# --- the bounds of decision 7


def grown_mib(dialect: str, stream: bytes) -> tuple[bytes, float]:
    """What the client got, and by how much the process's peak grew."""
    pieces: list[bytes] = []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run(turn(dialect, stream, pieces.append), 60)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return b"".join(pieces), grown


def unchunked(answer: bytes) -> bytes:
    """The body of a raw chunked answer."""
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert b"chunked" in head.lower()
    pieces, at = [], 0
    while True:
        end = rest.index(b"\r\n", at)
        size = int(rest[at:end], 16)
        if not size:
            return b"".join(pieces)
        pieces.append(rest[end + 2 : end + 2 + size])
        at = end + 4 + size


@EVERY
def test_output_over_32_mib_fails_the_response(dialect: str) -> None:
    answer, _ = grown_mib(dialect, text(dialect, 36, MIB))
    body = unchunked(answer)
    assert body.endswith(b"data: [DONE]\n\n")
    last = orjson.loads(body.rsplit(b"\ndata: ", 2)[1].split(b"\n")[0])
    assert last["type"] == "response.failed"
    assert last["response"]["error"]["code"] == "server_error"
    said = last["response"]["output"][0]["content"][0]["text"]
    assert 31 * MIB <= len(said) <= 33 * MIB, "what was said before the bound is kept"
    assert body.count(b"event: response.output_text.delta\n") == len(said) // MIB


@EVERY
def test_output_under_32_mib_passes(dialect: str) -> None:
    answer, _ = grown_mib(dialect, text(dialect, 15, 2 * MIB))
    body = unchunked(answer)
    last = orjson.loads(body.rsplit(b"\ndata: ", 2)[1].split(b"\n")[0])
    assert last["type"] == "response.completed"


@EVERY
def test_an_event_over_16_mib_is_a_failure_at_once(dialect: str) -> None:
    answer, grown = grown_mib(dialect, text(dialect, 1, 17 * MIB).rstrip(b"\n"))
    if first(dialect) and b"\r\ntransfer-encoding" in answer.lower():
        events = parse_sse(unchunked(answer))
        assert events[-1]["type"] == "response.failed"
        check_stream(events)
    else:
        assert answer.startswith(b"HTTP/1.1 502 ")
    assert b"16777216 bytes" in answer
    assert grown < 100, "the rest was not kept"
