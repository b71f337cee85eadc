"""What one WebSocket remembers: the window after the last response of each lane, and what a queued fork has pinned.

Source: responses-api.md §5.7; decision 36 (eviction, pins, at most 64 MiB a socket, oldest idle lane first).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import orjson

from relay.responses.tools import JSON

LIMIT_BYTES: Final = 64 * 1024 * 1024

Lane = str | None
"""The name of a lane; None is the default one."""


class Entry:
    """A remembered response: its whole window (input and output), and who still needs it."""

    __slots__ = ("current", "id", "lane", "pins", "size_bytes", "window")

    def __init__(self, identifier: str, lane: Lane, window: list[JSON], size_bytes: int) -> None:
        self.id = identifier
        self.lane = lane
        self.window = window
        self.size_bytes = size_bytes
        self.pins = 0
        self.current = True
        """Whether it is still its lane's last response."""


class ConnectionMemory:
    """``remember`` after a turn, ``pin`` at receipt, ``find`` when it starts. Sizes are of the items' JSON."""

    __slots__ = ("_by_id", "_lanes", "_limit_bytes", "size_bytes")

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self._by_id: dict[str, Entry] = {}
        self._lanes: OrderedDict[Lane, Entry] = OrderedDict()
        self._limit_bytes = limit_bytes
        self.size_bytes = 0

    def remember(self, identifier: str, lane: Lane, window: list[JSON]) -> None:
        """The lane's last response is now this one."""
        self.forget_lane(lane)
        entry = Entry(identifier, lane, window, len(orjson.dumps(window)))
        self._lanes[lane] = entry
        self._by_id[identifier] = entry
        self.size_bytes += entry.size_bytes
        while self.size_bytes > self._limit_bytes and self._lanes:
            self.forget_lane(next(iter(self._lanes)))

    def get(self, identifier: object) -> Entry | None:
        """The entry with this response id."""
        return self._by_id.get(identifier) if isinstance(identifier, str) else None

    def pin(self, entry: Entry) -> None:
        """A queued create needs it: it stays until ``unpin``."""
        entry.pins += 1

    def unpin(self, entry: Entry) -> None:
        """The create has started, or never will."""
        entry.pins -= 1
        self._drop_unneeded(entry)

    def evict(self, entry: Entry) -> None:
        """A continuation in its own lane failed: it is gone for whoever asks from now on."""
        if self._lanes.get(entry.lane) is entry:
            del self._lanes[entry.lane]
        entry.current = False
        self._by_id.pop(entry.id, None)
        if not entry.pins:
            self.size_bytes -= entry.size_bytes
            entry.size_bytes = 0

    def forget_lane(self, lane: Lane) -> None:
        """The lane's last response is not its last any more."""
        entry = self._lanes.pop(lane, None)
        if entry is not None:
            entry.current = False
            self._drop_unneeded(entry)

    def _drop_unneeded(self, entry: Entry) -> None:
        if not entry.pins and not entry.current:
            self._by_id.pop(entry.id, None)
            self.size_bytes -= entry.size_bytes
            entry.size_bytes = 0


class View:
    """What one create sees of the memory: its pinned parent, or whatever is there when it starts.

    ``hit`` is the parent once it was found: only then does a failure evict it.
    """

    __slots__ = ("_memory", "_pinned", "hit")

    def __init__(self, memory: ConnectionMemory, pinned: Entry | None) -> None:
        self._memory = memory
        self._pinned = pinned
        self.hit: Entry | None = None

    def find(self, response_id: str) -> list[JSON] | None:
        """The window after a response."""
        pinned = self._pinned
        entry = pinned if pinned is not None and pinned.id == response_id else self._memory.get(response_id)
        if entry is None:
            return None
        self.hit = entry
        return entry.window

    def find_item(self, item_id: str) -> JSON | None:
        """An item of the parent's window."""
        for item in reversed(self.hit.window if self.hit is not None else []):
            if item.get("id") == item_id:
                return item
        return None
