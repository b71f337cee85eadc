"""Making a new file from what can be read of one that is damaged, or of one that is only open any more.

Source: sqlite.org/howtocorrupt.html, sqlite.org/fileformat2.html. Page by page as SQLite reads them: what a chunk
cannot give is asked for row by row, and a page that cannot be read is stepped over. The tables are the schema's own,
whatever they are; what ties rows of different tables together is put right at the end.

One process does this (``.repairing``), in its writer's thread and in steps; ``.damaged`` keeps every process from the
file meanwhile and names the one that was set aside, so that the next to open goes on where a crash left it.
"""

# ruff: noqa: S608 (names of tables and columns are the schema's own)
from __future__ import annotations

import logging
import os
import re
import sqlite3
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from relay.state import schema
from relay.state.locks import claim
from relay.state.pages import Column, fits, leaf_rows, open_log
from relay.state.record import decode, item_ids
from relay.state.schema import PLACES, beside
from relay.state.store import LIMIT_S

LOG: Final = logging.getLogger("relay.state")
SETTLED_S: Final = 0.5  # without a write
SETTLED_LIMIT_S: Final = 60.0
CHUNK: Final = 64  # rows in one step
FARTHEST: Final = (1 << 63) - 1
# What a page gives that cannot be read, besides damage: the disk's own word.
_UNREAD: Final = {
    sqlite3.SQLITE_IOERR_READ,
    sqlite3.SQLITE_IOERR_SHORT_READ,
    sqlite3.SQLITE_IOERR_CORRUPTFS,
    sqlite3.SQLITE_IOERR_DATA,
}
_JSON: Final = {"segments": ("input", "output"), "responses": ("body", "extra")}


class Taken(Exception):
    """Another process is at it."""


class NotNeeded(Exception):
    """Another process has done it."""


@dataclass
class Report:
    """What came over, and what did not."""

    lost: dict[str, int] = field(default_factory=dict)  # table → rows that were seen and could not be read
    gaps: set[str] = field(default_factory=set)  # tables of which whole pages could not be read
    expected: int | None = None  # responses that the file held, where that can be known
    kept: int = 0

    def lose(self, table: str, count: int = 1) -> None:
        if count:
            self.lost[table] = self.lost.get(table, 0) + count

    def words(self) -> str:
        """For the log."""
        of = f" of {self.expected}" if self.expected is not None else ""
        lost = ", ".join(f"{count} rows of {table}" for table, count in sorted(self.lost.items()))
        gaps = f"pages of {', '.join(sorted(self.gaps))}" if self.gaps else ""
        unread = " and ".join(filter(None, (lost, gaps)))
        return f"{self.kept}{of} responses were kept" + (f"; {unread} could not be read" if unread else "")


def repair(
    path: Path,
    steps: tuple[str, ...],
    reason: str,
    found: tuple[int, int] | None,
    *,
    live: sqlite3.Connection | None = None,
    overwritten: bool = False,
) -> Generator[None, None, None]:
    """Steps of work; after the last the whole file is in its place.

    ``found``: the file in which the damage was met, None if there was none. ``live``: a connection that sees more than
    the file under the path, which was taken from it. ``overwritten``: the file has contents of somebody else's choice
    under a log of ours; both are read.
    Raises: ``Taken``, ``NotNeeded``; ``sqlite3.Error`` and ``OSError`` where the new file cannot be written.
    """
    descriptor = claim(beside(path, ".repairing"))
    if descriptor is None:
        raise Taken
    source: sqlite3.Connection | None = None
    below: sqlite3.Connection | None = None
    report = Report()
    fresh = beside(path, ".salvaged")
    try:
        if overwritten:
            yield from _until_settled(path, found)
        with schema.exclusive(path):
            if not _is_needed(path, found):
                raise NotNeeded
            aside = schema.set_aside(path, reason, with_log=live is None)
        yield None
        source, version = (live, len(steps)) if live is not None else _source(aside, len(steps))
        for suffix in ("", "-wal", "-shm", "-journal"):
            beside(fresh, suffix).unlink(missing_ok=True)
        schema.create(fresh, steps[: version or len(steps)])
        if source is not None and version:
            yield from _copy(source, fresh, report)
        if overwritten:
            below = sqlite3.connect(f"{aside.absolute().as_uri()}?immutable=1", uri=True, isolation_level=None)
            yield from _copy(below, fresh, report)
        if aside.exists() and (report.gaps or not version):
            yield from _copy_by_page(aside, fresh, report, everything=not version)
        yield from _tie(fresh, report)
        _flush(fresh)
        with schema.exclusive(path):
            schema.put_in_place(path, fresh)
        LOG.error("the response store %s was made anew: %s", path, report.words())
    finally:
        for connection in (below, source):
            if connection is not None and connection is not live:
                connection.close()
        os.close(descriptor)


