"""The whole relay in one loop: the demo upstream and the application, each on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson
import uvicorn

from relay.app import Application, create_app
from relay.config import ServerSettings, Settings, StoreSettings, UpstreamSettings
from relay.demo import DemoApp
from relay.demo import create_app as create_demo
from relay.server import Server
from relay.state import open_store
from tests.server.support import serving
from tests.support import until

PATHS = {"chat": "/v1", "responses": "/v1", "anthropic": "", "gemini": ""}
"""Where the demo upstream has each dialect's base."""

DIALECTS = tuple(PATHS)


@dataclass
class Relay:
    """A running relay: ``port`` of the relay, ``demo`` behind it, ``app`` inside it."""

    port: int
    app: Application
    demo: DemoApp
    demo_port: int
    server: Server | None = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


@asynccontextmanager
async def relaying(
    dialect: str = "chat",
    *,
    http: str = "httptools",
    foreign: bool = False,
    upstream: Mapping[str, Any] | None = None,
    server: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    demo: Mapping[str, Any] | None = None,
    **services: Any,
) -> AsyncIterator[Relay]:
    """A relay in front of the demo upstream; ``foreign``: under uvicorn in place of our server."""
    demo_app = create_demo(**{"tokens_per_s": 0, **(demo or {})})
    async with serving(demo_app) as demo_server:
        one = UpstreamSettings(
            "demo",
            dialect,
            f"http://127.0.0.1:{demo_server.port}{PATHS[dialect]}",
            **{"api_key": "upstream-canary", "models": ("*",), **(upstream or {})},
        )
        configured = Settings(
            **{
                "server": ServerSettings(port=0, **(server or {})),
                "upstreams": (one,),
                "store": StoreSettings(kind="memory"),
                **(settings or {}),
            }
        )
        store = services.pop("store", None) or open_store("memory", None)
        app = create_app(configured, store=store, **services)
        if foreign:
            async with quiet_uvicorn(app) as port:
                yield Relay(port, app, demo_app, demo_server.port)
        else:
            async with serving(
                app, http=http, on_drain=app.on_drain, on_deadline=app.on_deadline, **(server or {})
            ) as running:
                yield Relay(running.port, app, demo_app, demo_server.port, running)


@asynccontextmanager
async def fronting(
    dialect: str,
    url: str,
    *,
    http: str = "httptools",
    foreign: bool = False,
    strict: bool = False,
    services: Mapping[str, Any] | None = None,
    **upstream: Any,
) -> AsyncIterator[Relay]:
    """A relay in front of any upstream address; ``services`` are fields of ``Services``."""
    one = UpstreamSettings("up", dialect, url, **{"models": ("*",), **upstream})
    configured = Settings(
        server=ServerSettings(port=0, strict=strict), upstreams=(one,), store=StoreSettings(kind="memory")
    )
    app = create_app(configured, store=open_store("memory", None), **(services or {}))
    if foreign:
        async with quiet_uvicorn(app) as port:
            yield Relay(port, app, create_demo(), 0)
    else:
        async with serving(app, http=http, on_drain=app.on_drain, on_deadline=app.on_deadline) as running:
            yield Relay(running.port, app, create_demo(), 0, running)


def post(body: Mapping[str, Any], *headers: str) -> bytes:
    """A raw ``POST /v1/responses``."""
    content = orjson.dumps(body)
    lines = ["POST /v1/responses HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(content)}", "", ""]).encode() + content


@asynccontextmanager
async def quiet_uvicorn(app: Any) -> AsyncIterator[int]:
    """Another ASGI server, on the test's own loop; yields its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="critical", lifespan="on", ws="websockets-sansio", timeout_keep_alive=60)
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await until(lambda: server.started)
        yield listener.getsockname()[1]
    finally:
        server.should_exit = server.force_exit = True
        await task
        listener.close()
