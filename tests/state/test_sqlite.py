"""What only the embedded engine promises: its file, its cost, what deletion leaves. Source: decisions 40 and 42."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from relay.errors import RelayError
from relay.state import default_path, open_store, rows, schema, writer
from relay.state.memory import MemoryStore
from relay.state.record import record
from relay.state.sqlite import SqliteStore
from relay.state.store import Objects, StoreUnusable
from tests.state.engines import Clock, one_turn, size_of, turn, with_store
from tests.support import run, until


def bytes_of(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in path.parent.iterdir() if file.name.startswith(path.name))


# -- the file -----------------------------------------------------------------------------------------------------


def test_only_its_user_can_read_the_file(path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        await one_turn(store)
        for file in path.parent.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file

    previous = os.umask(0)
    try:
        with_store(path, body)
    finally:
        os.umask(previous)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_default_file_is_in_the_users_data_directory() -> None:
    assert default_path({"XDG_DATA_HOME": "/data", "HOME": "/home/ann"}) == Path("/data/relay/relay.db")
    if sys.platform == "linux":
        for environ in ({"HOME": "/home/ann"}, {"HOME": "/home/ann", "XDG_DATA_HOME": "relative"}):
            assert default_path(environ) == Path("/home/ann/.local/share/relay/relay.db")


def test_open_store_knows_its_kinds(path: Path) -> None:
    assert isinstance(open_store("memory"), MemoryStore)
    with pytest.raises(StoreUnusable, match="memory"):
        open_store("memory", workers=2)
    with pytest.raises(StoreUnusable, match="redis"):
        open_store("redis")

    async def main() -> None:
        store = open_store("sqlite", str(path), workers=4)
        await store.commit(*turn("a"), "ann")
        await store.close()

    run(main())
    assert path.exists()


def test_durability_is_what_was_decided(path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        def pragmas(connection: sqlite3.Connection) -> list[Any]:
            names = ("journal_mode", "synchronous", "secure_delete", "auto_vacuum")
            return [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

        assert await store.writer.write(pragmas) == ["wal", 2, 1, 2]  # FULL, ON, INCREMENTAL

    with_store(path, body)


def test_every_process_sees_what_another_committed(path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        second = SqliteStore(path)
        for number in range(30):
            one, other = (store, second) if number % 2 else (second, store)
            await one.commit(*turn(f"n{number}"), "ann", parent=f"resp_n{number - 1}" if number else None)
            assert len(await other.load_chain(f"resp_n{number}", "ann") or ()) == 3 * (number + 1)
        await second.close()

    with_store(path, body)


# -- cost ---------------------------------------------------------------------------------------------------------


def test_a_chain_costs_what_its_items_cost(tmp_path: Path) -> None:
    """Instructions of SQLite's machine, statements, pages: counts, so that a busy machine changes nothing."""

    def cost(turns: int) -> tuple[int, int, int, int]:
        path = tmp_path / f"{turns}.db"
        connection = schema.open_writer(path)
        ticks = 0

        def tick() -> int:
            nonlocal ticks
            ticks += 1
            return 0

        connection.set_progress_handler(tick, 10)
        connection.execute("BEGIN IMMEDIATE")
        for number in range(turns):
            parent = f"resp_n{number - 1:05}" if number else None
            response, items = turn(f"n{number:05}", "x" * 700)
            rows.put_response(
                connection, record(response, items, "ann", parent=parent, extra=None, created_at=1_700_000_000)
            )
        connection.execute("COMMIT")
        writing, ticks = ticks, 0
        statements: list[str] = []
        connection.set_trace_callback(statements.append)
        items = rows.read_chain(connection, f"resp_n{turns - 1:05}", "ann", 0, own_output=True) or []
        connection.set_trace_callback(None)
        assert len(items) == 3 * turns
        reading, pages = ticks, connection.execute("PRAGMA page_count").fetchone()[0]
        connection.close()
        return writing, reading, len(statements), pages

    small, large = cost(1_000), cost(2_000)
    for name, one, two in zip(("writing", "reading", "statements", "pages"), small, large, strict=True):
        assert 1.8 <= two / one <= 2.3, (name, one, two)
    # 1,000 turns hold 1.8 MB of JSON (two texts of 700 bytes and what is around them)
    assert small[3] * 4096 < 1_000 * 3_300


