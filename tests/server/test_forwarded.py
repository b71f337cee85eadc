"""Whose a request is, and by what scheme it came, behind proxies that are trusted and others; over real sockets."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import trustme

from relay.server import Server
from relay.server.forwarded import believe
from tests.server.support import Client, serving
from tests.server.websocket_support import KEY
from tests.support import run

KINDS = ("httptools", "h11", "websocket")
PROXIES = ("127.0.0.1", "10.0.0.0/8", "2001:db8:1::/48")
PEER = "the peer's address and port"
UPGRADE = f"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n"

# the header's lines; the client
FORWARDED_FOR: list[tuple[tuple[str, ...], str]] = [
    ((), PEER),
    (("192.0.2.1",), "192.0.2.1"),
    # several hops: from the right over those that are trusted
    (("192.0.2.1, 10.1.2.3",), "192.0.2.1"),
    (("192.0.2.1,10.1.2.3\t, 127.0.0.1 ",), "192.0.2.1"),
    (("10.0.0.1, 10.0.0.2",), "10.0.0.1"),
    # what the client wrote stands left of what it is
    (("198.51.100.9, 192.0.2.1",), "192.0.2.1"),
    (("127.0.0.1, 10.9.9.9, 192.0.2.1, 10.0.0.1",), "192.0.2.1"),
    (("198.51.100.9, 192.0.2.1, 192.0.2.2, 10.0.0.1",), "192.0.2.2"),
    ((", ".join(["198.51.100.9"] * 1000 + ["192.0.2.1", "10.0.0.1"]),), "192.0.2.1"),
    # the walk has an end: the first of these is not looked at
    ((", ".join(["192.0.2.1", *["10.0.0.2"] * 40]),), "10.0.0.2"),
    # what is no address ends the walk
    (("unknown",), PEER),
    (("",), PEER),
    (("192.0.2.1,",), PEER),
    (("192.0.2.1, ,10.0.0.1",), "10.0.0.1"),
    (("192.0.2.1, unknown, 10.0.0.1",), "10.0.0.1"),
    (("192.0.2.1, unix:, 10.0.0.2, 10.0.0.1",), "10.0.0.2"),
    (("198.51.100.9, 192.0.2.256",), PEER),
    (("192.0.2.1 10.0.0.1",), PEER),
    (("192.0.2.01",), PEER),
    (("192.0.2.1:x",), PEER),
    (("192.0.2.1/32",), PEER),
    (("for=192.0.2.1",), PEER),
    (("ü192.0.2.1",), PEER),
    (("fe80::1%<zone>",), PEER),
    (("[2001:db8::1",), PEER),
    (("2001:db8:::1",), PEER),
    (("1" * 5000,), PEER),
    # IPv6, ports, and an IPv4 address as a socket for both has it
    (("2001:DB8::0:1",), "2001:db8::1"),
    (("2001:db8::1, 2001:db8:1::9",), "2001:db8::1"),
    (("192.0.2.1, 2001:db8:1::9, 10.0.0.1",), "192.0.2.1"),
    (("192.0.2.1, 2001:db8:2::9",), "2001:db8:2::9"),
    (("[2001:db8::1]",), "2001:db8::1"),
    (("[2001:db8::1]:4711, 10.0.0.1:80",), "2001:db8::1"),
    (("192.0.2.1:4711",), "192.0.2.1"),
    (("::ffff:192.0.2.1, ::ffff:10.0.0.1",), "192.0.2.1"),
    # several lines are one list, in order
    (("192.0.2.1", "10.0.0.1"), "192.0.2.1"),
    (("192.0.2.1, 10.0.0.2", "10.0.0.1"), "192.0.2.1"),
    (("10.0.0.1", "192.0.2.1"), "192.0.2.1"),
    (("198.51.100.9", "192.0.2.1", "10.0.0.1, 10.0.0.2"), "192.0.2.1"),
    (("192.0.2.1", ""), PEER),
]

# the header's lines; whether it is https
FORWARDED_PROTO: list[tuple[tuple[str, ...], bool]] = [
    ((), False),
    (("https",), True),
    (("http",), False),
    (("HTTPS ",), True),
    (("wss",), True),
    (("ws",), False),
    (("ftp",), False),
    (("",), False),
    (("https://",), False),
    # the last word is the peer's own
    (("http, https",), True),
    (("https,http",), False),
    (("http", "https"), True),
    (("https", "http"), False),
    (("https,",), False),
]


class Noted:
    """An app that keeps its scope's ``client`` and ``scheme``, and answers 204 or closes the socket."""

    def __init__(self) -> None:
        self.said: list[tuple[Any, str]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        self.said.append((scope["client"], scope["scheme"]))
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close"})
            return
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})


async def ask(client: Client, kind: str, *, forwarded_for: tuple[str, ...] = (), proto: tuple[str, ...] = ()) -> None:
    lines = [f"X-Forwarded-For: {value}\r\n" for value in forwarded_for]
    lines += [f"x-forwarded-proto: {value}\r\n" for value in proto]
    own = UPGRADE if kind == "websocket" else ""
    client.write(f"GET / HTTP/1.1\r\nHost: a\r\n{own}{''.join(lines)}\r\n".encode("latin-1"))
    assert (await client.answer()).status == (403 if kind == "websocket" else 204)


async def connect(server: Server, host: str, own: str) -> Client:
    """A client at ``own`` that connects to ``host``."""
    return Client(*await asyncio.open_connection(host, server.port, local_addr=(own, 0)))


