"""``relay.write``: our server's extension that writes at once, for an app that pushes (HTTP and WebSocket)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import websockets

from relay.server import Limits
from tests.server.support import PARSERS, Client, serving
from tests.support import run, until


@pytest.mark.parametrize("parser", PARSERS)
def test_pieces_go_out_in_order_with_what_is_sent(parser: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        write = scope["extensions"]["relay.write"]
        assert not write(b"too early")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        assert not write(b"too early")
        await send({"type": "http.response.body", "body": b"one ", "more_body": True})
        assert write(b"two ")
        assert write(b"")
        await send({"type": "http.response.body", "body": b"three", "more_body": False})
        assert not write(b"too late")

    async def ask() -> bytes:
        async with serving(app, http=parser, lifespan=False) as server:
            return (await (await Client.connect(server)).request()).body

    assert run(ask()) == b"one two three"


@pytest.mark.parametrize("parser", PARSERS)
def test_it_says_when_the_client_is_behind_and_when_it_is_gone(parser: str) -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        write = scope["extensions"]["relay.write"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        for _ in range(2000):
            if not write(b"x" * 65536):
                break
        seen.append("behind")
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        seen.append("caught up")
        assert write(b"x")
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("gone" if not write(b"x") else "there")

    async def ask() -> None:
        async with serving(app, http=parser, lifespan=False, limits=Limits()) as server:
            client = await Client.connect(server, receive_buffer=4096)
            client.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await until(lambda: seen == ["behind"])
            while seen == ["behind"]:
                await client.reader.read(1 << 20)
            client.reset()
            await until(lambda: len(seen) == 3)

    run(ask())
    assert seen == ["behind", "caught up", "gone"]


def test_texts_are_written_at_once() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        write = scope["extensions"]["relay.write"]
        await receive()
        assert not write([b"too early"])
        await send({"type": "websocket.accept"})
        assert write([b"one", b"two"])
        await send({"type": "websocket.send", "text": "three"})
        await send({"type": "websocket.close"})
        assert not write([b"too late"])

    async def ask() -> list[str | bytes]:
        async with (
            serving(app, lifespan=False) as server,
            websockets.connect(f"ws://127.0.0.1:{server.port}/", proxy=None) as socket,
        ):
            return [message async for message in socket]

    assert run(ask()) == ["one", "two", "three"]
