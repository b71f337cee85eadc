"""The ASGI application: routes, the rules at the door, and one answer for every request.

Source: ASGI 3; responses-api.md §1.1 (endpoints), §6 (errors); decisions 15, 28-32, 43.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

from relay.app import create, models, session, stored
from relay.app.access import log_answer, log_refusal
from relay.app.exchange import Exchange
from relay.app.guard import Guard, take_place
from relay.app.paths import api_path
from relay.app.replies import ClientLeft, Receive, Scope, Send, headers_of, send_json
from relay.app.services import Services, log
from relay.errors import RelayError

Handler = Callable[[Exchange], Awaitable[None]]


class Route(NamedTuple):
    """A path (its groups become ``exchange.match``), what it answers by method, and how it is guarded."""

    path: re.Pattern[str]
    methods: dict[str, Handler]
    public: bool = False  # needs no key
    bodiless: bool = False  # what is posted here is empty, so it needs no content type


async def _healthz(exchange: Exchange) -> None:
    content: dict[str, Any] = {"status": "ok"}
    if "lag" in exchange.query():
        content["longest_wait_ms"] = round(exchange.services.lag.take_s() * 1000, 1)
    await exchange.json(200, content)


async def _readyz(exchange: Exchange) -> None:
    """503 while the relay stops, and while the store's file itself is at fault; a disk that is full is ``store``."""
    services = exchange.services
    status = "draining" if not services.ready else "ok" if services.store.ready else "store_unavailable"
    content = {"status": status}
    if status == "ok" and not services.store.healthy:
        content["store"] = "unavailable"
    await exchange.json(200 if status == "ok" else 503, content)


_ID: Final = r"(?P<id>[^/]{1,256})"

ROUTES: Final[tuple[Route, ...]] = (
    Route(re.compile(r"/responses"), {"POST": create.create}),
    Route(re.compile(r"/responses/input_tokens"), {"POST": create.input_tokens}),
    Route(re.compile(r"/responses/compact"), {"POST": create.compact}),
    Route(re.compile(rf"/responses/{_ID}"), {"GET": stored.retrieve, "DELETE": stored.delete}),
    Route(re.compile(rf"/responses/{_ID}/cancel"), {"POST": stored.cancel}, bodiless=True),
    Route(re.compile(rf"/responses/{_ID}/input_items"), {"GET": stored.input_items}),
    Route(re.compile(r"/models"), {"GET": models.list_models}),
    Route(re.compile(r"/models/(?P<id>.{1,512})"), {"GET": models.retrieve_model}),
    Route(re.compile(r"/healthz"), {"GET": _healthz}, public=True),
    Route(re.compile(r"/readyz"), {"GET": _readyz}, public=True),
)

_CONVERSATIONS: Final = re.compile(r"/conversations(/.*)?")


class Application:
    """The ASGI 3 callable. ``on_unready``, ``on_drain``, ``on_deadline`` are what a server calls when it stops."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.guard = Guard(services.settings.server, services.settings.keys)
        self.sessions: set[session.Session] = set()
        self.socket_limits = session.SocketLimits()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One scope."""
        kind = scope["type"]
        if kind == "http":
            await self._http(scope, receive, send)
        elif kind == "websocket":
            await session.serve(self.services, self.guard, self.sessions, scope, receive, send, self.socket_limits)
        elif kind == "lifespan":
            await self._lifespan(receive, send)

    def on_unready(self) -> None:
        """Readiness goes off; all else goes on."""
        self.services.ready = False

    def on_drain(self) -> None:
        """Idle sockets close with 1001 (decision 38), new turns on a socket are refused."""
        self.services.ready = False
        self.services.draining = True
        for one in tuple(self.sessions):
            one.on_drain()

    async def on_deadline(self) -> None:
        """The drain time is over: every turn that still runs ends with ``response.failed``, what waits is refused."""
        for one in tuple(self.sessions):
            one.on_deadline()
        turns = tuple(self.services.turns)
        for turn in turns:
            turn.interrupt(RelayError("draining", "The relay is shutting down."))
        tasks = [turn.task for turn in turns if turn.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)

    async def aclose(self) -> None:
        """Let go of sockets and of the store."""
        await self.services.aclose()

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self.services.lag.start()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self.aclose()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(self.services, scope, headers_of(scope), receive, send)
        try:
            await self._answered(exchange)
        except (ClientLeft, ConnectionError):
            pass  # nobody is there to be told

    async def _answered(self, exchange: Exchange) -> None:
        scope = exchange.scope
        try:
            await self._answer(exchange)
        except RelayError as error:
            self.services.redactor.error(error, exchange.caller.key)
            if not exchange.recorded:
                log_refusal(scope, error)
            if not exchange.begun:
                await exchange.error(error)
        except (ClientLeft, ConnectionError):
            raise
        except Exception:
            log.exception("%s %s failed for a reason of our own", scope["method"], scope["path"])
            if exchange.begun:
                raise
            await exchange.error(RelayError("internal", "The relay had an internal error."))
        else:
            if not exchange.recorded:
                log_answer(scope, exchange.status, quiet=exchange.public)

    async def _answer(self, exchange: Exchange) -> None:
        method, path = exchange.scope["method"], exchange.scope["path"]
        path = api_path(path)
        for row in ROUTES:
            match = row.path.fullmatch(path)
            if match is None:
                continue
            exchange.public = row.public
            if not row.public:
                exchange.origin = self.guard.allowed_origin(exchange.headers)
                if method == "OPTIONS" and exchange.origin is not None:
                    await _preflight(exchange, row)
                    return
                self.guard.check_browser(exchange.headers, method, bodiless=row.bodiless)
                exchange.caller = self.guard.caller(exchange.headers)
                take_place(exchange.scope)
            handler = row.methods.get("GET" if method == "HEAD" else method)
            if handler is None:
                allowed = ", ".join(row.methods)
                message = f"{method} is not allowed here; allowed: {allowed}."
                raise RelayError("method_not_allowed", message, headers=(("allow", allowed),))
            exchange.match = match
            await handler(exchange)
            return
        if _CONVERSATIONS.fullmatch(path):
            raise RelayError("unsupported_endpoint", "Conversations are not supported by this relay.")
        raise RelayError("not_found", f"Unknown path: {path[:200]}")


async def _preflight(exchange: Exchange, route: Route) -> None:
    headers = [
        (b"access-control-allow-methods", ", ".join(route.methods).encode()),
        (b"access-control-allow-headers", exchange.headers.get(b"access-control-request-headers", b"*")),
        (b"access-control-max-age", b"600"),
    ]
    await send_json(exchange.send, 200, {}, [*headers, *exchange.own_headers()])
