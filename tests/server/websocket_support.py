"""A WebSocket client that is a bare socket, and apps for it."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest

from relay.server import Server
from tests.server.support import Client, serving
from tests.wire.frames import CLOSE, PING, TEXT, frame

KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 §1.3, and what it must be answered with:
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

Session = Callable[[Any, Any, Any], Awaitable[None]]


def websocket_app(session: Session, failures: list[BaseException] | None = None) -> Any:
    """An ASGI app: ``session(scope, receive, send)`` runs once websocket.connect was received; no lifespan.

    The server survives what a session raises, so failed assertions go to ``failures`` as well.
    """

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            raise RuntimeError(f"no {scope['type']} here")
        assert await receive() == {"type": "websocket.connect"}
        try:
            await session(scope, receive, send)
        except (AssertionError, pytest.fail.Exception) as failure:
            if failures is not None:
                failures.append(failure)
            raise RuntimeError("an assertion failed in the session") from failure

    return app


async def echo_session(scope: Any, receive: Any, send: Any) -> None:
    """Accept, and send back what comes."""
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send(message | {"type": "websocket.send"})


class Frame(NamedTuple):
    """One frame of the server."""

    opcode: int
    payload: bytes
    fin: bool = True
    rsv: int = 0


class Peer:
    """An open WebSocket, frame by frame."""

    def __init__(self, client: Client, headers: dict[str, str]) -> None:
        self.client = client
        self.headers = headers

    def write(self, data: bytes) -> None:
        self.client.write(data)

    def text(self, text: str) -> None:
        self.write(frame(TEXT, text.encode()))

    def ping(self, payload: bytes = b"") -> None:
        self.write(frame(PING, payload))

    def close(self, code: int = 1000, reason: str = "") -> None:
        self.write(frame(CLOSE, struct.pack("!H", code) + reason.encode()))

    async def read(self) -> Frame:
        """The next frame; it is not masked, and its length is in the shortest form."""
        first, second = await self.client.reader.readexactly(2)
        size = second
        if second == 126:
            (size,) = struct.unpack("!H", await self.client.reader.readexactly(2))
            assert size > 125
        elif second == 127:
            (size,) = struct.unpack("!Q", await self.client.reader.readexactly(8))
            assert size > 65_535
        else:
            assert second < 126
        return Frame(first & 15, await self.client.reader.readexactly(size), bool(first & 128), first & 112)

    async def closed_with(self) -> int:
        """The code of the server's Close, which must be what comes next, and last."""
        answer = await self.read()
        assert answer.opcode == CLOSE
        assert await self.client.ended() == b""
        return int.from_bytes(answer.payload[:2])


class Served:
    """A server whose clients are closed with it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.clients: list[Client] = []

    async def connect(self, *, receive_buffer: int | None = None) -> Client:
        """A connection on which nothing was said."""
        client = await Client.connect(self.server, receive_buffer=receive_buffer)
        self.clients.append(client)
        return client

    async def open(self, *, early: bytes = b"", receive_buffer: int | None = None, **headers: str) -> Peer:
        """Connect and shake hands; ``early`` goes out with the request."""
        client = await self.connect(receive_buffer=receive_buffer)
        client.write(request(**headers) + early)
        status, answer, _ = await client.head()
        assert status == 101
        assert answer["sec-websocket-accept"] == ACCEPT
        return Peer(client, answer)


@asynccontextmanager
async def serving_websocket(session: Session, **options: Any) -> AsyncIterator[Served]:
    """``support.serving`` for ``websocket_app(session)``; raises at the end what failed in a session."""
    failures: list[BaseException] = []
    async with serving(websocket_app(session, failures), **options) as server:
        served = Served(server)
        try:
            yield served
        finally:
            for client in served.clients:
                client.leave()
    if failures:
        raise failures[0]


def request(**headers: str) -> bytes:
    """An opening request; ``headers`` replace or add (``_`` for ``-``), an empty value leaves one out."""
    fields = {
        "host": "test",
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-key": KEY,
        "sec-websocket-version": "13",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value)
    return f"GET /v1/responses?a=1 HTTP/1.1\r\n{lines}\r\n".encode()
