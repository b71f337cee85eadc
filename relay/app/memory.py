"""What one WebSocket remembers: the window after the last response of each lane, and what a queued create has pinned.

Source: responses-api.md §5.7; decision 36 (eviction, pins, at most 64 MiB a socket, oldest idle lane first).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from relay.responses.tools import JSON
from relay.state.record import encode
from relay.wire import values

LIMIT_BYTES: Final = 64 * 1024 * 1024
VALUE_BYTES: Final = 64
"""What a JSON value holds in memory beside its text, about: 10,000 empty objects are 30 KB of JSON and 640 KB here."""


def held_bytes(items: list[JSON]) -> int:
    """What some items cost in memory, about."""
    text = encode(items)
    return len(text) + VALUE_BYTES * (values.most(text) + 1)


Lane = str | None
"""The name of a lane; None is the default one."""


class Entry:
    """A remembered response: its whole window (input and output), and who still needs it."""

    __slots__ = ("current", "held", "id", "lane", "pins", "size_bytes", "window")

    def __init__(self, identifier: str, lane: Lane, window: list[JSON], size_bytes: int) -> None:
        self.id = identifier
        self.lane = lane
        self.window = window
        self.size_bytes = size_bytes
        self.pins = 0
        self.current = True
        """Whether it is still its lane's last response."""
        self.held = True
        """Whether it is still in memory."""


class ConnectionMemory:
    """``remember`` after a turn, ``pin`` at receipt, ``View.find`` when it starts. Sizes are of the items' JSON, and
    ``VALUE_BYTES`` for each value of it or for a few more.

    ``busy(lane)`` says whether a turn of that lane runs: idle lanes are forgotten first.
    """

    __slots__ = ("_busy", "_by_id", "_entries", "_lanes", "_limit_bytes", "size_bytes")

    def __init__(self, limit_bytes: int = LIMIT_BYTES, busy: Callable[[Lane], bool] = lambda lane: False) -> None:
        self._busy = busy
        self._by_id: dict[str, Entry] = {}
        self._entries: dict[Entry, None] = {}  # oldest first
        self._lanes: dict[Lane, Entry] = {}
        self._limit_bytes = limit_bytes
        self.size_bytes = 0

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Everything that is held, oldest first."""
        return tuple(self._entries)

    def remember(self, identifier: str, lane: Lane, window: list[JSON], size_bytes: int | None = None) -> None:
        """The lane's last response is now this one; one that alone is over the limit is not kept.

        ``size_bytes`` is ``held_bytes`` of the window, where it is known.
        """
        last = self._lanes.pop(lane, None)
        if last is not None:
            last.current = False
            self._drop_unneeded(last)
        entry = Entry(identifier, lane, window, held_bytes(window) if size_bytes is None else size_bytes)
        if entry.size_bytes > self._limit_bytes:
            return
        self._entries[entry] = None
        self._lanes[lane] = self._by_id[identifier] = entry
        self.size_bytes += entry.size_bytes
        while self.size_bytes > self._limit_bytes:
            self._drop(min((one for one in self._entries if one is not entry), key=self._worth))

    def get(self, identifier: object) -> Entry | None:
        """The entry with this response id."""
        return self._by_id.get(identifier) if isinstance(identifier, str) else None

    def pin(self, entry: Entry) -> None:
        """A queued create needs it: it stays until ``unpin``, as long as there is room."""
        entry.pins += 1

    def unpin(self, entry: Entry) -> None:
        """The create has started, or never will."""
        entry.pins -= 1
        self._drop_unneeded(entry)

    def evict(self, entry: Entry) -> None:
        """A continuation in its own lane failed: it is gone for whoever asks from now on."""
        self._hide(entry)
        self._drop_unneeded(entry)

    def _worth(self, entry: Entry) -> tuple[bool, bool]:
        """What goes first is least: what nobody waits for, of a lane that is idle; ``min`` takes the oldest of it."""
        return entry.pins > 0, self._busy(entry.lane)

    def _hide(self, entry: Entry) -> None:
        if self._lanes.get(entry.lane) is entry:
            del self._lanes[entry.lane]
        if self._by_id.get(entry.id) is entry:
            del self._by_id[entry.id]
        entry.current = False

    def _drop_unneeded(self, entry: Entry) -> None:
        if not entry.pins and not entry.current:
            self._drop(entry)

    def _drop(self, entry: Entry) -> None:
        self._hide(entry)
        if entry.held:
            entry.held = False
            del self._entries[entry]
            self.size_bytes -= entry.size_bytes


class View:
    """What one create sees of the memory: its pinned parent, or whatever is there when it starts.

    ``hit`` is the parent once it was found: only then does a failure evict it.
    """

    __slots__ = ("_items", "_memory", "_pinned", "hit")

    def __init__(self, memory: ConnectionMemory, pinned: Entry | None) -> None:
        self._memory = memory
        self._pinned = pinned
        self._items: dict[str, JSON] | None = None
        self.hit: Entry | None = None

    def find(self, response_id: str) -> list[JSON] | None:
        """The window after a response."""
        pinned = self._pinned
        if pinned is not None and pinned.held and pinned.id == response_id:
            self.hit = pinned
        else:
            self.hit = self._memory.get(response_id)
        return self.hit.window if self.hit is not None else None

    def find_item(self, item_id: str) -> JSON | None:
        """An item of any window that is remembered, the newest under this id."""
        if self._items is None:
            self.index()
        return (self._items or {}).get(item_id)

    @property
    def weight(self) -> int:
        """The items that ``index`` looks at."""
        return sum(len(entry.window) for entry in self._memory.entries)

    def index(self) -> None:
        """Know the ids of all items that are remembered now."""
        windows = [entry.window for entry in self._memory.entries]
        self._items = {str(item["id"]): item for window in windows for item in window if item.get("id")}
