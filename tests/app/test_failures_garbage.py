"""A failure leaves nothing to the garbage collector either: errors hold frames, and frames what they worked on.

A storm of 503 answers to requests of 8 MB took a worker from 32 MiB to 1.5 GiB, because each left a circle that waited
for a collection (issue 10 point 11).
"""

from __future__ import annotations

import asyncio
import gc
import types
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest

from tests.app.sockets import connected
from tests.app.support import DIALECTS, PATHS, Relay, fronting, post
from tests.app.upstreams import HEAD, chunk, first, token
from tests.support import run, until

TIMES = 6


def _ours(one: object) -> bool:
    if isinstance(one, types.FrameType):
        return str(one.f_globals.get("__name__", "")).startswith("relay.")
    return type(one).__module__.startswith("relay.")


Play = Callable[[Relay, str], Awaitable[None]]


class Upstream:
    """Says ``answer`` to every request and then does ``end``: ``close``, ``reset`` or ``wait``."""

    def __init__(self, answer: bytes, end: str) -> None:
        self.answer = answer
        self.end = end
        self.asked = 0
        self.over = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            self.asked += 1
            writer.write(self.answer)
            await writer.drain()
            if self.end == "wait":
                await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            if self.end == "reset":
                writer.transport.abort()
            writer.close()


def answered(status: int, body: bytes, kind: str = "application/json") -> bytes:
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


ERROR = orjson.dumps({"error": {"message": "no", "type": "server_error"}})


def upstream_says(dialect: str) -> dict[str, tuple[bytes, str]]:
    said = first(dialect) + token(dialect, "word", 0)
    return {
        "503": (answered(503, ERROR), "close"),
        "400": (answered(400, ERROR), "close"),
        "garbage": (b"nonsense\r\n\r\n", "close"),
        "a page": (answered(200, b"<html>", "text/html"), "close"),
        "JSON that is none": (answered(200, b"{" * 40_000), "close"),
        "an error inside": (HEAD + chunk(b"data: " + ERROR + b"\n\n") + b"0\r\n\r\n", "close"),
        "no answer": (b"", "close"),
        "reset before": (b"", "reset"),
        "reset in the middle": (HEAD + chunk(said), "reset"),
        "cut": (HEAD + chunk(said) + b"0\r\n\r\n", "close"),
        "silence": (b"", "wait"),
        "silence in the middle": (HEAD + chunk(said), "wait"),
        "a large event that is none": (HEAD + chunk(said + b"data: {" + b"x" * 70_000 + b"\n\n"), "close"),
    }


async def whole(relay: Relay, dialect: str, **body: Any) -> None:
    """Ask, and read to the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    writer.write(post({"model": "m", "input": "hi", **body}, "Connection: close"))
    await reader.read()
    writer.close()


async def left_circles(play: Callable[[], Awaitable[None]], idle: Callable[[], bool]) -> dict[str, int]:
    """What ``play`` leaves to the collector each time, by type."""
    await play()
    await play()
    await until(idle)
    await asyncio.sleep(0.01)
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        for _ in range(TIMES):
            await play()
        await until(idle)
        await asyncio.sleep(0.01)
        gc.collect()
        found = Counter(type(one).__qualname__ for one in gc.garbage if _ours(one))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    return {name: count for name, count in found.items() if count >= TIMES}


def check(play: Play, answer: tuple[bytes, str], dialect: str = "chat", **timeouts: Any) -> None:
    async def main() -> None:
        upstream = Upstream(*answer)
        server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{PATHS[dialect]}"
        async with fronting(dialect, url, **timeouts) as relay:
            idle = lambda: not relay.app.services.turns  # noqa: E731
            found = await left_circles(lambda: play(relay, dialect), idle)
        server.close()
        assert found == {}

    run(main(), 40)


@pytest.mark.parametrize("stream", [False, True], ids=["JSON", "SSE"])
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("what", sorted(upstream_says("chat")))
def test_upstreams_that_fail(what: str, dialect: str, stream: bool) -> None:
    async def play(relay: Relay, dialect: str) -> None:
        await whole(relay, dialect, stream=stream)

    short = {"first_byte_timeout_s": 0.05, "idle_timeout_s": 0.05} if "silence" in what else {}
    check(play, upstream_says(dialect)[what], dialect, **short)


REFUSED: dict[str, bytes] = {
    "no JSON": b"{",
    "no input": b'{"model": "m"}',
    "no object": b"[]",
    "unknown model": b'{"input": "hi"}',
    "a bad item": b'{"model": "m", "input": [{"type": 5}]}',
    "deep": b"[" * 2_000 + b"]" * 2_000,
}


@pytest.mark.parametrize("what", sorted(REFUSED))
def test_requests_that_are_refused(what: str) -> None:
    async def play(relay: Relay, dialect: str) -> None:
        body = REFUSED[what]
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
        head = b"POST /v1/responses HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        writer.write(head + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        assert b" 400 " in (await reader.read())[:20]
        writer.close()

    check(play, (b"", "wait"))


@pytest.mark.parametrize("stream", [False, True], ids=["JSON", "SSE"])
@pytest.mark.parametrize("when", ["in the head", "in the body", "before the first byte", "in the stream"])
def test_clients_that_leave(when: str, stream: bool) -> None:
    request = post({"model": "m", "input": "x" * 100_000, "stream": stream})
    cut = {"in the head": 20, "in the body": len(request) // 2}.get(when, len(request))

    async def main() -> None:
        begun = HEAD + chunk(first("chat") + token("chat", "word", 0)) if when == "in the stream" else b""
        upstream = Upstream(begun, "wait")
        server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        async with fronting("chat", url) as relay:

            async def play() -> None:
                before = upstream.asked
                reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
                writer.write(request[:cut])
                if cut == len(request):
                    await until(lambda: upstream.asked > before)
                    if begun and stream:
                        await reader.readuntil(b"word")
                else:
                    await asyncio.sleep(0.005)
                writer.transport.abort()

            found = await left_circles(play, lambda: not relay.app.services.turns)
        server.close()
        assert found == {}

    run(main(), 40)


@pytest.mark.parametrize("what", ["503", "reset in the middle", "cut", "leaves", "a bad message"])
def test_sockets_that_fail(what: str) -> None:
    answers = upstream_says("chat")
    answer = answers["silence in the middle" if what in ("leaves", "a bad message") else what]

    ends = ("response.output_text.delta",) if what == "leaves" else ("error", "response.failed")

    async def play(relay: Relay, dialect: str) -> None:
        async with connected(relay.port) as socket:
            await socket.create(model="m", input="hi", **({"n": "x"} if what == "a bad message" else {}))
            while (await socket.event())["type"] not in ends:
                pass

    check(play, answer)
