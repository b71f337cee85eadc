"""One HTTP request at the application: what handlers read and how they answer."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl

from relay.app.bodies import read_json
from relay.app.guard import Caller
from relay.app.replies import Header, Message, Receive, Scope, Send, read_body, request_id_of, send_error, send_json
from relay.app.services import Services
from relay.errors import RelayError
from relay.ids import current_request
from relay.wire.http1 import GUARD_HEADERS

_TRACE: Final = (b"traceparent", b"tracestate")
# What a page of another origin may read (WHATWG Fetch §3.3.5); ``*`` is for what upstreams add, and is taken for a name
# where credentials are sent, which the relay never allows.
_EXPOSED: Final = ", ".join(
    ["x-request-id", "x-relay-warnings", "x-relay-upstream-request-id", "retry-after", "retry-after-ms"]
    + ["x-should-retry"]
    + [f"x-ratelimit-{word}-{unit}" for word in ("limit", "remaining", "reset") for unit in ("requests", "tokens")]
    + ["*"]
).encode()


class Runs(Protocol):
    """What a client waits for: a turn, a replay."""

    async def run(self) -> object:
        """To the end of the answer."""
        ...


class Exchange:
    """One request and its answer. ``begun`` is true once the head of the answer has been handed to the server."""

    __slots__ = (
        "_receive",
        "_send",
        "begun",
        "body_read",
        "caller",
        "headers",
        "match",
        "origin",
        "public",
        "recorded",
        "request_id",
        "scope",
        "services",
        "status",
        "weight",
        "whole",
    )

    def __init__(
        self, services: Services, scope: Scope, headers: dict[bytes, bytes], receive: Receive, send: Send
    ) -> None:
        self.services = services
        self.scope = scope
        self.headers = headers
        self.caller = Caller("anonymous")
        self.match: re.Match[str] | None = None
        self.origin: bytes | None = None
        self.begun = False
        self.body_read = False
        self.public = False
        self.recorded = False
        """A turn runs, which has a line of the log of its own."""
        self.status = 0
        self.whole = False
        """The answer is one JSON body, in which an upstream may repeat the relay's keys."""
        self.weight = 0
        """JSON values of the body, or a few more, once it is read."""
        self._receive = receive
        self._send = send
        self.request_id = request_id_of(headers, services.new_id)
        current_request.set(self.request_id.decode())

    @property
    def id(self) -> str:
        """The ``{id}`` of the path."""
        return self.match["id"] if self.match is not None else ""

    async def send(self, message: Message) -> None:
        """The ASGI send, watched."""
        if not self.begun:
            self.begun = True
            self.status = message["status"]
        elif self.whole and message["type"] == "http.response.body":
            message = {**message, "body": self.services.redactor.data(message["body"])}
        await self._send(message)

    @property
    def write_now(self) -> Callable[[bytes], bool] | None:
        """Our server's way to write a piece of the body at once; None on any other server."""
        write: Callable[[bytes], bool] | None = (self.scope.get("extensions") or {}).get("relay.write")
        return write

    def own_headers(self) -> list[Header]:
        """Headers of every answer."""
        headers: list[Header] = [(b"x-request-id", self.request_id), *GUARD_HEADERS]
        if self.origin is not None:
            headers += [
                (b"access-control-allow-origin", self.origin),
                (b"access-control-expose-headers", _EXPOSED),
                (b"vary", b"origin"),
            ]
        return headers

    def trace(self) -> tuple[tuple[str, str], ...]:
        """Trace headers for the upstream."""
        return tuple((name.decode(), self.headers[name].decode("latin-1")) for name in _TRACE if name in self.headers)

    async def body(self) -> Any:
        """The JSON body. Raises: RelayError, ClientLeft."""
        services, server, owner = self.services, self.services.settings.server, self.caller.owner
        held = 0

        def take(count: int) -> None:
            nonlocal held
            services.receiving.take(owner, count)
            held += count

        try:
            data, weight = await read_body(self.headers, self._receive, server.max_body_bytes, take)
            self.body_read = True
            content, self.weight = await read_json(services.heavy, owner, data, weight, max_values=server.max_values)
            return content
        finally:
            services.receiving.let_go(owner, held)

    def query(self) -> dict[str, list[str]]:
        """Query parameters; ``include[]`` and ``include[0]`` count as ``include`` (responses-api.md §1.1)."""
        values: dict[str, list[str]] = {}
        for name, value in parse_qsl(self.scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True):
            values.setdefault(re.sub(r"\[\d*\]$", "", name), []).append(value)
        return values

    async def json(self, status: int, content: Any, headers: list[Header] | None = None) -> None:
        """A whole JSON answer."""
        self.whole = True
        await send_json(self.send, status, content, [*(headers or []), *self.own_headers()])

    async def error(self, error: RelayError) -> None:
        """The error envelope."""
        await send_error(self.send, error, self.own_headers())

    async def run(self, turn: Runs) -> None:
        """Run a turn, or something like it, that ends when the client leaves (decision 5)."""
        if "relay.cancel" in (self.scope.get("extensions") or {}):
            await turn.run()  # our server cancels this task itself
            return
        # another ASGI server only tells: one task listens, and cancels the other
        running = asyncio.current_task()
        left = False

        async def listen() -> None:
            nonlocal left
            while (await self._receive())["type"] != "http.disconnect":
                pass
            left = True
            if running is not None:
                running.cancel()

        listener = asyncio.get_running_loop().create_task(listen())
        try:
            await turn.run()
        except asyncio.CancelledError:
            if not left:
                raise
            if running is not None:
                running.uncancel()
        finally:
            listener.cancel()
