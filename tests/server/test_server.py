"""Starting and stopping: lifespan, drain, deadline, TLS, Unix sockets."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme

from relay.config import ServerSettings
from relay.server import Limits, Server, StartupError
from relay.server.sockets import bind
from tests.server import support
from tests.server.support import PARSERS, Client, echo
from tests.support import run, until

serving = partial(support.serving, lifespan=False)

START = {"type": "http.response.start", "status": 200, "headers": []}


class Held:
    """An app whose responses begin at once and end when ``go`` is set."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.ends: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        end = "cancelled"
        try:
            await send(START)
            await send({"type": "http.response.body", "body": b"abc", "more_body": True})
            await self.go.wait()
            await send({"type": "http.response.body", "body": b"def"})
            end = "finished"
        finally:
            self.ends.append(end)

    async def begin(self, server: Server) -> Client:
        client = await Client.connect(server)
        client.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await client.reader.readuntil(b"abc\r\n")
        return client


def test_drain_lets_running_requests_finish_and_closes_idle_ones() -> None:
    calls = []

    async def main() -> None:
        app = Held()

        async def on_deadline() -> None:
            calls.append("deadline")

        async with serving(app, on_drain=lambda: calls.append("drain"), on_deadline=on_deadline) as server:
            client = await app.begin(server)
            idle = await Client.connect(server)
            await until(lambda: server.connections == 2)
            stopping = asyncio.create_task(server.stop(20))
            async with asyncio.timeout(1):
                assert await idle.ended() == b""
            assert calls == ["drain"]
            with pytest.raises(ConnectionRefusedError):
                await Client.connect(server)
            assert not stopping.done()
            app.go.set()
            assert await client.ended() == b"3\r\ndef\r\n0\r\n\r\n"
            await stopping
            assert (calls, app.ends) == (["drain"], ["finished"])

    run(main())


