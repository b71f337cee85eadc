"""A store that cannot write, or not now: it is said within a limit, and got over. Source: decisions 40 and 41."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest

from relay.state import rows, schema, sqlite, writer
from relay.state.sqlite import SqliteStore
from relay.state.store import StoreError
from tests.state.engines import one_turn, turn, with_store
from tests.support import until


def test_a_full_disk_is_said_and_got_over(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "PROBE_PERIOD_S", 0.0)

    async def body(store: SqliteStore) -> None:
        def limit(connection: sqlite3.Connection) -> None:
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count = {pages + 4}")

        await one_turn(store)
        await store.writer.write(limit)
        with pytest.raises(StoreError, match="full") as caught:
            await store.commit(*turn("b", "x" * 100_000), "ann")
        assert (caught.value.status, caught.value.code) == (503, "store_unavailable")
        assert not store.healthy
        assert await store.get("resp_a", "ann") is not None  # reading goes on
        await until(lambda: store.healthy)  # the probe opens the file again, without the limit
        await store.commit(*turn("b", "x" * 100_000), "ann")

    with_store(path, body)


_LIMITED = """
import asyncio, resource, sys
from pathlib import Path
from relay.state import sqlite
from relay.state.store import StoreError
from tests.state.engines import turn
from tests.support import until

sqlite.PROBE_PERIOD_S = 0.0

async def main():
    store = sqlite.SqliteStore(Path(sys.argv[1]))
    await store.commit(*turn("a"), "ann")
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    try:
        await store.commit(*turn("b", "x" * 1_000_000), "ann")
        raise SystemExit("committed beyond the limit")
    except StoreError as error:
        assert error.status == 503, error
    assert not store.healthy
    assert await store.get("resp_b", "ann") is None
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    await until(lambda: store.healthy)
    await store.commit(*turn("b", "x" * 1_000_000), "ann")
    assert len(await store.load_chain("resp_b", "ann")) == 3
    assert len(await store.load_chain("resp_a", "ann")) == 3
    await store.close()

asyncio.run(main())
"""


def test_a_write_that_the_system_refuses_is_got_over(path: Path) -> None:
    """The kernel refuses to extend a file (RLIMIT_FSIZE): a real write that fails, in a process of its own."""
    result = subprocess.run([sys.executable, "-c", _LIMITED, str(path)], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr


_READ_ONLY = """
import asyncio, os, sys
from pathlib import Path
from relay.state import sqlite
from relay.state.store import StoreError
from tests.state.engines import turn
from tests.support import until

if os.geteuid() == 0:  # file modes do not stop root
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
sqlite.PROBE_PERIOD_S = 0.0

