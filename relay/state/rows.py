"""The statements: each function does one thing on a connection, inside a transaction that its caller holds.

Source: ``schema`` for the tables and their rules, ``Store`` for what the answers mean.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from relay.state.calendar import Doubt
from relay.state.record import GRACE_S, Record, decode, item_ids, items_of, plain, stored
from relay.state.schema import PLACES
from relay.state.store import (
    CHAIN_LIMIT_BYTES,
    EVENTS_LIMIT,
    EVENTS_LIMIT_BYTES,
    Json,
    Objects,
    Stored,
    already_there,
    chain_too_long,
    does_not_follow,
    too_many_items,
)

BATCH: Final = 64  # rows that one step of a sweep lets go

_CHAIN: Final = "SELECT parent, input, output FROM segments WHERE seq = ? AND owner = ?"
_SEEN: Final = "SELECT seq FROM responses WHERE id = ? AND owner = ? AND (running OR created_at > ?)"


class Bounds(NamedTuple):
    """What may stay: nothing older than ``max_age_s``, no more than ``max_bytes``; None is no bound."""

    max_age_s: float | None
    max_bytes: int | None

    def oldest(self, now: float) -> float:
        """Created at or before this: too old to be seen. Unbounded: before all time."""
        return -1e18 if self.max_age_s is None else now - self.max_age_s


# -- responses ----------------------------------------------------------------------------------------------------


def put_response(connection: sqlite3.Connection, new: Record) -> bool:
    """Insert a turn, or replace it; true if it is new. Raises: ``conflict`` under another owner's id."""
    row = connection.execute("SELECT seq, owner FROM responses WHERE id = ?", (new.id,)).fetchone()
    if row is not None:
        if row[1] != new.owner:
            raise already_there(new.id)
        _replace(connection, row[0], new)
        return False
    parent: int | None = None
    if new.parent is not None:
        above = connection.execute(
            "SELECT seq FROM responses WHERE id = ? AND owner = ?", (new.parent, new.owner)
        ).fetchone()
        parent = above[0] if above else 0
    seq = connection.execute(
        "INSERT INTO segments (parent, owner, input, output) VALUES (?, ?, ?, ?)",
        (parent, new.owner, new.input, new.output),
    ).lastrowid
    connection.execute(
        "INSERT INTO responses (seq, id, owner, created_at, running, extra, body) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (seq, new.id, new.owner, new.created_at, new.running, new.extra, new.body),
    )
    connection.executemany("INSERT INTO items (id, seq) VALUES (?, ?)", [(id, seq) for id in new.item_ids])
    return True


def _replace(connection: sqlite3.Connection, seq: int, new: Record) -> None:
    _unlink_items(connection, seq)
    connection.execute("UPDATE segments SET input = ?, output = ? WHERE seq = ?", (new.input, new.output, seq))
    connection.execute(
        "UPDATE responses SET running = ?, extra = ?, body = ? WHERE seq = ?", (new.running, new.extra, new.body, seq)
    )
    connection.executemany("INSERT INTO items (id, seq) VALUES (?, ?)", [(id, seq) for id in new.item_ids])


def read_response(connection: sqlite3.Connection, id: str, owner: str, oldest: float) -> Stored | None:
    row = connection.execute(
        "SELECT r.body, s.output, r.created_at, r.extra FROM responses r JOIN segments s USING (seq) "
        "WHERE r.id = ? AND r.owner = ? AND (r.running OR r.created_at > ?)",
        (id, owner, oldest),
    ).fetchone()
    return None if row is None else stored(*row)


def read_chain(
    connection: sqlite3.Connection, id: str, owner: str, oldest: float, *, own_output: bool
) -> list[Json] | None:
    """The items of a turn and its ancestors, oldest first; None if one of them is not there for this owner."""
    start = connection.execute(_SEEN, (id, owner, oldest)).fetchone()
    if start is None:
        return None
    blobs: list[bytes] = []
    seq: int | None = start[0]
    size_bytes = 0
    while seq is not None:
        row = connection.execute(_CHAIN, (seq, owner)).fetchone()
        if row is None:
            return None
        seq, given, made = row
        blobs += (made, given)
        size_bytes += len(made) + len(given)
        if size_bytes > CHAIN_LIMIT_BYTES:
            raise chain_too_long()
    items: list[Json] = []
    for blob in reversed(blobs if own_output else blobs[1:]):
        items += decode(blob)
    return items


