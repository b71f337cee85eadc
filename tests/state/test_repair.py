"""Damage, and files that are taken away, while the store is used: said, and got over with all that can be read.

Source: issue 10, 13. Rows are looked for through the store's own methods; files are harmed as a disk or a person does.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from relay.state import schema, sqlite, writer
from relay.state.repair import repair
from relay.state.sqlite import SqliteStore
from relay.state.store import Objects, StoreError
from tests.state.engines import find_item, one_turn, turn, with_store
from tests.support import run, until

TURNS = 60
PAGE = 4096
TEXT = "x" * 9_000  # two pages that hold nothing else


async def fill(store: SqliteStore) -> None:
    """Chains of ten turns, an upstream's id and a log of three events for each."""
    for number in range(TURNS):
        parent = f"resp_n{number - 1}" if number % 10 else None
        await store.commit(*turn(f"n{number}", TEXT), "ann", parent=parent)
        await store.append_events(f"resp_n{number}", 0, [b"event"] * 3)
        await store.remember_upstream(Objects("openai"), "ann", f"resp_up{number}")


async def kept(store: SqliteStore) -> set[int]:
    return {number for number in range(TURNS) if await store.get(f"resp_n{number}", "ann") is not None}


def page_of(path: Path, words: bytes) -> int:
    """The page that holds a text."""
    return path.read_bytes().index(words) // PAGE


def harm(path: Path, page: int, count: int = 1) -> None:
    with path.open("r+b") as file:
        file.seek(page * PAGE)
        file.write(b"\xa5" * (PAGE * count))


