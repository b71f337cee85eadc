"""What the model's name asks for, on raw sockets, under our server and under uvicorn: faults, pace, framing."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any, NamedTuple

import pytest

from tests.demo.serving import post, raw, serving
from tests.support import run, until


class Dialect(NamedTuple):
    """How one vendor is asked, and what its answers look like."""

    path: str
    body: dict[str, Any]
    headers: tuple[str, ...]
    token: bytes  # what each token's event holds
    error: bytes  # what an error inside the stream holds
    finish: bytes  # what only a finished stream holds


_MESSAGES = {"messages": [{"role": "user", "content": "a b c d e f g h"}]}
DIALECTS = {
    "chat": Dialect(
        "/v1/chat/completions", _MESSAGES, (), b'"delta":{"content":" ', b'data: {"error":{', b'"finish_reason":"stop"'
    ),
    "responses": Dialect(
        "/v1/responses",
        {"input": "a b c d e f g h"},
        (),
        b'"delta":" ',
        b'"type":"response.failed"',
        b"event: response.completed",
    ),
    "anthropic": Dialect(
        "/v1/messages",
        {**_MESSAGES, "max_tokens": 4096},
        ("anthropic-version: 2023-06-01",),
        b'"type":"text_delta","text":" ',
        b"event: error",
        b"event: message_stop",
    ),
    "gemini": Dialect(
        "/v1beta/models/MODEL:streamGenerateContent?alt=sse",
        {"contents": [{"role": "user", "parts": [{"text": "a b c d e f g h"}]}]},
        (),
        b'{"text":" ',
        b'data: {"error":{',
        b'"finishReason":"STOP"',
    ),
}
SERVERS = pytest.mark.parametrize("foreign", [False, True], ids=["relay", "uvicorn"])
EVERY = pytest.mark.parametrize("name", DIALECTS)


def request_for(name: str, model: str, stream: bool = True) -> bytes:
    dialect = DIALECTS[name]
    path = dialect.path.replace("MODEL", model)
    body = dialect.body
    if name == "gemini":
        path = path if stream else path.replace("streamGenerateContent?alt=sse", "generateContent")
    else:
        body = {"model": model, "stream": stream, **body}
    return post(path, json.dumps(body).encode(), *dialect.headers)


def unchunked(answer: bytes) -> tuple[bytes, bytes, bool]:
    """Head, body, and whether the body ended cleanly."""
    head, _, rest = answer.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" not in head.lower():
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        return head, rest, len(rest) == length
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        count = int(size, 16)
        if count == 0:
            return head, body, True
        body += rest[:count]
        rest = rest[count + 2 :]
    return head, body, False


def answer_to(name: str, model: str, *, stream: bool = True, foreign: bool = False) -> tuple[bytes, bytes, bool]:
    async def body() -> bytes:
        async with serving(foreign=foreign) as demo:
            answer = await raw(demo.port, request_for(name, model, stream))
            await until(lambda: demo.app.active == 0)
            return answer

    return unchunked(run(body()))


@EVERY
def test_a_whole_stream(name: str) -> None:
    head, body, clean = answer_to(name, "demo")
    assert head.startswith(b"HTTP/1.1 200")
    assert b"text/event-stream" in head
    assert clean
    assert body.count(DIALECTS[name].token) == 7  # the first token has no space before it
    assert DIALECTS[name].finish in body
    assert body.endswith(b"\n\n")


@SERVERS
@EVERY
def test_a_cut_has_no_clean_end(name: str, foreign: bool) -> None:
    _, body, clean = answer_to(name, "demo-cut-5", foreign=foreign)
    assert not clean
    assert body.count(DIALECTS[name].token) == 4
    assert DIALECTS[name].finish not in body
    head, body, clean = answer_to(name, "demo-cut", foreign=foreign)
    assert head.startswith(b"HTTP/1.1 200")
    assert (body, clean) == (b"", False)
    _, body, clean = answer_to(name, "demo-cut-5", stream=False, foreign=foreign)
    assert body
    assert not clean


@EVERY
def test_an_error_inside_the_stream(name: str) -> None:
    _, body, clean = answer_to(name, "demo-error-5")
    assert clean
    assert body.count(DIALECTS[name].token) == 4
    assert DIALECTS[name].error in body
    assert DIALECTS[name].finish not in body
    head, body, _ = answer_to(name, "demo-overload200")
    assert head.startswith(b"HTTP/1.1 200")
    assert b"verloaded" in body
    assert DIALECTS[name].token not in body
    head, body, _ = answer_to(name, "demo-error-5", stream=False)
    assert head.startswith(b"HTTP/1.1 500")


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 529])
@EVERY
def test_statuses(name: str, status: int) -> None:
    head, body, _ = answer_to(name, f"demo-fail-{status}")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert json.loads(body)["error"]["message"]
    assert (b"retry-after: 1" in head) is (status in (429, 529))


@SERVERS
@pytest.mark.parametrize("model", ["demo-stall", "demo-stall-5", "demo-stall-headers", "demo-pace-1"])
@EVERY
def test_it_stops_at_once_when_the_client_leaves(name: str, model: str, foreign: bool) -> None:
    async def body() -> None:
        async with serving(foreign=foreign) as demo:
            reader, writer = await asyncio.open_connection("127.0.0.1", demo.port)
            writer.write(request_for(name, model))
            if model == "demo-stall-headers":
                await until(lambda: demo.app.active == 1)
            else:
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200")
            assert demo.app.active == 1
            assert demo.app.cancelled == 0
            writer.transport.abort()
            await until(lambda: demo.app.active == 0, 0.5)
            assert demo.app.cancelled == 1

    run(body())


def test_leaving_while_the_request_is_sent() -> None:
    async def body() -> None:
        async with serving() as demo:
            _, writer = await asyncio.open_connection("127.0.0.1", demo.port)
            writer.write(request_for("chat", "demo")[:-5])
            await until(lambda: demo.app.active == 1)
            writer.transport.abort()
            await until(lambda: demo.app.active == 0)
            assert demo.app.cancelled == 1
            assert not demo.app.requests

    run(body())


@EVERY
def test_answers_that_are_none(name: str) -> None:
    for stream in (True, False):
        head, body, clean = answer_to(name, "demo-garbage", stream=stream)
        assert head.startswith(b"HTTP/1.1 200")
        assert (b"text/event-stream" in head) is stream
        assert clean
        with pytest.raises(ValueError):
            json.loads(body.removeprefix(b"data: "))
        head, body, clean = answer_to(name, "demo-html", stream=stream)
        assert b"text/html" in head
        assert b"<html>" in body
        head, body, clean = answer_to(name, "demo-empty", stream=stream)
        assert (body, clean) == (b"", True)
        assert head.startswith(b"HTTP/1.1 200")


@EVERY
def test_json_instead_of_a_stream(name: str) -> None:
    head, body, _ = answer_to(name, "demo-json")
    assert b"application/json" in head
    json.loads(body)


def test_geminis_stream_without_sse_is_a_list() -> None:
    async def body() -> bytes:
        async with serving() as demo:
            asked = request_for("gemini", "demo").replace(b"?alt=sse", b"")
            return await raw(demo.port, asked)

    _, text, _ = unchunked(run(body()))
    assert json.loads(text)[0]["candidates"][0]["content"]["parts"][0]["text"] == "a b c d e f g h"


@EVERY
def test_ends_that_are_missing(name: str) -> None:
    _, body, clean = answer_to(name, "demo-nofinish")
    assert clean
    assert body.count(DIALECTS[name].token) == 7
    assert DIALECTS[name].finish not in body
    assert b"[DONE]" not in body
    _, body, clean = answer_to(name, "demo-nodone")
    assert DIALECTS[name].finish in body
    assert b"[DONE]" not in body
    _, body, clean = answer_to(name, "demo-nousage", stream=False)
    assert json.loads(body)
    assert b"_tokens" not in body or name == "anthropic" or b'"usage":null' in body


@EVERY
def test_framings(name: str) -> None:
    _, plain, _ = answer_to(name, "demo")
    _, body, _ = answer_to(name, "demo-crlf")
    assert body.count(b"\r\n\r\n") == plain.count(b"\n\n")
    assert b"\n" not in body.replace(b"\r\n", b"")
    _, body, _ = answer_to(name, "demo-ping")
    assert body.count(b": ping\n\n") == 8


def test_one_byte_a_write() -> None:
    async def body() -> None:
        async with serving() as demo:
            answer = await raw(demo.port, request_for("chat", "demo-trickle"))
            _, text, clean = unchunked(answer)
            assert clean
            assert answer.count(b"\r\n1\r\n") >= len(text) - 1

    run(body())


@pytest.mark.parametrize(("model", "writes"), [("demo-tokens-1000", 1000), ("demo-tokens-1000-batch-64", 16)])
@EVERY
def test_tokens_and_writes(name: str, model: str, writes: int) -> None:
    async def body() -> None:
        async with serving() as demo:
            _, text, clean = unchunked(await raw(demo.port, request_for(name, model)))
            assert clean
            for number in (1, 500, 1000):
                assert b'"%d "' % number in text
            assert b'"1001 "' not in text
            assert writes <= demo.app.writes <= writes + 8

    run(body())


def test_pace_and_stamps() -> None:
    started = time.monotonic_ns()
    _, body, _ = answer_to("chat", "demo-stamp-tokens-10-pace-200")
    ended = time.monotonic_ns()
    deltas = [json.loads(line[6:]) for line in body.split(b"\n") if line.startswith(b"data: {")]
    texts = [delta["choices"][0]["delta"].get("content") for delta in deltas if delta["choices"]]
    stamps = [int(text) for text in texts if text]
    assert len(stamps) == 10
    assert stamps == sorted(stamps)
    assert started < stamps[0] < stamps[-1] < ended
    assert stamps[-1] - started > 9 * 5_000_000 * 0.95  # a late token does not delay those after it


def test_requests_that_are_no_json_and_paths_that_are_none() -> None:
    async def body() -> None:
        async with serving() as demo:
            answer = await raw(demo.port, post("/v1/chat/completions", b"{no"))
            assert answer.startswith(b"HTTP/1.1 400")
            assert b"could not parse the JSON body" in answer
            answer = await raw(demo.port, post("/v1/nothing", b"{}"))
            assert answer.startswith(b"HTTP/1.1 404")
            for path in ("/v1/chat/completions", "/v1/messages", "/v1/responses"):
                answer = await raw(demo.port, post(path, b"[]"))
                assert answer.startswith(b"HTTP/1.1 400")
            odd = json.dumps({"model": "demo", "messages": [{"role": "user", "content": "x"}], "tools": ["x"]}).encode()
            answer = await raw(demo.port, post("/v1/chat/completions", odd))
            assert answer.startswith(b"HTTP/1.1 400")
            assert b"cannot read this request" in answer
            assert [seen.path for seen in demo.app.requests][:2] == ["/v1/chat/completions", "/v1/nothing"]
            assert demo.app.requests[0].body == b"{no"

    run(body())
