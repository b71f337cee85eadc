"""The demo upstream on a real socket of the test's own loop, with counters."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from relay.config import ServerSettings
from relay.demo import DemoApp, create_app
from relay.server import Server


class Demo:
    """A running demo upstream: ``origin`` and ``app``."""

    def __init__(self, app: DemoApp, port: int) -> None:
        self.app = app
        self.port = port
        self.origin = f"http://127.0.0.1:{port}"


@asynccontextmanager
async def serving(*, foreign: bool = False, **options: Any) -> AsyncIterator[Demo]:
    """Serve a fresh demo upstream without pace on a port of its own: by our server, or (foreign) by uvicorn."""
    app = create_app(**{"tokens_per_s": 0, **options})
    async with (_by_uvicorn if foreign else _by_relay)(app) as port:
        yield Demo(app, port)


@asynccontextmanager
async def _by_relay(app: DemoApp) -> AsyncIterator[int]:
    server = Server(app, ServerSettings(port=0))
    await server.start()
    try:
        yield server.port
    finally:
        await server.stop(0)


@asynccontextmanager
async def _by_uvicorn(app: DemoApp) -> AsyncIterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="on", ws="none"))
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = server.force_exit = True
        await task
        listener.close()


async def raw(port: int, request: bytes) -> bytes:
    """What the server sends until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        return await reader.read(-1)
    finally:
        writer.close()


def post(path: str, body: bytes, *headers: str) -> bytes:
    """A raw POST that asks the server to close afterwards."""
    lines = [f"POST {path} HTTP/1.1", "Host: demo", "Connection: close", "Content-Type: application/json", *headers]
    lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body
