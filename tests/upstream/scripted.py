"""Raw servers for the client's tests: each connection runs a script that reads requests and writes any bytes."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from relay.upstream import Answer, Client, Origin, Timeouts

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
QUICK = Timeouts(5, 5, 5)


class Peer:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.sent_bytes = 0

    async def request(self) -> bytes:
        """One whole request, head and body."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        return head + (await self.reader.readexactly(int(length[1])) if length else b"")

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()
        self.sent_bytes += len(data)

    async def left(self) -> None:
        """Returns when the client has closed or reset the connection."""
        try:
            while await self.reader.read(65_536):
                pass
        except ConnectionError:
            pass

    def reset(self) -> None:
        """RST, not FIN."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Peer], Awaitable[None]]


class Server:
    """What a test asks of a running script server."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.tasks: list[asyncio.Task[None]] = []
        self.peers: list[Peer] = []
        self.finished = 0
        self.origin = Origin("http", "127.0.0.1", 0)

    @property
    def accepted(self) -> int:
        return len(self.peers)

    def on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        self.peers.append(peer)
        self.tasks.append(asyncio.ensure_future(self._run(peer)))

    async def _run(self, peer: Peer) -> None:
        try:
            await self._script(peer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.finished += 1
            if not peer.writer.transport.is_closing():
                peer.writer.close()


@asynccontextmanager
async def serving(
    script: Script, *, tls: ssl.SSLContext | None = None, unix: str | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[Server]:
    """Runs ``script`` for each connection; its assertion errors fail the test."""
    server = Server(script)
    if unix is not None:
        listener = await asyncio.start_unix_server(server.on_connection, unix)
        server.origin = Origin("http", "localhost", 80, unix)
    else:
        listener = await asyncio.start_server(server.on_connection, host, 0, ssl=tls)
        server.origin = Origin("https" if tls else "http", host, listener.sockets[0].getsockname()[1])
    try:
        yield server
    finally:
        listener.close()
        for task in server.tasks:
            if not task.done():
                task.cancel()
        results = await asyncio.gather(*server.tasks, return_exceptions=True)
        for peer in server.peers:
            peer.writer.transport.abort()
        await asyncio.sleep(0.002)
    for result in results:
        if isinstance(result, Exception):
            raise result


def answering(response: bytes, *, close: bool = False) -> Script:
    """Every request gets the same bytes; then the connection is closed, or kept."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(response)
            if close:
                return

    return script


@asynccontextmanager
async def client_of(**settings: object) -> AsyncIterator[Client]:
    """A client that must not leak: after ``aclose`` no connection is open."""
    client = Client(**settings)  # type: ignore[arg-type]
    try:
        yield client
    finally:
        await client.aclose()
        assert client.open_connections == 0


async def post(client: Client, server: Server, body: bytes = b"{}", timeouts: Timeouts = QUICK) -> Answer:
    return await client.request(server.origin, "POST", "/v1/x", [("authorization", "Bearer k")], body, timeouts)


async def fetch(client: Client, server: Server, timeouts: Timeouts = QUICK) -> tuple[int, bytes]:
    """Status and body; closed."""
    answer = await post(client, server, timeouts=timeouts)
    try:
        return answer.status, await answer.body(1_000_000)
    finally:
        answer.close()