def settings_for(kind: str, proxies: tuple[str, ...] = PROXIES) -> dict[str, Any]:
    return {
        "http": "auto" if kind == "websocket" else kind,
        "trusted_proxies": tuple(map(ip_network, proxies)),
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("lines", "expected"), FORWARDED_FOR, ids=lambda value: str(value)[:60])
def test_the_client_behind_a_trusted_peer(lines: tuple[str, ...], expected: str, kind: str) -> None:
    app = Noted()

    async def main() -> None:
        async with serving(app, **settings_for(kind)) as server:
            client = await Client.connect(server)
            await ask(client, kind, forwarded_for=lines)
            peer = client.writer.get_extra_info("sockname")
            assert [whose for whose, _ in app.said] == [peer if expected is PEER else (expected, 0)]

    run(main())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("lines", "secure"), FORWARDED_PROTO, ids=lambda value: str(value)[:60])
def test_the_scheme_behind_a_trusted_peer(lines: tuple[str, ...], secure: bool, kind: str) -> None:
    app = Noted()

    async def main() -> None:
        async with serving(app, **settings_for(kind)) as server:
            client = await Client.connect(server)
            await ask(client, kind, proto=lines)
            plain = "ws" if kind == "websocket" else "http"
            assert app.said == [(client.writer.get_extra_info("sockname"), plain + "s" * secure)]

    run(main())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("proxies", [(), ("10.0.0.0/8", "127.0.0.1", "::/0")], ids=["none listed", "others listed"])
def test_a_peer_that_is_not_listed_is_not_believed(proxies: tuple[str, ...], kind: str) -> None:
    app = Noted()

    async def main() -> None:
        async with serving(app, **settings_for(kind, proxies)) as server:
            client = await connect(server, "127.0.0.1", "127.0.0.2")
            await ask(client, kind, forwarded_for=("192.0.2.1", "10.0.0.1"), proto=("https",))
            assert app.said == [(client.writer.get_extra_info("sockname"), "ws" if kind == "websocket" else "http")]

    run(main())


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("listen", "host", "own", "proxy", "believed"),
    [
        ("::1", "::1", "::1", "::1", True),
        ("::1", "::1", "::1", "::/16", True),
        ("::1", "::1", "::1", "::2", False),
        ("::1", "::1", "::1", "0.0.0.0/0", False),
        ("::", "127.0.0.1", "127.0.0.2", "127.0.0.2", True),
        ("::", "127.0.0.1", "127.0.0.2", "::ffff:127.0.0.2", True),
        ("::", "127.0.0.1", "127.0.0.2", "127.0.0.1", False),
    ],
)
def test_a_peer_of_ipv6_or_both(listen: str, host: str, own: str, proxy: str, believed: bool, kind: str) -> None:
    app = Noted()

    async def main() -> None:
        async with serving(app, host=listen, **settings_for(kind, (proxy,))) as server:
            client = await connect(server, host, own)
            await ask(client, kind, forwarded_for=("192.0.2.1",), proto=("https",))
        ((whose, scheme),) = app.said
        assert scheme in (("https", "wss") if believed else ("http", "ws"))
        if believed:
            assert whose == ("192.0.2.1", 0)
        else:
            assert (whose[0].removeprefix("::ffff:"), whose[1]) == client.writer.get_extra_info("sockname")[:2]

    run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_the_peer_of_a_unix_socket_has_no_address_and_is_not_believed(kind: str, tmp_path: Path) -> None:
    app, path = Noted(), str(tmp_path / "relay.sock")

    async def main() -> None:
        async with serving(app, uds=path, **settings_for(kind, ("0.0.0.0/0", "::/0"))) as server:
            client = await Client.connect(server, uds=path)
            await ask(client, kind, forwarded_for=("192.0.2.1",), proto=("https",))
            assert app.said == [(None, "ws" if kind == "websocket" else "http")]

    run(main())


@pytest.mark.parametrize("http", ["httptools", "h11"])
def test_each_request_of_a_connection_speaks_for_itself(http: str) -> None:
    app = Noted()

    async def main() -> None:
        async with serving(app, **settings_for(http)) as server:
            client = await Client.connect(server)
            peer = client.writer.get_extra_info("sockname")
            await ask(client, http, forwarded_for=("192.0.2.1",), proto=("https",))
            await ask(client, http)
            await ask(client, http, forwarded_for=("192.0.2.2",))
            await ask(client, "websocket", proto=("https",))
            assert app.said == [(("192.0.2.1", 0), "https"), (peer, "http"), (("192.0.2.2", 0), "http"), (peer, "wss")]

    run(main())


def test_over_tls_the_scheme_stays_unless_the_peer_says_another(tmp_path: Path) -> None:
    app, authority = Noted(), trustme.CA()
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(tmp_path / "all.pem")
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)

    async def main() -> None:
        async with serving(app, ssl_certfile=str(tmp_path / "all.pem"), **settings_for("h11")) as server:
            client = await Client.connect(server, ssl=trusting, server_hostname="localhost")
            await ask(client, "h11", proto=("ftp",))
            await ask(client, "h11", proto=("http",))
            await ask(client, "websocket", forwarded_for=("192.0.2.1",))
            assert [scheme for _, scheme in app.said] == ["https", "http", "wss"]

    run(main())


def test_thousands_of_hops_cost_no_more_than_a_few() -> None:
    trusted = tuple(map(ip_network, PROXIES))

    def seconds(hops: int) -> float:
        scope = {"client": None, "scheme": "http", "headers": [(b"x-forwarded-for", b",".join([b"10.0.0.1"] * hops))]}
        started = time.process_time()
        for _ in range(20):
            believe(scope, trusted)
        return time.process_time() - started

    assert min(seconds(3000) for _ in range(5)) < 3 * min(seconds(40) for _ in range(5))
