"""A finished request leaves nothing to the garbage collector: what it made is freed when its last name goes.

Circles cost a tenth of a short answer in collections, and hold memory until one comes.
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter

import orjson
import pytest

from tests.app.support import DIALECTS, relaying
from tests.support import run

REQUESTS = 10


@pytest.mark.parametrize("store", [False, True], ids=["", "stored"])
@pytest.mark.parametrize("stream", [False, True], ids=["JSON", "SSE"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_answers_leave_no_circles(dialect: str, stream: bool, store: bool) -> None:
    async def ask() -> None:
        async with relaying(dialect) as relay:
            reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
            body = orjson.dumps({"model": "demo", "input": "one two three", "stream": stream, "store": store})
            head = b"POST /v1/responses HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            end = b"0\r\n\r\n" if stream else b"}"

            async def answered() -> None:
                writer.write(b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body))
                data = b""
                while not data.endswith(end):
                    data += await reader.read(65_536)
                assert b"200 OK" in data

            for _ in range(3):
                await answered()
            await asyncio.sleep(0.01)
            gc.collect()
            gc.disable()
            gc.set_debug(gc.DEBUG_SAVEALL)
            try:
                for _ in range(REQUESTS):
                    await answered()
                await asyncio.sleep(0.01)
                gc.collect()
                found = Counter(type(one).__qualname__ for one in gc.garbage)
            finally:
                gc.set_debug(0)
                gc.garbage.clear()
                gc.enable()
            writer.close()
            # what happens once, in the pool or the store, is no circle a request
            assert {name: count for name, count in found.items() if count >= REQUESTS} == {}

    run(ask())
