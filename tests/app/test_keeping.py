"""When a response is kept, and what happens where it cannot be (decisions 39 to 41)."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from relay.state import open_store
from relay.state.memory import MemoryStore
from relay.state.store import StoreError
from tests.app.asking import Asker
from tests.app.sockets import connected
from tests.app.support import Relay, post, relaying
from tests.server.support import Client
from tests.support import run, until

EVERY = pytest.mark.parametrize("server", ["ours", "uvicorn"])


class FaultyStore(MemoryStore):
    """A store whose writes and reads do what the test says; ``commits`` are the ids that were asked to be kept."""

    def __init__(self) -> None:
        super().__init__()
        self.fault: StoreError | None = None
        self.read_fault: StoreError | None = None
        self.gate: asyncio.Event | None = None
        self.known_bad = False
        self.commits: list[str] = []
        self.reads = 0

    @property
    def healthy(self) -> bool:
        return not self.known_bad

    async def commit(self, response: Any, *arguments: Any, **options: Any) -> None:
        self.commits.append(response["id"])
        if self.gate is not None:
            await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        await super().commit(response, *arguments, **options)

    async def get(self, *arguments: Any) -> Any:
        self.reads += 1
        if self.read_fault is not None:
            raise self.read_fault
        return await super().get(*arguments)


def full() -> StoreError:
    return StoreError("The disk of the response store is full.", detail=os.strerror(errno.ENOSPC))


def keeping(body: Callable[[Asker, Relay, FaultyStore], Awaitable[None]], server: str = "ours", **options: Any) -> None:
    async def served() -> None:
        store = FaultyStore()
        async with relaying(foreign=server == "uvicorn", store=store, **options) as relay:
            await body(Asker(relay), relay, store)

    run(served())


# ------------------------------------------------------------------------------------------------ timing


async def lines(client: Client) -> list[bytes]:
    """The lines that have come so far."""
    found = []
    try:
        async with asyncio.timeout(0.05):
            while line := await client.reader.readline():
                found.append(line)
    except TimeoutError:
        pass
    return found


@EVERY
def test_the_terminal_event_waits_for_the_commit_and_nothing_else_does(server: str) -> None:
    async def talk(me: Asker, relay: Relay, store: FaultyStore) -> None:
        store.gate = asyncio.Event()
        client = await Client.connect(relay.port)
        client.write(post({"model": "demo", "input": "One two three.", "stream": True}))
        text = b""
        while b"response.output_item.done" not in text:
            text += await client.reader.readline()
        await until(lambda: store.commits)
        rest = b"".join(await lines(client))
        assert b"event: response.completed" not in text + rest
        assert b"event: response.content_part.done" in text
        store.gate.set()
        while b"[DONE]" not in rest:
            rest += await client.reader.readline()
        assert rest.count(b"event: response.completed") == 1
        client.reset()

    keeping(talk, server)


@EVERY
def test_a_json_answer_and_a_socket_wait_too(server: str) -> None:
    async def talk(me: Asker, relay: Relay, store: FaultyStore) -> None:
        store.gate = asyncio.Event()
        asked = asyncio.create_task(me.create(input="One."))
        await until(lambda: store.commits)
        assert not asked.done()
        async with connected(relay.port) as socket:
            await socket.create(input="Two.", store=True)
            events = [await socket.event()]
            while events[-1]["type"] != "response.output_item.done":
                events.append(await socket.event())
            await until(lambda: len(store.commits) == 2)
            await (await socket.connection.ping())
            # lanes that keep nothing do not wait
            await socket.completed(input="Three.", stream_id="other")
            store.gate.set()
            last = (await socket.events())[-1]
            assert last["type"] == "response.completed"
            assert "x_relay_warnings" not in last["response"]
        assert (await asked)["store"] is True

    keeping(talk, server)


def test_what_is_not_stored_asks_nothing_of_the_store() -> None:
    async def talk(me: Asker, relay: Relay, store: FaultyStore) -> None:
        store.gate = asyncio.Event()
        store.fault = store.read_fault = full()
        store.known_bad = True
        await me.create(input="One.", store=False)
        async with connected(relay.port) as socket:
            first = await socket.completed(input="One.")
            await socket.completed(input="Two.", previous_response_id=first["id"])
        assert not store.commits
        assert not store.reads

    keeping(talk)


def test_nothing_is_written_of_what_did_not_end() -> None:
    async def talk(me: Asker, relay: Relay, store: FaultyStore) -> None:
        for model in ("demo-fail-500", "demo-cut-2", "demo-error-2"):
            await me.refused("POST", "/responses", {"model": model, "input": "One two three."})
        client = await Client.connect(relay.port)
        client.write(post({"model": "demo-stall-2", "input": "One two three.", "stream": True}))
        await client.reader.readuntil(b"output_text.delta")
        client.reset()
        await until(lambda: not relay.app.services.turns)
        assert not store.commits

    keeping(talk)


# ------------------------------------------------------------------------------------------------ a commit that fails


@EVERY
def test_a_failed_commit_says_so_and_costs_nothing_else(server: str) -> None:
    async def talk(me: Asker, relay: Relay, store: FaultyStore) -> None:
        store.fault = full()
        response = await me.create(input="One.", store=True)
        assert response["status"] == "completed"
        assert response["store"] is False
        assert [entry["param"] for entry in response["x_relay_warnings"]] == ["store"]
        assert (await me.refused("GET", f"/responses/{response['id']}"))["status"] == 404
        error = await me.not_created(input="Two.", previous_response_id=response["id"])
        assert error["code"] == "previous_response_not_found"
        async with connected(relay.port) as socket:
            said = await socket.completed(input="One.", store=True)
            assert said["store"] is False
            assert said["x_relay_warnings"] == response["x_relay_warnings"]
            # the socket remembers it all the same, and the child brings the whole window into a store that recovers
            store.fault = None
            child = await socket.completed(input="Two.", store=True, previous_response_id=said["id"])
            assert child["store"] is True
        page = await me.get(f"/responses/{child['id']}/input_items?order=asc")
        assert [item["content"][0]["text"] for item in page["data"]] == ["One.", "One.", "Two."]

    keeping(talk, server)


def test_while_the_store_is_known_bad() -> None:
    """An explicit ``store: true`` is refused before the upstream is called; a defaulted one runs without."""

    async def talk(me: Asker, relay: Relay, store: FaultyStore) -> None:
        store.known_bad = True
        error = await me.not_created(input="One.", store=True)
        assert (error["status"], error["code"], error["param"]) == (503, "store_unavailable", "store")
        assert not relay.demo.requests
        response = await me.create(input="One.")
        assert response["store"] is False
        async with connected(relay.port) as socket:
            parent = await socket.completed(input="One.")
            error = await socket.refused(input="Two.", store=True, previous_response_id=parent["id"])
            assert (error["status"], error["code"]) == (503, "store_unavailable")
            await socket.completed(input="Two.", previous_response_id=parent["id"])  # it cost nothing
            warm = await socket.completed(input="Three.", generate=False)
            assert warm["store"] is False
        assert not store.commits
        store.known_bad = False
        assert (await me.create(input="One.", store=True))["store"] is True

    keeping(talk)


def test_reads_that_fail_are_503() -> None:
    async def talk(me: Asker, relay: Relay, store: FaultyStore) -> None:
        made = await me.create(input="One.")
        store.read_fault = full()
        error = await me.refused("GET", f"/responses/{made['id']}")
        assert (error["status"], error["code"]) == (503, "store_unavailable")
        error = await me.not_created(input="Two.", previous_response_id=made["id"])
        assert (error["status"], error["code"]) == (503, "store_unavailable")

    keeping(talk)


# ------------------------------------------------------------------------------------------------ the real store


def on_disk(body: Callable[[Asker, Relay, Path], Awaitable[None]], folder: Path, **options: Any) -> None:
    async def served() -> None:
        path = folder / "relay.db"
        store = open_store("sqlite", str(path))
        async with relaying(store=store, **options) as relay:
            await body(Asker(relay), relay, path)

    run(served(), 60)


# SQLite's own limit on pages stands in for the disk's end, its own switch for a read-only file: the same codes. They
# are a connection's, so that the store is well again once it has opened another.
HARM = {"full": "PRAGMA max_page_count = 1", "read-only": "PRAGMA query_only = 1"}


@pytest.mark.parametrize("how", sorted(HARM))
def test_a_store_that_cannot_write_hangs_nothing(how: str, tmp_path: Path) -> None:
    async def talk(me: Asker, relay: Relay, path: Path) -> None:
        kept = await me.create(input="One.")
        store: Any = relay.app.services.store
        await store.writer.write(lambda connection: connection.execute(HARM[how]).fetchall())
        big = await me.create(input="x" * 200_000, model="demo-tokens-1")
        assert big["store"] is False
        assert big["x_relay_warnings"]
        error = await me.not_created(input="Two.", store=True)
        assert (error["status"], error["code"]) == (503, "store_unavailable")
        assert (await me.get(f"/responses/{kept['id']}"))["id"] == kept["id"]  # reading goes on
        await me.create(input="Two.", previous_response_id=kept["id"], store=False)

        async def recovered() -> None:
            while (await me.ask("POST", "/responses", {"model": "demo", "input": "x", "store": True}))[0] != 200:
                await asyncio.sleep(0.01)

        await asyncio.wait_for(recovered(), 10)

    on_disk(talk, tmp_path)


def test_the_delay_of_the_commit_is_small(tmp_path: Path) -> None:
    """p99 of what storing adds to a response, 8 at a time on one worker; the bound is for a busy machine."""

    async def talk(me: Asker, relay: Relay, path: Path) -> None:
        store = relay.app.services.store
        delays: list[float] = []
        commit = store.commit

        async def timed(*arguments: Any, **options: Any) -> None:
            started = time.perf_counter()
            await commit(*arguments, **options)
            delays.append(time.perf_counter() - started)

        store.commit = timed  # type: ignore[method-assign]

        async def client() -> None:
            for _ in range(40):
                await me.create(input="One two three.")

        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(client())
        delays.sort()
        print(f"commit: p50 {delays[160] * 1e3:.1f} ms, p99 {delays[316] * 1e3:.1f} ms")
        assert delays[316] < 0.25

    on_disk(talk, tmp_path)


def test_surrogates_survive_the_store(tmp_path: Path) -> None:
    """Text that orjson refuses (decision 24) is kept and continued."""

    async def talk(me: Asker, relay: Relay, path: Path) -> None:
        client = await Client.connect(relay.port)
        body = b'{"model":"demo","input":"lone \\ud800 one"}'
        answer = await client.request("/v1/responses", "POST", body, host="127.0.0.1", content_type="application/json")
        client.leave()
        assert answer.status == 200
        made = orjson.loads(answer.body)
        assert (await me.get(f"/responses/{made['id']}"))["id"] == made["id"]
        await me.create(input="Go on.", previous_response_id=made["id"])

    on_disk(talk, tmp_path)
