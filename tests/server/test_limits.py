"""Every limit and its status, on both parsers, through real sockets, with small limits."""

from __future__ import annotations

import asyncio
import time
from functools import partial

import orjson
import pytest

from relay.server import Limits
from tests.server import support
from tests.server.support import PARSERS, Answer, Client, echo
from tests.support import run, until

serving = partial(support.serving, lifespan=False)
pytestmark = pytest.mark.parametrize("http", PARSERS)

HEAD = b"POST /p HTTP/1.1\r\nHost: a\r\n"


def code(answer: Answer) -> str:
    error = orjson.loads(answer.body)["error"]
    assert error["type"] in ("invalid_request_error", "server_error")
    assert answer.headers["connection"] == "close"
    return error["code"]


async def reads_forever(scope, receive, send) -> None:
    """An app that waits for a body that does not end; a cancelled one is seen in ``server.tasks``."""
    while (await receive()).get("more_body"):
        pass
    await asyncio.Event().wait()


def test_a_header_block_over_the_limit_is_431(http: str) -> None:
    async def main() -> None:
        async with serving(echo, http=http) as server:
            for end in (b"\r\n\r\n", b""):
                client = await Client.connect(server)
                client.write(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 32_768 + end)
                answer = await client.answer()
                assert (answer.status, code(answer)) == (431, "headers_too_large")
                assert await client.ended() == b""
            client = await Client.connect(server)
            fits = b"GET / HTTP/1.1\r\nHost: a\r\nX: "
            client.write(fits + b"x" * (32_768 - len(fits) - 4) + b"\r\n\r\n")
            assert (await client.answer()).status == 200

    run(main())


def test_a_body_over_the_limit_is_413_at_once(http: str) -> None:
    async def main() -> None:
        async with serving(echo, http=http, max_body_bytes=100_000) as server:
            client = await Client.connect(server)
            client.write(HEAD + b"Content-Length: 100001\r\n\r\n")
            answer = await client.answer()
            assert (answer.status, code(answer)) == (413, "request_too_large")
            assert await client.ended() == b""
            # told also where it sends all the same
            client = await Client.connect(server)
            client.write(HEAD + b"Content-Length: 30000000\r\n\r\n" + bytes(5_000_000))
            assert (await client.answer()).status == 413
            client = await Client.connect(server)
            client.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
            for _ in range(11):
                client.write(b"2710\r\n" + bytes(10_000) + b"\r\n")
            answer = await client.answer()
            assert (answer.status, code(answer)) == (413, "request_too_large")
            client = await Client.connect(server)
            assert (await client.request("/", "POST", bytes(100_000))).status == 200
            assert server.tasks == 0

    run(main())


def test_slow_headers_are_408_counted_from_the_first_byte(http: str) -> None:
    async def main() -> None:
        async with serving(echo, http=http, limits=Limits(head_s=0.08, idle_s=20)) as server:
            client = await Client.connect(server)
            assert (await client.request()).status == 200
            await asyncio.sleep(0.009)
            begin = time.monotonic()
            while not client.reader._buffer and time.monotonic() < begin + 5:  # type: ignore[attr-defined]
                client.write(b"G" if time.monotonic() - begin < 0.004 else b"E")
                await asyncio.sleep(0.005)
            assert 0.07 < time.monotonic() - begin < 1
            answer = await client.answer()
            assert (answer.status, code(answer)) == (408, "request_timeout")
            assert await client.ended() == b""
            # a connection that never sends anything is closed without a word
            assert await (await Client.connect(server)).ended() == b""

    run(main())


def test_a_silent_body_is_408(http: str) -> None:
    async def main() -> None:
        async with serving(reads_forever, http=http, limits=Limits(body_s=0.06)) as server:
            client = await Client.connect(server)
            client.write(HEAD + b"Content-Length: 1000\r\n\r\n")
            for _ in range(20):  # slow, but not silent
                client.write(b"x")
                await asyncio.sleep(0.008)
            assert server.tasks == 1
            assert not client.reader.at_eof()
            answer = await client.answer()
            assert (answer.status, code(answer)) == (408, "request_timeout")
            assert await client.ended() == b""
            await until(lambda: not server.tasks)

    run(main())


