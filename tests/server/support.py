"""Serving an app in a test, and a client that is a bare socket.

async with serving(app, http="h11") as server:
    client = await Client.connect(server)
    client.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    answer = await client.answer()
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from relay.config import ServerSettings
from relay.server import Limits, Server

PARSERS = ("httptools", "h11")


@asynccontextmanager
async def serving(
    app: Any,
    *,
    limits: Limits | None = None,
    on_drain: Any = None,
    on_deadline: Any = None,
    lifespan: bool = True,
    **settings: Any,
) -> AsyncIterator[Server]:
    """A started server on a free port of 127.0.0.1 (or ``uds``); stopped at once at the end, as are its clients.

    ``lifespan=False`` is for apps that know requests only.
    """
    app = app if lifespan else without_lifespan(app)
    settings.setdefault("port", 0)
    server = Server(
        app, ServerSettings(**settings), limits=limits or Limits(), on_drain=on_drain, on_deadline=on_deadline
    )
    await server.start()
    try:
        yield server
    finally:
        while Client.connected:
            client = Client.connected.pop()
            client.writer.transport.abort()
        await server.stop(0.0)


def without_lifespan(app: Any) -> Any:
    """``app`` as one that does not speak the lifespan protocol."""

    async def only_requests(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        await app(scope, receive, send)

    return only_requests


@dataclass
class Answer:
    """A response as it came: ``body`` without its framing, ``raw`` with it; ``whole`` unless it was cut."""

    status: int
    headers: dict[str, str]
    body: bytes
    head: bytes
    whole: bool = True


class Client:
    """A raw connection. ``answer`` reads one response by framing code that shares nothing with the server's."""

    connected: ClassVar[list[Client]] = []  # closed when ``serving`` ends

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connected.append(self)
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(
        cls, server: Server | int, *, uds: str | None = None, receive_buffer: int | None = None, **kwargs: Any
    ) -> Client:
        """To a server or port, or to the path ``uds``; ``receive_buffer`` makes a client that cannot take much."""
        if uds is not None:
            return cls(*await asyncio.open_unix_connection(uds, **kwargs))
        port = server if isinstance(server, int) else server.port
        sock = socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        except OSError:
            sock.close()
            raise
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(*await asyncio.open_connection(sock=sock, limit=4096 if receive_buffer else 2**20, **kwargs))

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    async def write_bytewise(self, data: bytes) -> None:
        """Each byte in a write of its own; stops where the server has closed."""
        for at in range(len(data)):
            if self.writer.is_closing():
                return
            self.writer.write(data[at : at + 1])
            await asyncio.sleep(0)

    async def head(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers in lower case, and the head's bytes; skips no 100 Continue."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        line, *fields = head[:-4].decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
        return int(line.split(" ")[1]), headers, head

    async def answer(self, *, method: str = "GET") -> Answer:
        """One response; a cut one has ``whole`` false."""
        status, headers, head = await self.head()
        answer = Answer(status, headers, b"", head)
        pieces = []
        if method == "HEAD" or status in (204, 304) or status < 200:
            return answer
        try:
            if headers.get("transfer-encoding") == "chunked":
                while size := int((await self.reader.readuntil(b"\r\n"))[:-2], 16):
                    pieces.append(await self.reader.readexactly(size))
                    assert await self.reader.readexactly(2) == b"\r\n"
                assert await self.reader.readexactly(2) == b"\r\n"
            elif "content-length" in headers:
                pieces.append(await self.reader.readexactly(int(headers["content-length"])))
            else:
                pieces.append(await self.reader.read())
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            pieces.append(getattr(error, "partial", b""))
            answer.whole = False
        answer.body = b"".join(pieces)
        return answer

    async def request(self, target: str = "/", method: str = "GET", body: bytes = b"", **headers: str) -> Answer:
        """Send one request with content-length and read its answer."""
        fields = {"host": "test", **{name.replace("_", "-"): value for name, value in headers.items()}}
        if body:
            fields["content-length"] = str(len(body))
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self.write(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode() + body)
        return await self.answer(method=method)

    async def ended(self) -> bytes:
        """What still comes until the server closes; a reset counts as closing."""
        try:
            return await self.reader.read()
        except ConnectionError:
            return b""

    def leave(self) -> None:
        """FIN and no more."""
        self.writer.close()

    def reset(self) -> None:
        """RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """An app that answers with what it was sent: method, path, query and body."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    line = f"{scope['method']} {scope['path']}?".encode() + scope["query_string"] + b" "
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-echo", b"1")]})
    await send({"type": "http.response.body", "body": line + body})