def test_a_group_is_what_queued_during_the_last_commit(path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        await asyncio.gather(*(store.commit(*turn(f"n{number}"), "ann") for number in range(200)))
        assert store.writer.jobs == 200
        assert store.writer.groups < 20

    with_store(path, body)


def test_one_refused_commit_leaves_its_group_alone(path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        await store.commit(*turn("theirs"), "bob")
        results = await asyncio.gather(
            store.commit(*turn("a"), "ann"),
            store.commit(*turn("theirs"), "ann"),
            store.append_events("resp_a", 2**70, [b"no such number"]),
            store.commit(*turn("b"), "ann"),
            return_exceptions=True,
        )
        assert [type(result).__name__ for result in results] == ["NoneType", "RelayError", "OverflowError", "NoneType"]
        assert store.healthy
        assert await store.get("resp_a", "ann") is not None
        assert await store.get("resp_b", "ann") is not None

    with_store(path, body)


def test_what_a_refused_write_did_is_undone(path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        def half(connection: sqlite3.Connection) -> None:
            rows.put_upstream(connection, Objects("openai"), "ann", store._now(), "resp_half")
            raise RelayError("conflict", "no")

        with pytest.raises(RelayError, match="no"):
            await store.writer.write(half)
        assert await store.find_upstream("resp_half", "ann") is None

    with_store(path, body)


def test_ownership_is_asked_at_every_hop(path: Path) -> None:
    """A file in which a turn of bob's continues one of ann's, which no commit makes."""

    async def body(store: SqliteStore) -> None:
        await store.commit(*turn("a"), "ann")
        await store.commit(*turn("b"), "bob")
        await store.commit(*turn("c"), "bob", parent="resp_b")
        await store.writer.write(lambda connection: connection.execute("UPDATE segments SET parent = 1 WHERE seq = 2"))
        assert await store.load_chain("resp_c", "bob") is None
        assert await store.input_items("resp_b", "bob") is None
        assert await store.get("resp_c", "bob") is not None

    with_store(path, body)


def test_the_file_shrinks_when_much_was_let_go(path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        for number in range(60):
            await store.commit(*turn(f"n{number}", "x" * 100_000), "ann")
        for number in range(60):
            await store.delete(f"resp_n{number}", "ann")
        await store.commit(*turn("last"), "ann")
        await until(lambda: size_of(path) < 6 << 20)

    with_store(path, body, max_bytes=20 << 20)


def test_the_log_does_not_grow_with_the_commits(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "CHECKPOINT_BYTES", 1 << 20)

    async def body(store: SqliteStore) -> None:
        for number in range(300):
            await store.commit(*turn(f"n{number}", "x" * 20_000), "ann")
        assert size_of(path) > 8 << 20
        assert size_of(schema.beside(path, "-wal")) < 4 << 20

    with_store(path, body)


# -- deletion -----------------------------------------------------------------------------------------------------


def test_deleted_bytes_are_in_no_file(path: Path) -> None:
    canary = b"CANARY-7f3a"

    async def body(store: SqliteStore) -> None:
        text = canary.decode()
        await store.commit(*turn("before"), "ann")
        await store.commit(*turn("a", text), "ann", parent="resp_before")
        long, items = turn("long", f"{text} " * 5_000)
        long["instructions"] = text
        await store.commit(long, items, "ann", parent="resp_a")
        await store.append_events("resp_long", 0, [canary] * 3)
        await store.commit(*turn("after"), "ann", parent="resp_long")
        assert canary in bytes_of(path)
        assert await store.delete("resp_long", "ann")
        assert await store.delete("resp_a", "ann")
        await until(lambda: canary not in bytes_of(path))  # at once, unless a reader was there
        assert await store.get("resp_before", "ann") is not None

    with_store(path, body)
    assert canary not in bytes_of(path)


def test_deleted_bytes_go_once_another_process_stops_reading(path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        await store.commit(*turn("a", "CANARY"), "ann")
        reader = schema.open_reader(path)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM responses").fetchone()
        assert await store.delete("resp_a", "ann")  # does not wait for the reader
        assert b"CANARY" in bytes_of(path)
        reader.execute("COMMIT")
        await until(lambda: b"CANARY" not in bytes_of(path))
        reader.close()

    with_store(path, body)


def test_expired_ancestors_go_with_the_deletion_of_who_needed_them(path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        clock = store._now
        assert isinstance(clock, Clock)
        await store.commit(*turn("a", "CANARY"), "ann")
        clock.time_s += 9 * 86_400
        await store.commit(*turn("b"), "ann", parent="resp_a")
        clock.time_s += 2 * 86_400
        store.writer.next_expiry = 0.0
        await store.commit(*turn("tick"), "ann")
        await until(lambda: not store.writer._backlog)
        assert b"CANARY" in bytes_of(path)
        assert await store.load_chain("resp_b", "ann") is not None
        await store.delete("resp_b", "ann")
        await until(lambda: b"CANARY" not in bytes_of(path))

    with_store(path, body, max_age_days=10, now=Clock())


def test_a_turn_of_very_many_items_is_kept_as_any_other(path: Path) -> None:
    """It is taken apart beside the loop (decision 61)."""

    async def body(store: SqliteStore) -> None:
        response, _ = turn("many")
        items = [{"type": "message", "id": f"msg_{n}", "role": "user", "content": []} for n in range(2_000)]
        await store.commit(response, items, "ann")
        assert await store.input_items(response["id"], "ann") == items
        assert await store.find_items({"msg_1999"}, "ann") == {"msg_1999": items[-1]}

    with_store(path, body)
