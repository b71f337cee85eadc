"""Bodies and messages in very many very small pieces: read whole within the bound, and nobody waits for them."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from tests.server import support
from tests.server.support import PARSERS, Client
from tests.server.websocket_support import echo_session, serving_websocket
from tests.support import run
from tests.wire.frames import CONTINUATION, TEXT, frame

HEAD = b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"


async def count(scope: Any, receive: Any, send: Any) -> None:
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(b"%d" % size))]}
    )
    await send({"type": "http.response.body", "body": b"%d" % size})


@pytest.fixture
def untraced() -> Iterator[None]:
    """Without the tracer of a coverage run, whose cost is none of ours."""
    tracer = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(tracer)


class Turns:
    """The longest time between two turns of the running loop."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._at = time.perf_counter()
        self._loop = asyncio.get_running_loop()
        self._handle = self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        now = time.perf_counter()
        self.longest_s = max(self.longest_s, now - self._at)
        self._at = now
        self._handle = self._loop.call_soon(self._turn)

    def stop(self) -> float:
        self._handle.cancel()
        return self.longest_s


@pytest.mark.parametrize("http", PARSERS)
def test_a_body_of_tiny_chunks_is_read_in_slices(http: str, untraced: None) -> None:
    async def longest() -> float:
        async with support.serving(count, lifespan=False, http=http) as server:
            client = await Client.connect(server)
            turns = Turns()
            client.write(HEAD + b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n")
            answer = await client.answer()
            assert (answer.status, answer.body) == (200, b"100000")
            assert (await client.request("/", "POST", b"abc")).body == b"3"  # the connection goes on
            return turns.stop()

    assert min(run(longest()) for _ in range(3)) < 0.05


@pytest.mark.parametrize("http", PARSERS)
def test_more_framing_than_is_allowed_is_a_400(http: str) -> None:
    async def main() -> None:
        async with support.serving(count, lifespan=False, http=http) as server:
            client = await Client.connect(server)
            client.write(HEAD + b"1\r\nx\r\n" * 400_000)
            answer = await client.answer()
            assert answer.status == 400
            assert "too many small chunks" in orjson.loads(answer.body)["error"]["message"]

    run(main())


@pytest.mark.parametrize("http", PARSERS)
def test_a_client_that_is_read_in_slices_may_still_be_answered_early(http: str) -> None:
    async def early(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 413, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async def main() -> None:
        async with support.serving(early, lifespan=False, http=http) as server:
            client = await Client.connect(server)
            client.write(HEAD + b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n")
            assert (await client.answer()).status == 413
            assert await client.reader.read() == b""

    run(main())


@pytest.mark.parametrize("size", [1, 100, 4_086])
def test_a_message_in_many_frames_is_read_in_slices(size: int, untraced: None) -> None:
    text = b"x" * min(4_400_000, 100_000 * size)

    async def longest() -> float:
        async with serving_websocket(echo_session) as served:
            peer = await served.open()
            data = b"".join(
                frame(TEXT if not at else CONTINUATION, text[at : at + size], fin=at + size >= len(text))
                for at in range(0, len(text), size)
            )
            turns = Turns()
            peer.write(data)
            assert (await peer.read()).payload == text
            return turns.stop()

    assert min(run(longest(), 60.0) for _ in range(3)) < 0.05
