"""The client leaves: the upstream connection is closed within 100 ms, and nothing is left behind (decision 5).

(JSON, SSE) x (connecting, awaiting headers, before the first token, mid-stream, client stalled) x (FIN, RST), on our
server with both parsers and under uvicorn.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import time

import pytest

from tests.app.support import fronting, post
from tests.app.upstreams import HEAD, Upstream, chunk, first, token, upstream
from tests.server.support import PARSERS, Client
from tests.support import run, until

SERVERS = [*PARSERS, "uvicorn"]
PHASES = ["connecting", "awaiting headers", "before the first token", "mid-stream", "stalled"]
LIMIT_S = 0.1


async def reach(phase: str, one: Upstream, client: Client, stream: bool) -> None:
    """Bring a request that was just sent into ``phase``."""
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
    if stream and phase != "stalled":
        await client.reader.readuntil(b"output_text.delta")
    if phase == "stalled":
        big = chunk(token("chat", "x" * 60_000, 1))
        transport = one.writer.transport if one.writer is not None else None
        assert transport is not None
        for _ in range(200):  # until the relay does not read any more; JSON has no client to stall
            one.write(big)
            await asyncio.sleep(0)
            if transport.get_write_buffer_size() > 1 << 20 or not stream:
                break


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("how", ["FIN", "RST"])
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("stream", [False, True], ids=["JSON", "SSE"])
def test_the_upstream_is_left_at_once(stream: bool, phase: str, how: str, server: str) -> None:
    async def leave() -> float:
        async with upstream() as one:
            one.silent = phase == "connecting"
            scheme = "https" if one.silent else "http"
            url = f"{scheme}://127.0.0.1:{one.port}/v1"
            foreign = server == "uvicorn"
            async with fronting("chat", url, http="auto" if foreign else server, foreign=foreign) as relay:
                before = len(asyncio.all_tasks())
                client = await Client.connect(relay.port, receive_buffer=4096 if phase == "stalled" else None)
                client.write(post({"model": "m", "input": "hi", "stream": stream}))
                await reach(phase, one, client, stream)
                started = time.perf_counter()
                client.leave() if how == "FIN" else client.reset()
                await asyncio.wait_for(one.left.wait(), 5)
                took = time.perf_counter() - started
                services = relay.app.services
                await until(lambda: not services.turns)
                origin = services.upstreams["up"].origin
                counts = services.upstreams["up"].client.counts(origin)
                assert (counts.in_use, counts.waiting) == (0, 0)
                assert services.upstreams["up"].client.open_connections == 0
                await until(lambda: len(asyncio.all_tasks()) <= before)
                return took

    # the machine is shared: the best of a few tries is what the relay can do
    tries = [run(leave()) for _ in range(1)]
    while min(tries) >= LIMIT_S and len(tries) < 4:
        tries.append(run(leave()))
    assert min(tries) < LIMIT_S


def test_nothing_leaks_over_many_clients_that_leave() -> None:
    async def leave() -> None:
        async with upstream() as one, fronting("chat", f"http://127.0.0.1:{one.port}/v1") as relay:

            async def once() -> None:
                one.asked.clear()
                one.left.clear()
                client = await Client.connect(relay.port)
                client.write(post({"model": "m", "input": "hi", "stream": True}))
                await one.asked.wait()
                client.reset()
                await one.left.wait()

            await once()
            await until(lambda: not relay.app.services.turns)
            gc.collect()
            descriptors = len(os.listdir("/proc/self/fd"))
            for _ in range(50):
                await once()
            await until(lambda: not relay.app.services.turns)
            await until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors + 1)
            assert one.connections == 51

    run(leave())


@pytest.mark.parametrize("server", SERVERS)
def test_a_client_that_stops_reading_holds_the_upstream(server: str) -> None:
    """Back-pressure: of a 50 MB stream only what fits into the sockets' buffers is read (decision 7)."""

    async def stall() -> tuple[int, int]:
        async with upstream() as one:
            foreign = server == "uvicorn"
            url = f"http://127.0.0.1:{one.port}/v1"
            async with fronting("chat", url, http="auto" if foreign else server, foreign=foreign) as relay:
                client = await Client.connect(relay.port, receive_buffer=4096)
                client.write(post({"model": "m", "input": "hi", "stream": True}))
                await one.asked.wait()
                one.write(HEAD + chunk(first("chat")))
                gc.collect()
                before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                piece = chunk(token("chat", "x" * 16_000, 0))
                sent = 0
                assert one.writer is not None
                transport = one.writer.transport
                while sent < 50_000_000:
                    one.write(piece)
                    sent += len(piece)
                    for _ in range(3):
                        await asyncio.sleep(0)
                    if transport.get_write_buffer_size() > 65536:
                        try:
                            await asyncio.wait_for(one.drain(), 0.2)
                        except TimeoutError:
                            break
                grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
                client.reset()
                await asyncio.wait_for(one.left.wait(), 5)
                return sent, grown

    sent, grown_kib = run(stall())
    assert sent < 20_000_000, "the relay read on"
    assert grown_kib < 32 * 1024