def root_of(path: Path, name: str) -> int:
    """The number, from 0, of the page where a table or an index begins."""
    connection = sqlite3.connect(path)
    (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()
    connection.close()
    return int(page) - 1


def asides(path: Path) -> list[Path]:
    return [
        file for file in path.parent.iterdir() if ".damaged-" in file.name and not file.name.endswith(("wal", "shm"))
    ]


async def works(store: SqliteStore, name: str = "new") -> None:
    await store.commit(*turn(name), "ann")
    await store.append_events(f"resp_{name}", 0, [b"event"])
    assert await store.load_chain(f"resp_{name}", "ann") is not None


# -- one bad page -------------------------------------------------------------------------------------------------


def test_one_bad_page_costs_the_rows_on_it(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At start. A page of one response's output: it goes, its descendants cannot be continued, all else is there."""
    with_store(path, fill)
    text = b"answer n14 "
    harm(path, page_of(path, text) + 1)

    async def body(store: SqliteStore) -> None:
        assert store.healthy
        assert store.ready
        there = await kept(store)
        assert there >= set(range(TURNS)) - {13, 14, 15}
        assert len(there) >= TURNS - 1
        for number in (9, 12, 29, 59):
            assert len(await store.load_chain(f"resp_n{number}", "ann") or ()) == 3 * (number % 10 + 1)
            assert len(await store.read_events(f"resp_n{number}", -1)) == 3
            assert await store.find_upstream(f"resp_up{number}", "ann") == "openai"
            assert await find_item(store, f"msg_n{number}_in", "ann") is not None
        await works(store)

    with caplog.at_level(logging.ERROR, "relay.state"):
        with_store(path, body)
    assert f"{TURNS - 1} of {TURNS} responses were kept" in caplog.text
    assert len(asides(path)) == 1


@pytest.mark.parametrize("name", ["segments_parent", "items", "sqlite_autoindex_responses_1", "upstreams", "events"])
def test_a_page_that_can_be_made_again_costs_no_response(path: Path, name: str) -> None:
    with_store(path, fill)
    harm(path, root_of(path, name))

    async def body(store: SqliteStore) -> None:
        assert await kept(store) == set(range(TURNS))
        assert len(await store.load_chain("resp_n59", "ann") or ()) == 30
        assert await find_item(store, "msg_n30_out", "ann") is not None
        await works(store)

    with_store(path, body)


@pytest.mark.parametrize("name", ["segments", "responses", "logs", "sqlite_schema"])
@pytest.mark.parametrize("log", [False, True], ids=["in-the-file", "in-the-log"])
def test_the_root_of_a_table_costs_no_response(path: Path, name: str, log: bool) -> None:
    """The rows are in pages further down, which nothing leads to any more; and in a log, which a crash left."""

    async def crash(store: SqliteStore) -> None:
        await fill(store)
        await store.delete("resp_nobody", "ann")
        await store.commit(*turn("late", TEXT), "ann", parent="resp_n59")
        for suffix in ("", "-wal"):
            shutil.copy(schema.beside(path, suffix), path.parent / f"copy{suffix}")

    with_store(path, crash if log else fill)
    target = path.parent / "copy" if log else path
    harm(target, 0 if name == "sqlite_schema" else root_of(path, name))

    async def body(store: SqliteStore) -> None:
        await until(lambda: store.healthy)
        assert await kept(store) == set(range(TURNS))
        assert len(await store.load_chain("resp_n59", "ann") or ()) == 30
        assert await find_item(store, "msg_n30_out", "ann") is not None
        assert await store.find_upstream("resp_up3", "ann") == "openai"
        if name != "logs":
            assert len(await store.read_events("resp_n59", -1)) == 3
        if log:
            assert len(await store.load_chain("resp_late", "ann") or ()) == 33
        await works(store)

    with_store(target, body)


def test_rows_that_were_written_before_a_column_was_added_are_found_too(path: Path) -> None:
    """SQLite leaves them as they are: they end before it."""
    with_store(path, fill)
    later = (*schema.STEPS, "ALTER TABLE logs ADD COLUMN kind INTEGER NOT NULL DEFAULT 7")
    with_store(path, one_turn, steps=later)
    harm(path, 0)

    async def body(store: SqliteStore) -> None:
        for number in range(TURNS):
            assert len(await store.read_events(f"resp_n{number}", -1)) == 3

    with_store(path, body, steps=later)


@pytest.mark.parametrize("seen_by", ["reader", "writer"])
def test_damage_met_in_use_is_said_and_got_over(
    path: Path, seen_by: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "CHECK_LIMIT_BYTES", 0)  # a file that is too large to be read through at start
    monkeypatch.setattr(sqlite, "PROBE_PERIOD_S", 0.0)
    with_store(path, fill)
    page = page_of(path, b"answer n14 ") + 1 if seen_by == "reader" else root_of(path, "sqlite_autoindex_responses_1")
    harm(path, page)

    async def body(store: SqliteStore) -> None:
        if seen_by == "reader":
            await store.commit(*turn("before"), "ann")
        begun, go_on = threading.Event(), threading.Event()
        real = store.writer._step

        def step() -> None:
            begun.set()
            go_on.wait(10)
            real()

        monkeypatch.setattr(store.writer, "_step", step)
        meets = store.get("resp_n14", "ann") if seen_by == "reader" else store.commit(*turn("during"), "ann")
        with pytest.raises(StoreError, match="damaged"):
            await meets
        assert not store.healthy
        assert not store.ready
        await until(begun.is_set)
        for refused in (store.get("resp_n1", "ann"), store.commit(*turn("refused"), "ann")):
            with pytest.raises(StoreError) as caught:  # at once: the writer's thread is held
                await refused
            assert (caught.value.status, caught.value.code) == (503, "store_unavailable")
        go_on.set()
        await until(lambda: store.healthy and store.ready)
        assert len(await kept(store)) >= TURNS - 1
        assert await store.get("resp_refused", "ann") is None
        if seen_by == "reader":
            assert await store.get("resp_before", "ann") is not None
        await works(store)

    with caplog.at_level(logging.ERROR, "relay.state"):
        with_store(path, body)
    assert [record.getMessage().count("is bad") for record in caplog.records].count(1) == 1


def test_a_value_that_is_no_json_is_damage(path: Path) -> None:
    """A page in the middle of a long value: SQLite cannot tell it from the value."""
    with_store(path, fill)
    with path.open("r+b") as file:
        data = path.read_bytes()
        file.seek(data.index(b"x" * 2_000, data.index(b"answer n14 ")) + 1_000)
        file.write(b'"}' * 100)

    async def body(store: SqliteStore) -> None:
        with pytest.raises(StoreError, match="damaged"):
            await store.get("resp_n14", "ann")
        await until(lambda: store.writer.fault is None)
        assert await kept(store) == set(range(TURNS)) - {14}

    with_store(path, body)


def test_tables_that_nobody_knows_by_name_are_kept_too(path: Path) -> None:
    steps = (
        *schema.STEPS,
        "CREATE TABLE kept_there (id TEXT, owner TEXT, at REAL, PRIMARY KEY (id, owner)) WITHOUT ROWID;"
        "CREATE TABLE notes (note TEXT NOT NULL)",
    )

    async def more(store: SqliteStore) -> None:
        await fill(store)

        def insert(connection: sqlite3.Connection) -> None:
            connection.executemany("INSERT INTO kept_there VALUES (?, 'ann', 1.5)", [(f"c{n}",) for n in range(3_000)])
            connection.executemany("INSERT INTO notes VALUES (?)", [(f"note {n}",) for n in range(200)])

        await store.writer.write(insert)

    with_store(path, more, steps=steps)
    harm(path, page_of(path, b"answer n14 ") + 1)

    async def body(store: SqliteStore) -> None:
        def count(connection: sqlite3.Connection) -> list[int]:
            return [
                connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in ("kept_there", "notes")
            ]

        assert await store.writer.write(count) == [3_000, 200]
        assert len(await kept(store)) == TURNS - 1

    with_store(path, body, steps=steps)


def test_a_repair_that_was_cut_short_goes_on_at_the_next_start(path: Path) -> None:
    with_store(path, fill)
    harm(path, page_of(path, b"answer n14 ") + 1)
    work = repair(path, schema.STEPS, "a test", schema.files_of(path).database)
    for _ in range(4):
        next(work)
    work.close()  # as a crash does
    assert not path.exists()

    async def body(store: SqliteStore) -> None:
        assert len(await kept(store)) == TURNS - 1
        await works(store)

    with_store(path, body)
    assert len(asides(path)) == 1


# -- files that are taken away ------------------------------------------------------------------------------------


def delete_log(path: Path) -> None:
    schema.beside(path, "-wal").unlink()


def replace_log(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"\0" * 5_000)
    other.replace(schema.beside(path, "-wal"))


def delete_index(path: Path) -> None:
    schema.beside(path, "-shm").unlink()


def delete_file(path: Path) -> None:
    path.unlink()


def delete_all(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        schema.beside(path, suffix).unlink()


def rename_file(path: Path) -> None:
    path.rename(path.with_name("elsewhere.db"))


TAKEN = pytest.mark.parametrize(
    "take", [delete_log, replace_log, delete_index, delete_file, delete_all, rename_file], ids=lambda one: one.__name__
)


@TAKEN
@pytest.mark.parametrize("moment", ["before", "within"])
def test_a_commit_is_acknowledged_only_in_the_file_that_is_there(
    path: Path, take: Callable[[Path], None], moment: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What was answered before, then, and after is there for whoever opens the file afresh."""

    async def body(store: SqliteStore) -> None:
        await fill(store)
        if moment == "before":
            take(path)
            await store.commit(*turn("then"), "ann")
        else:
            once = iter([take])

            def harm_within(connection: sqlite3.Connection) -> None:
                for harm in once:  # what is done again finds the new file
                    harm(path)

            await asyncio.gather(store.commit(*turn("then"), "ann"), store.writer.write(harm_within))
        await store.commit(*turn("after"), "ann", parent="resp_then")
        assert await kept(store) == set(range(TURNS))
        for suffix in ("", "-wal", "-shm"):  # as kill -9 leaves it
            shutil.copy(schema.beside(path, suffix), path.parent / f"copy{suffix}")

    with caplog.at_level(logging.WARNING, "relay.state"):
        with_store(path, body)
    assert "while it was open" in caplog.text

    async def afresh(store: SqliteStore) -> None:
        assert await kept(store) == set(range(TURNS))
        assert len(await store.load_chain("resp_after", "ann") or ()) == 6

    with_store(path.parent / "copy", afresh)


def test_another_file_in_its_place_gets_what_is_committed_from_then_on(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A backup that was moved into the place of the file is what the operator wants; the group at hand goes into it."""
    with_store(path, one_turn)
    backup = path.with_name("backup.db")
    shutil.copy(path, backup)

    async def body(store: SqliteStore) -> None:
        await fill(store)

        def swap(connection: sqlite3.Connection) -> None:
            if backup.exists():
                backup.replace(path)
                schema.beside(path, "-wal").unlink()
                schema.beside(path, "-shm").unlink()

        await asyncio.gather(store.writer.write(swap), store.commit(*turn("then"), "ann"))
        assert await store.get("resp_then", "ann") is not None
        assert await store.get("resp_a", "ann") is not None
        assert await kept(store) == set()

    with caplog.at_level(logging.WARNING, "relay.state"):
        with_store(path, body)
    assert "another file has come into the place" in caplog.text


@pytest.mark.parametrize("emptied", [False, True], ids=["under-its-log", "without-a-log"])
def test_a_backup_that_is_copied_over_the_file_is_noticed_before_the_next_answer(
    path: Path, emptied: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same inode, other contents: nothing that SQLite looks at says so."""
    monkeypatch.setattr(writer, "CHECKPOINT_BYTES", 1 << 30)

    async def body(store: SqliteStore) -> None:
        await one_turn(store)
        await store.delete("resp_nobody", "ann")  # empties the log: the file holds it all
        backup = path.with_name("backup")
        shutil.copy(path, backup)
        await fill(store)
        if emptied:
            await store.delete("resp_nobody", "ann")
        before = schema.files_of(path)
        shutil.copyfile(backup, path)
        assert schema.files_of(path) == before
        for number in range(20):
            await store.commit(*turn(f"then{number}", TEXT), "ann", parent=f"resp_then{number - 1}" if number else None)
        if not emptied:
            assert await kept(store) == set(range(TURNS))  # its log had it
        for suffix in ("", "-wal", "-shm"):
            shutil.copy(schema.beside(path, suffix), path.parent / f"copy{suffix}")

    with caplog.at_level(logging.ERROR, "relay.state"):
        with_store(path, body)
    assert "somebody else wrote into it" in caplog.text

    async def afresh(store: SqliteStore) -> None:
        assert await store.get("resp_a", "ann") is not None
        for number in range(20):
            assert len(await store.load_chain(f"resp_then{number}", "ann") or ()) == 3 * (number + 1)

    with_store(path.parent / "copy", afresh)


def test_a_log_that_is_cut_off_is_noticed_before_the_next_answer(path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        await one_turn(store)
        await store.delete("resp_nobody", "ann")
        await store.commit(*turn("b"), "ann")
        os.truncate(schema.beside(path, "-wal"), 0)
        for number in range(20):
            await store.commit(*turn(f"then{number}", TEXT), "ann")
        for suffix in ("", "-wal", "-shm"):
            shutil.copy(schema.beside(path, suffix), path.parent / f"copy{suffix}")

    with_store(path, body)

    async def afresh(store: SqliteStore) -> None:
        assert await store.get("resp_a", "ann") is not None
        for number in range(20):
            assert await store.get(f"resp_then{number}", "ann") is not None

    with_store(path.parent / "copy", afresh)


def test_checkpoints_of_other_processes_are_not_taken_for_somebody_elses(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(writer, "CHECKPOINT_BYTES", 1)

    async def body(store: SqliteStore) -> None:
        second, third = SqliteStore(path), SqliteStore(path)
        for number in range(30):
            await asyncio.gather(
                *(one.commit(*turn(f"{name}{number}", TEXT), "ann") for one, name in ((store, "a"), (second, "b")))
            )
            if not number % 10:
                await third.delete(f"resp_a{number}", "ann")
        await asyncio.gather(second.close(), third.close())
        await store.commit(*turn("last"), "ann")

    with_store(path, body)
    assert caplog.records == []
    assert asides(path) == []


def test_who_closes_last_does_not_delete_the_log_of_the_new_file(path: Path) -> None:
    """SQLite deletes the log by its name, and the name is the new file's by then."""

    async def body(store: SqliteStore) -> None:
        second = SqliteStore(path)
        await store.commit(*turn("a"), "ann")
        await second.commit(*turn("b"), "ann")
        delete_all(path)
        await store.commit(*turn("c"), "ann")
        log = schema.files_of(path).log
        await second.commit(*turn("d"), "ann")  # lets go of the former file
        await second.close()
        assert schema.files_of(path).log == log
        await store.commit(*turn("e"), "ann")
        for suffix in ("", "-wal", "-shm"):
            shutil.copy(schema.beside(path, suffix), path.parent / f"copy{suffix}")

    with_store(path, body)

    async def afresh(store: SqliteStore) -> None:
        for name in "abcde":
            assert await store.get(f"resp_{name}", "ann") is not None, name

    with_store(path.parent / "copy", afresh)


_WORKER = """
import asyncio, os, sys
from pathlib import Path
from relay.state import sqlite
from relay.state.store import StoreError
from tests.state.engines import turn

async def main():
    store = sqlite.SqliteStore(Path(sys.argv[1]))
    count = 0
    while True:
        name = f"{sys.argv[2]}.{count}"
        count += 1
        try:
            await store.commit(*turn(name, "y" * 3000), "ann")
            if count % 5 == 0:
                await store.get("resp_n14", "ann")
        except StoreError:
            store.healthy
            await asyncio.sleep(0.01)
            continue
        os.write(1, f"{name}\\n".encode())

asyncio.run(main())
"""


def harm_a_row(path: Path) -> None:
    harm(path, page_of(path, b"answer n14 ") + 1)


def copy_over(path: Path) -> None:
    shutil.copyfile(path.with_name("backup"), path)


@pytest.mark.parametrize(
    "take", [delete_log, delete_file, delete_all, harm_a_row, copy_over], ids=lambda one: one.__name__
)
def test_four_workers_lose_nothing_that_they_answered(path: Path, take: Callable[[Path], None]) -> None:
    """The files are taken away under load, then every process is killed: what any of them answered is there."""
    with_store(path, fill)
    shutil.copyfile(path, path.with_name("backup"))
    workers = [
        subprocess.Popen([sys.executable, "-c", _WORKER, str(path), f"w{number}"], stdout=subprocess.PIPE, text=True)
        for number in range(4)
    ]
    answered: list[list[str]] = [[] for _ in workers]
    before: list[int] = []
    try:

        async def main() -> None:
            async def listen(number: int) -> None:
                pipe = workers[number].stdout
                assert pipe is not None
                while line := await asyncio.to_thread(pipe.readline):
                    answered[number].append(line.strip())

            tasks = [asyncio.ensure_future(listen(number)) for number in range(4)]
            await until(lambda: all(len(one) >= 20 for one in answered), 20)
            take(path)
            before.extend(len(one) for one in answered)
            await until(lambda: all(len(one) >= count + 30 for one, count in zip(answered, before, strict=True)), 30)
            for worker in workers:
                os.kill(worker.pid, signal.SIGKILL)
            await asyncio.gather(*tasks)

        run(main(), 60)
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()

    async def check(store: SqliteStore) -> None:
        names = [one[count + 1 if take is copy_over else 0 :] for one, count in zip(answered, before, strict=True)]
        lost = [name for one in names for name in one if await store.get(f"resp_{name}", "ann") is None]
        assert lost == []
        assert len(await kept(store)) >= TURNS - 1
        assert len(asides(path)) == (take not in (delete_file, delete_all))

    with_store(path, check)


# -- a newer relay ------------------------------------------------------------------------------------------------


def test_a_newer_schema_met_in_use_is_refused_at_once(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sqlite, "PROBE_PERIOD_S", 0.0)
    newer = (*schema.STEPS, "CREATE TABLE future (x)")

    async def body(store: SqliteStore) -> None:
        await one_turn(store)
        assert store.ready
        second = SqliteStore(path, steps=newer)
        await second.commit(*turn("b"), "ann")
        for _ in range(2):
            for refused in (store.get("resp_a", "ann"), store.commit(*turn("c"), "ann"), store.delete("resp_a", "ann")):
                with pytest.raises(StoreError, match="newer relay") as caught:
                    await refused
                assert (caught.value.status, caught.value.code) == (503, "store_unavailable")
            assert not store.ready
            assert not store.healthy
        assert await second.get("resp_a", "ann") is not None
        await second.close()

    with_store(path, body)
    assert [record.exc_info for record in caplog.records] == [None] * len(caplog.records)
    assert len([record for record in caplog.records if "newer relay" in record.getMessage()]) == 1


def test_an_idle_store_notices_when_it_is_asked_whether_it_is_ready(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "PROBE_PERIOD_S", 0.0)

    async def body(store: SqliteStore) -> None:
        await one_turn(store)
        second = SqliteStore(path, steps=(*schema.STEPS, "CREATE TABLE future (x)"))
        await second.close()
        await until(lambda: not store.ready)

    with_store(path, body)


# -- waits for locks ----------------------------------------------------------------------------------------------


def hold(lock: Path) -> subprocess.Popen[str]:
    """A process that keeps a lock until a line comes."""
    keep = "import fcntl, sys; lock = open(sys.argv[1]); fcntl.flock(lock, 2); print(1, flush=True); input()"
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", keep, str(lock)], stdin=pipe, stdout=pipe, text=True)


def test_a_turn_that_another_process_keeps_is_not_waited_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "LIMIT_S", 0.2)
    monkeypatch.setattr(sqlite, "PROBE_PERIOD_S", 0.0)

    async def body(store: SqliteStore) -> None:
        await one_turn(store)
        holder = hold(schema.beside(path, ".writing"))
        try:
            assert holder.stdout is not None
            await asyncio.to_thread(holder.stdout.readline)
            with pytest.raises(StoreError):
                await store.commit(*turn("b"), "ann")
            await until(lambda: store.writer._queue.empty())  # the thread does not wait any more than its caller
            with pytest.raises(StoreError):
                await store.commit(*turn("c"), "ann")
        finally:
            holder.communicate("\n")
        await until(lambda: store.healthy)
        await store.commit(*turn("d"), "ann")
        assert await store.get("resp_b", "ann") is None

    with_store(path, body)
