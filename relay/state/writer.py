"""The one thread of a worker that writes: group commit, then the chores that nobody waits for.

Source: decision 40. A group is what queued while the last one was committed, so the cost of one fsync is shared by
whoever waited for it, and a lone commit waits for nobody. A thread, because SQLite blocks; one, because SQLite has
one writer at a time anyway.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from relay.state import rows, schema
from relay.state.calendar import Doubt, ExpiryClock
from relay.state.locks import WriteQueue
from relay.state.place import Moved, Place
from relay.state.repair import NotNeeded, Taken, repair
from relay.state.rows import Bounds
from relay.state.store import LIMIT_S, StoreBroken, StoreError, StoreUnusable

LOG: Final = logging.getLogger("relay.state")

GROUP_LIMIT: Final = 256  # jobs in one transaction
GROUP_LIMIT_BYTES: Final = 64 << 20
QUEUE_LIMIT: Final = 10_000  # jobs
QUEUE_LIMIT_BYTES: Final = 256 << 20
CHECKPOINT_BYTES: Final = 4 << 20  # this worker's own writes between two checkpoints
WAL_LIMIT_PAGES: Final = 16_384  # 64 MiB: then a checkpoint makes the other writers wait
EXPIRY_PERIOD_S: Final = 60.0
BACKLOG_PAUSE_S: Final = 0.02  # between two steps of a sweep that has more to do, when nothing is queued
TRUNCATE_PAUSE_S: Final = 0.25  # between two tries to empty the log, when nothing is queued
READER_WAIT_MS: Final = 20  # for readers to finish before the log is cut; writers wait that long too
ERASE_STEPS: Final = 4  # batches of garbage that a deletion waits for
START_WAIT_S: Final = 2.0  # for a repair at start; one that takes longer goes on beside what is served
AGAIN_PAUSE_S: Final = 0.05  # between two looks at what another process repairs
REPAIR_PAUSE_S: Final = 10.0  # before the next repair: where each finds damage anew the disk is at fault
ROW_COST_BYTES: Final = 24_576  # pages that a small commit touches, about

Work = Callable[[sqlite3.Connection], Any]

# SQLite's primary result code: what the client is told (decision 41).
_REASONS: Final[dict[int, str]] = {
    sqlite3.SQLITE_FULL: "The disk of the response store is full.",
    sqlite3.SQLITE_READONLY: "The response store is read-only.",
    sqlite3.SQLITE_CANTOPEN: "The response store cannot be opened.",
    sqlite3.SQLITE_IOERR: "The disk of the response store fails.",
    sqlite3.SQLITE_CORRUPT: "The response store is damaged.",
    sqlite3.SQLITE_NOTADB: "The response store is damaged.",
    sqlite3.SQLITE_BUSY: "The response store is locked.",
    sqlite3.SQLITE_LOCKED: "The response store is locked.",
}
_NO_REASON: Final = "The response store is unavailable."


def store_error(error: sqlite3.Error | OSError) -> StoreError:
    """The boundary: what SQLite or the system said, as ours."""
    code = schema.primary_code(error) if isinstance(error, sqlite3.Error) else 0
    if isinstance(error, TimeoutError):
        code = sqlite3.SQLITE_BUSY
    kind = StoreBroken if isinstance(error, sqlite3.Error) and schema.is_damage(error) else StoreError
    return kind(_REASONS.get(code, _NO_REASON), detail=f"{type(error).__name__}: {error}")


def _is_busy(error: sqlite3.Error | OSError) -> bool:
    return schema.is_busy(error) if isinstance(error, sqlite3.Error) else isinstance(error, TimeoutError)


@dataclass(eq=False, slots=True)
class Job:
    """Work for the writer, and who waits if anyone. ``undo`` takes it back where that one was told that it failed."""

    work: Work
    loop: asyncio.AbstractEventLoop | None = None
    future: asyncio.Future[Any] | None = None
    size_bytes: int = 0
    undo: Work | None = None
    deletes: bool = False
    withdrawn: bool = False
    landed: bool = False
    """Committed, into a file that was taken away about then: it is done again in the one that follows."""
    outcome: Any = None


class Writer:
    """Owns the writing connection. ``fault`` says why the store is bad, None while it is good."""

    def __init__(self, path: Path, bounds: Bounds, expiry: ExpiryClock, steps: tuple[str, ...]) -> None:
        self._path = path
        self._bounds = bounds
        self._expiry = expiry
        self._steps = steps
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._queued_bytes = 0
        self._lock = threading.Lock()  # over _queued_bytes, which two threads change
        self._write_queue = WriteQueue(schema.beside(path, ".writing"), LIMIT_S)
        self._connection: sqlite3.Connection | None = None
        self._place: Place | None = None
        self._doubted: Doubt | None = None  # as the file has it
        self._repair: Generator[None, None, None] | None = None
        self._damage: str | None = None  # what is being repaired, here or by another process
        self._found: tuple[int, int] | None = None  # the file that it was found in
        self._overwritten = False
        self._live = False  # the connection sees more than the file under the path
        self._next_repair = 0.0
        self._again: list[Job] = []  # to be done in the file that follows the one that was taken away
        self._settled = threading.Event()
        self._written_bytes = 0
        self._backlog = True  # at start: whatever the last life left
        self._truncate = True
        self.next_expiry = 0.0
        self.fault: StoreError | None = None
        self.groups = 0  # transactions committed for jobs
        self.jobs = 0  # jobs in them
        self.closed = False
        try:
            self._open()
        except (sqlite3.Error, OSError) as error:
            self._on_error(error)
        waits = self._damage is not None
        self._thread = threading.Thread(target=self._run, name="relay-store-writer", daemon=True)
        self._thread.start()
        if waits:
            self._settled.wait(START_WAIT_S)

    # -- on the event loop ----------------------------------------------------------------------------------------

    async def write(self, work: Work, *, size_bytes: int = 0, undo: Work | None = None, deletes: bool = False) -> Any:
        """Queue and wait, at most ``LIMIT_S``; a caller that is cancelled leaves the work to be done.

        Raises: ``StoreError``, and what ``work`` raises as ``RelayError``.
        """
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        job = Job(work, loop, future, size_bytes, undo, deletes)
        self.put(job)
        timer = loop.call_later(LIMIT_S, self._on_limit, job)
        try:
            return await future
        finally:
            timer.cancel()

    def put(self, job: Job) -> None:
        """Queue. Raises: ``StoreError`` when closed, when the file is at fault, or when too much is queued."""
        if job.loop is not None:
            self.check_open()
        elif self.closed:
            raise StoreError("The response store is closed.")
        with self._lock:
            if self._queue.qsize() >= QUEUE_LIMIT or self._queued_bytes > QUEUE_LIMIT_BYTES:
                raise StoreError("Too much waits for the response store.")
            self._queued_bytes += job.size_bytes
        self._queue.put(job)

    def probe(self) -> None:
        """Find out whether the store is good again; nobody waits. With a full queue the answer is on its way."""
        try:
            self.put(Job(self._probe))
        except StoreError:
            pass

    def look(self) -> None:
        """Find out whether the file is still what it was; nobody waits, nothing is written."""
        try:
            self.put(Job(lambda connection: None))
        except StoreError:
            pass

    def report(self, error: sqlite3.Error) -> None:
        """A reader has met damage. From any thread."""
        if self._damage is None:
            self._note_damage(str(error))
            self._queue.put(Job(lambda connection: None))

    def refuse(self, error: StoreUnusable) -> StoreError:
        """A reader has met a file that is another relay's. From any thread."""
        failure = StoreBroken("The response store belongs to a newer relay.", detail=str(error))
        self._blame(failure)
        return failure

    def check_open(self) -> None:
        """Raises: ``StoreError`` when closed, or while the file itself is at fault."""
        if self.closed:
            raise StoreError("The response store is closed.")
        fault = self.fault
        if isinstance(fault, StoreBroken):
            raise StoreBroken(fault.message, detail=fault.detail)

    def stop(self) -> None:
        """Take no more work."""
        if not self.closed:
            self.closed = True
            self._queue.put(None)

    async def join(self) -> None:
        """Wait until what was queued is done and the file is closed, or for ``LIMIT_S``."""
        await asyncio.to_thread(self._thread.join, LIMIT_S)
        if self._thread.is_alive():
            LOG.warning("the response store %s was left without closing it: its writer is stuck", self._path)

    def _on_limit(self, job: Job) -> None:
        if job.future is not None and not job.future.done():
            job.withdrawn = True
            error = StoreError("The response store is too slow.", detail=f"no commit within {LIMIT_S:g} s")
            if not isinstance(self.fault, StoreBroken):
                self._blame(error)
            job.future.set_exception(error)

    def _on_outcome(self, job: Job) -> None:
        if job.withdrawn and job.outcome is True and job.undo is not None:
            try:
                self.put(Job(job.undo, deletes=True))
            except StoreError as error:
                LOG.error("a response that was reported as not stored may be there: %s", error)
        if job.future is None or job.future.done():
            return
        if isinstance(job.outcome, Exception):
            job.future.set_exception(job.outcome)
        else:
            job.future.set_result(job.outcome)

    # -- on the thread --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        """hot: tests/state/test_latency.py"""
        while True:
            group, last = self._take()
            if self._damage is not None:
                self._refuse(group)
                self._step()
                if last:
                    self._close()
                    return
                continue
            if group or self._again:
                again, self._again = self._again, []
                self._commit(again + group)
            try:
                self._chores(len(group))
            except (sqlite3.Error, OSError) as error:
                if not _is_busy(error):  # else after the next group
                    self._on_error(error)
                self._backlog = self._truncate = False
            except (Moved, StoreUnusable):  # the next group sees to it
                self._backlog = self._truncate = False
            except Exception:  # the outermost boundary of this thread, which must not end
                LOG.exception("tidying the response store failed")
                self._backlog = self._truncate = False
            if last:
                self._close()
                return

    def _take(self) -> tuple[list[Job], bool]:
        """The next group, empty when it is time for chores, and whether it is the last."""
        # Chores have no timer of their own: the wait for work ends in time for them.
        pause_s = BACKLOG_PAUSE_S if self._backlog else TRUNCATE_PAUSE_S if self._truncate else EXPIRY_PERIOD_S
        if self._repair is not None or (self._again and self.fault is None):
            pause_s = 0.0
        elif self._again or self._damage is not None:
            pause_s = AGAIN_PAUSE_S
        group: list[Job] = []
        size_bytes = 0
        last = False
        try:
            job = self._queue.get(timeout=pause_s)
            while job is not None:
                group.append(job)
                size_bytes += job.size_bytes
                if len(group) >= GROUP_LIMIT or size_bytes >= GROUP_LIMIT_BYTES:
                    break
                job = self._queue.get_nowait()
            last = job is None
        except queue.Empty:
            pass
        with self._lock:
            self._queued_bytes -= size_bytes
        return group, last

    def _commit(self, group: list[Job]) -> None:
        try:
            connection = self._open()
            with self._transaction(connection):
                for job in group:
                    self._do(connection, job)
                self._keep_doubt(connection)
        except (sqlite3.Error, OSError) as error:
            self._fail(group, self._on_error(error))
            return
        except StoreUnusable as error:
            self._drop()
            self._fail(group, self.refuse(error))
            return
        except Moved as error:
            for job in group:
                job.landed = job.landed or error.committed
            self._on_moved(group, error.overwritten)
            return
        if self.fault is not None:
            LOG.warning("the response store %s is good again", self._path)
            self.fault = None
        self.groups += 1
        self.jobs += len(group)
        self._written_bytes += sum(job.size_bytes + ROW_COST_BYTES for job in group)
        self._answer([job for job in group if not job.deletes])
        deleting = [job for job in group if job.deletes]
        if deleting:
            self._truncate = True
            self._erase(connection)
            self._answer(deleting)

    def _fail(self, group: list[Job], failure: StoreError) -> None:
        """None of a group is there, but what an earlier file took and a repair may have brought over."""
        for job in group:
            job.outcome = failure
        self._again += [job for job in group if job.landed and job.undo is not None]
        self._answer([job for job in group if not job.withdrawn])

    def _refuse(self, group: list[Job]) -> None:
        """While the file is at fault: at once."""
        if group:
            fault = self.fault or StoreBroken(_REASONS[sqlite3.SQLITE_CORRUPT])
            self._fail(group, StoreBroken(fault.message, detail=fault.detail))

    def _do(self, connection: sqlite3.Connection, job: Job) -> None:
        """One job of a group; one that is refused leaves the others alone."""
        is_failed = job.withdrawn or isinstance(job.outcome, StoreError)  # the caller was told so
        if is_failed and not (job.landed and job.undo is not None):
            return
        work = job.undo if is_failed and job.undo is not None else job.work
        connection.execute("SAVEPOINT job")
        outcome: Any
        try:
            outcome = work(connection)
        except Exception as error:  # the outermost boundary of this thread: the caller gets it
            if isinstance(error, sqlite3.Error):
                if schema.primary_code(error) in _REASONS:
                    raise
                error = store_error(error)
            outcome = error
            connection.execute("ROLLBACK TO job")
        connection.execute("RELEASE job")
        if not job.landed:
            job.outcome = outcome

    def _answer(self, jobs: list[Job]) -> None:
        for job in jobs:
            if job.loop is None:
                continue
            try:
                job.loop.call_soon_threadsafe(self._on_outcome, job)
            except RuntimeError:  # its loop is closed: nobody waits
                LOG.debug("a store write ended after its event loop")

    def _probe(self, connection: sqlite3.Connection) -> None:
        connection.execute("INSERT OR REPLACE INTO probe (one, at) VALUES (1, ?)", (self._expiry.now(),))

    # -- chores ---------------------------------------------------------------------------------------------------

    def _chores(self, group_size: int) -> None:
        connection = self._connection
        if connection is None:
            self._backlog = self._truncate = False
            return
        if self._sweep_due(connection):
            with self._transaction(connection):
                self._keep_doubt(connection)
                self._backlog = (
                    rows.sweep(connection, self._bounds, self._expiry(), max(rows.BATCH, 2 * group_size)) > 0
                )
            self._written_bytes += rows.BATCH * ROW_COST_BYTES
        self._shrink(connection)
        if self._truncate and not self._backlog and self._queue.empty():
            self._erase(connection)
        elif self._written_bytes >= CHECKPOINT_BYTES:
            self._checkpoint(connection)

    def _sweep_due(self, connection: sqlite3.Connection) -> bool:
        if self._backlog or rows.too_big(connection, self._bounds) or rows.has_garbage(connection):
            return True
        at = time.monotonic()
        if at < self.next_expiry:
            return False
        self.next_expiry = at + EXPIRY_PERIOD_S
        if self._doubt_changed():
            return True
        return rows.has_expired(connection, self._bounds, self._expiry())

    def _erase(self, connection: sqlite3.Connection) -> None:
        """Make deleted bytes go from the files; tried again while another process reads or writes.

        Raises nothing: the deletion itself is committed.
        """
        try:
            for _ in range(ERASE_STEPS):
                if not rows.has_garbage(connection):
                    break
                with self._transaction(connection):
                    rows.collect(connection)
            else:
                self._backlog = True
            self._truncate = not self._empty_log(connection)
        except (Moved, StoreUnusable):  # the next group sees to it
            self._truncate = False
        except (sqlite3.Error, OSError) as error:
            if not _is_busy(error):
                self._on_error(error)

    def _empty_log(self, connection: sqlite3.Connection) -> bool:
        """Copy all of the log into the database and cut it, with no writer beside; false if a reader is in the way."""
        with self._write_queue.turn(), self._checkpointing() as may:
            if not may:
                return False
            connection.execute(f"PRAGMA busy_timeout = {READER_WAIT_MS}")
            try:
                busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            finally:
                connection.execute("PRAGMA busy_timeout = 0")
        if not busy:
            self._written_bytes = 0
        return not busy

    def _checkpoint(self, connection: sqlite3.Connection) -> None:
        """Copy the log into the database, beside the other writers as long as the log is of a reasonable size."""
        with self._checkpointing() as may:
            pages = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1] if may else 0
        if pages > WAL_LIMIT_PAGES:
            self._empty_log(connection)
        self._written_bytes = 0

    @contextmanager
    def _checkpointing(self) -> Iterator[bool]:
        """Whether this process may make a checkpoint now. Raises: ``Moved``."""
        self._check_place()
        if self._place is None:
            yield False
            return
        with self._place.checkpoint() as may:
            yield may

    def _shrink(self, connection: sqlite3.Connection) -> None:
        """Give free pages back to the disk, a few at a time, where they are many."""
        pages, free = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count"))
        if free > 1_024 and free * 4 > pages:
            with self._write_queue.turn():  # a script, because execute() stops after the first page
                self._check_place()
                connection.executescript("PRAGMA incremental_vacuum(256)")
            self._backlog = True

    # -- the file -------------------------------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        """The connection, opened again if there is none. Raises: as ``schema.open_writer``, and ``Moved``."""
        if self._connection is not None:
            return self._connection
        first = self._place is None
        self._connection = schema.open_writer(self._path, self._steps)
        self._place = Place(self._path)
        if first:
            self._doubted = rows.read_doubt(self._connection)
            self._expiry.start(rows.youngest(self._connection), self._doubted)
        self._backlog = self._truncate = True
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None and self._place is not None:
            self._place.close()
            connection, self._connection = self._connection, None
            try:
                schema.let_go(self._path, connection, self._place.files)
            except sqlite3.Error as error:
                LOG.warning("closing the response store: %s", error)

    def _check_place(self, *, committed: bool = False) -> None:
        """Raises: ``Moved`` if a commit now would not be, or was not, one to the file that everybody opens."""
        if self._place is not None:
            self._place.check(committed=committed)

    def _keep_doubt(self, connection: sqlite3.Connection) -> None:
        """A doubt about the clock is in the file no later than what was made under it."""
        if self._doubt_changed():
            self._doubted = self._expiry.doubt()
            rows.put_doubt(connection, self._doubted)

    def _doubt_changed(self) -> bool:
        self._expiry()
        doubt, kept = self._expiry.doubt(), self._doubted
        if doubt is None or kept is None:
            return doubt is not kept
        return abs(doubt.time_s - kept.time_s) >= EXPIRY_PERIOD_S

    def _on_moved(self, group: list[Job], overwritten: str) -> None:
        """The file or its log was taken away or replaced: go over to what is there, or bring what is open there."""
        now, then = schema.files_of(self._path), self._place.files if self._place is not None else None
        self._again = [job for job in group if job.loop is not None or job.deletes]
        if schema.waits_for_repair(self._path):
            self._drop()
            self._note_damage("another process found it damaged")
        elif overwritten:
            self._drop()
            self._note_damage(f"somebody else wrote into {overwritten} while it was open", overwritten=True)
        elif now.database is None or (then is not None and now.database == then.database):
            what = "it was removed or renamed" if now.database is None else "its log was removed or replaced"
            self._live = True
            self._note_damage(f"{what} while it was open")
        else:
            LOG.warning("another file has come into the place of the response store %s: it is used", self._path)
            self._drop()

    # -- repair ---------------------------------------------------------------------------------------------------

    def _note_damage(self, reason: str, *, overwritten: bool = False) -> None:
        self._overwritten = overwritten
        self._found = schema.files_of(self._path).database
        self._damage = reason
        self._blame(StoreBroken(_REASONS[sqlite3.SQLITE_CORRUPT], detail=reason))

    def _step(self) -> None:
        """One step of the repair, or of waiting for the process that does it; nothing of it raises."""
        try:
            if self._repair is None:
                if time.monotonic() < self._next_repair:
                    return
                if not self._live:
                    self._drop()
                source = self._connection if self._live else None
                reason = self._damage or ""
                self._repair = repair(
                    self._path, self._steps, reason, self._found, live=source, overwritten=self._overwritten
                )
            next(self._repair)
            return
        except StopIteration:
            self._next_repair = time.monotonic() + REPAIR_PAUSE_S
        except NotNeeded:
            pass
        except Taken:
            self._repair = None
            return
        except (sqlite3.Error, OSError, StoreUnusable) as error:
            self._repair = None
            self._next_repair = time.monotonic() + 1.0
            LOG.error("the repair of the response store %s failed, it is tried again: %s", self._path, error)
            self._settled.set()
            return
        except Exception:  # the outermost boundary of this thread, which must not end
            self._repair = None
            self._next_repair = time.monotonic() + REPAIR_PAUSE_S
            LOG.exception("the repair of the response store %s failed, it is tried again", self._path)
            self._settled.set()
            return
        self._after_repair()

    def _after_repair(self) -> None:
        """Go over to the file that is there now, with what was left to be done in it."""
        self._repair, self._damage, self._live = None, None, False
        self._drop()
        again, self._again = self._again, []
        self._commit(again)
        self._settled.set()

    def _close(self) -> None:
        while self._live and (self._repair is not None or self._next_repair <= time.monotonic()):
            self._step()  # what is open only here is gone afterwards
        if self._repair is not None:
            self._repair.close()  # the next start goes on
        if self._connection is not None and self._damage is None:
            self._erase(self._connection)
        self._drop()
        self._write_queue.close()

    @contextmanager
    def _transaction(self, connection: sqlite3.Connection) -> Iterator[None]:
        with self._write_queue.turn():
            self._check_place()
            schema.begin(connection)
            try:
                schema.check_version(connection, self._path, len(self._steps))
                yield
                connection.execute("COMMIT")
                self._check_place(committed=True)
            except BaseException:
                try:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                except sqlite3.Error as error:
                    LOG.warning("rolling back: %s", error)
                raise

    def _on_error(self, error: sqlite3.Error | OSError) -> StoreError:
        """Note that the store is bad, and start afresh with the file next time unless it was only locked."""
        failure = store_error(error)
        self._blame(failure)
        if _is_busy(error):
            return failure
        if isinstance(error, sqlite3.Error) and schema.is_damage(error):
            try:
                schema.mark_damaged(self._path)
            except OSError as refusal:
                LOG.error("cannot mark %s as damaged: %s", self._path, refusal)
            self._note_damage(str(error))
        self._drop()
        return failure

    def _blame(self, failure: StoreError) -> None:
        if self.fault is None:
            LOG.error("the response store %s is bad: %s (%s)", self._path, failure.message, failure.detail)
        self.fault = failure