def test_a_response_that_begins_in_a_drain_says_close() -> None:
    async def main() -> None:
        go = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await go.wait()
            await echo(scope, receive, send)

        async with serving(app) as server:
            client = await Client.connect(server)
            client.write(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
            await until(lambda: server.tasks)
            stopping = asyncio.create_task(server.stop(20))
            await asyncio.sleep(0)
            go.set()
            answer = await client.answer()
            assert (answer.body, answer.headers["connection"]) == (b"GET /1? ", "close")
            assert await client.ended() == b""
            client.leave()
            await stopping

    run(main())


def test_a_request_that_is_half_there_when_a_drain_begins_is_answered() -> None:
    async def main() -> None:
        async with serving(echo) as server:
            client = await Client.connect(server)
            client.write(b"GET /1 HTTP/1.1\r\n")
            await until(lambda: any(one._scanner.waiting_bytes for one in server._context.connections))
            stopping = asyncio.create_task(server.stop(20))
            await asyncio.sleep(0.005)
            client.write(b"Host: a\r\n\r\n")
            answer = await client.answer()
            assert (answer.body, answer.headers["connection"]) == (b"GET /1? ", "close")
            assert await client.ended() == b""
            await stopping

    run(main())


def test_at_the_deadline_the_app_ends_its_turns() -> None:
    async def main() -> None:
        app = Held()

        async def on_deadline() -> None:
            app.go.set()

        async with serving(app, on_deadline=on_deadline) as server:
            client = await app.begin(server)
            begin = time.monotonic()
            await server.stop(0.05)
            assert 0.04 < time.monotonic() - begin < 0.9
            assert await client.ended() == b"3\r\ndef\r\n0\r\n\r\n"
            assert app.ends == ["finished"]

    run(main())


def test_what_runs_after_the_deadline_is_cancelled_and_cut() -> None:
    async def main() -> None:
        app = Held()

        async def on_deadline() -> None:
            await asyncio.Event().wait()

        async with serving(app, on_deadline=on_deadline, limits=Limits(deadline_s=0.05, flush_s=0.05)) as server:
            client = await app.begin(server)
            await server.stop(0.05)
            assert await client.ended() == b""  # no last chunk
            assert (app.ends, server.tasks, server.connections) == (["cancelled"], 0, 0)

    run(main())


def test_an_app_that_does_not_let_itself_be_cancelled_does_not_hold_the_stop(monkeypatch) -> None:
    monkeypatch.setattr("relay.server.server._FAREWELL_S", 0.05)

    async def main() -> None:
        over = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            while not over.is_set():
                try:
                    await over.wait()
                except asyncio.CancelledError:
                    pass

        async with serving(app, limits=Limits(flush_s=0.05)) as server:
            client = await Client.connect(server)
            client.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await until(lambda: server.tasks)
            begin = time.monotonic()
            await server.stop(0)
            assert time.monotonic() - begin < 3
            assert server.connections == 0
            over.set()
            await until(lambda: not server.tasks)

    run(main())


def test_lifespan_failure_is_an_error_and_frees_the_port() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no store"})

    async def main() -> None:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        with pytest.raises(StartupError, match="no store"):
            await Server(app, ServerSettings(port=port)).start()
        async with serving(echo, port=port) as server:
            assert server.port == port

    run(main())


def test_a_lifespan_that_hangs_is_bounded() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        with pytest.raises(StartupError, match=r"over 0\.05 s"):
            await Server(app, ServerSettings(port=0), limits=Limits(startup_s=0.05)).start()

    run(main())


def test_a_lifespan_that_fails_later_is_logged_and_does_not_hold_the_stop(caplog) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            return await echo(scope, receive, send)
        await receive()
        await send({"type": "lifespan.startup.complete"})
        raise RuntimeError("later")

    async def failing_shutdown(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.failed", "message": "disk"})

    async def main() -> None:
        async with support.serving(app) as server:
            assert (await (await Client.connect(server)).request()).status == 200
        async with support.serving(failing_shutdown):
            pass

    run(main())
    assert "the app failed in its lifespan" in caplog.text
    assert "disk" in caplog.text


def test_an_address_in_use_is_an_error() -> None:
    async def main() -> None:
        async with serving(echo) as server:
            with pytest.raises(OSError, match="in use"):
                await Server(echo, ServerSettings(port=server.port)).start()

    run(main())


@pytest.mark.parametrize("http", PARSERS)
def test_a_socket_may_be_given(http: str) -> None:
    async def main() -> None:
        sock = socket.create_server(("127.0.0.1", 0))
        server = Server(echo, ServerSettings(port=1, http=http))
        await server.start(sock)
        assert server.port == sock.getsockname()[1]
        client = await Client.connect(server)
        assert (await client.request()).status == 200
        client.writer.transport.abort()
        await server.stop(0)

    run(main())


@pytest.mark.parametrize("http", PARSERS)
def test_unix_sockets(http: str, tmp_path: Path) -> None:
    path = tmp_path / "relay.sock"
    scopes = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await echo(scope, receive, send)

    async def main() -> None:
        with socket.socket(socket.AF_UNIX) as left_behind:
            left_behind.bind(str(path))
        for _ in range(2):
            async with serving(app, http=http, uds=str(path)) as server:
                client = await Client.connect(server, uds=str(path))
                assert (await client.request("/", "POST", b"abc")).body == b"POST /? abc"
                with pytest.raises(OSError, match="in use"):
                    await Server(echo, ServerSettings(uds=str(path))).start()
            assert not path.exists()
        assert scopes[0]["client"] is None
        assert scopes[0]["server"] == (str(path), None)

    run(main())


@pytest.mark.parametrize(("mode", "expected"), [(None, 0o660), ("0600", 0o600), ("666", 0o666)])
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_unix_socket_has_its_mode_before_it_listens(
    mode: str | None, expected: int, umask: int, tmp_path: Path
) -> None:
    path = tmp_path / "relay.sock"
    before = os.umask(umask)
    try:
        sock = bind(ServerSettings(uds=str(path), **({"uds_mode": mode} if mode else {})))
    finally:
        os.umask(before)
    with sock, socket.socket(socket.AF_UNIX) as client:
        assert path.stat().st_mode & 0o777 == expected
        with pytest.raises(ConnectionRefusedError):  # it does not listen yet
            client.connect(str(path))


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def certificate(authority: trustme.CA, tmp_path_factory) -> dict[str, str]:
    made = authority.issue_cert("localhost")
    folder = tmp_path_factory.mktemp("tls")
    made.private_key_pem.write_to_path(folder / "key.pem")
    made.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    return {"ssl_certfile": str(folder / "cert.pem"), "ssl_keyfile": str(folder / "key.pem")}


@pytest.fixture(scope="module")
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


@pytest.mark.parametrize("http", PARSERS)
def test_tls(http: str, certificate: dict[str, str], trusting: ssl.SSLContext) -> None:
    schemes = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        schemes.append(scope["scheme"])
        await echo(scope, receive, send)

    async def main() -> None:
        async with serving(app, http=http, **certificate) as server:
            client = await Client.connect(server, ssl=trusting, server_hostname="localhost")
            assert client.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
            for size in (0, 3, 2_000_000):
                answer = await client.request("/", "POST", b"x" * size)
                assert len(answer.body) == len("POST /? ") + size
            client.write(b"GET / HTTP/1.1\n")
            assert (await client.answer()).status == 400
            assert schemes == ["https"] * 3
            client.writer.transport.abort()
            plain = await Client.connect(server)
            plain.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await plain.ended()
            await until(lambda: server.connections == 0)

    run(main())


@pytest.mark.parametrize("way", ["close", "abort"])
def test_a_tls_client_that_leaves_cancels_the_task(
    way: str, certificate: dict[str, str], trusting: ssl.SSLContext
) -> None:
    async def main() -> None:
        app = Held()
        async with serving(app, **certificate) as server:
            client = await Client.connect(server, ssl=trusting, server_hostname="localhost")
            client.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await client.reader.readuntil(b"abc\r\n")
            begin = time.monotonic()
            getattr(client.writer.transport, way)()
            await until(lambda: app.ends)
            assert time.monotonic() - begin < 0.1
            await until(lambda: server.connections == 0)

    run(main())


def test_a_tls_handshake_is_bounded(certificate: dict[str, str]) -> None:
    async def main() -> None:
        async with serving(echo, limits=Limits(head_s=0.1), **certificate) as server:
            client = await Client.connect(server)
            begin = time.monotonic()
            assert await client.ended() == b""
            assert time.monotonic() - begin < 2

    run(main())


def test_it_also_runs_on_asyncio_s_own_loop(certificate: dict[str, str], trusting: ssl.SSLContext) -> None:
    async def main() -> None:
        for http in PARSERS:
            app = Held()
            async with serving(app, http=http, limits=Limits(stall_s=0.2)) as server:
                client = await app.begin(server)
                app.go.set()
                assert await client.reader.readuntil(b"0\r\n\r\n") == b"3\r\ndef\r\n0\r\n\r\n"
                app.go.clear()
                client = await app.begin(server)
                client.leave()
                await until(lambda app=app: app.ends == ["finished", "cancelled"])
            async with serving(echo, http=http, **certificate) as server:
                client = await Client.connect(server, ssl=trusting, server_hostname="localhost")
                assert (await client.request("/", "POST", b"x" * 100_000)).status == 200

    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    asyncio.run(main())