def _is_needed(path: Path, found: tuple[int, int] | None) -> bool:
    return schema.waits_for_repair(path) or schema.files_of(path).database == found


def _until_settled(path: Path, found: tuple[int, int] | None) -> Iterator[None]:
    """Who copies a file over ours may be at it still; some have no end."""
    begun = since = time.monotonic()
    seen = schema.stamp_of(path)
    while time.monotonic() - since < SETTLED_S and time.monotonic() - begun < SETTLED_LIMIT_S:
        if not _is_needed(path, found):
            raise NotNeeded
        time.sleep(0.02)  # on the writer's thread, which has nothing else to do
        if (now := schema.stamp_of(path)) != seen:
            seen, since = now, time.monotonic()
        yield


def _source(aside: Path, known: int) -> tuple[sqlite3.Connection | None, int]:
    """The file that was set aside and its version, with what its log adds if that can be read; None, 0 if neither."""
    for log in (True, False):
        if not aside.exists():
            break
        if not log:
            if not beside(aside, "-wal").exists():
                break
            beside(aside, "-wal").rename(beside(aside, "-unread-wal"))
            beside(aside, "-shm").unlink(missing_ok=True)
        connection = sqlite3.connect(aside, timeout=LIMIT_S, isolation_level=None, check_same_thread=False)
        try:
            if connection.execute("SELECT count(*) FROM main.sqlite_master").fetchone()[0]:
                connection.execute("PRAGMA wal_autocheckpoint = 0")
                version = connection.execute("PRAGMA main.user_version").fetchone()[0]
                if 0 < version <= known:
                    return connection, version
        except sqlite3.Error as error:
            _pass_unread(error)
        connection.close()
    return None, 0


def _flush(file: Path) -> None:
    """No connection has it open, so that closing this descriptor drops nobody's locks."""
    descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _pass_unread(error: sqlite3.Error) -> None:
    """Raises: the error, unless it says that a page cannot be read."""
    if not schema.is_damage(error) and getattr(error, "sqlite_errorcode", 0) not in _UNREAD:
        raise error


# -- rows ---------------------------------------------------------------------------------------------------------


def _copy(connection: sqlite3.Connection, fresh: Path, report: Report) -> Iterator[None]:
    """All that ``connection`` can read of the tables of the new file, into that one where it is not there yet."""
    try:
        connection.execute("ATTACH ? AS fresh", (str(fresh),))
    except sqlite3.Error as error:
        _pass_unread(error)
        return
    connection.execute("PRAGMA fresh.synchronous = OFF")  # counts for nothing until it is flushed as a whole
    connection.execute("PRAGMA fresh.journal_mode = MEMORY").fetchall()
    report.expected = _expected(connection) if report.expected is None else report.expected
    rows = connection.execute("SELECT name, sql FROM fresh.sqlite_master WHERE type = 'table' ORDER BY rowid")
    for name, sql in rows.fetchall():
        if name.startswith("sqlite_"):
            continue
        if re.search(r"WITHOUT\s+ROWID", sql, re.IGNORECASE):
            yield from _copy_by_key(connection, name, report)
        else:
            yield from _copy_by_rowid(connection, name, report)
    connection.execute("DETACH fresh")


def _expected(connection: sqlite3.Connection) -> int | None:
    """How many responses the index of their ids names: it lies in pages of its own."""
    try:
        return int(connection.execute("SELECT count(*) FROM main.responses").fetchone()[0])
    except sqlite3.Error as error:
        _pass_unread(error)
        return None


def _copy_by_rowid(connection: sqlite3.Connection, table: str, report: Report) -> Iterator[None]:
    """In the order of the table's own tree, a chunk a step."""
    start: int | None = -FARTHEST
    while start is not None:
        found, whole = _rowids(connection, table, start)
        if found:
            _take_over(connection, table, found, report)
            start = found[-1] + 1
        if not whole:
            report.gaps.add(table)
            start = _beyond(connection, table, start)
        elif not found or start > FARTHEST:
            return
        yield


def _rowids(connection: sqlite3.Connection, table: str, start: int) -> tuple[list[int], bool]:
    """The next ones from ``start`` on, and whether nothing stopped the search."""
    found: list[int] = []
    try:
        cursor = connection.execute(
            f'SELECT rowid FROM main."{table}" NOT INDEXED WHERE rowid >= ? ORDER BY rowid LIMIT {CHUNK}', (start,)
        )
        for (rowid,) in cursor:
            found.append(rowid)
    except sqlite3.Error as error:
        _pass_unread(error)
        return found, False
    return found, True


