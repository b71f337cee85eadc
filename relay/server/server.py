"""The server of one process: sockets to accept from, the app's lifespan, and the graceful stop.

Source: design.md §3 "Server"; decisions.md 38 (the order of a drain).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from relay.server.context import App, Context, logger
from relay.server.descriptors import Watch
from relay.server.http import HttpConnection
from relay.server.lifespan import Lifespan
from relay.server.limits import Limits
from relay.server.parsers import PARSERS
from relay.server.sockets import bind, remove_path
from relay.server.websocket import upgrade

if TYPE_CHECKING:
    from relay.config import ServerSettings

_FAREWELL_S = 1.0  # for cancelled requests to clean up


class Server:
    """Serves an ASGI 3 app between ``start`` and ``stop``, on the running loop."""

    def __init__(
        self,
        app: App,
        settings: ServerSettings,
        *,
        limits: Limits = Limits(),  # noqa: B008 (frozen)
        on_unready: Callable[[], None] | None = None,
        on_drain: Callable[[], None] | None = None,
        on_deadline: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._settings = settings
        self._on_unready = on_unready
        self._on_drain = on_drain
        self._on_deadline = on_deadline
        self._context = Context(app, settings, limits)
        self._lifespan = Lifespan(app, limits.startup_s)
        self._server: asyncio.Server | None = None
        self._listener: socket.socket | None = None
        self._descriptors: Watch
        self._make: Callable[[], HttpConnection]
        self._tls: ssl.SSLContext | None = None
        self._path: str | None = None  # of a Unix socket that ``start`` made
        self._adopting: set[asyncio.Task[None]] = set()
        self._stopped = True  # before ``start``
        self.port = 0

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._context.connections)

    @property
    def tasks(self) -> int:
        """How many requests' tasks are not done."""
        return len(self._context.tasks)

    async def start(self, sock: socket.socket | None = None) -> None:
        """Start the app, then accept on ``sock``, or on one that the settings name; ``port`` is set then.

        Raises: OSError, ssl.SSLError, StartupError.
        """
        settings, context = self._settings, self._context
        self._tls = tls_context(settings)
        own = sock is None
        sock = bind(settings) if sock is None else sock
        try:
            context.state = await self._lifespan.start()
            context.upgrade = upgrade
            parser = PARSERS[settings.http]
            self._make = lambda: HttpConnection(context, parser)
            self._server = await self._listen(sock)
            self._listener = sock
            self._descriptors = Watch(asyncio.get_running_loop())
            self._descriptors.start()
            self._stopped = False
            if sock.family == socket.AF_UNIX:
                self._path = settings.uds if own else None
            else:
                self.port = sock.getsockname()[1]
        except BaseException:
            if own:
                sock.close()
            await self._lifespan.stop()
            raise

    async def _listen(self, sock: socket.socket) -> asyncio.Server:
        loop, backlog = asyncio.get_running_loop(), self._context.limits.backlog
        listen = loop.create_unix_server if sock.family == socket.AF_UNIX else loop.create_server
        return await listen(
            self._make, sock=sock, backlog=backlog, ssl=self._tls, ssl_handshake_timeout=self._handshake_s
        )

    @property
    def _handshake_s(self) -> float | None:
        return self._context.limits.head_s if self._tls else None

    def adopt(self, accepted: socket.socket) -> None:
        """Serve a connection that was accepted elsewhere."""
        accepted.setblocking(False)
        loop = asyncio.get_running_loop()
        connecting = loop.connect_accepted_socket(
            self._make, accepted, ssl=self._tls, ssl_handshake_timeout=self._handshake_s
        )
        # A task, because a TLS handshake waits for the client; it ends by itself in the handshake's time.
        task = loop.create_task(_adopted(connecting))
        self._adopting.add(task)
        task.add_done_callback(self._adopting.discard)

    async def retire(self, delay_s: float = 0.0) -> None:
        """What comes before ``stop``: say that we leave, and lose no request that was sent meanwhile.

        Not ready, and every answer says ``connection: close``; for ``delay_s`` connections are still accepted. Then
        what the kernel has accepted is the last that is; it, and what is kept open, has ``Limits.grace_s`` to send a
        request, which is answered.
        """
        context = self._context
        if self._server is None:
            return
        context.draining = True
        if self._on_unready is not None:
            self._on_unready()
        if delay_s:
            await asyncio.sleep(delay_s)
        self._close_listener()
        if self._adopting:
            await asyncio.wait(list(self._adopting), timeout=context.limits.grace_s)
        await self._empty(context.limits.grace_s)

    def _close_listener(self) -> None:
        """Accept what the kernel has accepted, and close at once: what it resets came between the two."""
        if self._server is None:
            return
        listener, self._listener = self._listener, None
        while listener is not None:
            try:
                accepted, _ = listener.accept()
            except OSError:  # nobody waits, or no descriptors are left
                break
            self.adopt(accepted)
        self._server.close()
        self._server = None
        if self._path is not None:
            remove_path(self._path)

    async def stop(self, drain_timeout_s: float | None = None) -> None:
        """Stop accepting, let what runs finish within the time (default: the setting), then end it."""
        context, limits = self._context, self._context.limits
        if self._stopped:
            return
        self._stopped = True
        self._descriptors.stop()
        timeout_s = self._settings.drain_timeout_s if drain_timeout_s is None else drain_timeout_s
        context.draining = True
        if self._on_drain is not None:
            self._on_drain()
        self._close_listener()
        for connection in list(context.connections):
            connection.drain()
        if not await self._empty(timeout_s):
            logger.info("%d connections are still open at the drain deadline", self.connections)
            await self._end_turns()
            await self._empty(limits.flush_s)
        await self.abort()
        await self._lifespan.stop()

    async def abort(self) -> None:
        """Cancel what runs, and close."""
        for connection in list(self._context.connections):
            connection.close()
        if self._context.tasks:
            await asyncio.wait(list(self._context.tasks), timeout=_FAREWELL_S)
        if not await self._empty(_FAREWELL_S):
            for connection in list(self._context.connections):
                connection.close()
            await asyncio.sleep(0)

    async def _end_turns(self) -> None:
        if self._on_deadline is None:
            return
        try:
            async with asyncio.timeout(self._context.limits.deadline_s):
                await self._on_deadline()
        except TimeoutError:
            logger.error("the app took too long to end its turns")

    async def _empty(self, timeout_s: float) -> bool:
        """Wait until no connection is left; False after ``timeout_s``."""
        context = self._context
        if context.connections:
            emptied = asyncio.Event()
            context.on_empty = emptied.set
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await emptied.wait()
            context.on_empty = None
        return not context.connections


async def _adopted(connecting: Coroutine[Any, Any, object]) -> None:
    with contextlib.suppress(OSError):  # a client that has left, a handshake that failed
        await connecting


def tls_context(settings: ServerSettings) -> ssl.SSLContext | None:
    """What a configured certificate serves with, or None.

    Raises: OSError, ssl.SSLError.
    """
    if settings.ssl_certfile is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(settings.ssl_certfile, settings.ssl_keyfile)
    context.set_alpn_protocols(["http/1.1"])
    return context
