"""Requests and responses as ASGI has them, on both parsers, through real sockets."""

from __future__ import annotations

import asyncio
import logging
import socket
from functools import partial
from typing import Any

import h11
import orjson
import pytest

from tests.server import support
from tests.server.support import PARSERS, Client, echo
from tests.support import run, until

serving = partial(support.serving, lifespan=False)
pytestmark = pytest.mark.parametrize("http", PARSERS)


def start(status: int = 200, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(data: bytes = b"", more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


def says(*messages: dict[str, Any]):
    """An app that reads the request and sends ``messages``."""

    async def app(scope, receive, send) -> None:
        while (await receive()).get("more_body"):
            pass
        for message in messages:
            await send(message)

    return app


def test_scope(http: str) -> None:
    scopes = []

    async def app(scope, receive, send) -> None:
        scopes.append(scope)
        if scope["type"] == "lifespan":
            scope["state"]["shared"] = shared
            assert await receive() == {"type": "lifespan.startup"}
            await send({"type": "lifespan.startup.complete"})
            assert await receive() == {"type": "lifespan.shutdown"}
            await send({"type": "lifespan.shutdown.complete"})
            return
        scope["state"]["own"] = True
        await send(start(204))
        await send(body())

    shared: list[int] = []

    async def main() -> None:
        async with support.serving(app, http=http) as server:
            client = await Client.connect(server)
            client.write(
                b"GET /a%20b%2Fc/%C3%A4?q=%20&r HTTP/1.1\r\n"
                b"HOST: test:1\r\nX-Twice: 1\r\nx-twice:\t2 \r\nEmpty:\r\n\r\n"
            )
            assert (await client.answer()).status == 204
            client.write(b"POST http://other:8/x?y HTTP/1.1\r\nA: b\r\nHost: test\r\nContent-Length: 0\r\n\r\n")
            await client.answer()
            client.write(b"OPTIONS * HTTP/1.0\r\n\r\n")
            await client.answer()
            peer = client.writer.get_extra_info("sockname")
        _, first, second, third = scopes
        assert first["type"] == "http"
        assert first["asgi"] == {"version": "3.0", "spec_version": "2.4"}
        assert first["http_version"] == "1.1"
        assert first["method"] == "GET"
        assert first["scheme"] == "http"
        assert first["path"] == "/a b/c/ä"
        assert first["raw_path"] == b"/a%20b%2Fc/%C3%A4"
        assert first["query_string"] == b"q=%20&r"
        assert first["root_path"] == ""
        assert first["headers"] == [(b"host", b"test:1"), (b"x-twice", b"1"), (b"x-twice", b"2"), (b"empty", b"")]
        assert first["client"] == peer
        assert first["server"] == ("127.0.0.1", server.port)
        assert set(first["extensions"]) == {"relay.cancel", "relay.write", "relay.admit"}
        assert first["state"] == {"shared": shared, "own": True}
        assert first["state"]["shared"] is shared
        assert second["state"] == {"shared": shared, "own": True}
        assert (second["path"], second["query_string"]) == ("/x", b"y")
        # RFC 9112 §3.2.2: the target's authority stands for Host
        assert second["headers"][0] == (b"host", b"other:8")
        assert [name for name, _ in second["headers"]].count(b"host") == 1
        assert (third["path"], third["http_version"]) == ("*", "1.0")

    run(main())


def test_keep_alive_and_its_end(http: str) -> None:
    async def main() -> None:
        async with serving(echo, http=http) as server:
            client = await Client.connect(server)
            for at in range(3):
                answer = await client.request(f"/{at}", "POST", b"x" * at)
                assert answer.body == f"POST /{at}? ".encode() + b"x" * at
                assert "connection" not in answer.headers
            assert server.connections == 1
            answer = await client.request("/", connection="Keep-Alive, Close")
            assert answer.headers["connection"] == "close"
            assert await client.ended() == b""
            await until(lambda: server.connections == 0)

    run(main())


def test_the_app_may_close(http: str) -> None:
    async def main() -> None:
        async with serving(
            says(start(200, (b"Connection", b"close"), (b"content-length", b"0")), body()), http=http
        ) as s:
            client = await Client.connect(s)
            answer = await client.request()
            assert answer.head.count(b"close") == 1
            assert await client.ended() == b""

    run(main())


def test_http_1_0(http: str) -> None:
    async def main() -> None:
        async with serving(says(start(), body(b"a", True), body(b"b")), http=http) as server:
            client = await Client.connect(server)
            client.write(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert await client.ended() == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nab"

    run(main())


def test_pipelining(http: str) -> None:
    """Answers come in order, each app runs after the one before it, and nothing of the next is lost."""
    running = 0

    async def app(scope, receive, send) -> None:
        nonlocal running
        assert running == 0
        running += 1
        await asyncio.sleep(0.001)
        running -= 1
        await echo(scope, receive, send)

    async def main() -> None:
        async with serving(app, http=http) as server:
            client = await Client.connect(server)
            client.write(
                b"".join(
                    b"POST /%d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" % at
                    if at % 2
                    else b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % at
                    for at in range(20)
                )
            )
            for at in range(20):
                expected = f"POST /{at}? abc" if at % 2 else f"GET /{at}? "
                assert (await client.answer()).body == expected.encode()

    run(main())


def test_an_offer_to_upgrade_to_h2c_is_declined_with_and_without_a_body(http: str) -> None:
    offer = b"Host: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"

    async def main() -> None:
        async with serving(echo, http=http) as server:
            client = await Client.connect(server)
            for at in range(2):
                client.write(b"GET /%d HTTP/1.1\r\n%b\r\n" % (at, offer))
                client.write(b"POST /%d HTTP/1.1\r\n%bContent-Length: 3\r\n\r\nabc" % (at, offer))
                client.write(
                    b"POST /%d HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n" % (at, offer)
                )
                client.write(b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\ny" % at)
                for expected in (b"GET /%d? ", b"POST /%d? abc", b"POST /%d? x", b"POST /%d? y"):
                    assert (await client.answer()).body == expected % at

    run(main())


def test_a_body_is_received_as_it_comes(http: str) -> None:
    received: asyncio.Queue[dict[str, Any]]

    async def app(scope, receive, send) -> None:
        while True:
            message = await receive()
            received.put_nowait(message)
            if not message.get("more_body"):
                break
        await send(start(204))
        await send(body())

    async def main() -> None:
        nonlocal received
        received = asyncio.Queue()
        async with serving(app, http=http) as server:
            client = await Client.connect(server)
            client.write(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            for piece in (b"a", b"bc"):
                client.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                assert await received.get() == {"type": "http.request", "body": piece, "more_body": True}
            client.write(b"0\r\n\r\n")
            assert await received.get() == {"type": "http.request", "body": b"", "more_body": False}
            assert (await client.answer()).status == 204

    run(main())


def test_a_large_body_is_not_buffered_while_the_app_does_not_read(http: str) -> None:
    go: asyncio.Event
    total = 0

    async def app(scope, receive, send) -> None:
        nonlocal total
        await go.wait()
        while True:
            message = await receive()
            total += len(message["body"])
            assert len(message["body"]) <= 64 * 1024 + 256 * 1024  # the buffer, and one read
            if not message["more_body"]:
                break
        await send(start(204))
        await send(body())

    async def main() -> None:
        nonlocal go
        go = asyncio.Event()
        size = 20_000_000
        async with serving(app, http=http) as server:
            client = await Client.connect(server)
            client.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
            client.write(bytes(size))
            unsent = client.writer.transport.get_write_buffer_size  # type: ignore[attr-defined]
            last = -1
            while unsent() != last:
                last = unsent()
                for _ in range(50):
                    await asyncio.sleep(0.001)
            assert last > size - 10_000_000  # what the kernel holds
            go.set()
            assert (await client.answer()).status == 204
            assert total == size

    run(main())


def test_reading_goes_on_after_a_large_body_that_came_at_once(http: str) -> None:
    """Else neither the next request nor the client's leaving would be seen."""

    async def main() -> None:
        cancelled = []

        async def app(scope, receive, send) -> None:
            if scope["path"] == "/wait":
                try:
                    await asyncio.Event().wait()
                finally:
                    cancelled.append(True)
            await support.echo(scope, receive, send)

        async with serving(app, http=http) as server:
            client = await Client.connect(server)
            for size in (65_537, 130_000, 250_000, 1_000_000):
                assert len((await client.request("/", "POST", bytes(size))).body) == size + 8
            client.write(b"POST /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 130000\r\n\r\n" + bytes(130_000))
            await until(lambda: server.tasks)
            for _ in range(5):
                await asyncio.sleep(0.005)
            client.leave()
            await until(lambda: cancelled)

    run(main())


def test_expect_100_continue(http: str) -> None:
    head = b"POST / HTTP/%b\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 3\r\n\r\n"

    async def main() -> None:
        async with serving(echo, http=http) as server:
            client = await Client.connect(server)
            client.write(head % b"1.1")
            assert (await client.head())[2] == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.write(b"abc")
            assert (await client.answer()).body == b"POST /? abc"
            # RFC 9110 §10.1.1: not where the body came already, nor to HTTP/1.0
            client.write(head % b"1.1" + b"abc")
            assert (await client.answer()).status == 200
            client.write(head % b"1.0")
            client.write(b"abc")
            assert (await client.answer()).status == 200
        async with serving(says(), http=http) as server:
            pass
        refuse = [start(401, (b"content-length", b"0")), body()]

        async def refusing(scope, receive, send) -> None:
            for message in refuse:
                await send(message)

        async with serving(refusing, http=http) as server:
            client = await Client.connect(server)
            client.write(head % b"1.1")
            # No 100 before a final answer; the body that may follow cannot be told from a request, so it closes.
            answer = await client.answer()
            assert (answer.status, answer.headers["connection"]) == (401, "close")
            assert await client.ended() == b""

    run(main())


def test_framing(http: str) -> None:
    """Each answer is read by h11's client half, an independent judge."""

    async def main() -> None:
        cases = [
            ([start(), body(b"abc")], b"abc"),
            ([start(), body()], b""),
            ([start(), body(b"", True), body(b"a", True), body(b"", True), body(b"bc", True), body()], b"abc"),
            ([start(200, (b"Content-Length", b"3")), body(b"a", True), body(b"bc")], b"abc"),
            ([start(200, (b"transfer-encoding", b"chunked")), body(b"abc")], b"abc"),
            ([start(200, (b"content-length", b"3")), body(b"", True), body(b"abc", True), body()], b"abc"),
            ([start(204), body()], b""),
            ([start(304, (b"content-length", b"3")), body()], b""),
        ]
        for messages, expected in cases:
            async with serving(says(*messages), http=http) as server:
                client = await Client.connect(server)
                for method in ("GET", "HEAD", "GET"):
                    judge = h11.Connection(h11.CLIENT)
                    judge.send(h11.Request(method=method, target="/", headers=[("host", "a")]))
                    judge.send(h11.EndOfMessage())
                    client.write(f"{method} / HTTP/1.1\r\nHost: a\r\n\r\n".encode())
                    data = b""
                    while not isinstance(event := judge.next_event(), h11.EndOfMessage):
                        if event is h11.NEED_DATA:
                            judge.receive_data(await client.reader.read(4096))
                        elif isinstance(event, h11.Data):
                            data += event.data
                    assert data == (b"" if method == "HEAD" else expected)
                    assert judge.their_state is h11.DONE
                    assert judge.trailing_data == (b"", False)

    run(main())


def test_head_and_first_body_go_out_in_one_write_and_each_send_is_one(http: str, monkeypatch) -> None:
    from relay.server.http import HttpConnection

    writes = []
    connection_made = HttpConnection.connection_made

    def counting(self: HttpConnection, transport: asyncio.BaseTransport) -> None:
        connection_made(self, transport)
        write = self.write

        def counted(data: bytes) -> None:
            writes.append(data)
            write(data)

        self.write = counted

    monkeypatch.setattr(HttpConnection, "connection_made", counting)

    async def main() -> None:
        app = says(start(), body(b"abc", True), body(b"", True), body(b"d", True), body(b"ef"))
        async with serving(app, http=http) as server:
            client = await Client.connect(server)
            assert (await client.request()).body == b"abcdef"
        assert writes == [
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
            b"1\r\nd\r\n",
            b"2\r\nef\r\n0\r\n\r\n",
        ]

    run(main())


def test_each_send_reaches_the_client_before_the_next(http: str) -> None:
    steps: asyncio.Queue[bytes]

    async def app(scope, receive, send) -> None:
        await send(start())
        while data := await steps.get():
            await send(body(data, True))
        await send(body())

    async def main() -> None:
        nonlocal steps
        steps = asyncio.Queue()
        async with serving(app, http=http) as server:
            client = await Client.connect(server)
            client.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            steps.put_nowait(b"first")
            await client.head()
            assert await client.reader.readexactly(10) == b"5\r\nfirst\r\n"
            for _ in range(20):
                steps.put_nowait(b"x")
                assert await client.reader.readexactly(6) == b"1\r\nx\r\n"
            steps.put_nowait(b"")
            assert await client.reader.readexactly(5) == b"0\r\n\r\n"

    run(main())


def test_no_delay(http: str) -> None:
    async def main() -> None:
        async with serving(echo, http=http) as server:
            await (await Client.connect(server)).request()
            (connection,) = server._context.connections
            sock = connection._transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    run(main())


async def _raise(send: Any) -> None:
    raise RuntimeError("secret-detail")


async def _header_with_a_line_end(send: Any) -> None:
    await send(start(200, (b"x", b"a\r\nset-cookie: b")))
    await send(body())


async def _body_without_start(send: Any) -> None:
    await send(body())


async def _start_twice(send: Any) -> None:
    await send(start())
    await send(start())


async def _too_long(send: Any) -> None:
    await send(start(200, (b"content-length", b"1")))
    await send(body(b"ab"))


async def _too_short(send: Any) -> None:
    await send(start(200, (b"content-length", b"3")))
    await send(body(b"ab"))


async def _strange(send: Any) -> None:
    await send({"type": "websocket.accept"})


async def _nothing(send: Any) -> None:
    return


async def _cancelled(send: Any) -> None:
    raise asyncio.CancelledError


async def _only_start(send: Any) -> None:
    await send(start())


FAULTS = [
    _raise, _header_with_a_line_end, _body_without_start, _start_twice, _too_long, _too_short, _strange, _nothing,
    _cancelled, _only_start,
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_an_app_that_fails_before_its_response_is_a_500(http: str, fault: Any, caplog) -> None:
    async def app(scope, receive, send) -> None:
        await fault(send)

    async def main() -> None:
        async with serving(app, http=http) as server:
            client = await Client.connect(server)
            answer = await client.request("/path", authorization="Bearer canary")
            assert answer.status == 500
            error = orjson.loads(answer.body)["error"]
            assert (error["type"], error["code"], error["param"]) == ("server_error", "server_error", None)
            assert b"secret" not in answer.body
            assert b"Traceback" not in answer.body
            assert await client.ended() == b""
            if fault not in (_too_long, _too_short):  # to HEAD a body's length does not matter
                client = await Client.connect(server)
                answer = await client.request(method="HEAD")
                assert (answer.status, await client.ended()) == (500, b"")

    with caplog.at_level(logging.DEBUG, "relay.server"):
        run(main())
    assert "canary" not in caplog.text
    if fault is not _cancelled:
        assert "GET /path" in caplog.text


@pytest.mark.parametrize("headers", [[], [(b"content-length", b"9")]], ids=["chunked", "sized"])
def test_an_app_that_fails_within_its_response_cuts_it(http: str, headers: Any) -> None:
    async def app(scope, receive, send) -> None:
        await send(start(200, *headers))
        await send(body(b"abc", True))
        raise RuntimeError

    async def main() -> None:
        async with serving(app, http=http) as server:
            client = await Client.connect(server)
            answer = await client.request()
            assert (answer.status, answer.body, answer.whole) == (200, b"abc", False)
            await until(lambda: server.connections == 0)

    run(main())


def test_a_cut_response_to_http_1_0_is_a_reset(http: str) -> None:
    """There the connection's end would be the body's."""

    async def app(scope, receive, send) -> None:
        await send(start())
        await send(body(b"abc", True))
        await go.wait()
        raise RuntimeError

    go: asyncio.Event

    async def main() -> None:
        nonlocal go
        go = asyncio.Event()
        async with serving(app, http=http) as server:
            client = await Client.connect(server)
            client.write(b"GET / HTTP/1.0\r\n\r\n")
            await client.head()
            assert await client.reader.readexactly(3) == b"abc"
            go.set()
            with pytest.raises(ConnectionResetError):
                await client.reader.read()

    run(main())


def test_an_answer_before_the_request_has_ended_closes_and_arrives(http: str) -> None:
    async def app(scope, receive, send) -> None:
        await send(start(401, (b"content-length", b"2")))
        await send(body(b"no"))

    async def main() -> None:
        async with serving(app, http=http) as server:
            client = await Client.connect(server)
            client.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 30000000\r\n\r\n")
            client.write(bytes(8_000_000))  # the answer must not be lost to a reset while this is on its way
            answer = await client.answer()
            assert (answer.status, answer.body, answer.headers["connection"]) == (401, b"no", "close")
            client.write(bytes(1_000_000))
            assert await client.reader.read() == b""  # an end, not a reset
            client.leave()
            await until(lambda: server.connections == 0)

    run(main())


def test_receive_says_disconnect_after_the_response(http: str) -> None:
    messages = []

    async def app(scope, receive, send) -> None:
        messages.append(await receive())
        watcher = asyncio.create_task(receive())
        await asyncio.sleep(0)
        await send(start(204))
        await send(body())
        messages.append(await watcher)
        messages.append(await receive())

    async def main() -> None:
        async with serving(app, http=http) as server:
            client = await Client.connect(server)
            assert (await client.request()).status == 204
            await until(lambda: len(messages) == 3)
        assert messages[0] == {"type": "http.request", "body": b"", "more_body": False}
        assert messages[1:] == [{"type": "http.disconnect"}] * 2

    run(main())


def test_a_task_goes_on_after_its_response_though_the_client_leaves(http: str) -> None:
    done: asyncio.Future[bool]

    async def app(scope, receive, send) -> None:
        await send(start(204))
        await send(body())
        await go.wait()
        done.set_result(True)

    go: asyncio.Event

    async def main() -> None:
        nonlocal done, go
        done, go = asyncio.get_running_loop().create_future(), asyncio.Event()
        async with serving(app, http=http) as server:
            client = await Client.connect(server)
            assert (await client.request()).status == 204
            client.reset()
            await until(lambda: server.connections == 0)
            go.set()
            assert await done

    run(main())
