"""The database file: its tables, its versions, and how it is opened, upgraded or set aside.

Source: decisions 40 and 42; sqlite.org/pragma.html, sqlite.org/wal.html. Rules:

- A response row points at the segment with its own ``seq``; the segment outlives it while another segment's ``parent``
  is that ``seq``. A ``parent`` that is not there (0 never is) means a broken chain. A child is always younger than its
  parent, so a ``seq`` that a child still names is never given out again.
- ``garbage`` names segments that may have lost their last reason to be there; a sweep looks.
- ``events.place`` is the log's ``seq`` * 2**32 + the event's number: one tree, in order.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from pathlib import Path
from typing import Final

from relay.state.locks import alone
from relay.state.store import LIMIT_S, StoreUnusable

LOG: Final = logging.getLogger("relay.state")
APPLICATION_ID: Final = 0x72656C79  # "rely"
CHECK_LIMIT_BYTES: Final = 64 << 20  # a file up to this size is read through at start (0.2 s)
RETRY_S: Final = 0.0005  # between two tries for a lock: SQLite's own waits grow to 100 ms
PLACES: Final = 1 << 32  # events in one log

_VERSION_1: Final = """
CREATE TABLE segments (
  seq INTEGER PRIMARY KEY, parent INTEGER, owner TEXT NOT NULL, input BLOB NOT NULL, output BLOB NOT NULL);
CREATE INDEX segments_parent ON segments (parent) WHERE parent IS NOT NULL;
CREATE TABLE responses (
  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, created_at INTEGER NOT NULL,
  running INTEGER NOT NULL, extra BLOB, body BLOB NOT NULL);
CREATE TABLE items (id TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (id, seq)) WITHOUT ROWID;
CREATE TABLE garbage (seq INTEGER PRIMARY KEY);
CREATE TABLE upstreams (
  seq INTEGER PRIMARY KEY, id TEXT NOT NULL, owner TEXT NOT NULL, name TEXT NOT NULL, created_at INTEGER NOT NULL,
  UNIQUE (id, owner));
CREATE TABLE logs (
  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, created_at INTEGER NOT NULL, following INTEGER NOT NULL);
CREATE INDEX logs_created_at ON logs (created_at);
CREATE TABLE events (place INTEGER PRIMARY KEY, blob BLOB NOT NULL);
CREATE TABLE leases (key TEXT PRIMARY KEY, owner TEXT NOT NULL, until REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE probe (one INTEGER PRIMARY KEY, at REAL NOT NULL);
"""

# Step i leads from version i to version i + 1. A step that was released is never changed: add one.
STEPS: Final[tuple[str, ...]] = (_VERSION_1,)

_DAMAGED: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_BUSY: Final = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's result code without its extension; 0 for an error of the Python module's own."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def identity(path: Path) -> tuple[int, int] | None:
    """Which file is under the path now; None if there is none or it cannot be seen."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def is_damage(error: sqlite3.Error) -> bool:
    return primary_code(error) in _DAMAGED


def is_busy(error: sqlite3.Error) -> bool:
    return primary_code(error) in _BUSY


def begin(connection: sqlite3.Connection) -> None:
    """Take the write lock, asking often instead of waiting longer each time. Raises: busy after ``LIMIT_S``."""
    deadline = time.monotonic() + LIMIT_S
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() > deadline:
                raise
        time.sleep(RETRY_S)


def open_writer(path: Path, steps: tuple[str, ...] = STEPS) -> sqlite3.Connection:
    """The connection that writes, on a file that is whole and of our version.

    What is damaged is renamed with its time and a new file starts. One process at a time does this.
    Raises: ``StoreUnusable``; ``sqlite3.Error`` and ``OSError`` where the file cannot be opened or written.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with alone(beside(path, ".opening"), LIMIT_S):
        try:
            return _open_checked(path, steps)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            set_aside(path, str(error))
            return _open_checked(path, steps)


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that only reads the file that the writer opened."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=LIMIT_S, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA query_only = ON")
    return connection


def mark_damaged(path: Path) -> None:
    """Leave word for the next opening, which may find nothing wrong where it looks."""
    try:
        beside(path, ".damaged").touch(mode=0o600)
    except OSError as error:
        LOG.error("cannot mark %s as damaged: %s", path, error)


def set_aside(path: Path, reason: str) -> None:
    """Rename the file and what SQLite keeps beside it. Raises: ``OSError``."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    name, count = f"{path.name}.damaged-{stamp}", 0
    while path.with_name(name).exists():
        count += 1
        name = f"{path.name}.damaged-{stamp}-{count}"
    for suffix in ("-wal", "-shm", ""):
        file = beside(path, suffix)
        if file.exists():
            file.rename(path.with_name(name + suffix))
    beside(path, ".damaged").unlink(missing_ok=True)
    LOG.error("the response store %s is damaged (%s): it is now %s and a new one starts", path, reason, name)


def beside(path: Path, suffix: str) -> Path:
    """The name of a file that belongs to the database."""
    return path.with_name(path.name + suffix)


def _open_checked(path: Path, steps: tuple[str, ...]) -> sqlite3.Connection:
    if path.exists() and beside(path, ".damaged").exists():
        set_aside(path, "damage was found while it was in use")
    if not path.exists():
        # Only a new file: closing any descriptor of a database drops the locks that this process has on it (POSIX).
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, timeout=LIMIT_S, isolation_level=None, check_same_thread=False)
    try:
        _refuse_foreign(connection, path, steps)
        _prepare(connection)
        _upgrade(connection, path, steps)
        if path.stat().st_size <= CHECK_LIMIT_BYTES:
            _check(connection)
        connection.execute("PRAGMA busy_timeout = 0")  # from here begin() waits; chores are tried again later
    except BaseException:
        connection.close()
        raise
    return connection


def _refuse_foreign(connection: sqlite3.Connection, path: Path, steps: tuple[str, ...]) -> None:
    """Before anything is changed."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if tables and application != APPLICATION_ID:
        raise StoreUnusable(f"{path} is a database of another program: give [store] path another name")
    if version > len(steps):
        raise StoreUnusable(
            f"{path} has schema version {version}, this relay knows {len(steps)}: "
            "run the newer relay, or give [store] path another name"
        )


def _prepare(connection: sqlite3.Connection) -> None:
    if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # only a file without tables takes this
    deadline = time.monotonic() + LIMIT_S
    while True:  # a change of the journal mode does not always wait
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchall()
            break
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() > deadline:
                raise
        time.sleep(0.005)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("PRAGMA wal_autocheckpoint = 0")  # the writer does it after its waiters have their answer
    connection.execute("PRAGMA cache_size = -8192")  # KiB


def _upgrade(connection: sqlite3.Connection, path: Path, steps: tuple[str, ...]) -> None:
    """Take the steps that are missing, all or none."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == len(steps):
        return
    begin(connection)
    try:
        for step in steps[version:]:
            for statement in filter(str.strip, step.split(";")):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(steps)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    if version:
        LOG.info("the response store %s was upgraded from schema version %d to %d", path, version, len(steps))


def _check(connection: sqlite3.Connection) -> None:
    words = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if words != "ok":
        error = sqlite3.DatabaseError(words)
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error