def read_items(connection: sqlite3.Connection, ids: Collection[str], owner: str) -> dict[str, Json]:
    """Each turn that holds some of them is read once."""
    asked = {plain(id): id for id in ids}
    turns: dict[int, dict[str, str]] = {}
    for some in _batches(asked):
        query = _NEWEST.format(marks=_marks(some, 2))
        for id, seq in connection.execute(query, (owner, *some)):
            turns.setdefault(seq, {})[id] = asked[id]
    found: dict[str, Json] = {}
    size_bytes = 0
    for seq, wanted in turns.items():
        row = connection.execute("SELECT output, input FROM segments WHERE seq = ?", (seq,)).fetchone()
        size_bytes += sum(map(len, row))
        if size_bytes > CHAIN_LIMIT_BYTES:
            raise too_many_items()
        found.update(items_of(row, wanted))
    return found


_NEWEST: Final = (
    "SELECT i.id, max(i.seq) FROM items i JOIN segments s USING (seq) "
    "WHERE i.id IN ({marks}) AND s.owner = ?1 GROUP BY i.id"
)


def remove(connection: sqlite3.Connection, id: str, owner: str, oldest: float) -> bool:
    """Delete a response with its segment, and what is known of an upstream's; false if there was nothing to see."""
    row = connection.execute(_SEEN, (id, owner, oldest)).fetchone()
    known = connection.execute(
        "SELECT created_at, seq FROM upstreams WHERE id = ? AND owner = ? AND response", (id, owner)
    ).fetchone()
    if known is not None:
        connection.execute("DELETE FROM upstreams WHERE seq = ?", known[1:])
    if row is not None:
        _forget_log(connection, id)
        connection.execute("DELETE FROM responses WHERE seq = ?", row)
        _drop_segment(connection, row[0])
    return row is not None or (known is not None and known[0] > oldest)


def _unlink_items(connection: sqlite3.Connection, seq: int) -> None:
    blobs = connection.execute("SELECT input, output FROM segments WHERE seq = ?", (seq,)).fetchone()
    ids = frozenset[str]().union(*(item_ids(decode(blob)) for blob in blobs))
    connection.executemany("DELETE FROM items WHERE id = ? AND seq = ?", [(id, seq) for id in ids])


def _drop_segment(connection: sqlite3.Connection, seq: int) -> None:
    """Remove a segment; its parent may have been there for it only."""
    _unlink_items(connection, seq)
    parent = connection.execute("SELECT parent FROM segments WHERE seq = ?", (seq,)).fetchone()[0]
    connection.execute("DELETE FROM segments WHERE seq = ?", (seq,))
    if parent:
        connection.execute("INSERT OR IGNORE INTO garbage (seq) VALUES (?)", (parent,))


def _forget_log(connection: sqlite3.Connection, id: str) -> None:
    row = connection.execute("SELECT seq FROM logs WHERE id = ?", (id,)).fetchone()
    if row is not None:
        connection.execute(
            "DELETE FROM events WHERE place >= ? AND place < ?", (row[0] * PLACES, (row[0] + 1) * PLACES)
        )
        connection.execute("DELETE FROM logs WHERE seq = ?", row)


IDS_BATCH: Final = 500
"""Ids in one statement; SQLite takes 999 values where it is old."""


def _batches(ids: Iterable[str]) -> Iterator[list[str]]:
    wanted = list(ids)
    return (wanted[at : at + IDS_BATCH] for at in range(0, len(wanted), IDS_BATCH))


def _marks(ids: list[str], first: int) -> str:
    """Placeholders of which the first has this number."""
    return ", ".join(f"?{number}" for number in range(first, first + len(ids)))


# -- upstreams' ids, events, leases -------------------------------------------------------------------------------


def put_upstream(
    connection: sqlite3.Connection, objects: Objects, owner: str, now: float, response_id: str | None = None
) -> None:
    noted = [(plain(id), owner, objects.upstream, int(now), False) for id in objects.ids]
    if response_id is not None:
        noted.append((plain(response_id), owner, objects.upstream, int(now), True))
    # anew and not in its old place: the order of ``seq`` is that of age
    connection.executemany(
        "INSERT OR REPLACE INTO upstreams (id, owner, name, created_at, response) VALUES (?, ?, ?, ?, ?)", noted
    )