def _beyond(connection: sqlite3.Connection, table: str, start: int) -> int | None:
    """The first row after a page that cannot be read: twice as far each time, then back by halves; None at the end."""

    def first_from(rowid: int) -> int | None:
        return connection.execute(  # type: ignore[no-any-return]
            f'SELECT min(rowid) FROM main."{table}" NOT INDEXED WHERE rowid >= ?', (rowid,)
        ).fetchone()[0]

    step, bad = 1, start
    while True:
        good = min(start + step, FARTHEST)
        try:
            found = first_from(good)
            break
        except sqlite3.Error as error:
            _pass_unread(error)
        if good == FARTHEST:
            return None
        bad, step = good, step * 2
    while good - bad > 1:
        middle = (good + bad) // 2
        try:
            found, good = first_from(middle), middle
        except sqlite3.Error as error:
            _pass_unread(error)
            bad = middle
    return found


def _take_over(connection: sqlite3.Connection, table: str, rowids: list[int], report: Report) -> None:
    columns = ", ".join(f'"{row[1]}"' for row in connection.execute(f'PRAGMA fresh.table_info("{table}")'))
    copy = f'INSERT OR IGNORE INTO fresh."{table}" ({columns}) SELECT {columns} FROM main."{table}" NOT INDEXED WHERE '
    try:
        connection.execute(f"{copy} rowid BETWEEN ? AND ?", (rowids[0], rowids[-1]))
    except sqlite3.Error as error:
        _pass_unread(error)
        for rowid in rowids:
            try:
                connection.execute(f"{copy} rowid = ?", (rowid,))
            except sqlite3.Error as one:
                _pass_unread(one)
                report.lose(table)
    if table in _JSON:
        report.lose(table, _drop_garbled(connection, table, rowids))


def _drop_garbled(connection: sqlite3.Connection, table: str, rowids: list[int]) -> int:
    """Rows of which a page was overwritten by something that SQLite cannot tell from contents."""
    names = _JSON[table]
    valid = " AND ".join(f"({name} IS NULL OR json_valid(CAST({name} AS TEXT)))" for name in names)
    suspects = connection.execute(
        f"SELECT seq, {', '.join(names)} FROM fresh.{table} WHERE seq BETWEEN ? AND ? AND NOT ({valid})",
        (rowids[0], rowids[-1]),
    ).fetchall()
    count = 0
    for seq, *blobs in suspects:
        if not all(blob is None or _is_json(blob) for blob in blobs):
            connection.execute(f"DELETE FROM fresh.{table} WHERE seq = ?", (seq,))
            count += 1
    return count


def _is_json(blob: bytes) -> bool:
    try:
        decode(blob)
    except (ValueError, TypeError):
        return False
    return True


def _copy_by_key(connection: sqlite3.Connection, table: str, report: Report) -> Iterator[None]:
    """A table without row ids: from its first key on, and where that ends before its time, from its last key back."""
    about = connection.execute(f'PRAGMA fresh.table_info("{table}")').fetchall()
    columns = [row[1] for row in about]
    key = [row[1] for row in sorted((row for row in about if row[5]), key=lambda row: row[5])]
    for ascending in (True, False):
        last: list[Any] | None = None
        whole = True
        while whole:
            rows, whole = _rows_by_key(connection, table, columns, key, last, ascending=ascending)
            marks = ", ".join("?" * len(columns))
            connection.execute("BEGIN")
            connection.executemany(f'INSERT OR IGNORE INTO fresh."{table}" VALUES ({marks})', rows)
            connection.execute("COMMIT")
            if whole and not rows:
                return
            if rows:
                last = [rows[-1][columns.index(name)] for name in key]
            yield
        report.gaps.add(table)


def _rows_by_key(
    connection: sqlite3.Connection,
    table: str,
    columns: list[str],
    key: list[str],
    last: list[Any] | None,
    *,
    ascending: bool,
) -> tuple[list[Any], bool]:
    names = ", ".join(f'"{name}"' for name in columns)
    keys = ", ".join(f'"{name}"' for name in key)
    sign, order = (">", "ASC") if ascending else ("<", "DESC")
    after = "" if last is None else f"WHERE ({keys}) {sign} ({', '.join('?' * len(key))})"
    by = ", ".join(f'"{name}" {order}' for name in key)
    found: list[Any] = []
    try:
        query = f'SELECT {names} FROM main."{table}" {after} ORDER BY {by} LIMIT {CHUNK * 16}'
        found.extend(connection.execute(query, last or ()))  # what came before an error is kept
    except sqlite3.Error as error:
        _pass_unread(error)
        return found, False
    return found, True


