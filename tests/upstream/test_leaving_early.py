"""A request that is cancelled at any step of its start leaves no connection that the client still counts."""

from __future__ import annotations

import asyncio
import os

import pytest

from relay.upstream import Client, parse_url
from tests.app.upstreams import upstream
from tests.support import run, until


@pytest.mark.parametrize("steps", range(14))
def test_cancelled_while_connecting(steps: int) -> None:
    async def leave() -> None:
        client = Client()
        async with upstream() as one:
            origin, target = parse_url(f"http://127.0.0.1:{one.port}/")
            descriptors = len(os.listdir("/proc/self/fd"))
            for _ in range(3):
                asking = asyncio.create_task(client.request(origin, "POST", target, [], b"{}"))
                for _ in range(steps):
                    await asyncio.sleep(0)
                asking.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asking
                await until(lambda: client.open_connections == 0)
                assert client.counts(origin).in_use == 0
            if one.writer is not None:
                one.writer.close()
            await until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors + 1)
        async with asyncio.timeout(2):
            await client.aclose()

    run(leave())