def read_upstream(connection: sqlite3.Connection, id: str, owner: str, oldest: float) -> str | None:
    row = connection.execute(
        "SELECT name FROM upstreams WHERE id = ? AND owner = ? AND response AND created_at > ?", (id, owner, oldest)
    ).fetchone()
    return None if row is None else str(row[0])


def read_owners(
    connection: sqlite3.Connection, ids: Collection[str], owner: str, oldest: float
) -> dict[str, str | None]:
    """Where the owner has each of these ids; None for one that only others have."""
    asked = {plain(id): id for id in ids}
    found: dict[str, str | None] = {}
    for some in _batches(asked):
        rows = connection.execute(_OWNERS.format(marks=_marks(some, 3)), (owner, oldest, *some))
        found.update((asked[id], name) for id, name in rows)
    return found


_OWNERS: Final = (
    "SELECT id, max(CASE WHEN owner = ?1 THEN name END) FROM ("
    "SELECT id, owner, name FROM upstreams WHERE id IN ({marks}) AND created_at > ?2 UNION ALL "
    "SELECT id, owner, '' FROM responses WHERE id IN ({marks}) AND (running OR created_at > ?2)) GROUP BY id"
)


def put_events(connection: sqlite3.Connection, id: str, first: int, blobs: Sequence[bytes], now: float) -> None:
    row = connection.execute("SELECT seq, following FROM logs WHERE id = ?", (id,)).fetchone()
    if row is None:
        log = connection.execute(
            "INSERT INTO logs (id, created_at, following) VALUES (?, ?, ?)", (id, int(now), first + len(blobs))
        ).lastrowid
    elif row[1] != first:
        raise does_not_follow(id, first, row[1])
    else:
        log = row[0]
        connection.execute("UPDATE logs SET following = ? WHERE seq = ?", (first + len(blobs), log))
    place = (log or 0) * PLACES + first
    connection.executemany("INSERT INTO events (place, blob) VALUES (?, ?)", enumerate(blobs, place))


def read_events(connection: sqlite3.Connection, id: str, after: int) -> list[tuple[int, bytes]]:
    row = connection.execute("SELECT seq FROM logs WHERE id = ?", (id,)).fetchone()
    if row is None:
        return []
    base = row[0] * PLACES
    events: list[tuple[int, bytes]] = []
    size_bytes = 0
    for place, blob in connection.execute(
        "SELECT place, blob FROM events WHERE place > ? AND place < ? ORDER BY place LIMIT ?",
        (base + min(max(after, -1), PLACES), base + PLACES, EVENTS_LIMIT),
    ):
        events.append((place - base, blob))
        size_bytes += len(blob)
        if size_bytes >= EVENTS_LIMIT_BYTES:
            break
    return events


def acquire(connection: sqlite3.Connection, key: str, owner: str, now: float, ttl_s: float) -> bool:
    connection.execute("DELETE FROM leases WHERE until <= ?", (now,))
    row = connection.execute("SELECT owner FROM leases WHERE key = ?", (key,)).fetchone()
    if row is not None and row[0] != owner:
        return False
    connection.execute("INSERT OR REPLACE INTO leases (key, owner, until) VALUES (?, ?, ?)", (key, owner, now + ttl_s))
    return True


def release(connection: sqlite3.Connection, key: str, owner: str, now: float) -> bool:
    where = (key, owner, now)
    return connection.execute("DELETE FROM leases WHERE key = ? AND owner = ? AND until > ?", where).rowcount > 0


def youngest(connection: sqlite3.Connection) -> float | None:
    """When the last row was made, about."""
    made = [
        connection.execute("SELECT created_at FROM responses ORDER BY seq DESC LIMIT 1").fetchone(),
        connection.execute("SELECT created_at FROM upstreams ORDER BY seq DESC LIMIT 1").fetchone(),
    ]
    return max((row[0] for row in made if row is not None), default=None)


def read_doubt(connection: sqlite3.Connection) -> Doubt | None:
    """What ``put_doubt`` kept."""
    kept = [row[0] for row in connection.execute("SELECT at FROM probe WHERE one IN (2, 3) ORDER BY one")]
    return Doubt(*kept) if len(kept) == 2 else None