def test_our_own_slowness_is_not_the_client_s_silence(http: str) -> None:
    """Neither while the app does not read, nor before the client was told to continue."""
    go: asyncio.Event

    async def app(scope, receive, send) -> None:
        await go.wait()
        await echo(scope, receive, send)

    async def main() -> None:
        nonlocal go
        async with serving(app, http=http, limits=Limits(body_s=0.03)) as server:
            for head, rest in (
                (HEAD + b"Content-Length: 1000000\r\n\r\n" + bytes(1_000_000), b""),
                (HEAD + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n", b"abc"),
            ):
                go = asyncio.Event()
                client = await Client.connect(server)
                client.write(head)
                for _ in range(10):
                    await asyncio.sleep(0.009)
                go.set()
                if rest:
                    assert (await client.head())[0] == 100
                    client.write(rest)
                assert (await client.answer()).status == 200

    run(main())


def test_an_idle_connection_is_closed(http: str) -> None:
    async def main() -> None:
        async with serving(echo, http=http, limits=Limits(idle_s=0.05)) as server:
            client = await Client.connect(server)
            for _ in range(8):
                assert (await client.request()).status == 200
                await asyncio.sleep(0.009)
            begin = time.monotonic()
            assert await client.ended() == b""
            assert time.monotonic() - begin < 1

    run(main())


def test_a_long_response_is_not_idle(http: str) -> None:
    async def app(scope, receive, send) -> None:
        for _ in range(10):
            await asyncio.sleep(0.009)
        await echo(scope, receive, send)

    async def main() -> None:
        async with serving(
            app, http=http, limits=Limits(idle_s=0.02, head_s=0.02, body_s=0.02, stall_s=0.02)
        ) as server:
            client = await Client.connect(server)
            for _ in range(2):
                assert (await client.request()).status == 200

    run(main())


async def admitting(scope, receive, send) -> None:
    """As the relay: what is let in needs a place."""
    if scope["type"] == "http" and not scope["extensions"]["relay.admit"]():
        headers = [(b"content-length", b"0"), (b"retry-after", b"1")]
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": b""})
    else:
        await echo(scope, receive, send)


def test_connections_over_the_limit_get_503(http: str) -> None:
    async def main() -> None:
        limits = Limits(head_places=2)
        async with serving(admitting, http=http, max_connections=2, limits=limits) as server:
            kept = [await Client.connect(server) for _ in range(2)]
            for client in kept:
                assert (await client.request()).status == 200
                client.write(b"GET / HTTP/1.1\r\n")  # under way: neither is closed for another
            await until(lambda: not any(server._context.door._rows))
            over = [await Client.connect(server) for _ in range(2)]
            for client in over:
                client.write(b"GET / HTTP/1.1\r\n")
            await until(lambda: server.connections == 4 and not any(server._context.door._rows))
            beyond = await Client.connect(server)
            assert await beyond.ended() == b""
            for client in over:
                client.write(b"Host: a\r\n\r\n")
                answer = await client.answer()
                assert (answer.status, answer.headers["retry-after"]) == (503, "1")
                assert await client.ended() == b""
                client.leave()
            await until(lambda: server.connections == 2)
            for client in kept:
                client.write(b"Host: a\r\n\r\n")
                assert (await client.answer()).status == 200
            kept[0].leave()
            await until(lambda: server.connections == 1)
            assert (await (await Client.connect(server)).request()).status == 200

    run(main())


def test_pipelined_bytes_beyond_the_limit_close_the_connection(http: str) -> None:
    cancelled = []

    async def app(scope, receive, send) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(scope["path"])
            raise

    async def main() -> None:
        async with serving(app, http=http) as server:
            client = await Client.connect(server)
            client.write(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n")
            client.write(HEAD + b"Content-Length: 100000\r\n\r\n")
            client.write(bytes(60_000))
            for _ in range(5):
                await asyncio.sleep(0.005)
            assert (server.connections, server.tasks) == (1, 1)
            client.write(bytes(6_000))
            assert await client.ended() == b""
            await until(lambda: server.connections == 0)
            assert cancelled == ["/1"]

    run(main())


def endless(sent: list[int], cancelled: list[bool]):
    async def app(scope, receive, send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while True:
                await send({"type": "http.response.body", "body": bytes(50_000), "more_body": True})
                sent.append(50_000)
        finally:
            cancelled.append(True)

    return app


def test_a_client_that_takes_nothing_has_left(http: str) -> None:
    sent: list[int] = []
    cancelled: list[bool] = []

    async def main() -> None:
        app = endless(sent, cancelled)
        async with serving(app, http=http, limits=Limits(stall_s=0.2)) as server:
            client = await Client.connect(server, receive_buffer=4096)
            client.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await until(lambda: sent)
            begin = time.monotonic()
            await until(lambda: cancelled)
            assert 0.15 < time.monotonic() - begin < 1.5
            await until(lambda: server.connections == 0)
            assert sum(sent) < 20_000_000

    run(main())


def test_a_client_that_takes_little_has_not_left(http: str) -> None:
    sent: list[int] = []
    cancelled: list[bool] = []

    async def main() -> None:
        async with serving(endless(sent, cancelled), http=http, limits=Limits(stall_s=0.3)) as server:
            client = await Client.connect(server, receive_buffer=4096)
            client.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            begin = time.monotonic()
            while time.monotonic() - begin < 1:
                await client.reader.read(100_000)
                await asyncio.sleep(0.005)
            assert not cancelled
            client.reset()
            await until(lambda: cancelled)
            assert server.connections == 0

    run(main())


@pytest.mark.parametrize("high_bytes", [65_536, 2**30], ids=["paused", "not paused"])
def test_a_client_that_does_not_take_the_end_of_its_response_is_dropped(http: str, high_bytes: int) -> None:
    async def app(scope, receive, send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
        await send({"type": "http.response.body", "body": bytes(8_000_000)})

    async def main() -> None:
        async with serving(app, http=http, limits=Limits(stall_s=0.1, write_high_bytes=high_bytes)) as server:
            client = await Client.connect(server, receive_buffer=4096)
            client.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await until(lambda: server.connections == 1)
            await until(lambda: server.connections == 0 and server.tasks == 0)

    run(main())


def test_a_client_that_goes_on_sending_after_an_error_is_dropped(http: str) -> None:
    async def main() -> None:
        async with serving(echo, http=http, limits=Limits(linger_s=0.1)) as server:
            client = await Client.connect(server)
            client.write(b"GET / HTTP/9.9\r\n\r\n")
            assert (await client.answer()).status == 400
            begin = time.monotonic()
            while server.connections and time.monotonic() - begin < 5:
                client.write(b"x" * 1000)
                await asyncio.sleep(0.005)
            assert time.monotonic() - begin < 2

    run(main())


def test_a_busy_connection_has_one_timer_and_does_not_touch_it(http: str, monkeypatch) -> None:
    from relay.server.http import HttpConnection

    async def main() -> None:
        async with serving(echo, http=http) as server:
            client = await Client.connect(server)
            assert (await client.request()).status == 200
            (connection,) = server._context.connections
            assert isinstance(connection, HttpConnection)
            timer = connection._timer
            assert timer is not None
            for _ in range(50):
                await client.request("/", "POST", b"abc")
            assert connection._timer is timer

    run(main())
