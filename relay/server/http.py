"""One client's HTTP/1.1 connection: bytes to requests, time limits, leaving, and the end of it.

Source: RFC 9112 §9 (connections, pipelining, tear-down); decisions.md 5 and 7. The limits are ``limits.Limits``.

At any time a connection waits for at most one thing, so it has one timer, which is armed anew only when it fires or
when the next deadline is earlier: a request that arrives whole, and its answer, leave the timer as it is.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import unquote

from relay.errors import RelayError
from relay.server.context import Context, Scope, logger
from relay.server.door import Seat, stranger_address
from relay.server.forwarded import believe, trusts
from relay.server.limits import Limits
from relay.server.parsers import Events, Parser
from relay.server.refusals import refusal_headers
from relay.server.request import Request
from relay.server.sockets import unsent_bytes
from relay.server.upgrade import Handshake
from relay.wire.http1 import Head, Scanner, encode_head, split_target

_STALL_CHECKS = 4  # within ``stall_s``


class HttpConnection(asyncio.Protocol):
    """Reads requests one after the other and runs the app for each, in a task of its own."""

    def __init__(self, context: Context, make_parser: Callable[[Events], Parser]) -> None:
        self._context = context
        self._limits = context.limits
        self._loop = asyncio.get_running_loop()
        self._scanner = Scanner(context.limits.head_bytes, context.settings.max_body_bytes)
        self._parser = make_parser(self)
        self._transport: asyncio.Transport
        self.write: Callable[[bytes], None]
        self._base: dict[str, Any] = {}  # what all scopes of this connection share
        self._proxied = False  # the peer is one of ``trusted_proxies``
        self._head: Head | None = None  # parsed, not yet begun
        self._window_ends_at: float | None = None  # of a body that is coming; no window while we do not read
        self._window_from_bytes = 0
        self._windows = 0  # that have ended
        self._silent_at = 0.0  # when a body that brings nothing has taken too long
        self._ended = False  # the parser has seen the request's end
        self._request: Request | None = None
        self._task: asyncio.Task[None] | None = None
        self._seat: Seat
        self._closing = False
        self._reading_paused = False
        self._behind = False  # ``_go_on`` is scheduled
        self.paused = False  # writing: the client is behind
        self._drain_waiters: list[asyncio.Future[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._deadline = 0.0
        self._on_deadline: Callable[[], None] | None = None
        self._unsent_bytes = 0
        self._progress_at = 0.0

    # --- the transport's calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast(asyncio.Transport, transport)
        self.write = transport.write
        context, limits = self._context, self._limits
        base = base_scope(context, transport)
        seat = context.door.enter(stranger_address(context.settings, base["client"]), self._give_up)
        if seat is None:
            self._closing = True
            transport.abort()
            return
        self._seat = seat
        context.add(self)
        transport.set_write_buffer_limits(high=limits.write_high_bytes, low=limits.write_low_bytes)
        self._base = base
        self._proxied = trusts(context.settings.trusted_proxies, self._base["client"])
        self._arm(limits.head_s, self._on_idle)
        logger.debug("connection from %s", self._base["client"])

    def data_received(self, data: bytes) -> None:
        if not self._closing:
            if self._seat.resting:
                self._context.door.wake(self._seat)
            self._scanner.feed(data)
            self._advance()

    def eof_received(self) -> None:
        # A client that shuts down its half has left (decision 5): what runs for it is cancelled at once.
        if self._request is not None:
            self._abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._closing = True
        self._leave()
        self._cancel_timer()
        self.paused = False
        self._wake_writers()
        self._parser.close()
        self._scanner.close()
        if self._base:
            self._context.door.leave(self._seat)
            self._context.remove(self)
            logger.debug("connection from %s closed", self._base["client"])

    def pause_writing(self) -> None:
        self.paused = True
        self._watch_unsent()

    def resume_writing(self) -> None:
        self.paused = False
        self._wake_writers()
        self._watch()

    # --- requests ---

    def _advance(self) -> None:
        """Hand the parser all that the running message may have."""
        scanner = self._scanner
        try:
            while not scanner.complete and (piece := scanner.take()) is not None:
                self._parser.feed(piece)
                if self._head is not None:
                    self._begin(self._head)
                if scanner.behind:
                    self._go_on_later()
                    return
            if scanner.complete != self._ended:
                raise RelayError("bad_request", "The HTTP request is framed in two ways.")
        except RelayError as error:
            self._refuse(error)
            return
        if self._closing:
            return
        request = self._request
        if scanner.complete:
            # Reading stays on from here, so that the client's leaving is seen: what it may send meanwhile is bounded.
            self._resume_reading()
            if scanner.waiting_bytes > self._limits.pipelined_bytes:
                self._abort()
                return
        elif request and request.buffered_bytes > self._limits.body_buffer_bytes:
            self._pause_reading()
        else:
            self._resume_reading()
        self._watch()

    def _go_on_later(self) -> None:
        """A body in small chunks is read in slices, so that others get their turn; nothing more is read meanwhile."""
        if not self._closing:
            self._pause_reading()
            self._behind = True
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._behind = False
        if not self._closing:
            self._advance()
        elif not self._transport.is_closing():
            self._resume_reading()  # to see the client's end

    def on_head(self, head: Head) -> None:
        self._head = head

    def on_body(self, data: bytes) -> None:
        if self._request is not None:
            self._request.on_body(data)

    def on_end(self) -> None:
        self._ended = True
        if self._request is not None:
            self._request.on_end()

    def _begin(self, head: Head) -> None:
        """Start the app on a request whose head is there, or hand the connection over."""
        self._head = None
        close, expects, upgrade = head.version != "1.1", False, False
        for name, value in head.headers:
            if name == b"connection":
                close = close or b"close" in [token.strip() for token in value.lower().split(b",")]
            elif name == b"upgrade":
                upgrade = value.lower() == b"websocket"
            elif name == b"expect":
                expects = value.lower() == b"100-continue" and head.version == "1.1"
        scope = self._scope(head)
        if upgrade and self._ended and head.method == "GET" and head.version == "1.1" and self._context.upgrade:
            self._hand_over(head, scope)
            return
        scope["method"] = head.method
        request = self._request = Request(self, scope, expects_continue=expects, close=close)
        if self._ended:
            request.on_end()
        # The one task of this request; the transport's callbacks cannot await the app.
        self._task = self._loop.create_task(request.run(self._context.app))
        self._context.start(self._task)

    def _scope(self, head: Head) -> Scope:
        target = split_target(head.target)
        headers = head.headers
        if target.authority is not None:  # RFC 9112 §3.2.2: then Host says nothing
            headers = [(b"host", target.authority), *(field for field in headers if field[0] != b"host")]
        path = target.path.decode("ascii")
        scope = self._base.copy()
        scope["http_version"] = head.version
        scope["path"] = unquote(path) if "%" in path else path
        scope["raw_path"] = target.path
        scope["query_string"] = target.query
        scope["headers"] = headers
        scope["extensions"] = {}
        if self._context.state is not None:
            scope["state"] = self._context.state.copy()
        if self._proxied:
            believe(scope, self._context.settings.trusted_proxies)
        return scope

    def _hand_over(self, head: Head, scope: Scope) -> None:
        scope["type"] = "websocket"
        scope["scheme"] = "wss" if scope["scheme"] == "https" else "ws"
        self._closing = True
        self._cancel_timer()
        assert self._context.upgrade is not None
        self._context.upgrade(
            self._context, self._transport, Handshake(head, scope, self._scanner.take_rest(), self._seat)
        )
        self._parser.close()
        self._scanner.close()
        self._context.remove(self)

    # --- what a request calls ---

    async def drained(self) -> None:
        """Return once the client has taken enough of what was written, or is gone."""
        waiter = self._loop.create_future()
        self._drain_waiters.append(waiter)
        await waiter

    def _wake_writers(self) -> None:
        waiters, self._drain_waiters = self._drain_waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def may_keep_alive(self) -> bool:
        return not (self._context.draining or self._seat.extra)

    def admit(self) -> bool:
        """The app has let the request in; whether there is a place for it."""
        return self._context.door.admit(self._seat)

    def on_body_taken(self, *, continued: bool) -> None:
        """The app took what was there of the body, or wants a body that the client holds back."""
        if self._closing:
            return
        if self._resume_reading() or continued:
            self._watch()

    def _resume_reading(self) -> bool:
        """Whether it was paused."""
        was = self._reading_paused and not self._behind
        if was:
            self._reading_paused = False
            self._transport.resume_reading()
        return was

    def _pause_reading(self) -> None:
        if not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()

    def on_response_end(self) -> None:
        """The response is written: the next request's turn, or the end."""
        request, scanner = self._request, self._scanner
        if request is None:
            return
        self._request = self._task = None
        if request.close or not request.received or self._context.draining:
            self._finish(linger=not request.received or scanner.waiting_bytes > 0)
            return
        scanner.next()
        self._ended = False
        self._window_ends_at, self._windows = None, 0
        if scanner.waiting_bytes:
            self._advance()
        else:
            self._context.door.rest(self._seat)
            self._watch()

    def on_failure(self, error: BaseException | None) -> None:
        """The app ended without a whole response."""
        request = self._request
        if request is None:
            return
        self._task = None  # it is ending by itself
        if error is None:
            logger.error("the app did not answer %s %s", request.scope["method"], request.scope["path"])
        if request.started:
            self._cut()
        else:
            request.leave()
            self._answer(RelayError("internal", "The server had an error while processing the request."))

    # --- the end ---

    def _give_up(self) -> None:
        """The place is another's; no request is under way."""
        logger.debug("connection from %s gives its place up", self._base["client"])
        self._finish(linger=False)

    def drain(self) -> None:
        """Close now if nothing runs, else after the running response."""
        if self._request is not None:
            self._request.close = True
        elif not self._closing and not self._scanner.waiting_bytes:
            self._finish(linger=False)

    def close(self) -> None:
        """Cancel what runs and close."""
        if self._request is not None and not self._closing:
            self._cut()
        else:
            self._transport.abort()

    def _refuse(self, error: RelayError) -> None:
        """Tell the client what is wrong, if a response has not begun, and close."""
        if self._request is not None and self._request.started:
            self._cut()
        else:
            self._answer(error)

    def _answer(self, error: RelayError) -> None:
        """Write an error in the API's envelope instead of the app's response, and close."""
        bodiless = self._request is not None and self._request.head_only
        body = error.body()
        scope = self._request.scope if self._request is not None else None
        client = scope.get("client") if scope else self._base["client"]
        self._leave()
        if self._transport.is_closing():
            return
        headers = refusal_headers(error, client, scope)
        headers += ((b"content-length", b"%d" % len(body)), (b"connection", b"close"))
        self._transport.write(encode_head(error.status, headers) + (b"" if bodiless else body))
        self._finish(linger=not self._ended or self._scanner.waiting_bytes > 0)

    def _leave(self) -> None:
        """Cancel the running request: nobody waits for it any more."""
        request, task = self._request, self._task
        self._request = self._task = None
        if request is not None:
            request.leave()
        if task is not None:
            task.cancel()

    def _cut(self) -> None:
        """End a response in the middle, so that the client cannot take it for a whole one."""
        request = self._request
        self._leave()
        if request is not None and request.version == "1.0":
            sock = self._transport.get_extra_info("socket")
            if sock is not None and sock.family != getattr(socket, "AF_UNIX", None):
                # Here the end of the connection would be the end of the body: a reset is not.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._closing = True
            self._transport.abort()
        else:
            self._finish(linger=False)

    def _abort(self) -> None:
        self._closing = True
        self._leave()
        self._transport.abort()

    def _finish(self, *, linger: bool) -> None:
        """Close once all is sent; ``linger``: the client still sends, and a reset would take the answer from it."""
        self._closing = True
        transport = self._transport
        if transport.is_closing():
            return
        if not linger:
            transport.close()
            if transport.get_write_buffer_size():
                self._watch_unsent()
            return
        self._resume_reading()
        if transport.can_write_eof():
            transport.write_eof()
        if transport.get_write_buffer_size():
            self._watch_unsent()
        else:
            self._arm(self._limits.linger_s, transport.abort)

    # --- time ---

    def _watch(self) -> None:
        """Say what is waited for now, and until when."""
        if self._closing or self.paused:
            return
        limits, request, scanner = self._limits, self._request, self._scanner
        if request is not None:
            if scanner.complete or self._reading_paused or request.awaits_continue:
                self._on_deadline = self._window_ends_at = None
            else:
                self._watch_body(limits)
        elif not scanner.waiting_bytes:
            self._arm(limits.idle_s, self._on_idle)
        elif self._on_deadline != self._on_slow_head:  # counted from the first byte
            self._arm(limits.head_s, self._on_slow_head)

    def _watch_body(self, limits: Limits) -> None:
        """More of a body must come: at once some of it, and enough in each window but the first."""
        now = self._loop.time()
        self._silent_at = now + limits.body_s
        if self._window_ends_at is None:
            self._window_ends_at, self._window_from_bytes = now + limits.body_window_s, self._scanner.received_bytes
        self._arm(min(self._silent_at, self._window_ends_at) - now, self._on_slow_body)

    def _on_slow_body(self) -> None:
        limits, received, now = self._limits, self._scanner.received_bytes, self._loop.time()
        least, seconds = limits.body_window_bytes, limits.body_window_s
        if now >= self._silent_at - 0.001:
            self._refuse(RelayError("request_timeout", "The request's body stopped coming."))
        elif self._windows and received - self._window_from_bytes < least:
            words = f"The request's body comes too slowly: under {least:,} bytes in {seconds:g} s."
            self._refuse(RelayError("request_timeout", words))
        else:
            self._windows += 1
            self._window_ends_at, self._window_from_bytes = now + seconds, received
            self._arm(min(self._silent_at, self._window_ends_at) - now, self._on_slow_body)

    def _watch_unsent(self) -> None:
        self._unsent_bytes = unsent_bytes(self._transport)
        self._progress_at = self._loop.time()
        self._arm(self._limits.stall_s / _STALL_CHECKS, self._on_stall_check)

    def _arm(self, seconds: float, on_deadline: Callable[[], None]) -> None:
        """Call ``on_deadline`` in ``seconds``, unless something else is armed before."""
        self._deadline = deadline = self._loop.time() + seconds
        self._on_deadline = on_deadline
        if self._timer is not None:
            if self._timer_at <= deadline:
                return
            self._timer.cancel()
        self._timer_at = deadline
        self._timer = self._loop.call_at(deadline, self._on_timer)

    def _cancel_timer(self) -> None:
        self._on_deadline = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        self._timer = None
        on_deadline = self._on_deadline
        if on_deadline is None:
            return
        left = self._deadline - self._loop.time()
        if left > 0.001:
            self._timer_at = self._deadline
            self._timer = self._loop.call_at(self._deadline, self._on_timer)
            return
        self._on_deadline = None
        on_deadline()

    def _on_idle(self) -> None:
        self._finish(linger=False)

    def _on_slow_head(self) -> None:
        self._refuse(RelayError("request_timeout", "The request's headers took too long."))

    def _on_stall_check(self) -> None:
        unsent, now = unsent_bytes(self._transport), self._loop.time()
        if unsent < self._unsent_bytes:
            self._progress_at = now
        elif now - self._progress_at >= self._limits.stall_s * 0.99:
            self._abort()
            return
        self._unsent_bytes = unsent
        if self._closing and not self._transport.get_write_buffer_size():
            self._arm(self._limits.linger_s, self._transport.abort)
        else:
            self._arm(self._limits.stall_s / _STALL_CHECKS, self._on_stall_check)


def base_scope(context: Context, transport: asyncio.Transport) -> dict[str, Any]:
    """The scope's members that are the same for all requests of a connection."""
    peer, local = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
    uds = context.settings.uds
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "scheme": "http" if transport.get_extra_info("sslcontext") is None else "https",
        "root_path": "",
        "client": tuple(peer[:2]) if isinstance(peer, tuple) else None,
        "server": tuple(local[:2]) if isinstance(local, tuple) else (uds, None) if uds else None,
    }