def put_doubt(connection: sqlite3.Connection, doubt: Doubt | None) -> None:
    """Keep the doubt about the clock for the next start."""
    connection.execute("DELETE FROM probe WHERE one IN (2, 3)")
    if doubt is not None:
        connection.executemany("INSERT INTO probe (one, at) VALUES (?, ?)", enumerate(doubt, 2))


# -- bounds -------------------------------------------------------------------------------------------------------


def used_bytes(connection: sqlite3.Connection) -> int:
    """What the file holds, without its free pages."""
    pages, free, size_bytes = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size_bytes)


def too_big(connection: sqlite3.Connection, bounds: Bounds) -> bool:
    return bounds.max_bytes is not None and used_bytes(connection) > bounds.max_bytes


def has_garbage(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM garbage LIMIT 1").fetchone() is not None


def has_expired(connection: sqlite3.Connection, bounds: Bounds, now: float) -> bool:
    """Whether the oldest of something is too old to stay; a clock that was set back only delays it."""
    gone = bounds.oldest(now) - GRACE_S
    ended = connection.execute(_ENDED, (1,)).fetchone()
    known = connection.execute(_KNOWN, (1,)).fetchone()
    orphan = connection.execute(_ORPHANS, (gone, 1)).fetchone()
    return orphan is not None or any(row is not None and row[0] < gone for row in (ended, known))


_ENDED: Final = "SELECT created_at, seq, id FROM responses WHERE NOT running ORDER BY seq LIMIT ?"
_KNOWN: Final = "SELECT created_at, seq FROM upstreams ORDER BY seq LIMIT ?"
_ORPHANS: Final = (
    "SELECT id FROM logs WHERE created_at < ? AND NOT EXISTS (SELECT 1 FROM responses r WHERE r.id = logs.id) "
    "ORDER BY created_at LIMIT ?"
)


def sweep(connection: sqlite3.Connection, bounds: Bounds, now: float, batch: int = BATCH) -> int:
    """One step: at most about ``batch`` rows, the oldest first, never what is running. How many it looked at."""
    gone = bounds.oldest(now) - GRACE_S
    count = 0
    while count < batch:  # what is garbage goes before the next response is asked to
        found = collect(connection, batch - count)
        if not found:
            row = connection.execute(_ENDED, (1,)).fetchone()
            if row is None or (row[0] >= gone and not too_big(connection, bounds)):
                break
            _retire(connection, *row[1:])
            found = 1
        count += found
    else:
        return count
    for created_at, seq in connection.execute(_KNOWN, (batch,)).fetchall():
        if created_at >= gone and not too_big(connection, bounds):
            break
        connection.execute("DELETE FROM upstreams WHERE seq = ?", (seq,))
        count += 1
    if too_big(connection, bounds):
        gone = now + 1  # every log of nothing
    for (id,) in connection.execute(_ORPHANS, (gone, batch)).fetchall():
        _forget_log(connection, id)
        count += 1
    return count


_NEEDED: Final = (
    "SELECT EXISTS (SELECT 1 FROM responses WHERE seq = :seq) OR EXISTS (SELECT 1 FROM segments WHERE parent = :seq) "
    "OR NOT EXISTS (SELECT 1 FROM segments WHERE seq = :seq)"
)


def collect(connection: sqlite3.Connection, batch: int = BATCH) -> int:
    """Drop the garbage that is needed no more; each may make its parent garbage. How many it looked at."""
    seqs = connection.execute("SELECT seq FROM garbage ORDER BY seq DESC LIMIT ?", (batch,)).fetchall()
    for (seq,) in seqs:
        connection.execute("DELETE FROM garbage WHERE seq = ?", (seq,))
        needed = connection.execute(_NEEDED, {"seq": seq}).fetchone()[0]
        if not needed:
            _drop_segment(connection, seq)
    return len(seqs)


def _retire(connection: sqlite3.Connection, seq: int, id: str) -> None:
    """A response goes; its segment stays while a descendant needs it."""
    _forget_log(connection, id)
    connection.execute("DELETE FROM responses WHERE seq = ?", (seq,))
    child = connection.execute("SELECT 1 FROM segments WHERE parent = ? LIMIT 1", (seq,)).fetchone()
    if child is None:
        _drop_segment(connection, seq)
