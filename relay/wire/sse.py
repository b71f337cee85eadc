"""Server-sent events, cut out of a byte stream in any split.

Source: WHATWG HTML, "Interpreting an event stream"; translation.md §3.3 for what servers do beyond it
(a bare ``error:`` line is an event named ``error``; the last event may lack its blank line).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from relay.errors import RelayError
from relay.wire.thinning import HUGE_VALUES, thinned

EVENT_LIMIT_BYTES: Final = 16 * 1024 * 1024
"""Decision 7: one event of an upstream's stream is at most 16 MiB."""

WINDOW_BYTES: Final = 4 * 1024
HEAVY_BYTES: Final = 16 * 1024
"""What is larger takes long to work on as a whole: 4 ms, where it is written to take long."""

_BOM: Final = b"\xef\xbb\xbf"

Event = tuple[bytes | None, bytes]
"""``(event name or None, data)``; several ``data:`` lines are joined by LF."""


class Decoder:
    """Cuts events; time and memory are linear in the stream, whatever its split.

    ``comments`` counts comment lines; ``stray`` holds the first 2 KiB of lines that are no SSE at all, for error texts.
    ``clear``: nothing of what was fed is kept, so a read that is known to be whole events with line feeds is its own
    ``cut``. ``heavy``: what is kept is the beginning of a large event. ``thins``: members of huge events that nobody
    reads are cut out.
    """

    __slots__ = ("_buffer", "_fresh", "_limit", "_scanned", "_skip_lf", "clear", "comments", "heavy", "stray", "thins")

    def __init__(self, limit_bytes: int = EVENT_LIMIT_BYTES, *, thins: bool = False) -> None:
        self.thins = thins
        self._limit = limit_bytes
        self._buffer = bytearray()
        self._scanned = 0
        self._skip_lf = False
        self._fresh = True
        self.clear = False
        self.heavy = False
        self.comments = 0
        self.stray = b""

    def feed(self, data: bytes) -> list[Event]:
        """The events that ``data`` completes.

        Raises: RelayError ``upstream_bad_response`` where one event is over the limit.
        """
        return self.parse(self.cut(data))

    def cut(self, data: bytes) -> bytes:
        """The whole events that ``data`` completes, with line feeds for line ends; ``parse`` takes them apart.

        Raises: RelayError ``upstream_bad_response`` where one event is over the limit.
        """
        if b"\r" in data or self._skip_lf:
            data = self._with_line_feeds(data)
        buffer = self._buffer
        if self._fresh:
            data = self._without_bom(data)
        # hot: bench/test_sse.py; most reads hold whole events and need no buffer
        if not buffer and data.endswith(b"\n\n"):
            self.clear = not (self._fresh or self._skip_lf)
            return data
        self.clear = False
        buffer += data
        end = buffer.rfind(b"\n\n", max(self._scanned - 1, 0))
        if end < 0:
            self._scanned = len(buffer)
            self.heavy = len(buffer) > HEAVY_BYTES
            if len(buffer) > self._limit:
                raise RelayError("upstream_bad_response", f"The upstream sent one event of over {self._limit} bytes.")
            return b""
        whole = bytes(buffer[: end + 2])
        del buffer[: end + 2]
        self._scanned = len(buffer)
        self.heavy = len(buffer) > HEAVY_BYTES
        return whole

    def close(self) -> list[Event]:
        """The last event, where the stream ended without its blank line."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        self._scanned = 0
        return self.parse(rest)

    def _without_bom(self, data: bytes) -> bytes:
        head = bytes(self._buffer) + data
        if len(head) < len(_BOM) and _BOM.startswith(head):
            return data
        self._fresh = False
        if head.startswith(_BOM):
            self._buffer.clear()
            return head[len(_BOM) :]
        return data

    def _with_line_feeds(self, data: bytes) -> bytes:
        if self._skip_lf and data:
            self._skip_lf = False
            if data[0] == 10:
                data = data[1:]
        self._skip_lf = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def parse(self, block: bytes) -> list[Event]:
        """The events of a block that ``cut`` returned. Raises: RelayError for one over the limit."""
        events: list[Event] = []
        if self.thins and len(block) > HUGE_VALUES:
            block = b"\n\n".join(map(thinned, block.split(b"\n\n")))
        for part in block.split(b"\n\n"):
            if len(part) > self._limit:
                raise RelayError("upstream_bad_response", f"The upstream sent one event of over {self._limit} bytes.")
            # hot: the two ways in which nearly every server writes an event
            head, line_feed, rest = part.partition(b"\n")
            if not line_feed and head.startswith(b"data: "):
                events.append((None, head[6:]))
            elif head.startswith(b"event: ") and rest.startswith(b"data: ") and b"\n" not in rest:
                events.append((head[7:], rest[6:]))
            elif part:
                event = self._event(part)
                if event is not None:
                    events.append(event)
        return events

    def _event(self, part: bytes) -> Event | None:
        name: bytes | None = None
        lines: list[bytes] = []
        for line in part.split(b"\n"):
            field, colon, value = line.partition(b":")
            if value.startswith(b" "):
                value = value[1:]
            if field == b"data":
                lines.append(value)
            elif field == b"event":
                name = value
            elif field == b"error" and colon:
                name = b"error"
                lines.append(value)
            elif not field and colon:
                self.comments += 1
            elif line and field not in (b"id", b"retry") and len(self.stray) < 2048:
                self.stray += line[:2048]
        return (name, b"\n".join(lines)) if lines else None


def window(block: bytes, at: int, size: int) -> bytes:
    """The whole events of a block of whole events from ``at``, up to the end of the one in which ``size`` bytes end."""
    end = block.find(b"\n\n", at + size - 2)
    return block[at : end + 2] if end >= 0 else block[at:]


def piece(data: bytes, at: int) -> bytes:
    """What to feed next of a large read: whole events where their ends can be seen, at most twice ``HEAVY_BYTES``."""
    if len(data) - at <= HEAVY_BYTES:
        return data[at:] if at else data
    end = data.find(b"\n\n", at + HEAVY_BYTES - 2, at + 2 * HEAVY_BYTES)
    return data[at : end + 2 if end >= 0 else at + HEAVY_BYTES]


def windows(block: bytes) -> Iterator[bytes]:
    """A block of whole events in pieces of whole events, each of 4 KiB or up to one event more."""
    at = 0
    while at < len(block):
        piece = window(block, at, WINDOW_BYTES)
        yield piece
        at += len(piece)


def frame(name: bytes, payload: bytes) -> bytes:
    """One event on the wire: name line, one data line, blank line (responses-api.md §4.1)."""
    return b"event: %b\ndata: %b\n\n" % (name, payload)


COMMENT: Final = b": keep-alive\n\n"
DONE: Final = b"data: [DONE]\n\n"
