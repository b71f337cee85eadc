"""The demo upstream on a real socket of the test's own loop, with counters."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from relay.demo import DemoApp, create_app


class Demo:
    """A running demo upstream: ``origin`` and ``app``."""

    def __init__(self, app: DemoApp, port: int) -> None:
        self.app = app
        self.port = port
        self.origin = f"http://127.0.0.1:{port}"


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[Demo]:
    """Serve a fresh demo upstream without pace on a port of its own."""
    app = create_app(**{"tokens_per_s": 0, **options})
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="on", ws="none"))
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined,method-assign]
    server.capture_signals = _no_signals  # type: ignore[method-assign]
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield Demo(app, listener.getsockname()[1])
    finally:
        server.should_exit = True
        server.force_exit = True
        await task
        listener.close()


def _no_signals() -> Any:
    from contextlib import nullcontext

    return nullcontext()


async def raw(port: int, request: bytes, limit_bytes: int = 1 << 22) -> bytes:
    """What the server sends until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        return await reader.read(-1) if limit_bytes < 0 else await _until_end(reader, limit_bytes)
    finally:
        writer.close()


async def _until_end(reader: asyncio.StreamReader, limit_bytes: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while size < limit_bytes:
        piece = await reader.read(65536)
        if not piece:
            break
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)


def post(path: str, body: bytes, *headers: str) -> bytes:
    """A raw POST that asks the server to close afterwards."""
    lines = [f"POST {path} HTTP/1.1", "Host: demo", "Connection: close", "Content-Type: application/json", *headers]
    lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body