def _copy_by_page(aside: Path, fresh: Path, report: Report, *, everything: bool) -> Iterator[None]:
    """What lies in leaf pages under a part of the tree that cannot be read; only in tables of which a part is so."""
    connection = sqlite3.connect(fresh, isolation_level=None, check_same_thread=False)
    log = open_log(aside)
    try:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA journal_mode = MEMORY").fetchall()
        tables = _shapes(connection)
        if everything:
            report.gaps.update(tables, ("items",))
        with aside.open("rb") as file:
            connection.execute("BEGIN")
            for number, rows in enumerate(leaf_rows(file, log)):
                for rowid, values in rows:
                    _insert_found(connection, tables, report.gaps, rowid, values)
                if number % CHUNK == 0:
                    connection.execute("COMMIT")
                    yield
                    connection.execute("BEGIN")
            connection.execute("COMMIT")
    finally:
        if log is not None:
            log.close()
        connection.close()


def _shapes(connection: sqlite3.Connection) -> dict[str, list[Column]]:
    """Tables with row ids → their columns, as ``fits`` wants them."""
    shapes = {}
    for name, sql in connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall():
        if not name.startswith("sqlite_") and not re.search(r"WITHOUT\s+ROWID", sql, re.IGNORECASE):
            about = connection.execute(f'PRAGMA table_info("{name}")').fetchall()
            keys = sum(1 for row in about if row[5])
            shapes[name] = [
                Column(
                    row[2].upper(),
                    bool(row[3]),
                    row[5] == 1 == keys and row[2].upper() == "INTEGER",
                    row[4] is not None,
                )
                for row in about
            ]
    return shapes


def _insert_found(
    connection: sqlite3.Connection,
    tables: dict[str, list[Column]],
    wanted: set[str],
    rowid: int,
    values: list[Any],
) -> None:
    names = [name for name, columns in tables.items() if fits(values, columns)]
    if len(names) != 1 or names[0] not in wanted:
        return  # of two tables of one shape it may be either's
    (name,) = names
    if name in _JSON and not all(_is_json(value) for value in values if isinstance(value, bytes)):
        return
    row = [rowid if column.is_rowid else value for value, column in zip(values, tables[name], strict=False)]
    columns = [about[1] for about in connection.execute(f'PRAGMA table_info("{name}")')][: len(row)]
    connection.execute(
        f'INSERT OR IGNORE INTO "{name}" ({", ".join(columns)}) VALUES ({", ".join("?" * len(row))})', row
    )


# -- what ties rows of different tables together ------------------------------------------------------------------


def _tie(fresh: Path, report: Report) -> Iterator[None]:
    """No response without its items, no items that nobody will let go, no log with a gap."""
    connection = sqlite3.connect(fresh, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous = OFF")
    try:
        yield from _tied(connection, report)
    finally:
        connection.close()


def _tied(connection: sqlite3.Connection, report: Report) -> Iterator[None]:
    def run(statement: str, *values: int) -> int:
        return connection.execute(statement, values).rowcount

    report.lose("responses", run("DELETE FROM main.responses WHERE seq NOT IN (SELECT seq FROM main.segments)"))
    yield
    run(
        "INSERT OR IGNORE INTO main.garbage (seq) SELECT seq FROM main.segments s "
        "WHERE NOT EXISTS (SELECT 1 FROM main.responses WHERE seq = s.seq) "
        "AND NOT EXISTS (SELECT 1 FROM main.segments c WHERE c.parent = s.seq)"
    )
    yield
    if "items" in report.gaps:
        yield from _find_items(connection)
    run("DELETE FROM main.items WHERE seq NOT IN (SELECT seq FROM main.segments)")
    yield
    has_logs = connection.execute(
        "SELECT count(*) FROM main.sqlite_master WHERE type = 'table' AND name IN ('logs', 'events')"
    ).fetchone()[0]
    if has_logs == 2:
        report.lose("logs", run(_GAPPY, *(PLACES,) * 3))
        run("DELETE FROM main.events WHERE place / ? NOT IN (SELECT seq FROM main.logs)", PLACES)
    report.kept = connection.execute("SELECT count(*) FROM main.responses").fetchone()[0]


_GAPPY: Final = """
DELETE FROM main.logs WHERE following > 0 AND (
  SELECT count(*) = 0 OR max(place) - min(place) + 1 <> count(*) OR max(place) <> logs.seq * ? + logs.following - 1
  FROM main.events WHERE place >= logs.seq * ? AND place < (logs.seq + 1) * ?
)
"""


def _find_items(connection: sqlite3.Connection) -> Iterator[None]:
    """The index of items, from the items."""
    last = -FARTHEST
    while rows := connection.execute(
        f"SELECT seq, input, output FROM main.segments WHERE seq > ? ORDER BY seq LIMIT {CHUNK}", (last,)
    ).fetchall():
        for seq, *blobs in rows:
            ids = frozenset[str]().union(*(item_ids(decode(blob)) for blob in blobs))
            connection.executemany(
                "INSERT OR IGNORE INTO main.items (id, seq) VALUES (?, ?)", [(id, seq) for id in ids]
            )
        last = rows[-1][0]
        yield
