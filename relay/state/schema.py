"""The database file: its tables, its versions, and how it is opened, upgraded or set aside.

Source: decisions 40 and 42; sqlite.org/pragma.html, sqlite.org/wal.html. Rules:

- A response row points at the segment with its own ``seq``; the segment outlives it while another segment's ``parent``
  is that ``seq``. A ``parent`` that is not there (0 never is) means a broken chain. A child is always younger than its
  parent, so a ``seq`` that a child still names is never given out again.
- ``upstreams`` says of the ids of things that an upstream keeps whose they are; paths reach those with ``response``.
- ``garbage`` names segments that may have lost their last reason to be there; a sweep looks.
- ``events.place`` is the log's ``seq`` * 2**32 + the event's number: one tree, in order.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from relay.state.locks import WriteQueue, alone
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

_VERSION_2: Final = """
ALTER TABLE upstreams ADD COLUMN response INTEGER NOT NULL DEFAULT 1;
"""

# Step i leads from version i to version i + 1. A step that was released is never changed: add one.
STEPS: Final[tuple[str, ...]] = (_VERSION_1, _VERSION_2)

_DAMAGED: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_BUSY: Final = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's result code without its extension; 0 for an error of the Python module's own."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


class Files(NamedTuple):
    """Which files are there now, as (device, inode): of SQLite's three each stays the same while one is open."""

    database: tuple[int, int] | None
    log: tuple[int, int] | None
    shared: tuple[int, int] | None


def files_of(path: Path) -> Files:
    """What is under the path now; None for what is not there or cannot be seen. hot: twice a commit"""
    return Files(_identity(path), _identity(beside(path, "-wal")), _identity(beside(path, "-shm")))


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


class Stamp(NamedTuple):
    changed_ns: int
    size_bytes: int

    def written(self) -> bytes:
        return b"%d %d" % self


def stamp_of(path: Path) -> Stamp | None:
    """When and to what size the file was last written; None if it is not there."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return Stamp(status.st_mtime_ns, status.st_size)


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
    """The connection that writes, on a file that is whole and of our version. One process at a time does this.

    Raises: ``StoreUnusable``; ``sqlite3.Error`` (``is_damage``: the file waits for its repair) and ``OSError`` where
    the file cannot be opened or written.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with alone(beside(path, ".opening"), LIMIT_S):
        if waits_for_repair(path):
            raise damage("damage was found while it was in use")
        return _open_checked(path, steps)


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Nobody opens the file and nobody writes to it. Raises: ``TimeoutError`` after ``LIMIT_S``, ``OSError``."""
    queue = WriteQueue(beside(path, ".writing"), LIMIT_S)
    try:
        with alone(beside(path, ".opening"), LIMIT_S), queue.turn():
            yield
    finally:
        queue.close()


def damage(words: str) -> sqlite3.DatabaseError:
    """What SQLite raises for a damaged file."""
    error = sqlite3.DatabaseError(words)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that only reads the file that the writer opened."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=LIMIT_S, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA query_only = ON")
    return connection


def let_go(path: Path, connection: sqlite3.Connection, files: Files) -> None:
    """Close a connection that was opened on ``files``.

    The last one of a file deletes the log by its *name*, whosever it is by then: the log of the file that has taken the
    place of this one is held by a second name meanwhile. Raises: ``sqlite3.Error``
    """
    if files == files_of(path):
        connection.close()
        return
    try:
        with exclusive(path), _names_kept(path):
            connection.close()
    except OSError as error:
        _NOT_CLOSED.append(connection)
        LOG.warning("a connection to a former file of %s stays open: %s", path, error)


_NOT_CLOSED: Final[list[sqlite3.Connection]] = []


@contextmanager
def _names_kept(path: Path) -> Iterator[None]:
    links: list[tuple[Path, Path]] = []
    for suffix in ("-wal", "-shm"):
        file, link = beside(path, suffix), beside(path, f"{suffix}.kept")
        link.unlink(missing_ok=True)
        if file.exists():
            os.link(file, link)
            links.append((file, link))
    try:
        yield
    finally:
        for file, link in links:
            if file.exists():
                link.unlink()
            else:
                link.rename(file)


def mark_damaged(path: Path) -> str:
    """Leave word for every opening until the repair, and the name that the file will have: that, or the first one's.

    Raises: ``OSError``.
    """
    mark = beside(path, ".damaged")
    if name := _aside(path):
        return name
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    name, count = f"{path.name}.damaged-{stamp}", 0
    while path.with_name(name).exists():
        count += 1
        name = f"{path.name}.damaged-{stamp}-{count}"
    draft = beside(path, f".damaged.{os.getpid()}.{threading.get_ident()}")
    draft.write_text(name)
    draft.chmod(0o600)
    draft.replace(mark)
    return name


def _aside(path: Path) -> str:
    try:
        return beside(path, ".damaged").read_text()
    except FileNotFoundError:
        return ""


def waits_for_repair(path: Path) -> bool:
    """Whether damage was noted and no new file has come into the place of the damaged one."""
    name = _aside(path)
    if not name:
        return False
    if path.exists() and path.with_name(name).exists():  # it has, and who put it there did not live to say so
        beside(path, ".damaged").unlink(missing_ok=True)
        return False
    return True


def set_aside(path: Path, reason: str, *, with_log: bool = True) -> Path:
    """Rename the file, and its log if that belongs to it; its new name. Only in ``exclusive``. Raises: ``OSError``."""
    aside = path.with_name(mark_damaged(path))
    if path.exists() and not aside.exists():
        if (log := beside(path, "-wal")).exists():
            log.rename(beside(aside, "-wal" if with_log else "-other-wal"))
        beside(path, "-shm").unlink(missing_ok=True)  # so that the log is checked when it is next read
        path.rename(aside)
        LOG.error("the response store %s is damaged (%s): it is now %s and a new one starts", path, reason, aside.name)
    elif not path.exists():
        LOG.error("the response store %s is damaged (%s): a new one starts", path, reason)
    return aside


def put_in_place(path: Path, fresh: Path) -> None:
    """A file that is whole and flushed takes the place of the one that was set aside. Only in ``exclusive``."""
    for suffix in ("-wal", "-shm"):
        beside(path, suffix).unlink(missing_ok=True)
    fresh.replace(path)
    beside(path, ".damaged").unlink(missing_ok=True)
    if sys.platform != "win32":
        folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def create(path: Path, steps: tuple[str, ...]) -> None:
    """An empty file of the version that ``steps`` lead to, not in WAL mode yet."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        _upgrade(connection, path, steps)
    finally:
        connection.close()


def beside(path: Path, suffix: str) -> Path:
    """The name of a file that belongs to the database."""
    return path.with_name(path.name + suffix)


def _open_checked(path: Path, steps: tuple[str, ...]) -> sqlite3.Connection:
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


def check_version(connection: sqlite3.Connection, path: Path, known: int) -> int:
    """The file's version, in a transaction of the caller. Raises: ``StoreUnusable`` if a newer relay made it."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > known:
        raise StoreUnusable(
            f"{path} has schema version {version}, this relay knows {known}: "
            "run the newer relay, or give [store] path another name"
        )
    return version


def _refuse_foreign(connection: sqlite3.Connection, path: Path, steps: tuple[str, ...]) -> None:
    """Before anything is changed."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if tables and application != APPLICATION_ID:
        raise StoreUnusable(f"{path} is a database of another program: give [store] path another name")
    check_version(connection, path, len(steps))


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
        raise damage(words)
