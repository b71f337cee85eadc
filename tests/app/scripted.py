"""An application without sockets: requests go in as ASGI messages, and what upstreams answer is given."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from relay.app import Application, create_app
from relay.config import PromptSettings, ServerSettings, Settings, StoreSettings, UpstreamSettings
from relay.state import open_store
from relay.state.store import Store

Head = list[tuple[bytes, bytes]]


class Scripted:
    """In place of ``relay.upstream.Client``. ``script(method, target, body)`` is what is answered."""

    def __init__(self, script: Callable[[str, str, bytes], Answer]) -> None:
        self.script = script

    async def request(
        self, origin: Any, method: str, target: str, headers: Any, body: bytes = b"", *more: Any, **options: Any
    ) -> Answer:
        return self.script(method, target, body)

    async def aclose(self) -> None:
        """Nothing is open."""


class Answer:
    """In place of ``relay.upstream.Answer``: ``pieces`` are all there."""

    def __init__(self, pieces: Iterable[bytes], content_type: str, status: int = 200, headers: Head | None = None):
        self.status = status
        self.headers: Head = [(b"content-type", content_type.encode()), *(headers or [])]
        self._pieces = [piece for piece in pieces if piece][::-1]

    def header(self, name: bytes) -> bytes | None:
        return next((value for key, value in self.headers if key == name), None)

    async def read(self) -> bytes:
        return self._pieces.pop() if self._pieces else b""

    async def push(self, consume: Callable[[bytes], bool]) -> None:
        while self._pieces and consume(self._pieces.pop()):
            pass

    async def body(self, limit_bytes: int) -> bytes:
        pieces, self._pieces = self._pieces[::-1], []
        return b"".join(pieces)

    def close(self) -> None:
        self._pieces = []

    retire = cease = close


def scripted(
    upstreams: Mapping[str, tuple[str, Mapping[str, Any]]],
    script: Callable[[str, str, str, bytes], Answer],
    store: Store | None = None,
    **settings: Any,
) -> Application:
    """An application before ``upstreams`` (name -> dialect, options); ``script(name, method, target, body)``."""
    configured = Settings(
        **{
            "server": ServerSettings(port=0),
            "upstreams": tuple(
                UpstreamSettings(name, dialect, "http://127.0.0.1:1/v1", **options)
                for name, (dialect, options) in upstreams.items()
            ),
            "store": StoreSettings(kind="memory"),
            "prompts": {"hello": PromptSettings("hello", "1", text="Hello {{name}}, see {{part}}")},
            **settings,
        }
    )
    app = create_app(configured, store=store or open_store("memory", None))
    for name, one in app.services.upstreams.items():
        client: Any = Scripted(partial(script, name))
        app.services.upstreams[name] = replace(one, client=client)
    return app


async def asked(app: Application, path: str, body: bytes, headers: Head | None = None) -> tuple[int, bytes, bytes]:
    """A POST: its status, content type and body."""
    sent: list[Any] = []
    incoming = [{"type": "http.request", "body": body, "more_body": False}]
    never = asyncio.Event()

    async def receive() -> Any:
        if not incoming:
            await never.wait()
        return incoming.pop()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1"), (b"content-type", b"application/json"), *(headers or [])],
        "client": ("127.0.0.1", 1),
        "extensions": {"relay.cancel": {}},
    }
    await app(scope, receive, send)
    kind = dict(sent[0]["headers"]).get(b"content-type", b"")
    return sent[0]["status"], kind, b"".join(one["body"] for one in sent[1:])


class Socket:
    """One WebSocket session: ``told`` sends a message and waits for ``done(text)`` of an answer."""

    def __init__(self, app: Application, headers: Head | None = None) -> None:
        self._incoming: asyncio.Queue[Any] = asyncio.Queue()
        self._outgoing: asyncio.Queue[Any] = asyncio.Queue()
        own = [(b"host", b"127.0.0.1"), *(headers or [])]
        scope = {"type": "websocket", "path": "/v1/responses", "headers": own, "client": ("127.0.0.1", 1)}
        self._task = asyncio.create_task(app(scope, self._incoming.get, self._outgoing.put))  # type: ignore[arg-type]
        self._incoming.put_nowait({"type": "websocket.connect"})

    async def ready(self) -> Socket:
        assert (await self._outgoing.get())["type"] == "websocket.accept"
        return self

    async def told(self, message: bytes, done: Callable[[bytes], bool]) -> list[bytes]:
        self._incoming.put_nowait({"type": "websocket.receive", "text": message})
        texts: list[bytes] = []
        while True:
            one = await self._outgoing.get()
            assert one["type"] == "websocket.send", one
            texts.append(one["text"].encode())
            if done(texts[-1]):
                return texts

    async def close(self) -> None:
        self._incoming.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await self._task


class Complaints(logging.Handler):
    """Errors and tracebacks that something logs."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info or record.levelno >= logging.ERROR:
            self.found.append(logging.Formatter().format(record))

    def __enter__(self) -> Complaints:
        logging.getLogger().addHandler(self)
        return self

    def __exit__(self, *exc: object) -> None:
        logging.getLogger().removeHandler(self)
