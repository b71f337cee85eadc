"""The engine for one process that forgets: tests, trials, ``kind = "memory"``.

The same segments, the same rules as ``sqlite``; durable means until the process ends. No call waits, so no locks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from relay.responses.json import exact
from relay.state.calendar import ExpiryClock
from relay.state.record import DAY_S, GRACE_S, Record, decode, items_of, plain, record, stored
from relay.state.store import (
    CHAIN_LIMIT_BYTES,
    EVENTS_LIMIT,
    EVENTS_LIMIT_BYTES,
    Json,
    Objects,
    Stored,
    StoreError,
    already_there,
    chain_too_long,
    does_not_follow,
    too_many_items,
)

ROW_BYTES: Final = 512  # what a row costs besides its blobs, about
IDS_BATCH: Final = 1_000  # ids that are looked for before others run


@dataclass(slots=True)
class _Segment:
    """The items of one turn; ``children`` counts the turns that continue it, ``response`` is None once it expired."""

    parent: int | None
    record: Record
    response: Record | None
    children: int = 0


@dataclass(slots=True)
class _Log:
    first: int
    created_at: int
    blobs: list[bytes] = field(default_factory=list)


class _Upstream(NamedTuple):
    name: str
    created_at: int
    response: bool


class MemoryStore:
    """``Store`` in dictionaries; insertion order is age."""

    def __init__(
        self,
        *,
        max_age_days: float | None = None,
        max_bytes: int | None = None,
        now: Callable[[], float] = time.time,
        steady: Callable[[], float] | None = None,
    ) -> None:
        self._max_age_s = None if max_age_days is None else max_age_days * DAY_S
        self._max_bytes = max_bytes
        self._now = now
        self._expiry = ExpiryClock(now, steady)
        self._closed = False
        self._next = 1
        self.used_bytes = 0
        self._responses: dict[str, int] = {}
        self._segments: dict[int, _Segment] = {}
        self._items: dict[str, list[int]] = {}
        self._upstreams: dict[tuple[str, str], _Upstream] = {}
        self._holders: dict[str, set[str]] = {}
        self._logs: dict[str, _Log] = {}
        self._leases: dict[str, tuple[str, float]] = {}

    @property
    def healthy(self) -> bool:
        return not self._closed

    @property
    def ready(self) -> bool:
        return not self._closed

    async def commit(
        self,
        response: Json,
        items: list[Json],
        owner: str,
        *,
        parent: str | None = None,
        extra: Json | None = None,
        objects: Objects | None = None,
    ) -> None:
        new = record(response, items, owner, parent=parent, extra=extra, created_at=int(self._open()))
        seq = self._responses.get(new.id)
        if seq is None:
            seq = self._insert(new)
        else:
            segment = self._segments[seq]
            if segment.record.owner != owner:
                raise already_there(new.id)
            self._unlink_items(seq)
            self.used_bytes += new.size_bytes - segment.record.size_bytes
            segment.record = segment.response = new._replace(created_at=segment.record.created_at)
        for id in new.item_ids:
            self._items.setdefault(id, []).append(seq)
        if objects is not None:
            self._note(objects, owner)
        self._sweep()

    async def get(self, id: str, owner: str) -> Stored | None:
        segment = self._visible(id, owner)
        if segment is None or segment.response is None:
            return None
        kept = segment.response
        return stored(kept.body, kept.output, kept.created_at, kept.extra)

    async def load_chain(self, id: str, owner: str) -> list[Json] | None:
        return self._chain(id, owner, own_output=True)

    async def input_items(self, id: str, owner: str) -> list[Json] | None:
        return self._chain(id, owner, own_output=False)

    async def find_items(self, ids: Collection[str], owner: str) -> dict[str, Json]:
        self._open()
        turns: dict[int, dict[str, str]] = {}
        for id in ids:
            seqs = reversed(self._items.get(plain(id), ()))
            seq = next((one for one in seqs if self._segments[one].record.owner == owner), None)
            if seq is not None:
                turns.setdefault(seq, {})[plain(id)] = id
        found: dict[str, Json] = {}
        size_bytes = 0
        for turn, wanted in [(self._segments[seq].record, wanted) for seq, wanted in turns.items()]:
            size_bytes += len(turn.output) + len(turn.input)
            if size_bytes > CHAIN_LIMIT_BYTES:
                raise too_many_items()
            found.update(items_of((turn.output, turn.input), wanted))
            await asyncio.sleep(0)
        return found

    async def delete(self, id: str, owner: str) -> bool:
        segment = self._visible(id, owner)
        known = await self.find_upstream(id, owner)
        if known is not None:
            self._forget_upstream((plain(id), owner))
        if segment is not None:
            seq = self._responses.pop(plain(id))
            self._forget_log(plain(id))
            self._drop(seq)
        return segment is not None or known is not None

    async def remember_upstream(self, objects: Objects, owner: str, response_id: str | None = None) -> None:
        self._note(objects, owner, response_id)
        self._sweep()

    async def find_upstream(self, id: str, owner: str) -> str | None:
        oldest = self._oldest()
        known = self._upstreams.get((plain(id), owner))
        return known.name if known is not None and known.response and known.created_at > oldest else None

    async def whose(self, ids: Collection[str], owner: str) -> dict[str, str | None]:
        found: dict[str, str | None] = {}
        for number, id in enumerate(ids):
            if number % IDS_BATCH == IDS_BATCH - 1:
                await asyncio.sleep(0)
            self._look_for_owners(found, id, owner)
        return found

    async def append_events(self, id: str, first: int, blobs: Sequence[bytes]) -> None:
        now = int(self._open())
        log = self._logs.get(plain(id))
        if log is None:
            log = self._logs[plain(id)] = _Log(first, now)
            self.used_bytes += ROW_BYTES
        following = log.first + len(log.blobs)
        if first != following:
            raise does_not_follow(id, first, following)
        log.blobs.extend(map(exact, blobs))
        self.used_bytes += sum(map(len, blobs))
        self._sweep()

    async def read_events(self, id: str, after: int) -> list[tuple[int, bytes]]:
        self._open()
        log = self._logs.get(plain(id))
        if log is None:
            return []
        events: list[tuple[int, bytes]] = []
        start = max(0, after + 1 - log.first)
        size_bytes = 0
        for number, blob in enumerate(log.blobs[start : start + EVENTS_LIMIT], log.first + start):
            events.append((number, blob))
            size_bytes += len(blob)
            if size_bytes >= EVENTS_LIMIT_BYTES:
                break
        return events

    async def acquire(self, key: str, owner: str, ttl_s: float) -> bool:
        now = self._open()
        holder, until = self._leases.get(key, (owner, 0.0))
        if holder != owner and until > now:
            return False
        for old in [name for name, (_, end) in self._leases.items() if end <= now]:
            del self._leases[old]
        self._leases[key] = (owner, now + ttl_s)
        return True

    async def release(self, key: str, owner: str) -> bool:
        now = self._open()
        holder, until = self._leases.get(key, ("", 0.0))
        if holder != owner or until <= now:
            return False
        del self._leases[key]
        return True

    async def close(self) -> None:
        self._closed = True

    # -- rules ----------------------------------------------------------------------------------------------------

    def _open(self) -> float:
        if self._closed:
            raise StoreError("The response store is closed.")
        return self._now()

    def _oldest(self) -> float:
        """Created before this: too old to be seen."""
        self._open()
        return float("-inf") if self._max_age_s is None else self._expiry() - self._max_age_s

    def _visible(self, id: str, owner: str) -> _Segment | None:
        oldest = self._oldest()
        segment = self._segments.get(self._responses.get(plain(id), 0))
        if segment is None or segment.record.owner != owner:
            return None
        return segment if segment.record.running or segment.record.created_at > oldest else None

    def _note(self, objects: Objects, owner: str, response_id: str | None = None) -> None:
        now = int(self._open())
        for id in [*objects.ids, *([] if response_id is None else [response_id])]:
            key = (plain(id), owner)
            if self._upstreams.pop(key, None) is None:
                self.used_bytes += ROW_BYTES
                self._holders.setdefault(key[0], set()).add(owner)
            self._upstreams[key] = _Upstream(objects.upstream, now, id == response_id)

    def _look_for_owners(self, found: dict[str, str | None], id: str, owner: str) -> None:
        """One id of ``whose``."""
        oldest = self._oldest()
        segment = self._segments.get(self._responses.get(plain(id), 0))
        if segment is not None and self._visible(id, segment.record.owner) is not None:
            found[id] = "" if segment.record.owner == owner else None
        for holder in self._holders.get(plain(id), ()):
            known = self._upstreams[plain(id), holder]
            if known.created_at > oldest:
                found[id] = known.name if holder == owner else found.get(id)

    def _chain(self, id: str, owner: str, *, own_output: bool) -> list[Json] | None:
        segment = self._visible(id, owner)
        if segment is None:
            return None
        blobs = [segment.record.output, segment.record.input] if own_output else [segment.record.input]
        size_bytes = 0
        while segment.parent is not None:
            segment = self._segments.get(segment.parent)
            if segment is None or segment.record.owner != owner:
                return None
            blobs += (segment.record.output, segment.record.input)
            size_bytes += len(segment.record.output) + len(segment.record.input)
            if size_bytes > CHAIN_LIMIT_BYTES:
                raise chain_too_long()
        items: list[Json] = []
        for blob in reversed(blobs):
            items += decode(blob)
        return items

    def _insert(self, new: Record) -> int:
        parent: int | None = None
        if new.parent is not None:
            parent = self._responses.get(new.parent, 0)  # no segment is number 0: a chain that is broken
            above = self._segments.get(parent)
            if above is None or above.record.owner != new.owner:
                parent = 0
            else:
                above.children += 1
        seq, self._next = self._next, self._next + 1
        self._segments[seq] = _Segment(parent, new, new)
        self._responses[new.id] = seq
        self.used_bytes += new.size_bytes + ROW_BYTES
        return seq

    def _unlink_items(self, seq: int) -> None:
        for id in self._segments[seq].record.item_ids:
            places = self._items[id]
            places.remove(seq)
            if not places:
                del self._items[id]

    def _drop(self, seq: int) -> None:
        """Remove a segment, and the ancestors that only it kept."""
        while True:
            self._unlink_items(seq)
            segment = self._segments.pop(seq)
            size_bytes = segment.record.size_bytes
            self.used_bytes -= ROW_BYTES + (size_bytes if segment.response else size_bytes - len(segment.record.body))
            above = self._segments.get(segment.parent or 0)
            if above is None or segment.parent is None:
                return
            above.children -= 1
            if above.children or above.response is not None:
                return
            seq = segment.parent

    def _retire(self, id: str) -> None:
        """A response has expired: its items stay while a descendant needs them."""
        seq = self._responses.pop(id)
        segment = self._segments[seq]
        self._forget_log(id)
        if segment.children:
            segment.response = None
            self.used_bytes -= len(segment.record.body)
        else:
            self._drop(seq)

    def _forget_log(self, id: str) -> None:
        log = self._logs.pop(id, None)
        if log is not None:
            self.used_bytes -= ROW_BYTES + sum(map(len, log.blobs))

    def _forget_upstream(self, key: tuple[str, str]) -> None:
        del self._upstreams[key]
        self._holders[key[0]].discard(key[1])
        if not self._holders[key[0]]:
            del self._holders[key[0]]
        self.used_bytes -= ROW_BYTES

    def _sweep(self) -> None:
        """Let go of what is too old, then of the oldest until the rest fits; never of what is running."""
        gone = self._oldest() - GRACE_S
        ended = (id for id, seq in self._responses.items() if not self._segments[seq].record.running)
        while (id := next(ended, None)) and (self._too_big() or self._made(id) < gone):
            self._retire(id)
            ended = (id for id, seq in self._responses.items() if not self._segments[seq].record.running)
        while (key := next(iter(self._upstreams), None)) and (
            self._too_big() or self._upstreams[key].created_at < gone
        ):
            self._forget_upstream(key)
        orphans = (id for id in self._logs if id not in self._responses)
        while (id := next(orphans, None)) and (self._too_big() or self._logs[id].created_at < gone):
            self._forget_log(id)
            orphans = (id for id in self._logs if id not in self._responses)

    def _made(self, id: str) -> int:
        return self._segments[self._responses[id]].record.created_at

    def _too_big(self) -> bool:
        return self._max_bytes is not None and self.used_bytes > self._max_bytes
