"""One socket to an upstream, and the answer that is being read from it.

Source: RFC 9112 (framing, §6.3; keep-alive, §9.3), decisions 5–7; design.md §2 (the walk a byte takes).

Rules. A connection carries one answer at a time. ``data_received`` keeps pieces and wakes the one reader; there is no
task. Over ``HIGH_WATER_BYTES`` unread the transport is paused; a read takes everything and resumes it. One timer per
answer looks at when the last byte came; it is armed anew when it fires, never per read. What came before a failure is
delivered before the failure is raised.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, cast

import httptools

from relay.errors import RelayError
from relay.upstream.failures import FOREIGN, converted, failure, timed_out
from relay.upstream.inflate import Inflater, inflater_for
from relay.upstream.liveness import CHECKS, is_gone, sent
from relay.upstream.origin import Origin

HIGH_WATER_BYTES: Final = 64 * 1024
MAX_HEAD_BYTES: Final = 32 * 1024  # head, trailers, and framing between two pieces of body: each on its own
MAX_HEADERS: Final = 256
Consumer = Callable[[bytes], bool]
"""Takes what has come; whether it wants more."""

_WITHOUT_BODY: Final = frozenset({204, 304})


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. ``first_byte`` runs from the request to the first byte of the body, ``idle`` from then on.

    ``dead_peer`` is for hosts that vanished (``liveness``); 0 switches it off.
    """

    connect_timeout_s: float = 5.0
    first_byte_timeout_s: float = 600.0
    idle_timeout_s: float = 300.0
    dead_peer_timeout_s: float = 30.0


class Connection(asyncio.Protocol):
    """A socket: hands what it receives to its answer, and dies when bytes come that nobody asked for."""

    __slots__ = ("_on_lost", "_open", "answer", "dead", "origin", "served", "transport")

    transport: asyncio.Transport

    def __init__(self, origin: Origin, opened: set[Connection], on_lost: Callable[[Connection], None]) -> None:
        self.origin = origin
        self._open = opened
        self._on_lost = on_lost
        self.answer: Answer | None = None
        self.served = 0
        self.dead = False

    @property
    def alive(self) -> bool:
        return not self.dead and not self.transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._open.add(self)

    def data_received(self, data: bytes) -> None:
        if self.answer is None:
            self.abort()
        else:
            self.answer.feed(data)

    def eof_received(self) -> None:
        self.dead = True
        if self.answer is not None:
            self.answer.on_eof()

    def connection_lost(self, error: Exception | None) -> None:
        self.dead = True
        self._open.discard(self)
        if self.answer is not None:
            self.answer.on_lost(error)
        self._on_lost(self)

    def abort(self) -> None:
        """Close at once; what is not written yet is dropped. The upstream sees FIN or RST now."""
        self.dead = True
        self.transport.abort()

    def send(self, head: bytes, body: bytes) -> None:
        """One write: joined where a copy is cheap, gathered where it is not."""
        self.served += 1
        if not self.alive:  # it died between two steps of the caller
            if self.answer is not None:
                self.answer.on_lost(None)
        elif len(body) <= HIGH_WATER_BYTES:
            self.transport.write(head + body)
        else:
            self.transport.writelines((head, body))


