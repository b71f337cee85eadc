"""Which queued create of a WebSocket may start: first in, first out in a lane, side by side across lanes.

Source: responses-api.md §5.6; decisions 33 (16 running, 64 queued, one body limit of bytes), 36. Pure: it decides, the
session acts.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from relay.errors import RelayError

RUNNING_LIMIT: Final = 16
NAMES_LIMIT: Final = 32
QUEUE_LIMIT: Final = 64

_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,256}")

J = TypeVar("J")


def lane_name(message: dict[str, Any]) -> str | None:
    """The lane that a create names; None is the default lane. Raises: RelayError ``invalid_stream_id``."""
    if "stream_id" not in message:
        return None
    name = message["stream_id"]
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        message_text = "stream_id must be 1 to 256 characters of A-Z a-z 0-9 _ . -"
        raise RelayError("invalid_stream_id", message_text, param="stream_id")
    return name


@dataclass(slots=True)
class Queued(Generic[J]):
    """A create that waits: its job and the bytes it holds."""

    lane: str | None
    job: J
    size_bytes: int


class Lanes(Generic[J]):
    """``add`` a create, ``next`` to start one, ``finished`` when a lane's turn is over.

    What waits holds at most ``bytes_limit``, and with what runs twice that, but for a create that is alone.
    """

    __slots__ = ("_bytes_limit", "_names", "_queues", "_ready", "_running", "queued", "queued_bytes", "running_bytes")

    def __init__(self, bytes_limit: int) -> None:
        self._bytes_limit = bytes_limit
        self._names: set[str] = set()
        self._queues: dict[str | None, deque[Queued[J]]] = {}
        self._running: dict[str | None, int] = {}
        self._ready: deque[str | None] = deque()
        self.queued = 0
        self.queued_bytes = 0
        self.running_bytes = 0

    @property
    def running(self) -> int:
        """Turns that run now."""
        return len(self._running)

    @property
    def idle(self) -> bool:
        """Nothing runs and nothing waits."""
        return not self._running and not self.queued

    def busy(self, lane: str | None) -> bool:
        """Whether a turn of this lane runs."""
        return lane in self._running

    def add(self, lane: str | None, job: J, size_bytes: int) -> None:
        """Put a create at the end of its lane. Raises: RelayError for the 33rd name, a full queue."""
        if lane is not None and lane not in self._names and len(self._names) >= NAMES_LIMIT:
            message = f"A connection has at most {NAMES_LIMIT} named streams."
            raise RelayError("websocket_stream_limit_reached", message, param="stream_id")
        starts_now = lane not in self._running and lane not in self._queues and len(self._running) < RUNNING_LIMIT
        if not starts_now and (self.queued >= QUEUE_LIMIT or self.queued_bytes + size_bytes > self._bytes_limit):
            message = f"At most {QUEUE_LIMIT} requests and {self._bytes_limit} bytes wait on a connection."
            raise RelayError("websocket_queue_full", message)
        held = self.running_bytes + self.queued_bytes
        if held and held + size_bytes > 2 * self._bytes_limit:
            message = f"The requests that run and wait on a connection hold at most {2 * self._bytes_limit} bytes."
            raise RelayError("websocket_queue_full", message)
        if lane is not None:
            self._names.add(lane)
        queue = self._queues.setdefault(lane, deque())
        queue.append(Queued(lane, job, size_bytes))
        self.queued += 1
        self.queued_bytes += size_bytes
        if len(queue) == 1 and lane not in self._running:
            self._ready.append(lane)

    def next(self) -> Queued[J] | None:
        """The create that starts now, if one may; its lane is then running."""
        if not self._ready or len(self._running) >= RUNNING_LIMIT:
            return None
        lane = self._ready.popleft()
        queue = self._queues[lane]
        queued = queue.popleft()
        if not queue:
            del self._queues[lane]
        self.queued -= 1
        self.queued_bytes -= queued.size_bytes
        self._running[lane] = queued.size_bytes
        self.running_bytes += queued.size_bytes
        return queued

    def finished(self, lane: str | None) -> None:
        """The lane's turn is over."""
        self.running_bytes -= self._running.pop(lane, 0)
        if lane in self._queues:
            self._ready.append(lane)

    def drain(self) -> list[Queued[J]]:
        """Take out everything that waits."""
        waiting = [queued for queue in self._queues.values() for queued in queue]
        self._queues.clear()
        self._ready.clear()
        self.queued = self.queued_bytes = 0
        return waiting
