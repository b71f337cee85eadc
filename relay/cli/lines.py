"""Where the log's lines go: stderr, which a slow disk or a reader that has stopped reading must not turn into a stall.

Source: spec/operate.md L7; pipe(7) (a write of up to PIPE_BUF bytes is whole, and fits where ``poll`` says so).
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, TextIO

LINES_LIMIT: Final = 10_000
BYTES_LIMIT: Final = 8 * 1024 * 1024
PIECE_BYTES: Final = 4_096
"""PIPE_BUF: what is written at once, so that the lines of several workers do not mix."""
FAREWELL_S: Final = 1.0
_GATHER_S: Final = 0.02  # a thread that wakes for each line takes the interpreter from the loop each time
_AGAIN_S: Final = 0.1

Dropped = Callable[[int], str]
"""The line that tells how many were dropped."""


class Direct:
    """Writes only what stderr takes at once: for a process that forks and so can have no thread, as for a start."""

    def __init__(self, descriptor: int, dropped: Dropped) -> None:
        self._descriptor = descriptor
        self._dropped = dropped
        self._writable = select.poll()
        self._writable.register(descriptor, select.POLLOUT)
        self.lost = 0

    def write(self, line: bytes) -> None:
        """Write a line, cut to ``PIECE_BYTES``; or count it."""
        if self.lost and self._take(self._dropped(self.lost).encode("utf-8", "replace") + b"\n"):
            self.lost = 0
        if self.lost or not self._take(line):
            self.lost += 1

    def close(self) -> None:
        """Nothing waits here."""

    def _take(self, line: bytes) -> bool:
        if len(line) > PIECE_BYTES:
            line = line[: PIECE_BYTES - 1] + b"\n"
        try:
            return bool(self._writable.poll(0)) and os.write(self._descriptor, line) == len(line)
        except OSError:
            return False


class Queued:
    """A bounded queue and one thread that writes: nobody who logs waits. What does not fit is counted and told."""

    def __init__(
        self,
        descriptor: int,
        dropped: Dropped,
        *,
        lines_limit: int = LINES_LIMIT,
        bytes_limit: int = BYTES_LIMIT,
    ) -> None:
        self._descriptor = descriptor
        self._dropped = dropped
        self._lines_limit = lines_limit
        self._bytes_limit = bytes_limit
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._closed = False
        self._idle = True
        self._some = threading.Condition()
        self.lost = 0
        self._thread = threading.Thread(target=self._run, name="relay-log", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> None:
        """Queue a line, or count it."""
        with self._some:
            if len(self._waiting) >= self._lines_limit or self._bytes + len(line) > self._bytes_limit:
                self.lost += 1
                return
            self._waiting.append(line)
            self._bytes += len(line)
            if self._idle:
                self._idle = False
                self._some.notify()

    def close(self, farewell_s: float = FAREWELL_S) -> None:
        """Write what waits, for ``farewell_s`` at most: a reader that does not read does not keep a process alive."""
        with self._some:
            self._closed = True
            self._some.notify()
        self._thread.join(farewell_s)

    def _run(self) -> None:
        while piece := self._next():
            try:
                self._put(piece)
            except OSError:  # a reader that is gone: what it would have read is lost
                with self._some:
                    self.lost += piece.count(b"\n")

    def _next(self) -> bytes:
        """Lines for one write, once there are some; nothing once it is closed and all are written."""
        with self._some:
            if not self._waiting and not self._closed:
                self._idle = True
                self._some.wait_for(lambda: self._waiting or self._closed)
                self._some.wait_for(lambda: self._closed, _GATHER_S)
            lines: list[bytes] = []
            if self.lost and self._waiting:
                lines.append(self._dropped(self.lost).encode("utf-8", "replace") + b"\n")
                self.lost = 0
            size = sum(map(len, lines))
            while self._waiting and (not lines or size + len(self._waiting[0]) <= PIECE_BYTES):
                line = self._waiting.popleft()
                lines.append(line)
                size += len(line)
                self._bytes -= len(line)
        return b"".join(lines)

    def _put(self, piece: bytes) -> None:
        rest = memoryview(piece)
        writable = select.poll()
        writable.register(self._descriptor, select.POLLOUT)
        while rest:
            writable.poll()  # somebody may have made stderr non-blocking
            try:
                rest = rest[os.write(self._descriptor, rest[:PIECE_BYTES]) :]
            except BlockingIOError:
                time.sleep(_AGAIN_S)


class LinesHandler(logging.Handler):
    """Gives formatted lines to stderr's descriptor, or, where a stream has none (a test's), to the stream."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._lines: Direct | Queued | None = None
        try:
            self._descriptor = stream.fileno()
        except (OSError, ValueError, AttributeError):
            return
        self._lines = Direct(self._descriptor, self._dropped)

    def start(self) -> None:
        """From here on a thread writes: called in a process that forks no more."""
        if isinstance(self._lines, Direct):
            lost = self._lines.lost
            self._lines = Queued(self._descriptor, self._dropped)
            self._lines.lost = lost

    def emit(self, record: logging.LogRecord) -> None:
        """Format and hand over; the formatter's own errors are told as ``logging`` tells them."""
        try:
            line = self.format(record) + "\n"
            if self._lines is None:
                self._stream.write(line)
                self._stream.flush()
            else:
                self._lines.write(line.encode("utf-8", "backslashreplace"))
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Write what waits, for a second at most."""
        if self._lines is not None:
            self._lines.close()
        super().close()

    def _dropped(self, count: int) -> str:
        words = "%d lines of the log were dropped: stderr was not read fast enough"
        made = logging.makeLogRecord({"name": "relay.log", "levelno": logging.WARNING, "levelname": "WARNING"})
        made.msg, made.args = words, (count,)
        return self.format(made)