async def main():
    store = sqlite.SqliteStore(Path(sys.argv[1]))  # starts all the same
    assert not store.healthy
    try:
        await store.commit(*turn("b"), "ann")
        raise SystemExit("committed where nothing can be written")
    except StoreError as error:
        assert error.status == 503, error
    assert not store.healthy
    print("refused", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    await until(lambda: store.healthy)
    await store.commit(*turn("b"), "ann")
    assert len(await store.load_chain("resp_b", "ann")) == 3
    await store.close()

asyncio.run(main())
"""


@pytest.mark.parametrize("there_before", [True, False])
def test_a_read_only_place_is_said_and_got_over(there_before: bool) -> None:
    """In a process of its own that may not write there; not under pytest's folder, which only its owner may enter."""
    place = Path(tempfile.mkdtemp(prefix="relay-store-"))
    folder = place / "data"
    path = folder / "relay.db"
    if there_before:
        with_store(path, one_turn)
    else:
        folder.mkdir()
    files = list(folder.iterdir())
    for file in files:
        file.chmod(0o444)
    folder.chmod(0o555)
    place.chmod(0o755)
    process = subprocess.Popen(
        [sys.executable, "-c", _READ_ONLY, str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        folder.chmod(0o777)
        for file in files:
            file.chmod(0o666)
        _, errors = process.communicate("go on\n", timeout=30)
        assert (first, process.returncode) == ("refused\n", 0), errors
    finally:
        process.kill()
        process.communicate()
        shutil.rmtree(place)


def test_a_commit_that_takes_too_long_fails_and_is_not_there_later(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "LIMIT_S", 0.05)

    async def body(store: SqliteStore) -> None:
        stuck, release = threading.Event(), threading.Event()

        def slow(connection: sqlite3.Connection) -> None:
            stuck.set()
            release.wait(10)

        slow_write = asyncio.ensure_future(store.writer.write(slow))
        await until(stuck.is_set)
        with pytest.raises(StoreError, match="too slow"):  # queued behind it
            await store.commit(*turn("queued"), "ann")
        assert not store.healthy
        with pytest.raises(StoreError):
            await slow_write
        release.set()
        await until(lambda: store.healthy)
        assert await store.get("resp_queued", "ann") is None

        # begun but not committed in time: it lands, and is taken back
        real, stuck, release = rows.put_response, threading.Event(), threading.Event()

        def slow_put(*arguments: Any) -> bool:
            stuck.set()
            release.wait(10)
            return real(*arguments)

        monkeypatch.setattr(rows, "put_response", slow_put)
        late = asyncio.ensure_future(store.commit(*turn("late"), "ann"))
        await until(stuck.is_set)
        with pytest.raises(StoreError, match="too slow"):
            await late
        release.set()
        jobs = store.writer.jobs
        await until(lambda: store.writer.jobs >= jobs + 2)
        assert await store.get("resp_late", "ann") is None

    with_store(path, body)


def test_a_lock_that_is_never_given_back_is_not_waited_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "LIMIT_S", 0.05)
    monkeypatch.setattr(sqlite, "PROBE_PERIOD_S", 0.0)

    async def body(store: SqliteStore) -> None:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked"):
            await store.commit(*turn("a"), "ann")
        assert not store.healthy
        other.execute("ROLLBACK")
        other.close()
        await until(lambda: store.healthy)
        await store.commit(*turn("a"), "ann")

    with_store(path, body)


def test_a_commit_goes_on_when_nobody_waits_for_it_any_more(path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        tasks = [asyncio.ensure_future(store.commit(*turn(f"n{number}"), "ann")) for number in range(20)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        assert all(
            isinstance(end, asyncio.CancelledError) for end in await asyncio.gather(*tasks, return_exceptions=True)
        )
        await store.commit(*turn("last"), "ann")
        for number in range(20):
            assert await store.get(f"resp_n{number}", "ann") is not None

    with_store(path, body)


def test_closing_finishes_what_is_queued(path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        commits = [asyncio.ensure_future(store.commit(*turn(f"n{number}"), "ann")) for number in range(100)]
        await asyncio.sleep(0)
        await store.close()
        await asyncio.gather(*commits)

    with_store(path, body)
    assert not schema.beside(path, "-wal").exists()

    async def there(store: SqliteStore) -> None:
        for number in range(100):
            assert await store.get(f"resp_n{number}", "ann") is not None

    with_store(path, there)


def test_what_waits_is_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "QUEUE_LIMIT", 10)

    async def body(store: SqliteStore) -> None:
        stuck, release = threading.Event(), threading.Event()

        def slow(connection: sqlite3.Connection) -> None:
            stuck.set()
            release.wait(10)

        first = asyncio.ensure_future(store.writer.write(slow))
        await until(stuck.is_set)
        commits = [asyncio.ensure_future(store.commit(*turn(f"n{number}"), "ann")) for number in range(15)]
        await asyncio.sleep(0)
        release.set()
        ends = await asyncio.gather(*commits, return_exceptions=True)
        await first
        assert [type(end).__name__ for end in ends] == ["NoneType"] * 10 + ["StoreError"] * 5

    with_store(path, body)
