"""One request and its response: the ASGI callables of one HTTP message, and how its answer is framed.

Source: ASGI 3 HTTP specification 2.4; RFC 9112 §6 (framing), RFC 9110 §10.1.1 (Expect).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final, Protocol

from relay.server.context import App, Message, Scope, logger
from relay.wire.http1 import CHUNK, CONTINUE, LAST_CHUNK, encode_head

_BODILESS: Final = frozenset({204, 304})
_CHUNKED: Final = (b"transfer-encoding", b"chunked")
_CLOSE: Final = (b"connection", b"close")


class Wire(Protocol):
    """What a request needs of its connection (``http.HttpConnection``)."""

    paused: bool

    def write(self, data: bytes) -> None: ...
    async def drained(self) -> None: ...
    def may_keep_alive(self) -> bool: ...
    def admit(self) -> bool: ...
    def on_body_taken(self, *, continued: bool) -> None: ...
    def on_response_end(self) -> None: ...
    def on_failure(self, error: BaseException | None) -> None: ...


class Request:
    """The request that a connection is busy with.

    The app's task calls ``receive`` and ``send``; the connection calls ``on_body``, ``on_end`` and ``leave``.
    """

    __slots__ = (
        "_body",
        "_body_waiter",
        "_chunked",
        "_continue",
        "_end_told",
        "_headers",
        "_left",
        "_status",
        "_wire",
        "buffered_bytes",
        "close",
        "gone",
        "head_only",
        "received",
        "responded",
        "scope",
        "started",
        "version",
    )

    def __init__(self, wire: Wire, scope: Scope, *, expects_continue: bool, close: bool) -> None:
        self._wire = wire
        self.scope = scope
        self.version: str = scope["http_version"]
        self.close = close  # the connection, after this response
        self.head_only = scope["method"] == "HEAD"
        self._continue = expects_continue
        self._body: list[bytes] = []
        self._body_waiter: asyncio.Future[None] | None = None
        self.buffered_bytes = 0
        self.received = False  # the request, whole
        self._end_told = False
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self.started = False  # the response's head is written
        self.responded = False  # the response is written, whole
        self.gone = False  # the client has left, or was told off
        self._chunked = False
        self._left: int | None = None  # bytes that content-length promises and that are not written
        scope["extensions"] = {"relay.cancel": {}, "relay.write": self.write_now, "relay.admit": wire.admit}

    async def run(self, app: App) -> None:
        """Run the app; tells the connection if it did not answer properly."""
        error: BaseException | None = None
        try:
            await app(self.scope, self.receive, self.send)
        except asyncio.CancelledError as cancelled:
            error = cancelled
        except Exception as failure:  # outermost: whatever the app raises ends here
            error = failure
            if not self.gone:
                logger.error("the app failed in %s %s", self.scope["method"], self.scope["path"], exc_info=failure)
        if not self.responded and not self.gone:
            self._wire.on_failure(error)
        del error  # which holds this frame
        self.scope = {}  # which holds ``write_now``: without the circle both go at once

    # --- the request ---

    def on_body(self, data: bytes) -> None:
        """Body bytes came."""
        self._body.append(data)
        self.buffered_bytes += len(data)
        self._wake()

    def on_end(self) -> None:
        """The request is whole."""
        self.received = True
        self._wake()

    def leave(self) -> None:
        """The client has left: ``receive`` says so, ``send`` raises."""
        self.gone = True
        self._wake()

    @property
    def awaits_continue(self) -> bool:
        """Whether the client holds its body back until told to send it."""
        return self._continue and not self.started

    def _wake(self) -> None:
        if self._body_waiter is not None and not self._body_waiter.done():
            self._body_waiter.set_result(None)

    async def receive(self) -> Message:
        """ASGI: ``http.request`` until the body is over; ``http.disconnect`` once the client left or is answered."""
        while True:
            if self.gone or self.responded:
                return {"type": "http.disconnect"}
            if self._body or (self.received and not self._end_told):
                return self._take_body()
            if self.awaits_continue and not self.received:
                self._continue = False
                self._wire.write(CONTINUE)
                self._wire.on_body_taken(continued=True)
            if self._body_waiter is None or self._body_waiter.done():
                self._body_waiter = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._body_waiter)

    def _take_body(self) -> Message:
        pieces = self._body
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._body = []
        self.buffered_bytes = 0
        self._end_told = self.received
        if not self.received:
            self._wire.on_body_taken(continued=False)
        return {"type": "http.request", "body": body, "more_body": not self.received}

    # --- the response ---

    async def send(self, message: Message) -> None:
        """ASGI: one write a message; returns without yielding unless the client is behind.

        Raises: ConnectionResetError where the client has left; RuntimeError and ValueError where the app is wrong.
        """
        if self.gone:
            raise ConnectionResetError("the client has left")
        kind = message["type"]
        if kind == "http.response.body":
            if not self._status or self.responded:
                raise RuntimeError(f"{kind} before the response's start or after its end")
            self._send_body(message.get("body", b""), bool(message.get("more_body", False)))
        elif kind == "http.response.start":
            if self._status:
                raise RuntimeError(f"a second {kind}")
            self._status = message["status"]
            self._set_headers(message.get("headers", ()))
            return
        else:
            raise RuntimeError(f"an ASGI message {kind!r} in an HTTP request")
        if self._wire.paused:
            await self._wire.drained()

    def write_now(self, body: bytes) -> bool:
        """The extension ``relay.write``: a piece of a body that has begun, at once; false where the client is behind.

        What it does not take is for ``send``, which waits.
        """
        # hot: python -m bench paced
        if self.gone or self.responded or not self.started:
            return False
        wire = self._wire
        if self._chunked and body:
            wire.write(CHUNK % (len(body), body))
        else:
            self._send_body(body, True)
        return not wire.paused

    def _set_headers(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Keep the app's headers, and say how the body is framed and whether the connection stays."""
        kept = self._headers
        for name, value in headers:
            lower = name.lower()
            if lower == b"content-length":
                self._left = int(value)
            elif lower == b"transfer-encoding":
                continue  # the server's own
            elif lower == b"connection":
                self.close = self.close or b"close" in value.lower()
                continue
            kept.append((name, value))
        if self.head_only or self._status in _BODILESS:
            self._left = 0
        elif self._left is None:
            if self.version == "1.1":
                self._chunked = True
                kept.append(_CHUNKED)
            else:
                self.close = True

    def _send_body(self, body: bytes, more: bool) -> None:
        """Write the head, where it was not yet, and ``body`` in its framing at once."""
        if self.head_only or self._status in _BODILESS:
            body = b""
        if self._left is not None:
            self._left -= len(body)
            if self._left < 0 or (self._left and not more):
                raise RuntimeError("the response's body is not as long as its content-length says")
        data = body
        if self._chunked:
            data = CHUNK % (len(body), body) if body else b""
            if not more:
                data += LAST_CHUNK
        if not self.started:
            # The end of a request that was not read cannot be found later, so the connection cannot go on.
            self.close = self.close or not self.received or not self._wire.may_keep_alive()
            if self.close:
                self._headers.append(_CLOSE)
            data = encode_head(self._status, self._headers) + data
            self.started = True
        if data:
            self._wire.write(data)
        if not more:
            self.responded = True
            self._wake()
            self._wire.on_response_end()
