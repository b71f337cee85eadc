"""The generator's connections: HTTP/1.1 and WebSocket clients that scan for byte patterns and never parse JSON.

Each answer knows how many tokens must come and in which order: one that is lost, doubled or out of order is a
``Failed`` for the whole job. A token is its number, or the time of its making (``demo-stamp``).
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from typing import Final, NamedTuple, cast

MOST_TOKENS: Final = 100_000
_NUMBERS: Final = [b"%d" % number for number in range(1, MOST_TOKENS + 1)]


class Failed(Exception):
    """The other side did not say what it had to."""


class Form(NamedTuple):
    """How tokens and the end look in one wire format; ``end`` comes behind the last token."""

    token: re.Pattern[bytes]
    end: bytes


_DELTA: Final = re.compile(rb'"delta":"(\d+) "')
FORMS: Final = {
    ("responses", "sse"): Form(_DELTA, b"event: response.completed\n"),
    ("responses", "ws"): Form(_DELTA, b'"type":"response.completed"'),
    ("responses", "json"): Form(re.compile(rb'"text":"(\d+) "'), b'"status":"completed"'),
    ("chat", "sse"): Form(re.compile(rb'"content":"(\d+) "'), b"data: [DONE]\n"),
    ("chat", "json"): Form(re.compile(rb'"content":"(\d+) "'), b'"finish_reason":"stop"'),
}


class Tally:
    """What the connections of one job count; times in nanoseconds."""

    def __init__(self) -> None:
        self.tokens = 0
        self.answers = 0
        self.delays: list[int] = []
        self.firsts: list[int] = []
        self.open: set[Connection] = set()
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def close(self) -> None:
        """Leave on every connection."""
        for connection in list(self.open):
            connection.close()

    def fail(self, why: str) -> None:
        """The job is over; the first reason counts."""
        if not self.failed.done():
            self.failed.set_exception(Failed(why))


class Answer:
    """An answer of ``expected`` tokens."""

    def __init__(self, form: Form, expected: int, stamped: bool, tally: Tally) -> None:
        self._find = form.token.findall
        self._end = form.end
        self._expected = expected
        self._stamped = stamped
        self._tally = tally
        self._rest = b""
        self._last = 0
        self.count = 0
        self.ended = False
        self.began = time.monotonic_ns()

    def feed(self, data: bytes, now: int) -> None:
        """Bytes of a body, split anywhere. Raises: Failed."""
        if self._rest:
            data, self._rest = self._rest + data, b""
        if not data.endswith(b"\n\n"):
            cut = data.rfind(b"\n\n") + 2
            if cut == 1:
                self._rest = data
                return
            data, self._rest = data[:cut], data[cut:]
        self.scan(data, now)

    def scan(self, block: bytes, now: int) -> None:
        """Whole events. Raises: Failed."""
        found = self._find(block)
        if found:
            if not self.count:
                self._tally.firsts.append(now - self.began)
            if self._stamped:
                self._take_stamps(found, now)
            elif found != _NUMBERS[self.count : self.count + len(found)]:
                raise Failed(f"after token {self.count} came {b' '.join(found[:20])!r}")
            self.count += len(found)
            self._tally.tokens += len(found)
            if self.count > self._expected:
                raise Failed(f"{self.count} tokens of {self._expected}")
        if self.count == self._expected:
            self.ended = self.ended or self._end in block
        elif not found and (b'"type":"error"' in block or b"response.failed" in block or b'"error":{' in block):
            raise Failed(f"an error: {block[:600]!r}")

    def close(self) -> None:
        """The body is over. Raises: Failed."""
        if self._rest:
            self.scan(self._rest, time.monotonic_ns())
        if self.count != self._expected or not self.ended:
            raise Failed(f"{self.count} tokens of {self._expected}, end {'seen' if self.ended else 'missing'}")

    def _take_stamps(self, found: list[bytes], now: int) -> None:
        last = self._last
        for stamp in map(int, found):
            if stamp < last:
                raise Failed(f"token {self.count} was made before the one before it")
            last = stamp
            self._tally.delays.append(now - stamp)
        self._last = last


class Whole:
    """An answer that is kept; ``end`` says when a WebSocket's is over."""

    def __init__(self, end: bytes) -> None:
        self._pieces: list[bytes] = []
        self._end = end
        self.ended = False

    def feed(self, data: bytes, now: int) -> None:
        """Bytes of a body."""
        self.scan(data, now)

    def scan(self, block: bytes, now: int) -> None:
        """Bytes of a body. Raises: Failed."""
        self._pieces.append(block)
        self.ended = self.ended or self._end in block
        if b'"type":"error"' in block or b"response.failed" in block or b'"error":{' in block:
            raise Failed(f"an error: {block[:600]!r}")

    def close(self) -> None:
        """The body is over. Raises: Failed."""
        if self._end not in self.data():
            raise Failed(f"the end is missing: …{self.data()[-300:]!r}")

    def data(self) -> bytes:
        """All of it."""
        return b"".join(self._pieces)


