"""Clients that leave, and clients that are slow: the cancel matrix and back-pressure, on both parsers."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from functools import partial
from typing import Any

import pytest

from tests.server import support
from tests.server.support import PARSERS, Client
from tests.support import run, until

serving = partial(support.serving, lifespan=False)
pytestmark = pytest.mark.parametrize("http", PARSERS)

START = {"type": "http.response.start", "status": 200, "headers": []}


async def before_reading(receive: Any, send: Any) -> None:
    await asyncio.Event().wait()


async def reading(receive: Any, send: Any) -> None:
    while True:
        await receive()


async def before_the_response(receive: Any, send: Any) -> None:
    await receive()
    await asyncio.Event().wait()


async def after_the_start(receive: Any, send: Any) -> None:
    await receive()
    await send(START)
    await asyncio.Event().wait()


async def mid_stream(receive: Any, send: Any) -> None:
    await send(START)
    await send({"type": "http.response.body", "body": b"abc", "more_body": True})
    await asyncio.Event().wait()


async def stalled(receive: Any, send: Any) -> None:
    await send(START)
    while True:
        await send({"type": "http.response.body", "body": bytes(100_000), "more_body": True})


STATES = [before_reading, reading, before_the_response, after_the_start, mid_stream, stalled]


@pytest.mark.parametrize("way", ["FIN", "RST"])
@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_a_client_that_leaves_cancels_the_task(http: str, state: Any, way: str) -> None:
    ends: list[float] = []
    begun: list[bool] = []

    async def app(scope, receive, send) -> None:
        begun.append(True)
        try:
            await state(receive, send)
        except asyncio.CancelledError:
            ends.append(time.monotonic())
            # what is sent and received from here on says that nobody is there
            assert (await receive())["type"] == "http.disconnect"
            with pytest.raises(ConnectionResetError):
                await send({"type": "http.response.body", "body": b"x"})
            raise

    async def main() -> None:
        async with serving(app, http=http) as server:
            client = await Client.connect(server, receive_buffer=4096 if state is stalled else None)
            length = 100 if state is reading else 0
            client.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % length)
            await until(lambda: begun)
            if state is mid_stream:
                await client.head()
            for _ in range(5):
                await asyncio.sleep(0.004)
            assert not ends
            left = time.monotonic()
            if way == "FIN":
                # what lies unread in the client's socket would make a reset of close()
                client.writer.write_eof()
            else:
                client.reset()
            await until(lambda: ends)
            assert ends[0] - left < 0.1
            await until(lambda: not server.tasks and not server.connections)

    run(main())


def test_a_client_that_leaves_in_the_head_or_between_requests(http: str) -> None:
    async def main() -> None:
        async with serving(support.echo, http=http) as server:
            for sent in (b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"):
                client = await Client.connect(server)
                client.write(sent)
                if sent.endswith(b"\n\r\n"):
                    await client.answer()
                client.leave()
                await until(lambda: not server.connections)
                assert not server.tasks

    run(main())


def test_a_request_and_a_fin_at_once_runs_nothing_to_its_end(http: str) -> None:
    finished = []

    async def app(scope, receive, send) -> None:
        await receive()
        await asyncio.sleep(0.01)
        finished.append(True)

    async def main() -> None:
        async with serving(app, http=http) as server:
            client = await Client.connect(server)
            client.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            client.writer.write_eof()
            assert await client.ended() == b""
            await until(lambda: not server.tasks and not server.connections)
            assert not finished

    run(main())


def test_pipelined_requests_of_a_client_that_left_are_not_begun(http: str) -> None:
    begun = []

    async def app(scope, receive, send) -> None:
        begun.append(scope["path"])
        await asyncio.Event().wait()

    async def main() -> None:
        async with serving(app, http=http) as server:
            client = await Client.connect(server)
            client.write(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
            await until(lambda: begun)
            client.reset()
            await until(lambda: not server.tasks and not server.connections)
            assert begun == ["/1"]

    run(main())


def test_a_watcher_of_receive_is_told(http: str) -> None:
    """What an app does that must also run under servers that do not cancel."""
    told: list[Any] = []

    async def watch(receive: Any) -> None:
        told.append(await receive())

    async def app(scope, receive, send) -> None:
        await receive()
        watcher = asyncio.create_task(watch(receive))
        try:
            await asyncio.Event().wait()
        finally:
            await watcher

    async def main() -> None:
        async with serving(app, http=http) as server:
            client = await Client.connect(server)
            client.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await until(lambda: server.tasks)
            await asyncio.sleep(0.005)
            client.leave()
            await until(lambda: not server.tasks)
            assert told == [{"type": "http.disconnect"}]

    run(main())


def test_a_cancelled_watcher_does_not_harm_the_next(http: str) -> None:
    async def app(scope, receive, send) -> None:
        await receive()
        for _ in range(3):
            watcher = asyncio.create_task(receive())
            await asyncio.sleep(0)
            watcher.cancel()
            await asyncio.wait([watcher])
        await send(START)
        await send({"type": "http.response.body", "body": b"abc"})

    async def main() -> None:
        async with serving(app, http=http) as server:
            client = await Client.connect(server)
            assert (await client.request()).body == b"abc"
            assert (await client.request()).body == b"abc"

    run(main())


def test_a_stalled_client_stops_the_app_and_memory_is_flat(http: str) -> None:
    sends = 0

    async def app(scope, receive, send) -> None:
        nonlocal sends
        await send(START)
        for _ in range(500):  # 50 MB
            await send({"type": "http.response.body", "body": bytes(100_000), "more_body": True})
            sends += 1
        await send({"type": "http.response.body"})

    async def main() -> None:
        async with serving(app, http=http) as server:
            client = await Client.connect(server, receive_buffer=262_144)
            tracemalloc.start()
            client.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            last = -1
            while sends != last:
                last = sends
                for _ in range(20):
                    await asyncio.sleep(0.002)
            (connection,) = server._context.connections
            assert 0 < sends < 200  # what kernel buffers hold
            assert connection._transport.get_write_buffer_size() < 64 * 1024 + 100_020
            assert tracemalloc.get_traced_memory()[1] < 3_000_000
            tracemalloc.stop()
            answer = await client.answer()
            assert (len(answer.body), answer.whole) == (50_000_000, True)

    run(main(), timeout_s=60)


def test_send_does_not_yield_while_the_client_keeps_up(http: str) -> None:
    other_ran_between = []

    async def app(scope, receive, send) -> None:
        ran = []
        asyncio.get_running_loop().call_soon(ran.append, True)
        await send(START)
        for _ in range(10):
            await send({"type": "http.response.body", "body": b"abc", "more_body": True})
        await send({"type": "http.response.body"})
        other_ran_between.extend(ran)

    async def main() -> None:
        async with serving(app, http=http) as server:
            client = await Client.connect(server)
            assert (await client.request()).body == b"abc" * 10
            assert not other_ran_between

    run(main())
