"""One client's WebSocket: the ASGI callables, back-pressure both ways, pings, and the end of it.

Source: ASGI 3 WebSocket specification 2.4 with ``websocket.http.response``; RFC 6455 §5.5 and §7; decisions.md 4, 5, 32
to 35, 38. ``relay.send_batch`` is ours: ``{"type": "relay.websocket.send_batch", "texts": [bytes, …]}`` writes each of
``texts`` as a text message, all of them at once.

One task (the app's) and one timer a socket. Reading goes on whatever the app sends, and stops only while more than
``Limits`` allow waits for the app's ``receive``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial
from math import inf
from typing import Any, Final

from relay.errors import RelayError
from relay.server.context import Connection, Context, Message, Scope, logger
from relay.server.door import Seat
from relay.server.refusals import refusal_headers
from relay.server.sockets import unsent_bytes
from relay.server.upgrade import Handshake
from relay.wire import websocket as wire
from relay.wire.http1 import encode_head

OPENING, REFUSING, OPEN, CLOSING, LOST = range(5)  # the app decides · it writes an HTTP answer · · a Close went out ·

# What a socket's compressed messages may become: a burst of one body limit, then so much a second. What is over it is
# read later; nobody is refused for it. Without it 326 KB on the wire cost 6.8 s of CPU (issue 10 kind 2).
INFLATED_BYTES_A_S: Final = 8 * 1024 * 1024

_ABNORMAL: Final = 1006
_JOIN_BYTES: Final = 65_536  # above, gathering the pieces in the kernel is cheaper than copying them into one


def upgrade(context: Context, transport: asyncio.Transport, handshake: Handshake) -> Connection:
    """Take over a connection whose client asked for a WebSocket: the ``upgrade.Upgrade`` of this server."""
    connection = WebSocket(context, transport)
    transport.set_protocol(connection)
    context.add(connection)
    connection.begin(handshake)
    return connection


class WebSocket(asyncio.Protocol):
    """From the handshake to the end of the connection."""

    __slots__ = (
        "_abort_at",
        "_cancel_at",
        "_context",
        "_deflate",
        "_drained",
        "_early",
        "_end",
        "_going_on",
        "_heard_at",
        "_held",
        "_inflated_bytes",
        "_inflated_until",
        "_ping_owed",
        "_pinged_at",
        "_queue",
        "_queued_bytes",
        "_reader",
        "_refusal",
        "_scope",
        "_seat",
        "_stalled_at",
        "_taken_bytes",
        "_task",
        "_timer",
        "_told",
        "_transport",
        "_upgrade",
        "_waiter",
        "_written_bytes",
        "phase",
    )

    def __init__(self, context: Context, transport: asyncio.Transport) -> None:
        self._context = context
        self._transport = transport
        self.phase = OPENING
        self._task: asyncio.Task[None] | None = None
        # opening
        self._upgrade: wire.Upgrade | None = None
        self._seat: Seat
        self._scope: Scope = {}  # until the app has answered
        self._early = b""  # what came before the app accepted
        self._refusal: tuple[int, list[tuple[bytes, bytes]]] | None = None
        # reading
        self._reader: wire.Reader | None = None
        self._queue: list[str | bytes] = []  # messages that the app has not received
        self._queued_bytes = 0
        self._waiter: asyncio.Future[None] | None = None  # the app's ``receive``
        self._told = False  # websocket.connect
        self._end: tuple[int, str] | None = None  # what websocket.disconnect says
        self._held = False  # reading is paused
        self._going_on = False  # ``_go_on`` is scheduled
        self._inflated_bytes = 0  # paid for
        self._inflated_until = 0.0  # when what was inflated will have been allowed, less the burst (GCRA)
        self._ping_owed: bytes | None = None  # the last ping that was not answered
        # writing
        self._deflate: wire.Deflate | None = None  # where messages are sent compressed
        self._drained: asyncio.Event | None = None  # there while the client is behind; several turns may wait
        self._written_bytes = 0
        # time
        self._timer: asyncio.TimerHandle | None = None
        self._heard_at = 0.0
        self._pinged_at: float | None = None
        self._stalled_at: float | None = None
        self._taken_bytes = 0
        self._abort_at = self._cancel_at = inf

    def begin(self, handshake: Handshake) -> None:
        """Start the app on the handshake, or refuse it."""
        context, self._scope, self._seat = self._context, handshake.scope, handshake.seat
        try:
            if context.draining:
                raise RelayError("draining", "The server is shutting down.", retry_after_s=1)
            asked = self._upgrade = wire.read_upgrade(handshake.head.headers)
        except RelayError as error:
            self._refuse(error)
            return
        scope = handshake.scope
        scope["subprotocols"] = list(asked.subprotocols)
        scope["extensions"] = {
            "websocket.http.response": {},
            "relay.send_batch": {},
            "relay.write": self.write_now,
            "relay.admit": partial(context.door.admit, handshake.seat),
        }
        self._early = handshake.data
        # The one task of this socket: the app reads and writes in it, the transport's callbacks cannot await.
        self._task = asyncio.get_running_loop().create_task(self._run(scope))
        context.start(self._task)

    async def _run(self, scope: Scope) -> None:
        failed = False
        try:
            await self._context.app(scope, self.receive, self.send)
        except asyncio.CancelledError:
            failed = True
        except Exception as failure:  # outermost: whatever the app raises ends here
            failed = True
            if not (self._end is not None and isinstance(failure, ConnectionResetError)):
                logger.error("the app failed in WebSocket %s", scope["path"], exc_info=failure)
        self._task = None
        if self.phase == OPENING:
            self._refuse(RelayError("internal", "The server had an error while processing the request."))
        elif self.phase == REFUSING and self._refusal is not None:
            self._drop("the app did not finish its answer")
        elif self.phase == OPEN:
            self._start_close(1011 if failed else 1000, "")

    # --- the transport's calls ---

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._now()
        self._pinged_at = None
        if self._reader is not None:
            self._feed(data)
        elif self.phase == OPENING:
            self._early += data
            if len(self._early) > self._context.limits.pipelined_bytes:
                self._drop("too much data before the handshake's answer")

    def eof_received(self) -> None:
        # Without a Close before it, this is a client that left. The transport closes by itself.
        self._leave(_ABNORMAL, "")
        self._arm_abort(self._context.limits.close_s)

    def connection_lost(self, error: Exception | None) -> None:
        self.phase = LOST
        self._scope = {}
        self._reader = None
        self._abort_at = inf
        self._leave(_ABNORMAL, "")
        self._rearm()
        self._context.door.leave(self._seat)
        self._context.remove(self)

    def pause_writing(self) -> None:
        self._drained = asyncio.Event()
        self._check_stall(self._now())
        self._rearm()

    def resume_writing(self) -> None:
        if self._drained is not None:
            self._drained.set()
            self._drained = None
        self._answer_ping()

    # --- the server's calls ---

    def drain(self) -> None:
        """The app knows which sockets are idle, and closes them."""

    def close(self) -> None:
        """The time is over: 1001, and the app's task is cancelled; called again, the connection is cut."""
        task = self._task
        if self.phase == OPENING:
            self._refuse(RelayError("draining", "The server is shutting down.", retry_after_s=1))
        elif self.phase == OPEN:
            self._start_close(1001, "the server is shutting down")
        else:
            self._transport.abort()
        if task is not None:
            task.cancel()

    # --- reading ---

    def _feed(self, data: bytes) -> None:
        """Read frames, and act on them in order; a bounded number at a time, so that others get their turn."""
        reader = self._reader
        if reader is None:
            return
        if self._inflated_until > self._now():
            reader.keep(data)
        else:
            for event in reader.feed(data):
                _ON_EVENT[type(event)](self, event)
            if reader.inflated_bytes > self._inflated_bytes:
                self._pay(reader.inflated_bytes)
            self._answer_ping()
        self._balance()

    def _pay(self, inflated_bytes: int) -> None:
        """Account what was inflated; ``_inflated_until`` says when to go on."""
        burst_s = self._context.settings.max_body_bytes / INFLATED_BYTES_A_S
        seconds = (inflated_bytes - self._inflated_bytes) / INFLATED_BYTES_A_S
        self._inflated_bytes = inflated_bytes
        self._inflated_until = max(self._inflated_until, self._now() - burst_s) + seconds

    def _on_message(self, event: wire.Text | wire.Binary) -> None:
        if self.phase == OPEN:
            self._queue.append(event.data)
            self._queued_bytes += len(event.data)
            self._wake()

    def _on_ping(self, event: wire.Ping) -> None:
        self._ping_owed = event.payload

    def _on_pong(self, event: wire.Pong) -> None:
        pass  # that something came is what counts

    def _on_close(self, event: wire.Close) -> None:
        self._answer_ping()
        if self.phase == OPEN:
            self._write(wire.close(event.code))
            self.phase = CLOSING
        self._leave(event.code, event.reason)
        self._transport.close()
        self._arm_abort(self._context.limits.close_s)

    def _on_failure(self, event: wire.Failure) -> None:
        """RFC 6455 §7.1.7: say why, and stop reading; the client may read its Close before the connection is cut."""
        logger.debug("a WebSocket client broke the protocol: %s", event.reason)
        self._answer_ping()
        self._reader = None
        if self.phase == OPEN:
            self._write(wire.close(event.code, event.reason))
            self.phase = CLOSING
        self._leave(event.code, event.reason)
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._arm_abort(self._context.limits.linger_s)

    def _answer_ping(self) -> None:
        """To the last ping only (RFC 6455 §5.5.3), and not into a full buffer: pings cannot fill our memory."""
        payload = self._ping_owed
        if payload is not None and self._drained is None and self.phase == OPEN:
            self._ping_owed = None
            self._write(wire.pong(payload))

    def _balance(self) -> None:
        """Hold reading while enough waits for the app or is yet to be read."""
        reader, limits = self._reader, self._context.limits
        behind = reader is not None and reader.behind
        full = self.phase == OPEN and (
            self._queued_bytes > limits.body_buffer_bytes or len(self._queue) > limits.queued_messages
        )
        if (full or behind) != self._held and not self._transport.is_closing():
            self._held = not self._held
            if self._held:
                self._transport.pause_reading()
            else:
                self._heard_at = self._now()
                self._transport.resume_reading()
        if behind and not full and not self._going_on:
            self._going_on = True
            loop, wait_s = asyncio.get_running_loop(), self._inflated_until - self._now()
            if wait_s > 0:
                loop.call_later(wait_s, self._go_on)
            else:
                loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._going_on = False
        self._feed(b"")

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def receive(self) -> Message:
        """ASGI: websocket.connect, the messages in order, websocket.disconnect.

        Raises: RuntimeError where another task is waiting in it.
        """
        if not self._told:
            self._told = True
            return {"type": "websocket.connect"}
        while not self._queue:
            if self._end is not None:
                return {"type": "websocket.disconnect", "code": self._end[0], "reason": self._end[1]}
            if self._waiter is not None and not self._waiter.done():
                raise RuntimeError("a second task calls receive")
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        data = self._queue.pop(0)
        self._queued_bytes -= len(data)
        if self._held:
            self._balance()
        return {"type": "websocket.receive", "text" if isinstance(data, str) else "bytes": data}

    # --- writing ---

    async def send(self, message: Message) -> None:
        """ASGI: one write a message; returns without yielding unless the client is behind.

        Raises: ConnectionResetError where the client has left; RuntimeError and ValueError where the app is wrong.
        """
        kind = message["type"]
        if kind not in _SENDS:
            raise RuntimeError(f"an ASGI message {kind!r} on a WebSocket")
        phase, act = _SENDS[kind]
        if kind == "websocket.close" and self._end is not None:
            return  # it is closed
        if self._end is not None:
            raise ConnectionResetError("the WebSocket is closed")
        if phase != self.phase and not (kind == "websocket.close" and self.phase == OPENING):
            raise RuntimeError(f"an ASGI message {kind!r} at the wrong time")
        act(self, message)
        while (drained := self._drained) is not None:
            await drained.wait()
            if self._end is not None:
                raise ConnectionResetError("the WebSocket is closed")

    def write_now(self, texts: list[bytes]) -> bool:
        """The extension ``relay.write``: a batch of texts at once; false where the client is behind or gone."""
        # hot: python -m bench paced
        if self.phase != OPEN or self._end is not None:
            return False
        if len(texts) == 1 and self._deflate is None and len(texts[0]) < _JOIN_BYTES:
            data = wire.text_frame(texts[0])
            self._written_bytes += len(data)
            self._transport.write(data)
        else:
            self._write_texts(texts)
        return self._drained is None

    def _write(self, data: bytes) -> None:
        self._written_bytes += len(data)
        self._transport.write(data)

    def _write_texts(self, texts: Iterable[bytes]) -> None:
        from_bytes = self._context.limits.deflate_from_bytes
        if self._deflate is None or from_bytes is None:
            self._write_parts(wire.text_frames(texts))
        else:
            self._write_parts(wire.deflated_text_frames(texts, self._deflate, from_bytes))

    def _write_parts(self, parts: list[bytes]) -> None:
        size = sum(map(len, parts))
        if size <= _JOIN_BYTES:
            self._write(b"".join(parts))
        else:
            self._written_bytes += size
            self._transport.writelines(parts)

    def _accept(self, message: Message) -> None:
        limits = self._context.limits
        asked, early = self._upgrade, self._early
        assert asked is not None  # this is OPENING
        head = wire.accept_head(asked, message.get("subprotocol"), message.get("headers", ()))
        self._upgrade, self._early, self._deflate = None, b"", asked.deflate
        self._scope = {}
        self._transport.set_write_buffer_limits(high=limits.write_high_bytes, low=limits.write_low_bytes)
        self._write(head)
        self.phase = OPEN
        self._reader = wire.Reader(self._context.settings.max_body_bytes, asked.deflate)
        self._heard_at = self._now()
        self._rearm()
        if early:
            self._feed(early)

    def _send_message(self, message: Message) -> None:
        text = message.get("text")
        if text is not None:
            self._write_texts((text.encode(),))
        else:
            self._write_parts(wire.binary_frame(message["bytes"]))

    def _send_batch(self, message: Message) -> None:
        if message["texts"]:
            self._write_texts(message["texts"])

    def _send_close(self, message: Message) -> None:
        if self.phase == OPENING:
            self._refuse(RelayError("forbidden", "The WebSocket was refused."))
        else:
            self._start_close(message.get("code", 1000), message.get("reason") or "")

    def _start_refusal(self, message: Message) -> None:
        self._refusal = (message["status"], list(message.get("headers", ())))
        self.phase = REFUSING
        self._arm_abort(self._context.limits.stall_s)

    def _send_refusal(self, message: Message) -> None:
        assert self._refusal is not None  # this is REFUSING, and not yet the end
        status, headers = self._refusal
        body, more = message.get("body", b""), bool(message.get("more_body", False))
        if status:  # not yet written
            self._refusal = (0, [])
            body = encode_head(status, _closing_headers(headers, None if more else len(body))) + body
        self._write(body)
        if not more:
            self._refusal = None
            self._finish()

    # --- the end ---

    def _refuse(self, error: RelayError) -> None:
        """Answer the handshake with an error in the API's envelope, and close."""
        if self._transport.is_closing():
            return
        body = error.body()
        headers = refusal_headers(error, self._scope.get("client"), self._scope)
        self.phase = REFUSING
        self._write(encode_head(error.status, _closing_headers(headers, len(body))) + body)
        self._finish()

    def _finish(self) -> None:
        """The HTTP answer is written: close once it is sent."""
        self._set_end(_ABNORMAL, "")
        self._transport.close()
        self._arm_abort(self._context.limits.linger_s)

    def _start_close(self, code: int, reason: str) -> None:
        """Send a Close, and wait a while for the client's."""
        self._write(wire.close(code, reason))
        self.phase = CLOSING
        self._set_end(code, reason)
        self._queue.clear()
        self._queued_bytes = 0
        self._balance()
        self._arm_abort(self._context.limits.close_s)

    def _drop(self, reason: str) -> None:
        """The client is gone, or may as well be."""
        logger.debug("a WebSocket is cut: %s", reason)
        self._reader = None
        self._leave(_ABNORMAL, reason)
        self._transport.abort()

    def _leave(self, code: int, reason: str) -> None:
        """The connection is over: the app is told, and its task cancelled if that does not end it."""
        if self._end is None:
            self._cancel_at = self._now() + self._context.limits.leave_s
        self._set_end(code, reason)

    def _set_end(self, code: int, reason: str) -> None:
        if self._end is None:
            self._end = (code, reason)
            self._wake()
        if self._drained is not None:
            self._drained.set()
            self._drained = None

    # --- time ---

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _arm_abort(self, seconds: float) -> None:
        if self.phase != LOST:
            self._abort_at = min(self._abort_at, self._now() + seconds)
            self._rearm()

    def _rearm(self) -> None:
        """Look again when the next thing is due, and act on what is due now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._now()
        due = inf
        if self._task is not None and self._cancel_at < inf:
            due = self._cancel_at
            if now >= due:
                self._cancel_at = due = inf
                self._task.cancel()
        if now >= self._abort_at:
            if self._cancel_at < inf or self._check_stall(now) != now:
                self._abort_at = inf
                self._transport.abort()
                return
            self._abort_at = now + self._context.limits.close_s  # it still takes what was written before our Close
        due = min(due, self._abort_at)
        if self.phase == OPEN and self._end is None:
            due = min(due, self._check_client(now))
        if due < inf and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(due - now, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._rearm()

    def _check_client(self, now: float) -> float:
        """Drop a client that takes nothing, ping one that says nothing; when to look again."""
        limits = self._context.limits
        stall_due = self._check_stall(now) + limits.stall_s
        if now >= stall_due:
            self._drop(f"the client took nothing for {limits.stall_s:g} s")
            return inf
        if self._held:
            self._heard_at, self._pinged_at = now, None  # it may have spoken: we do not listen
        if self._pinged_at is None:
            if now < self._heard_at + limits.ping_s:
                return min(stall_due, self._heard_at + limits.ping_s)
            self._write(wire.ping())
            self._pinged_at = now
        elif self._stalled_at is not None:
            self._pinged_at = now  # the ping waits behind what the client takes slowly
        elif now >= self._pinged_at + limits.pong_s:
            self._drop(f"the client did not answer a ping for {limits.pong_s:g} s")
            return inf
        return min(stall_due, self._pinged_at + limits.pong_s)

    def _check_stall(self, now: float) -> float:
        """Since when the client takes nothing of what waits for it; ``inf`` where nothing waits."""
        if not self._transport.get_write_buffer_size():
            self._stalled_at = None
            return inf
        taken_bytes = self._written_bytes - unsent_bytes(self._transport)
        if self._stalled_at is None or taken_bytes != self._taken_bytes:
            self._stalled_at = now
            self._taken_bytes = taken_bytes
        return self._stalled_at


def _closing_headers(headers: Iterable[tuple[bytes, bytes]], length: int | None) -> list[tuple[bytes, bytes]]:
    """An HTTP answer's headers, with its framing: by length, else by the connection's end."""
    kept = [pair for pair in headers if pair[0].lower() not in (b"connection", b"transfer-encoding")]
    names = {name.lower() for name, _ in kept}
    if length is not None and b"content-length" not in names:
        kept.append((b"content-length", b"%d" % length))
    kept.append((b"connection", b"upgrade, close" if b"upgrade" in names else b"close"))
    return kept


_ON_EVENT: Final[dict[type[Any], Any]] = {
    wire.Text: WebSocket._on_message,
    wire.Binary: WebSocket._on_message,
    wire.Ping: WebSocket._on_ping,
    wire.Pong: WebSocket._on_pong,
    wire.Close: WebSocket._on_close,
    wire.Failure: WebSocket._on_failure,
}

# Per ASGI message the phase that it belongs to, and what it does.
_SENDS: Final[dict[str, tuple[int, Any]]] = {
    "websocket.accept": (OPENING, WebSocket._accept),
    "websocket.send": (OPEN, WebSocket._send_message),
    "relay.websocket.send_batch": (OPEN, WebSocket._send_batch),
    "websocket.close": (OPEN, WebSocket._send_close),
    "websocket.http.response.start": (OPENING, WebSocket._start_refusal),
    "websocket.http.response.body": (REFUSING, WebSocket._send_refusal),
}
