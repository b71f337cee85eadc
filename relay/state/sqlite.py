"""The embedded engine: one SQLite file that every worker of a machine shares.

Source: decisions 40 to 42, sqlite.org/wal.html. One writing thread (``writer``) and a few reading ones; the event
loop never touches the disk. Readers see what any worker committed before they began.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from relay.state import rows, schema
from relay.state.calendar import ExpiryClock
from relay.state.record import DAY_S, plain, record
from relay.state.rows import Bounds
from relay.state.store import LIMIT_S, Json, Objects, StoreBroken, Stored, StoreError, StoreUnusable
from relay.state.writer import Writer, store_error

LOG: Final = logging.getLogger("relay.state")
READERS: Final = 2
FEW_ITEMS: Final = 500
"""Items of a turn that are looked at where it is committed."""
PROBE_PERIOD_S: Final = 1.0

T = TypeVar("T")


class SqliteStore:
    """``Store`` in a file. Raises: ``StoreUnusable``; a file that cannot be opened now only makes it unhealthy."""

    def __init__(
        self,
        path: Path,
        *,
        max_age_days: float | None = None,
        max_bytes: int | None = None,
        now: Callable[[], float] = time.time,
        steady: Callable[[], float] | None = None,
        steps: tuple[str, ...] = schema.STEPS,
    ) -> None:
        self.path = path
        self._bounds = Bounds(None if max_age_days is None else max_age_days * DAY_S, max_bytes)
        self._now = now
        self._expiry = ExpiryClock(now, steady)
        self._versions = len(steps)
        self.writer = Writer(path, self._bounds, self._expiry, steps)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="relay-store-reader")
        self._local = threading.local()  # a reader's connection is its thread's
        self._opened: dict[sqlite3.Connection, schema.Files] = {}
        self._next_probe = 0.0

    @property
    def healthy(self) -> bool:
        if self.writer.fault is None:
            return not self.writer.closed
        self._look(self.writer.probe)
        return False

    @property
    def ready(self) -> bool:
        self._look(self.writer.look)
        return not isinstance(self.writer.fault, StoreBroken) and not self.writer.closed

    def _look(self, how: Callable[[], None]) -> None:
        at = time.monotonic()
        if at >= self._next_probe:
            self._next_probe = at + PROBE_PERIOD_S
            how()

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
        now = self._now()
        make = partial(record, response, items, owner, parent=parent, extra=extra, created_at=int(now))
        if len(items) <= FEW_ITEMS:
            new = make()
        else:  # decision 61: nothing that walks over so many holds the loop
            new = await asyncio.get_running_loop().run_in_executor(self._readers, make)

        def put(connection: sqlite3.Connection) -> bool:
            if objects is not None:
                rows.put_upstream(connection, objects, owner, now)
            return rows.put_response(connection, new)

        await self.writer.write(
            put,
            size_bytes=new.size_bytes,
            undo=lambda connection: rows.remove(connection, new.id, owner, self._oldest()),
        )

    async def get(self, id: str, owner: str) -> Stored | None:
        return await self._read(rows.read_response, plain(id), owner, self._oldest())

    async def load_chain(self, id: str, owner: str) -> list[Json] | None:
        return await self._read(partial(rows.read_chain, own_output=True), plain(id), owner, self._oldest())

    async def input_items(self, id: str, owner: str) -> list[Json] | None:
        return await self._read(partial(rows.read_chain, own_output=False), plain(id), owner, self._oldest())

    async def find_items(self, ids: Collection[str], owner: str) -> dict[str, Json]:
        return await self._read(rows.read_items, ids, owner)

    async def delete(self, id: str, owner: str) -> bool:
        oldest = self._oldest()
        gone = await self.writer.write(
            lambda connection: rows.remove(connection, plain(id), owner, oldest), deletes=True
        )
        return bool(gone)

    async def remember_upstream(self, objects: Objects, owner: str, response_id: str | None = None) -> None:
        now = self._now()
        await self.writer.write(lambda connection: rows.put_upstream(connection, objects, owner, now, response_id))

    async def find_upstream(self, id: str, owner: str) -> str | None:
        return await self._read(rows.read_upstream, plain(id), owner, self._oldest())

    async def whose(self, ids: Collection[str], owner: str) -> dict[str, str | None]:
        return await self._read(rows.read_owners, ids, owner, self._oldest())

    async def append_events(self, id: str, first: int, blobs: Sequence[bytes]) -> None:
        kept, now = [bytes(blob) for blob in blobs], self._now()
        await self.writer.write(
            lambda connection: rows.put_events(connection, plain(id), first, kept, now), size_bytes=sum(map(len, kept))
        )

    async def read_events(self, id: str, after: int) -> list[tuple[int, bytes]]:
        return await self._read(rows.read_events, plain(id), after)

    async def acquire(self, key: str, owner: str, ttl_s: float) -> bool:
        now = self._now()
        return bool(await self.writer.write(lambda connection: rows.acquire(connection, key, owner, now, ttl_s)))

    async def release(self, key: str, owner: str) -> bool:
        now = self._now()
        return bool(await self.writer.write(lambda connection: rows.release(connection, key, owner, now)))

    async def close(self) -> None:
        self.writer.stop()
        reading = asyncio.ensure_future(asyncio.to_thread(self._let_readers_go))
        done, _ = await asyncio.wait({reading}, timeout=LIMIT_S)
        if not done:
            LOG.warning("the response store %s was left while it was being read: the reader is stuck", self.path)
        await self.writer.join()

    def _let_readers_go(self) -> None:
        self._readers.shutdown()
        while self._opened:
            connection, files = self._opened.popitem()
            schema.let_go(self.path, connection, files)

    def _oldest(self) -> float:
        return self._bounds.oldest(self._expiry())

    async def _read(self, query: Callable[..., T], *arguments: Any) -> T:
        self.writer.check_open()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(LIMIT_S):
                return await loop.run_in_executor(self._readers, self._query, query, arguments)
        except TimeoutError:
            raise StoreError("The response store is too slow.", detail=f"no answer within {LIMIT_S:g} s") from None
        except (sqlite3.Error, OSError) as error:
            raise store_error(error) from error

    def _query(self, query: Callable[..., T], arguments: tuple[Any, ...]) -> T:
        """On a reader's thread: one snapshot a query."""
        connection = self._reader()
        try:
            connection.execute("BEGIN")
            try:
                schema.check_version(connection, self.path, self._versions)
                return query(connection, *arguments)
            finally:
                connection.execute("COMMIT")
        except ValueError as error:  # a blob that is no JSON: a page of it was overwritten
            damage = schema.damage(f"{type(error).__name__} in a stored value")
            self._on_error(damage)
            raise damage from None
        except sqlite3.Error as error:
            self._on_error(error)
            raise
        except StoreUnusable as error:
            raise self.writer.refuse(error) from None

    def _on_error(self, error: sqlite3.Error) -> None:
        is_current = getattr(self._local, "files", None) == schema.files_of(self.path)
        self._forget_reader()
        if schema.is_damage(error) and is_current:  # not where another file has come into its place
            self.writer.report(error)
        elif not schema.is_busy(error):
            self.writer.look()

    def _reader(self) -> sqlite3.Connection:
        files = schema.files_of(self.path)
        if getattr(self._local, "files", None) != files or files.database is None:
            self._forget_reader()
            connection = schema.open_reader(self.path)
            try:
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # opens its log and index too
            except sqlite3.Error as error:
                connection.close()
                if schema.is_damage(error) and schema.files_of(self.path).database == files.database:
                    self.writer.report(error)
                raise
            self._local.connection = connection
            self._local.files = self._opened[connection] = schema.files_of(self.path)
        opened: sqlite3.Connection = self._local.connection
        return opened

    def _forget_reader(self) -> None:
        connection = getattr(self._local, "connection", None)
        self._local.files = self._local.connection = None
        if connection is not None:
            schema.let_go(self.path, connection, self._opened.pop(connection))
