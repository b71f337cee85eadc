"""Files of other versions, of other programs, damaged or gone. Source: issue 4, State 2."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from relay.state import schema
from relay.state.sqlite import SqliteStore
from relay.state.store import Objects, StoreUnusable
from tests.state.engines import one_turn, size_of, turn, with_store


def test_an_older_file_is_upgraded_and_keeps_its_rows(path: Path) -> None:
    """A file of version 1 as the first release wrote it: its tables are spelled out here, not taken from the code."""
    path.parent.mkdir()
    old = sqlite3.connect(path)
    old.executescript(
        """
        CREATE TABLE segments (seq INTEGER PRIMARY KEY, parent INTEGER, owner TEXT NOT NULL, input BLOB NOT NULL,
          output BLOB NOT NULL);
        CREATE INDEX segments_parent ON segments (parent) WHERE parent IS NOT NULL;
        CREATE TABLE responses (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL,
          created_at INTEGER NOT NULL, running INTEGER NOT NULL, extra BLOB, body BLOB NOT NULL);
        CREATE TABLE items (id TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (id, seq)) WITHOUT ROWID;
        CREATE TABLE garbage (seq INTEGER PRIMARY KEY);
        CREATE TABLE upstreams (seq INTEGER PRIMARY KEY, id TEXT NOT NULL, owner TEXT NOT NULL, name TEXT NOT NULL,
          created_at INTEGER NOT NULL, UNIQUE (id, owner));
        CREATE TABLE logs (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, created_at INTEGER NOT NULL,
          following INTEGER NOT NULL);
        CREATE INDEX logs_created_at ON logs (created_at);
        CREATE TABLE events (place INTEGER PRIMARY KEY, blob BLOB NOT NULL);
        CREATE TABLE leases (key TEXT PRIMARY KEY, owner TEXT NOT NULL, until REAL NOT NULL) WITHOUT ROWID;
        CREATE TABLE probe (one INTEGER PRIMARY KEY, at REAL NOT NULL);
        INSERT INTO segments VALUES (1, NULL, 'ann', '[{"id":"msg_1"}]', '[{"id":"msg_2"}]');
        INSERT INTO responses VALUES (1, 'resp_old', 'ann', 1700000000, 0, NULL, '{"id":"resp_old","output":[]}');
        INSERT INTO items VALUES ('msg_1', 1), ('msg_2', 1);
        INSERT INTO upstreams VALUES (1, 'resp_up', 'ann', 'openai', 1700000000);
        PRAGMA application_id = 1919249529;
        PRAGMA user_version = 1;
        """
    )
    old.close()

    async def body(store: SqliteStore) -> None:
        kept = await store.get("resp_old", "ann")
        assert kept is not None
        assert kept.response == {"id": "resp_old", "output": [{"id": "msg_2"}]}
        await store.commit(*turn("new"), "ann", parent="resp_old")
        assert len(await store.load_chain("resp_new", "ann") or ()) == 5
        assert await store.find_upstream("resp_up", "ann") == "openai"
        assert await store.whose(["resp_up", "resp_old"], "bob") == {"resp_up": None, "resp_old": None}
        await store.remember_upstream(Objects("openai", ["cntr_1"]), "ann", "resp_up2")
        assert await store.whose(["cntr_1", "resp_up2"], "ann") == {"cntr_1": "openai", "resp_up2": "openai"}
        version = await store.writer.write(lambda connection: connection.execute("PRAGMA user_version").fetchone()[0])
        assert version == len(steps)

    steps = (*schema.STEPS, "ALTER TABLE responses ADD COLUMN mark TEXT;\nUPDATE responses SET mark = 'seen'")
    with_store(path, body, steps=steps, max_age_days=None)
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT mark FROM responses ORDER BY seq").fetchall() == [("seen",), (None,)]
    connection.close()


def test_a_step_that_fails_leaves_the_file_as_it_was(path: Path) -> None:
    with_store(path, one_turn)
    with_store(path, nothing, steps=(*schema.STEPS, "CREATE TABLE extra (x); INSERT INTO nowhere VALUES (1)"))
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone()[0] == len(schema.STEPS)
    assert connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'extra'").fetchone()[0] == 0
    connection.close()


async def nothing(store: SqliteStore) -> None:
    assert not store.healthy


def test_a_newer_file_is_refused_and_left_alone(path: Path) -> None:
    with_store(path, one_turn, steps=(*schema.STEPS, "CREATE TABLE future (x)"))
    before = path.read_bytes()
    with pytest.raises(StoreUnusable, match=r"schema version 3, this relay knows 2"):
        SqliteStore(path)
    assert path.read_bytes() == before


def test_another_programs_database_is_refused_and_left_alone(path: Path) -> None:
    path.parent.mkdir()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE places (url TEXT)")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreUnusable, match="another program"):
        SqliteStore(path)
    assert path.read_bytes() == before


def garbled(data: bytes) -> bytes:
    return b"this is not a database " * 400


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2 - 100]


def scribbled(data: bytes) -> bytes:
    return data[:4096] + b"\xa5" * (len(data) - 8192) + data[-4096:]


@pytest.mark.parametrize("harm", [garbled, cut, scribbled])
def test_a_damaged_file_is_set_aside(
    path: Path, harm: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    async def fill(store: SqliteStore) -> None:
        for number in range(40):
            await store.commit(*turn(f"n{number}", "x" * 3_000), "ann")

    with_store(path, fill)
    harmed = harm(path.read_bytes())
    path.write_bytes(harmed)

    async def body(store: SqliteStore) -> None:
        assert store.healthy
        await one_turn(store)
        assert await store.get("resp_a", "ann") is not None

    with caplog.at_level(logging.ERROR, "relay.state"):
        with_store(path, body)
    aside = [file for file in path.parent.iterdir() if ".damaged-" in file.name]
    assert [file.read_bytes() for file in aside] == [harmed]
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 3  # found, set aside, made anew: once each
    for words in (str(path), "damaged", aside[0].name, "a new one starts"):
        assert words in said[1]
    assert "responses were kept" in said[2]


def test_damage_found_in_use_is_survived_without_a_restart(path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        for number in range(40):
            await store.commit(*turn(f"n{number}", "x" * 3_000), "ann")
        await store.delete("resp_n0", "ann")  # empties the log: the pages are in the file now
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xa5" * (size_of(path) - 4096))
        fresh = SqliteStore(path)  # no page of it is cached; finds the damage when it opens
        assert fresh.healthy
        await fresh.commit(*turn("b"), "ann")
        # the store that had the old file open notices that the file is another one
        assert await store.get("resp_b", "ann") is not None
        await store.commit(*turn("c"), "ann", parent="resp_b")
        assert len(await fresh.load_chain("resp_c", "ann") or ()) == 6
        await fresh.close()

    with_store(path, body)


def test_a_mark_of_damage_is_heeded_at_the_next_opening(path: Path) -> None:
    with_store(path, one_turn)
    schema.mark_damaged(path)

    async def body(store: SqliteStore) -> None:
        assert await store.get("resp_a", "ann") is not None  # whatever it was, this row could be read

    with_store(path, body)
    with_store(path, one_turn)
    assert len([file for file in path.parent.iterdir() if ".damaged-" in file.name]) == 1


def test_a_file_that_was_removed_in_use_is_made_again(path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        await one_turn(store)
        assert await store.get("resp_a", "ann") is not None
        for file in list(path.parent.iterdir()):
            file.unlink()
        await store.commit(*turn("b"), "ann")
        assert await store.get("resp_b", "ann") is not None
        assert await store.get("resp_a", "ann") is not None  # it was still open
        assert size_of(path)

    with_store(path, body)
