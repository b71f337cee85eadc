"""How a turn reaches a client: as SSE, as one JSON body, or (in ``session``) as WebSocket messages.

Source: design.md §3 "Turn and attachment"; decisions 1-4. An attachment knows its transport; the turn knows none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

import orjson

from relay.app.replies import Header, Send, send_error, send_json
from relay.errors import RelayError
from relay.responses.json import encoded
from relay.responses.sinks import NullSink, Sink, SocketSink, SSESink
from relay.wire.sse import COMMENT

_SSE_HEADERS: Final[list[Header]] = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]

PIECE_BYTES: Final = 256 * 1024
BATCH: Final = 256  # messages of a socket in one write, while more are being made

HeadersNow = Callable[[], list[Header]]
"""The headers of an answer at the moment when it begins."""

WriteNow = Callable[[Any], bool]
"""Our server's extension ``relay.write``: takes body bytes (or texts) at once; false where the client is behind."""


class Attachment(Protocol):
    """Binds a turn to a client."""

    @property
    def sink(self) -> Sink:
        """Where the emitter writes."""
        ...

    @property
    def begun(self) -> bool:
        """Whether something has left for the client: from then on a failure is an event (decision 1)."""
        ...

    @property
    def streams(self) -> bool:
        """Whether events are shown as they come."""
        ...

    async def flush(self) -> None:
        """Send what the sink holds."""
        ...

    def push(self) -> bool:
        """Send what the sink holds at once, without waiting for anybody; whether the client keeps up.

        Only after ``begun``, and only where ``pushes``: else, and after False, ``flush`` sends and waits.
        """
        ...

    @property
    def pushes(self) -> bool:
        """Whether ``push`` works: the server is ours."""
        ...

    async def drain(self) -> None:
        """Send what the sink holds in pieces, while another thread may write into it, so that others get their turn."""
        ...

    async def finish(self, response: dict[str, Any], body: bytes | None = None) -> None:
        """The terminal event was written (``response`` is the final Response): send the rest and end.

        ``body`` is the Response as JSON, where that is there already.
        """
        ...

    async def refuse(self, error: RelayError) -> None:
        """Nothing was sent: answer with the error alone."""
        ...

    async def heartbeat(self) -> None:
        """Say, where the transport has words for it, that the stream lives: nothing that a client counts."""
        ...


class EventStream:
    """SSE over HTTP. The first flush sends the head too."""

    __slots__ = ("_headers", "_send", "_write_now", "begun", "pushes", "sink", "streams")

    def __init__(self, send: Send, headers: HeadersNow, write_now: WriteNow | None = None) -> None:
        self.sink = SSESink()
        self.begun = False
        self.streams = True
        self.pushes = write_now is not None
        self._send = send
        self._headers = headers
        self._write_now = write_now

    async def flush(self) -> None:
        """One send for all that was written since the last; waits for a client that is behind."""
        # hot: bench
        data = self.sink.take()
        if data and not self.begun:
            await self._begin()
        if data or (self.begun and self.pushes):
            await self._send({"type": "http.response.body", "body": data, "more_body": True})

    def push(self) -> bool:
        """One write for all that was written since the last."""
        # hot: bench
        data = self.sink.take()
        return not data or (self._write_now is not None and self._write_now(data))

    async def drain(self) -> None:
        """One send for each ``PIECE_BYTES`` or so."""
        for data in _pieces(self.sink.take_all()):
            if not self.begun:
                await self._begin()
            await self._send({"type": "http.response.body", "body": data, "more_body": True})
            await asyncio.sleep(0)

    async def finish(self, response: dict[str, Any], body: bytes | None = None) -> None:
        """The last events and the end of the body, in one send where they are small."""
        if not self.begun:
            await self._begin()
        *pieces, last = _pieces(self.sink.take_all())
        for data in pieces:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})
            await asyncio.sleep(0)
        await self._send({"type": "http.response.body", "body": last})

    async def refuse(self, error: RelayError) -> None:
        """An HTTP status with the envelope."""
        await send_error(self._send, error, self._headers())

    async def heartbeat(self) -> None:
        """A comment line."""
        if self.begun:
            await self._send({"type": "http.response.body", "body": COMMENT, "more_body": True})

    async def _begin(self) -> None:
        self.begun = True
        head = [*_SSE_HEADERS, *self._headers()]
        await self._send({"type": "http.response.start", "status": 200, "headers": head})


