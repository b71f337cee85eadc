"""Where events go: an SSE body, WebSocket messages, or nowhere until one JSON body.

A sink only frames: each event arrives encoded once, and what was written is taken once per upstream read.
"""

from __future__ import annotations

from typing import Protocol

from relay.wire import sse


class Sink(Protocol):
    """Takes events as ``(name, JSON payload)``."""

    def write(self, name: bytes, payload: bytes) -> None:
        """One event."""
        ...

    def write_run(self, name: bytes, head: bytes, literals: list[bytes], tail: bytes, number: int) -> None:
        """An event for each literal: ``head "literal" tail number }``, numbered from ``number``."""
        ...

    def write_framed(self, block: bytes, skip: int) -> None:
        """Events that an upstream framed as ``SSESink`` does; ``skip`` bytes of each stand before its payload."""
        ...

    def end(self) -> None:
        """The terminal event was written."""
        ...


class SSESink:
    """Frames for ``text/event-stream``."""

    __slots__ = ("_frames",)

    def __init__(self) -> None:
        self._frames: list[bytes] = []

    def write(self, name: bytes, payload: bytes) -> None:
        """One event, framed."""
        self._frames.append(b"event: %b\ndata: %b\n\n" % (name, payload))

    def write_run(self, name: bytes, head: bytes, literals: list[bytes], tail: bytes, number: int) -> None:
        """All events as one piece."""
        # hot: bench/test_emitter.py
        if len(literals) == 1:
            self._frames.append(b'event: %b\ndata: %b"%b"%b%d}\n\n' % (name, head, literals[0], tail, number))
            return
        lead = b'event: %b\ndata: %b"' % (name, head)
        tail = b'"' + tail
        self._frames += [b"%b%b%b%d}\n\n" % (lead, literal, tail, at) for at, literal in enumerate(literals, number)]

    def write_framed(self, block: bytes, skip: int) -> None:
        """The block as it is."""
        self._frames.append(block)

    def end(self) -> None:
        """The last line of the stream (decision 2)."""
        self._frames.append(sse.DONE)

    def take(self) -> bytes:
        """What was written since the last call, as one piece; empty if nothing."""
        frames = self._frames
        if not frames:
            return b""
        self._frames = []
        return b"".join(frames) if len(frames) > 1 else frames[0]

    def take_all(self) -> list[bytes]:
        """The same in pieces, while another thread may write."""
        pieces = self._frames[:]
        del self._frames[: len(pieces)]
        return pieces


class SocketSink:
    """Text messages for a WebSocket; each carries ``stream_id`` where its lane has a name (responses-api.md §5.6)."""

    __slots__ = ("_head", "_texts")

    def __init__(self, stream_id_json: bytes | None = None) -> None:
        self._texts: list[bytes] = []
        self._head = b'{"stream_id":' + stream_id_json + b"," if stream_id_json is not None else b""

    def write(self, name: bytes, payload: bytes) -> None:
        """One event, one message."""
        self._texts.append(self._head + payload[1:] if self._head else payload)

    def write_run(self, name: bytes, head: bytes, literals: list[bytes], tail: bytes, number: int) -> None:
        """One message for each."""
        # hot: bench/test_emitter.py
        if self._head:
            head = self._head + head[1:]
        if len(literals) == 1:
            self._texts.append(b'%b"%b"%b%d}' % (head, literals[0], tail, number))
            return
        lead = head + b'"'
        tail = b'"' + tail
        self._texts += [b"%b%b%b%d}" % (lead, literal, tail, at) for at, literal in enumerate(literals, number)]

    def write_framed(self, block: bytes, skip: int) -> None:
        """One message for each event."""
        payloads = [event[skip:] for event in block[:-2].split(b"\n\n")]
        head = self._head
        self._texts.extend([head + payload[1:] for payload in payloads] if head else payloads)

    def end(self) -> None:
        """Nothing: a WebSocket has no ``[DONE]`` (decision 2)."""

    def take(self) -> list[bytes]:
        """The messages since the last call."""
        texts = self._texts
        if texts:
            self._texts = []
        return texts

    def take_all(self) -> list[bytes]:
        """The same, while another thread may write."""
        texts = self._texts[:]
        del self._texts[: len(texts)]
        return texts


class NullSink:
    """Drops events: a JSON client reads the emitter's final response instead."""

    __slots__ = ()

    def write(self, name: bytes, payload: bytes) -> None:
        """Nothing."""

    def write_run(self, name: bytes, head: bytes, literals: list[bytes], tail: bytes, number: int) -> None:
        """Nothing."""

    def write_framed(self, block: bytes, skip: int) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""

    def take(self) -> bytes:
        """Nothing."""
        return b""
