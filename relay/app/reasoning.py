"""The side cache of reasoning for clients that drop reasoning items between turns.

Source: decision 22: key (owner, upstream, model, call id, hash of name and arguments), bounded by bytes and age; two
different values under one key evict both.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import Final, NamedTuple

from relay.responses.json import encoded
from relay.responses.tools import JSON, arguments_of_call, call_id_of, is_call, key_of_call

LIMIT_BYTES: Final = 32 * 1024 * 1024
LIMIT_S: Final = 3_600.0

Key = tuple[str, str, str, str, bytes]


class _Kept(NamedTuple):
    """A reasoning item, and how many messages stood between it and the call."""

    item: JSON
    messages_after: int


class _Entry(NamedTuple):
    kept: tuple[_Kept, ...]
    """Nothing after a conflict: the key says nothing any more until it is forgotten."""
    size_bytes: int
    born: float


class ReasoningCache:
    """Which reasoning items stood before which call. In memory, for one worker; any of its threads may ask."""

    __slots__ = ("_clock", "_entries", "_limit_bytes", "_limit_s", "_lock", "size_bytes")

    def __init__(
        self, limit_bytes: int = LIMIT_BYTES, limit_s: float = LIMIT_S, clock: Callable[[], float] = monotonic
    ) -> None:
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        self._limit_bytes = limit_bytes
        self._limit_s = limit_s
        self._clock = clock
        self._lock = threading.Lock()  # large requests are worked on beside the loop (``heavy``)
        self.size_bytes = 0

    def remember(self, owner: str, upstream: str, model: str, output: list[JSON]) -> None:
        """Keep the sealed reasoning of an answer under the first call that follows it."""
        waiting: list[_Kept] = []
        for item in output:
            kind = item.get("type")
            if kind == "reasoning":
                if isinstance(item.get("encrypted_content"), str):
                    waiting.append(_Kept(item, 0))
            elif kind == "message":
                waiting = [_Kept(one.item, one.messages_after + 1) for one in waiting]
            elif waiting and is_call(item):
                with self._lock:
                    self._put(_key(owner, upstream, model, item), tuple(waiting))
                waiting = []

    def restore(self, owner: str, upstream: str, model: str, items: list[JSON]) -> list[JSON]:
        """The items, with the reasoning put back where it stood before each call whose turn has lost it."""
        if not self._entries:
            return items
        restored: list[JSON] = []
        turn_at = 0
        turn_has_reasoning = False
        for item in items:
            kind = item.get("type")
            if kind == "reasoning":
                turn_has_reasoning = True
            elif is_call(item):
                if not turn_has_reasoning:
                    end = len(restored)
                    with self._lock:
                        kept = self._get(_key(owner, upstream, model, item))
                    for one in kept:
                        restored.insert(max(end - one.messages_after, turn_at), one.item)
                        end += 1
            elif kind != "message" or item.get("role") != "assistant":
                turn_has_reasoning = False
                turn_at = len(restored) + 1
            restored.append(item)
        return restored

    def _put(self, key: Key, kept: tuple[_Kept, ...]) -> None:
        known = self._drop(key)
        if known is not None and not self._aged(known) and _contents(known.kept) != _contents(kept):
            kept = ()
        size = 256 + sum(len(encoded(one.item)) for one in kept)
        if size > self._limit_bytes:
            return
        self._entries[key] = _Entry(kept, size, self._clock())
        self.size_bytes += size
        while self.size_bytes > self._limit_bytes:
            self._drop(next(iter(self._entries)))

    def _get(self, key: Key) -> tuple[_Kept, ...]:
        entry = self._entries.get(key)
        if entry is None:
            return ()
        if self._aged(entry):
            self._drop(key)
            return ()
        return entry.kept

    def _aged(self, entry: _Entry) -> bool:
        return self._clock() - entry.born > self._limit_s

    def _drop(self, key: Key) -> _Entry | None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.size_bytes -= entry.size_bytes
        return entry


def _key(owner: str, upstream: str, model: str, call: JSON) -> Key:
    said = key_of_call(call) + "\x00" + arguments_of_call(call)
    digest = hashlib.blake2b(said.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return (owner, upstream, model, call_id_of(call) or "", digest)


def _contents(kept: tuple[_Kept, ...]) -> list[str]:
    return [one.item["encrypted_content"] for one in kept]