class JSONBody:
    """One JSON answer at the end."""

    __slots__ = ("_headers", "_send", "begun", "pushes", "sink", "streams")

    def __init__(self, send: Send, headers: HeadersNow, write_now: WriteNow | None = None) -> None:
        self.sink = NullSink()
        self.begun = False
        self.streams = False
        self.pushes = True
        self._send = send
        self._headers = headers

    def push(self) -> bool:
        """Nothing until the end."""
        return True

    async def flush(self) -> None:
        """Nothing until the end."""

    async def drain(self) -> None:
        """Nothing until the end."""

    async def finish(self, response: dict[str, Any], body: bytes | None = None) -> None:
        """The final Response."""
        self.begun = True
        await send_json(self._send, 200, response if body is None else body, self._headers())

    async def refuse(self, error: RelayError) -> None:
        """An HTTP status with the envelope."""
        self.begun = True
        await send_error(self._send, error, self._headers())

    async def heartbeat(self) -> None:
        """A JSON client waits."""


class SocketMessages:
    """Events as text messages of one lane of a WebSocket.

    ``batches``: the server takes several messages in one write (decision 34); else each is sent alone.
    """

    __slots__ = ("_batches", "_lane", "_send", "_write_now", "begun", "pushes", "refused", "sink", "streams")

    def __init__(self, send: Send, lane: str | None, *, batches: bool, write_now: WriteNow | None = None) -> None:
        self.sink = SocketSink(orjson.dumps(lane) if lane is not None else None)
        self.begun = False
        self.streams = True
        self.pushes = write_now is not None
        self._write_now = write_now
        self.refused: RelayError | None = None
        self._send = send
        self._lane = lane
        self._batches = batches

    async def flush(self) -> None:
        """All that was written since the last flush."""
        # hot: bench
        texts = self.sink.take()
        if not texts and not self.pushes:
            return
        await self._send_all(texts)

    async def _send_all(self, texts: list[bytes]) -> None:
        self.begun = self.begun or bool(texts)
        if self._batches:
            await self._send({"type": "relay.websocket.send_batch", "texts": texts})
        else:
            for text in texts:
                await self._send({"type": "websocket.send", "text": text.decode()})

    async def drain(self) -> None:
        """The same, some at a time."""
        texts = self.sink.take_all()
        for at in range(0, len(texts), BATCH):
            await self._send_all(texts[at : at + BATCH])
            await asyncio.sleep(0)

    def push(self) -> bool:
        """All that was written since the last, in one write."""
        # hot: bench
        texts = self.sink.take()
        return not texts or (self._write_now is not None and self._write_now(texts))

    async def finish(self, response: dict[str, Any], body: bytes | None = None) -> None:
        """The last events; the socket stays open."""
        await self.flush()

    async def refuse(self, error: RelayError) -> None:
        """The error envelope in place of events."""
        self.refused = error.with_traceback(None)  # whose frames hold the turn, and it this
        await self._send({"type": "websocket.send", "text": encoded(error.socket_envelope(self._lane)).decode()})

    async def heartbeat(self) -> None:
        """The server pings the socket itself."""


class Silent:
    """No client: what a turn of the relay's own came to."""

    __slots__ = ("begun", "pushes", "refused", "response", "sink", "streams")

    def __init__(self) -> None:
        self.sink = NullSink()
        self.begun = False
        self.streams = False
        self.pushes = True
        self.refused: RelayError | None = None
        self.response: dict[str, Any] = {}

    async def flush(self) -> None:
        """Nothing."""

    def push(self) -> bool:
        """Nothing."""
        return True

    async def drain(self) -> None:
        """Nothing."""

    async def finish(self, response: dict[str, Any], body: bytes | None = None) -> None:
        """Keep the response."""
        self.response = response

    async def refuse(self, error: RelayError) -> None:
        """Keep the error."""
        self.refused = error.with_traceback(None)  # whose frames hold the turn, and it this

    def check(self) -> None:
        """Raises: RelayError, if the turn was refused."""
        error, self.refused = self.refused, None
        try:
            if error is not None:
                raise error
        finally:
            del error  # which holds this frame

    async def heartbeat(self) -> None:
        """Nothing."""


def _pieces(frames: list[bytes]) -> Iterator[bytes]:
    """Frames joined to ``PIECE_BYTES`` and cut to it: nothing large is copied as a whole."""
    few: list[bytes] = []
    size = 0
    for frame in frames:
        if size + len(frame) > PIECE_BYTES and few:
            yield b"".join(few)
            few, size = [], 0
        if len(frame) > PIECE_BYTES:
            yield from (frame[at : at + PIECE_BYTES] for at in range(0, len(frame), PIECE_BYTES))
        else:
            few.append(frame)
            size += len(frame)
    if few:
        yield b"".join(few)