class Connection(asyncio.Protocol):
    """What both kinds share: one answer at a time; ``on_done(connection)`` is called at its end."""

    def __init__(self, tally: Tally, on_done: Callable[[Connection], None]) -> None:
        self._tally = tally
        self._on_done = on_done
        self._answer: Answer | Whole | None = None
        self._buffer = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._tally.open.add(self)

    def begin(self, request: bytes, answer: Answer | Whole) -> None:
        """Ask, and take what comes for ``answer``."""
        assert self.transport is not None
        self._answer = answer
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        try:
            self.take(data, now)
        except Failed as failure:
            self._tally.fail(str(failure))
            self.close()

    def take(self, data: bytes, now: int) -> None:
        """Bytes off the wire. Raises: Failed."""
        raise NotImplementedError

    def connection_lost(self, error: Exception | None) -> None:
        self._tally.open.discard(self)
        if self._answer is not None:
            self._tally.fail(f"the connection ended within an answer ({error})")

    def close(self) -> None:
        """Leave; what is still to come is not waited for."""
        self._answer = None
        if self.transport is not None:
            self.transport.abort()

    def finish(self) -> None:
        """The answer is over. Raises: Failed."""
        answer, self._answer = self._answer, None
        assert answer is not None
        answer.close()
        self._tally.answers += 1
        self._on_done(self)


_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)")


class HTTP(Connection):
    """One request after the other on a connection that is kept; bodies are chunked or have a length."""

    _in_body = False
    _left: int | None = None  # None: chunked

    def take(self, data: bytes, now: int) -> None:
        """Raises: Failed."""
        if self._buffer:
            data, self._buffer = self._buffer + data, b""
        answer = self._answer
        if answer is None:
            raise Failed(f"bytes that nobody asked for: {data[:200]!r}")
        if not self._in_body:
            head, found, data = data.partition(b"\r\n\r\n")
            if not found:
                self._buffer = head
                return
            self._on_head(head, data)
        if self._left is None:
            body, ended = self._unchunked(data)
        else:
            body, self._left = data, self._left - len(data)
            ended = self._left <= 0
        if body:
            answer.feed(body, now)
        if ended:
            self._in_body = False
            self.finish()

    def _on_head(self, head: bytes, rest: bytes) -> None:
        if head[9:12] != b"200":
            raise Failed(f"{head[:200]!r} {rest[:600]!r}")
        self._in_body = True
        lower = head.lower()
        length = _LENGTH.search(lower)
        if length is None and b"transfer-encoding: chunked" not in lower:
            raise Failed(f"a body without a length: {head!r}")
        self._left = None if length is None else int(length[1])

    def _unchunked(self, data: bytes) -> tuple[bytes, bool]:
        """The contents of whole chunks, and whether the last was among them; the rest waits."""
        pieces: list[bytes] = []
        at = 0
        while True:
            line = data.find(b"\r\n", at)
            if line < 0:
                break
            size = int(data[at:line], 16)
            end = line + 2 + size + 2
            if len(data) < end:
                break
            if not size:
                return b"".join(pieces), True
            pieces.append(data[line + 2 : end - 2])
            at = end
        self._buffer = data[at:]
        return (pieces[0] if len(pieces) == 1 else b"".join(pieces)), False


class Socket(Connection):
    """A WebSocket; ``opened`` is done once the server has agreed."""

    def __init__(self, tally: Tally, on_done: Callable[[Connection], None]) -> None:
        super().__init__(tally, on_done)
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        self.transport.write(
            b"GET /v1/responses HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
            b"sec-websocket-key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nsec-websocket-version: 13\r\n\r\n"
        )

    def take(self, data: bytes, now: int) -> None:
        """Raises: Failed."""
        if self._buffer:
            data, self._buffer = self._buffer + data, b""
        if not self.opened.done():
            head, found, rest = data.partition(b"\r\n\r\n")
            if not found:
                self._buffer = data
                return
            if head[9:12] != b"101":
                raise Failed(f"the handshake was refused: {data[:600]!r}")
            self.opened.set_result(None)
            data = rest
        whole = self._whole_frames(data)
        self._buffer = data[whole:]
        if whole and self._answer is not None:
            # the headers between the messages hold none of the patterns
            self._answer.scan(data[:whole] if self._buffer else data, now)
            if self._answer.ended:
                self.finish()

    def _whole_frames(self, data: bytes) -> int:
        """Where the last whole frame ends; pings are answered."""
        at, size = 0, len(data)
        while at + 2 <= size:
            length, start = data[at + 1], at + 2
            if length > 125:
                wide = 2 if length == 126 else 8
                start += wide
                if start > size:
                    break
                length = int.from_bytes(data[start - wide : start])
            if start + length > size:
                break
            if data[at] == 0x89:
                assert self.transport is not None
                self.transport.write(frame(data[start : start + length], 0x8A))
            elif data[at] == 0x88:
                raise Failed(f"the server closed: {data[start : start + length]!r}")
            at = start + length
        return at


def frame(payload: bytes, first: int = 0x81) -> bytes:
    """A client's frame; its mask is four zero octets, so that the payload stays as it is."""
    size = len(payload)
    if size < 126:
        head = bytes((first, 0x80 | size))
    elif size < 65_536:
        head = bytes((first, 0x80 | 126)) + size.to_bytes(2)
    else:
        head = bytes((first, 0x80 | 127)) + size.to_bytes(8)
    return head + bytes(4) + payload