class Answer:
    """Status, headers and body of one answer. Whoever got it calls ``close``, always."""

    __slots__ = (
        "_begun",
        "_bodiless",
        "_buffered_bytes",
        "_close_delimited",
        "_closed",
        "_connection",
        "_consumer",
        "_ended",
        "_error",
        "_final_pieces",
        "_headed",
        "_header_bytes",
        "_inflater",
        "_interim",
        "_keep",
        "_last_byte_at",
        "_loop",
        "_on_close",
        "_overhead_bytes",
        "_parser",
        "_paused",
        "_pieces",
        "_push_error",
        "_retiring",
        "_sent_at",
        "_timeouts",
        "_timer",
        "_waiter",
        "_watching",
        "died",
        "headers",
        "on_body",
        "status",
    )

    def __init__(
        self, connection: Connection, method: str, timeouts: Timeouts, on_close: Callable[[Connection, bool], None]
    ) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.died = False  # the connection went before the end; not set by timeouts and bad answers
        self._connection = connection
        self._timeouts = timeouts
        self._on_close = on_close
        self._loop = asyncio.get_running_loop()
        self._pieces: list[bytes] = []
        self._buffered_bytes = 0
        self._overhead_bytes = 0
        self._header_bytes = 0
        self._final_pieces = 0
        self._headed = self._begun = self._ended = self._closed = self._paused = False
        self._interim = self._close_delimited = self._keep = self._retiring = False
        self._bodiless = method == "HEAD"
        self._error: RelayError | None = None
        self._inflater: Inflater | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._consumer: Consumer | None = None
        self._push_error: Exception | None = None
        self._sent_at = self._loop.time()
        self._last_byte_at = 0.0
        # Whether what was sent may still be unacknowledged; it is looked at a few times, and then no more.
        self._watching = timeouts.dead_peer_timeout_s > 0
        self._timer = self._loop.call_later(self._until_next_look(timeouts.first_byte_timeout_s), self._look_at_time)
        self.on_body = self._pieces.append  # hot: the parser puts pieces in the list without a Python frame
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        connection.answer = self

    # -- what the reader calls

    def header(self, name: bytes) -> bytes | None:
        """The first header of this lowercase name."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    @property
    def untouched(self) -> bool:
        """Not one byte of the answer has come."""
        return self._last_byte_at == 0.0

    async def head(self) -> None:
        """Waits for status and headers. Raises: RelayError."""
        while not self._headed:
            if self._error is not None:
                raise self._error
            await self._arrival()

    async def read(self) -> bytes:
        """All that has come since the last read, as soon as there is any; empty at the clean end.

        Raises: RelayError upstream_ended_early, upstream_timeout, upstream_bad_response.
        """
        return await self._read() if self._inflater is None else await self._read_inflated(self._inflater)

    async def push(self, consume: Consumer) -> None:
        """Call ``consume(data)`` at each arrival, in the socket's own callback, until it says that it wants no more.

        It saves the waking of a task. Returns at the end of the body, at a failure, or when ``consume`` returned
        False: what comes then is for ``read``. Raises: what ``consume`` raised.
        """
        if self._inflater is not None or self._pieces:
            return
        self._consumer = consume
        try:
            while self._consumer is not None and self._error is None and not self._ended:
                await self._arrival()
        finally:
            self._consumer = None
        if self._push_error is not None:
            raise self._push_error

    async def body(self, limit_bytes: int) -> bytes:
        """The rest of the body. Raises: RelayError upstream_bad_response beyond the limit, and what ``read`` raises."""
        pieces: list[bytes] = []
        length = 0
        while data := await self.read():
            length += len(data)
            if length > limit_bytes:
                raise failure("upstream_bad_response", f"it is larger than {limit_bytes:,} bytes")
            pieces.append(data)
        return b"".join(pieces)

    def close(self) -> None:
        """The connection goes back to the pool if the body has ended cleanly, else it is closed at once."""
        if self._closed:
            return
        self._closed = True
        closed = failure("upstream_ended_early", "it was closed while being read")
        self._fail(closed)
        # an error that was raised holds the frames that hold this answer: without the circle all go at once
        self._error = closed if self._error is not None else None
        self._push_error = None
        self._timer.cancel()
        self._parser = None
        connection = self._connection
        connection.answer = None
        reusable = self._ended and self._keep and connection.alive
        reusable = reusable and connection.transport.get_write_buffer_size() == 0  # else it answered before it had read
        if not reusable:
            connection.abort()
        elif self._paused:
            self._resume()
        self._on_close(connection, reusable)

    def cease(self) -> None:
        """The body is taken for over: what has come of it can be read, and its connection is closed afterwards."""
        if not self._ended and self._error is None:
            self._final_pieces = len(self._pieces)
            self._end(keep=False)

    def retire(self, within_s: float = 1.0) -> None:
        """``close`` for a caller that has seen the terminal event: many servers write the body's end a moment later.

        The connection goes back to the pool if the end comes within the time and 64 KiB, else it is closed then.
        """
        if self._ended or self._error is not None:
            self.close()
        elif not self._closed:
            self._retiring = True
            self._pieces.clear()
            self._buffered_bytes = 0
            if self._paused:
                self._resume()
            self._timer.cancel()
            self._timer = self._loop.call_later(within_s, self.close)

    def abandon(self) -> None:
        """Closes the dead connection; its slot stays with the caller, for another one."""
        self._on_close = _keep_slot
        self.close()

    # -- what the connection calls

    def feed(self, data: bytes) -> None:
        """hot: once per socket read; measured in the commit messages of this folder."""
        pieces = self._pieces
        before = len(pieces)
        self._last_byte_at = self._loop.time()
        try:
            self._parser.feed_data(data)  # type: ignore[union-attr]  # there is one until close()
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._on_garbage(error)
        if len(pieces) == before:
            self._on_framing(len(data))
            return
        if not self._begun:
            self._on_first_byte()
        self._overhead_bytes = 0
        self._buffered_bytes += len(data)
        if self._ended:
            self._trim()
        consume = self._consumer
        if consume is not None:
            data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            pieces.clear()
            self._buffered_bytes = 0
            try:
                if consume(data):
                    return
            except Exception as error:  # nobody is above a transport's callback: it is raised in ``push``
                self._push_error = error
            self._consumer = None
            self._wake()
            return
        if self._buffered_bytes > HIGH_WATER_BYTES and not self._paused and not self._ended:
            self._pause()
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def on_eof(self) -> None:
        """The upstream sends no more."""
        if self._ended or self._error is not None:
            return
        if self._close_delimited:
            self._end(keep=False)
        else:
            self._die(None)

    def on_lost(self, error: Exception | None) -> None:
        """The socket is gone."""
        if not self._ended and self._error is None:
            self._die(error)

    # -- what the parser calls (and on_body, above)

    def on_message_begin(self) -> None:
        if self._ended:  # a second answer that nobody asked for
            self._keep = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value) + 4
        if self._header_bytes > MAX_HEAD_BYTES or len(self.headers) >= MAX_HEADERS:
            self._fail(failure("upstream_bad_response", "its headers are too large or too many"))
        elif not self._headed:  # later ones are trailers
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self._headed or self._error is not None:
            return
        status: int = self._parser.get_status_code()  # type: ignore[union-attr]
        if status < 200:
            if status == 101:
                self._fail(failure("upstream_bad_response", "it switches protocols unasked"))
            self._interim = True
            self.headers.clear()
            return
        self.status = status
        self._header_bytes = 0
        self._frame()
        if self._error is None:
            self._headed = True
            self._wake()

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
        elif not self._ended and self._error is None:
            self._final_pieces = len(self._pieces)
            self._end(keep=self._parser.should_keep_alive())  # type: ignore[union-attr]

    # -- inside

    async def _arrival(self) -> None:
        waiter = self._waiter = self._loop.create_future()
        try:
            await waiter
        finally:
            self._waiter = None

    async def _read(self) -> bytes:
        pieces = self._pieces
        while not pieces:
            if self._error is not None:
                raise self._error
            if self._ended:
                return b""
            waiter = self._waiter = self._loop.create_future()  # hot: _arrival without its frame
            try:
                await waiter
            finally:
                self._waiter = None
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._buffered_bytes = 0
        if self._paused:
            self._resume()
        return data

    async def _read_inflated(self, inflater: Inflater) -> bytes:
        try:
            while not (output := inflater.step()):
                data = await self._read()
                if not data:
                    inflater.close()
                    return b""
                inflater.feed(data)
        except RelayError:
            self._keep = False
            raise
        return output

    def _frame(self) -> None:
        """How the body ends and how it is coded (RFC 9112 §6.3)."""
        self._bodiless = self._bodiless or self.status in _WITHOUT_BODY
        codings = [value.strip().lower() for name, value in self.headers if name == b"transfer-encoding"]
        if codings and codings != [b"chunked"]:
            self._fail(failure("upstream_bad_response", "its transfer encoding is not chunked"))
        self._close_delimited = not codings and self.header(b"content-length") is None
        if not self._bodiless:
            content_codings = [value for name, value in self.headers if name == b"content-encoding"]
            try:
                self._inflater = inflater_for(b",".join(content_codings))
            except RelayError as error:
                self._fail(error)

    def _on_framing(self, length: int) -> None:
        """A read without a byte of body: a part of the head, a chunk's head, trailers; bounded."""
        if self._ended:
            return
        if self._bodiless and self._headed:
            self._end(keep=False)
            return
        self._overhead_bytes += length
        if self._overhead_bytes > 2 * MAX_HEAD_BYTES:  # a whole head, and then as much again
            self._fail(failure("upstream_bad_response", "its headers or chunk lines are too large"))

    def _on_first_byte(self) -> None:
        self._begun = True
        if self._retiring:
            return
        self._timer.cancel()
        if self._bodiless and not self._ended:
            self._end(keep=False)
        elif not self._ended and self._error is None:
            self._timer = self._loop.call_later(
                self._until_next_look(self._timeouts.idle_timeout_s), self._look_at_time
            )

    def _on_garbage(self, error: Exception) -> None:
        if self._ended:
            self._keep = False
        elif self._error is None:
            self._fail(converted(error, self._connection.origin) if isinstance(error, FOREIGN) else _upgrade())

    def _trim(self) -> None:
        """What came behind the end is not body."""
        if len(self._pieces) > self._final_pieces:
            del self._pieces[self._final_pieces :]
            self._keep = False

    def _end(self, *, keep: bool) -> None:
        self._ended = True
        self._keep = keep
        self._timer.cancel()
        self._wake()

    def _die(self, error: Exception | None) -> None:
        self.died = True
        detail = f"{self._connection.origin}: {error!r}"
        if isinstance(error, TimeoutError):  # the kernel's keep-alive, or our own look at what it says
            self._fail(timed_out("dead_peer_timeout_s", self._timeouts.dead_peer_timeout_s, self._connection.origin))
        elif self.untouched:
            self._fail(failure("upstream_unreachable", "it closed the connection without an answer", detail))
        else:
            self._fail(failure("upstream_ended_early", "the connection was closed before its end", detail))

    def _fail(self, error: RelayError) -> None:
        if self._ended or self._error is not None:
            return
        self._error = error
        self._timer.cancel()
        self._wake()
        if not self._closed:
            self._connection.abort()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if self._retiring:
            self._loop.call_soon(self.close)  # not now: the parser is still at work

    def _pause(self) -> None:
        if self._connection.alive:
            self._paused = True
            self._connection.transport.pause_reading()

    def _resume(self) -> None:
        self._paused = False
        self._last_byte_at = self._loop.time()  # the silence was ours
        if self._connection.alive:
            self._connection.transport.resume_reading()

    def _look_at_time(self) -> None:
        which: Literal["idle_timeout_s", "first_byte_timeout_s"]
        which = "idle_timeout_s" if self._begun else "first_byte_timeout_s"
        limit_s: float = getattr(self._timeouts, which)
        now = self._loop.time()
        since = now if self._paused else self._last_byte_at if self._begun else self._sent_at
        left_s = since + limit_s - now
        if left_s <= 0:
            self._fail(timed_out(which, limit_s, self._connection.origin))
        elif self._watching and self._is_gone(now - self._sent_at):
            self._die(TimeoutError("what was sent is not acknowledged"))
        else:
            self._timer = self._loop.call_later(self._until_next_look(left_s), self._look_at_time)

    def _until_next_look(self, left_s: float) -> float:
        return min(left_s, self._timeouts.dead_peer_timeout_s / CHECKS) if self._watching else left_s

    def _is_gone(self, waited_s: float) -> bool:
        connection = self._connection
        state = sent(connection.transport.get_extra_info("socket"))
        unsent_bytes = connection.transport.get_write_buffer_size()
        self._watching = state is not None and (state.unacknowledged or unsent_bytes > 0)
        reused = connection.served > 1 and self.untouched
        return state is not None and is_gone(state, waited_s, self._timeouts.dead_peer_timeout_s, reused=reused)


def _keep_slot(connection: Connection, reusable: bool) -> None:
    """What ``abandon`` puts in the place of the release."""


def _upgrade() -> RelayError:
    return failure("upstream_bad_response", "it switches protocols unasked")
