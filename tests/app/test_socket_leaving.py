"""A WebSocket client leaves: every upstream connection is closed within 100 ms, and nothing is left behind.

(connecting, awaiting headers, before the first token, mid-stream, stalled, awaiting commit) x (FIN, RST, Close), on our
server with both parsers and under uvicorn (decision 5; issue 4).
"""

from __future__ import annotations

import asyncio
import gc
import os
import time
from typing import Any

import orjson
import pytest

from relay.state.memory import MemoryStore
from tests.app.gated import gated
from tests.app.support import Relay, fronting
from tests.app.upstreams import HEAD, Upstream, chunk, first, token, upstream
from tests.server.support import PARSERS, Client
from tests.server.websocket_support import Peer, request
from tests.support import run, until

SERVERS = [*PARSERS, "uvicorn"]
PHASES = ["connecting", "awaiting headers", "before the first token", "mid-stream", "stalled"]
WAYS = ["FIN", "RST", "Close"]
LIMIT_S = 0.1


async def open_peer(relay: Relay, receive_buffer: int | None = None) -> Peer:
    client = await Client.connect(relay.port, receive_buffer=receive_buffer)
    client.write(request(host="127.0.0.1"))
    status, headers, _ = await client.head()
    assert status == 101
    return Peer(client, headers)


def create(peer: Peer, **fields: Any) -> None:
    content = {"type": "response.create", "model": "m", "store": False, "input": "hi", **fields}
    peer.text(orjson.dumps(content).decode())


def leave(peer: Peer, how: str) -> None:
    if how == "FIN":
        peer.client.leave()
    elif how == "RST":
        peer.client.reset()
    else:
        peer.close()


async def reach(phase: str, one: Upstream, peer: Peer) -> None:
    """Bring a create that was just sent into ``phase``."""
    if phase == "connecting":
        await one.connected.wait()
        return
    await one.asked.wait()
    if phase == "awaiting headers":
        return
    one.write(HEAD)
    if phase == "before the first token":
        one.write(chunk(b": waiting\n\n"))
        await one.drain()
        return
    one.write(chunk(first("chat") + token("chat", "Hello", 0)))
    if phase == "mid-stream":
        await peer.client.reader.readuntil(b"output_text.delta")
        return
    big = chunk(token("chat", "x" * 60_000, 1))
    assert one.writer is not None
    for _ in range(400):  # until the relay does not read any more
        one.write(big)
        await asyncio.sleep(0)
        if one.writer.transport.get_write_buffer_size() > 1 << 20:
            break


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("phase", PHASES)
def test_the_upstream_is_left_at_once(phase: str, how: str, server: str) -> None:
    async def go() -> float:
        async with upstream() as one:
            one.silent = phase == "connecting"
            url = f"{'https' if one.silent else 'http'}://127.0.0.1:{one.port}/v1"
            foreign = server == "uvicorn"
            async with fronting("chat", url, http="auto" if foreign else server, foreign=foreign) as relay:
                before = len(asyncio.all_tasks())
                peer = await open_peer(relay, 4096 if phase == "stalled" else None)
                create(peer)
                create(peer)  # waits in the same lane, and never runs
                await reach(phase, one, peer)
                started = time.perf_counter()
                leave(peer, how)
                await asyncio.wait_for(one.left.wait(), 5)
                took = time.perf_counter() - started
                peer.client.writer.transport.abort()  # after a Close, the TCP connection is the client's to end
                await nothing_left(relay, before)
                assert one.connections == 1
                return took

    # the machine is shared: the best of a few tries is what the relay can do
    tries = [run(go())]
    while min(tries) >= LIMIT_S and len(tries) < 4:
        tries.append(run(go()))
    assert min(tries) < LIMIT_S


async def nothing_left(relay: Relay, tasks: int) -> None:
    services = relay.app.services
    await until(lambda: not services.turns and not relay.app.sessions)
    client = services.upstreams["up"].client
    counts = client.counts(services.upstreams["up"].origin)
    assert (counts.in_use, counts.waiting) == (0, 0)
    await until(lambda: len(asyncio.all_tasks()) <= tasks)


class SlowStore(MemoryStore):
    """Commits that wait for the test."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = asyncio.Event()
        self.gate = asyncio.Event()
        self.written: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def commit(self, response: Any, *arguments: Any, **options: Any) -> None:
        async def write() -> None:
            await self.gate.wait()
            await super(SlowStore, self).commit(response, *arguments, **options)
            self.written.append(response["id"])

        task = asyncio.create_task(write())  # as the contract says: a write goes on when its caller is cancelled
        self._tasks.add(task)
        self.waiting.set()
        await asyncio.shield(task)


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("how", WAYS)
def test_a_commit_in_progress_is_finished(how: str, server: str) -> None:
    async def go() -> None:
        foreign = server == "uvicorn"
        async with gated(foreign=foreign) as (relay, _):
            store = SlowStore()
            relay.app.services.store = store
            before = len(asyncio.all_tasks())
            peer = await open_peer(relay)
            create(peer, store=True)
            await store.waiting.wait()
            leave(peer, how)
            await nothing_left(relay, before + 1)
            store.gate.set()
            await until(lambda: store.written)
            peer.client.writer.transport.abort()
            assert await store.get(store.written[0], "anonymous") is not None
            await until(lambda: len(asyncio.all_tasks()) <= before)

    run(go())


@pytest.mark.parametrize("server", ["ours", "uvicorn"])
@pytest.mark.parametrize("how", WAYS)
def test_every_lane_is_left_at_once(how: str, server: str) -> None:
    """Sixteen turns run and others wait."""

    async def go() -> float:
        async with gated(foreign=server == "uvicorn") as (relay, gate):
            before = len(asyncio.all_tasks())
            peer = await open_peer(relay)
            for number in range(24):
                create(peer, input=f"hold {number}", stream_id=f"l{number}")
            await until(lambda: len(gate.running) == 16)
            started = time.perf_counter()
            leave(peer, how)
            await until(lambda: not gate.running)
            took = time.perf_counter() - started
            peer.client.writer.transport.abort()
            await nothing_left(relay, before)
            assert len(gate.asked) == 16
            return took

    tries = [run(go())]
    while min(tries) >= LIMIT_S and len(tries) < 4:
        tries.append(run(go()))
    assert min(tries) < LIMIT_S


def test_nothing_leaks_over_many_sockets_that_leave() -> None:
    async def go() -> None:
        async with gated() as (relay, gate):

            async def once(number: int) -> None:
                peer = await open_peer(relay)
                create(peer, input="said", store=True)
                await peer.client.reader.readuntil(b"response.completed")
                create(peer, input=f"hold {number}")
                await until(lambda: gate.running)
                leave(peer, WAYS[number % 3])
                await until(lambda: not gate.running)
                if number % 3 == 2:
                    peer.client.reset()

            await once(0)
            await until(lambda: not relay.app.services.turns)
            gc.collect()
            descriptors = len(os.listdir("/proc/self/fd"))
            tasks = len(asyncio.all_tasks())
            for number in range(50):
                await once(number)
            await until(lambda: not relay.app.services.turns and not relay.app.sessions)
            await until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors + 2)
            await until(lambda: len(asyncio.all_tasks()) <= tasks)

    run(go())
