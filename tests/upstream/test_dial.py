"""Connecting: TLS, Unix sockets, several addresses, guards, and what failures are called (translation.md §5.2)."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from pathlib import Path

import pytest
import trustme

from relay.errors import RelayError
from relay.upstream import Origin, Timeouts
from relay.upstream.dial import interleave, race, resolve
from relay.upstream.names import Address, Names
from tests.support import run, until
from tests.upstream.scripted import OK, QUICK, Peer, answering, client_of, fetch, post, serving

HAS_IPV6 = socket.has_ipv6 and Path("/proc/net/if_inet6").exists() and Path("/proc/net/if_inet6").read_text() != ""


class Authority:
    """A CA of our own, in a file, and servers that show its certificates."""

    def __init__(self, folder: Path) -> None:
        self._ca = trustme.CA()
        self.ca_file = str(folder / "ca.pem")
        self._ca.cert_pem.write_to_path(self.ca_file)

    def server_for(self, *names: str, common_name: str | None = None) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(*names, common_name=common_name).configure_cert(context)
        return context


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def over_tls(port: int, ca_file: str | None, host: str = "127.0.0.1") -> Origin:
    return Origin("https", host, port, None, ca_file)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_tls_with_a_ca_of_our_own(authority: Authority, host: str) -> None:
    async def main() -> None:
        tls = authority.server_for(host)
        async with serving(answering(OK), tls=tls) as server, client_of() as client:
            origin = over_tls(server.origin.port, authority.ca_file, host)
            for _ in range(3):
                answer = await client.request(origin, "POST", "/", [], b"x" * 100_000, QUICK)
                assert await answer.body(10) == b"ok"
                answer.close()
            assert server.accepted == 1
            assert client.counts(origin) == (0, 1, 0)

    run(main())


def test_tls_streams_under_back_pressure(authority: Authority) -> None:
    total = 5_000_000

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total)
        for _ in range(total // 50_000):
            await peer.send(b"x" * 50_000)
        await peer.left()

    async def main() -> None:
        async with serving(script, tls=authority.server_for("127.0.0.1")) as server, client_of() as client:
            origin = over_tls(server.origin.port, authority.ca_file)
            answer = await client.request(origin, "POST", "/", [], b"", QUICK)
            await until(lambda: answer._paused)
            assert sum(map(len, answer._pieces)) <= 64 * 1024 + 256 * 1024
            assert len(await answer.body(total)) == total
            answer.close()
            assert client.counts(origin) == (0, 1, 0)

    run(main())


def test_leaving_a_tls_answer_closes_its_socket_at_once(authority: Authority) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
        await peer.left()

    async def main() -> None:
        async with serving(script, tls=authority.server_for("127.0.0.1")) as server, client_of() as client:
            origin = over_tls(server.origin.port, authority.ca_file)
            answer = await client.request(origin, "POST", "/", [], b"", QUICK)
            assert await answer.read() == b"hello"
            answer.close()
            async with asyncio.timeout(0.1):
                await until(lambda: server.finished == 1)
            assert client.open_connections == 0

    run(main())


@pytest.mark.parametrize("case", ["other name", "common name", "unknown authority", "not TLS"])
def test_tls_failures_are_unreachable(authority: Authority, case: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.read(1)
        await peer.send(b"HTTP/1.1 400 The plain HTTP request was sent to HTTPS port\r\n\r\n")

    async def main() -> None:
        host = "localhost" if case == "common name" else "127.0.0.1"
        names = {"other name": ("other.example",), "common name": ()}.get(case, ("127.0.0.1",))
        tls = authority.server_for(*names, common_name="localhost" if case == "common name" else None)
        ca_file = None if case == "unknown authority" else authority.ca_file
        async with serving(script, tls=None if case == "not TLS" else tls) as server, client_of() as client:
            with pytest.raises(RelayError) as caught:
                await client.request(over_tls(server.origin.port, ca_file, host), "POST", "/", [], b"", QUICK)
            assert caught.value.kind == "upstream_unreachable"
            assert ("certificate" if case != "not TLS" else "TLS") in caught.value.message
            assert host not in caught.value.message
            assert host in (caught.value.detail or "")
            assert client.open_connections == 0
            assert client.counts(over_tls(server.origin.port, ca_file)) == (0, 0, 0)

    run(main())


def test_a_ca_file_that_is_missing_is_a_configuration_error(tmp_path: Path) -> None:
    async def main() -> None:
        async with client_of() as client:
            origin = over_tls(1, str(tmp_path / "none.pem"))
            with pytest.raises(RelayError, match="ca_file") as caught:
                await client.request(origin, "GET", "/", [], b"", QUICK)
            assert caught.value.kind == "upstream_misconfigured"
            assert client.counts(origin) == (0, 0, 0)

    run(main())


def test_cancelling_a_tls_handshake_closes_the_socket(authority: Authority) -> None:
    async def script(peer: Peer) -> None:
        await peer.left()

    async def main() -> None:
        async with serving(script) as server, client_of() as client:  # accepts, and never shakes hands
            origin = over_tls(server.origin.port, authority.ca_file)
            task = asyncio.ensure_future(client.request(origin, "GET", "/", [], b"", QUICK))
            await until(lambda: server.accepted == 1)
            await asyncio.sleep(0.01)
            task.cancel()
            async with asyncio.timeout(0.1):
                await until(lambda: server.finished == 1)
            with pytest.raises(asyncio.CancelledError):
                await task
            assert client.counts(origin) == (0, 0, 0)

    run(main())


def test_connecting_takes_five_seconds_at_most_and_says_so(authority: Authority) -> None:
    async def script(peer: Peer) -> None:
        await peer.left()

    async def main() -> None:
        async with serving(script) as server, client_of() as client:
            origin = over_tls(server.origin.port, authority.ca_file)
            with pytest.raises(RelayError, match=r"within 0.03 s \(connect_timeout_s\)") as caught:
                await client.request(origin, "GET", "/", [], b"", Timeouts(0.03, 5, 5))
            assert caught.value.kind == "upstream_timeout"
            await until(lambda: server.finished == 1)
            assert client.counts(origin) == (0, 0, 0)
            assert Timeouts() == Timeouts(5, 600, 300)  # decision 6

    run(main())


def test_unix_socket(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(answering(OK), unix=str(tmp_path / "x.sock")) as server, client_of() as client:
            assert await fetch(client, server) == (200, b"ok")
            assert await fetch(client, server) == (200, b"ok")
            assert server.accepted == 1

    run(main())


@pytest.mark.parametrize(
    ("origin", "words"),
    [
        (Origin("http", "127.0.0.1", 1), "refused"),
        (Origin("http", "localhost", 1), "refused"),
        (Origin("http", "localhost", 80, "/nonexistent/x.sock"), "Unix socket does not exist"),
        (Origin("http", "nowhere.invalid", 80), "could not be resolved"),
    ],
)
def test_failures_have_words_and_keep_the_host_for_the_log(origin: Origin, words: str) -> None:
    async def main() -> None:
        async with client_of() as client:
            with pytest.raises(RelayError, match=words) as caught:
                await client.request(origin, "GET", "/secret", [("authorization", "Bearer secret")], b"", QUICK)
            assert caught.value.kind == "upstream_unreachable"
            assert str(origin) in (caught.value.detail or "")
            for text in (caught.value.message, caught.value.detail or ""):
                assert "secret" not in text
            assert client.counts(origin) == (0, 0, 0)

    run(main())


def test_a_guard_sees_the_address_and_its_connections_are_used_once() -> None:
    seen: list[str] = []

    def guard(address: str) -> None:
        seen.append(address)
        if refusing and ipaddress.ip_address(address).is_loopback:
            raise RelayError("invalid_image_url", "The address is not public.")

    refusing = False

    async def main() -> None:
        nonlocal refusing
        async with serving(answering(OK)) as server, client_of() as client:
            assert await fetch(client, server) == (200, b"ok")  # leaves an unguarded connection in the pool
            for _ in range(2):
                answer = await client.request(server.origin, "GET", "/", [], b"", QUICK, address_guard=guard)
                answer.close()
            assert seen == ["127.0.0.1"] * 2
            assert server.accepted == 3
            refusing = True
            with pytest.raises(RelayError, match="not public"):
                await client.request(server.origin, "GET", "/", [], b"", QUICK, address_guard=guard)
            assert server.accepted == 3
            assert client.counts(server.origin) == (0, 1, 0)

    run(main())


def test_families_take_turns() -> None:
    def rows(*names: str) -> list[Address]:
        return [Address(socket.AF_INET6 if name.startswith("six") else socket.AF_INET, (name, 1)) for name in names]

    given = rows("six1", "six2", "six3", "four1", "four2")
    assert interleave(given) == rows("six1", "four1", "six2", "four2", "six3")
    assert interleave(rows("four1")) == rows("four1")


def test_resolving_gives_addresses_that_can_be_connected_to() -> None:
    async def main() -> None:
        names = Names(1).resolve
        addresses = await resolve(names, "localhost", 80)
        assert {address.sockaddr[0] for address in addresses} <= {"127.0.0.1", "::1"}
        assert await resolve(names, "127.0.0.1", 80) == [Address(socket.AF_INET, ("127.0.0.1", 80))]

    run(main())


def test_what_the_resolver_says_is_put_in_turns_and_bounded() -> None:
    def look_up(host: str, port: int) -> list[Address]:
        six = [Address(socket.AF_INET6, (f"::{number}", port, 0, 0)) for number in range(1, 30)]
        return [*six, Address(socket.AF_INET, ("127.0.0.1", port))]

    addresses = run(resolve(Names(1, look_up).resolve, "many.example", 80))
    assert [address.sockaddr[0] for address in addresses[:3]] == ["::1", "127.0.0.1", "::2"]
    assert len(addresses) == len(set(addresses)) == 16


def listening(family: int, host: str, backlog: int = 8) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.bind((host, 0))
    listener.listen(backlog)
    return listener


def address_of(listener: socket.socket) -> Address:
    return Address(listener.family, listener.getsockname())


def refused_address() -> Address:
    with listening(socket.AF_INET, "127.0.0.1") as listener:
        return address_of(listener)


def test_a_refused_address_gives_way_at_once() -> None:
    async def main() -> None:
        with listening(socket.AF_INET, "127.0.0.1") as listener:
            async with asyncio.timeout(0.2):
                connected = await race([refused_address(), refused_address(), address_of(listener)], stagger_s=5)
            assert connected.getpeername() == listener.getsockname()
            connected.close()
        with pytest.raises(ConnectionRefusedError):
            await race([refused_address(), refused_address()], stagger_s=5)

    run(main())


@pytest.mark.skipif(not HAS_IPV6, reason="no IPv6 on this machine")
def test_both_families_connect() -> None:
    async def main() -> None:
        with listening(socket.AF_INET6, "::1") as six, listening(socket.AF_INET, "127.0.0.1") as four:
            connected = await race([address_of(six), address_of(four)])
            assert connected.family == socket.AF_INET6
            connected.close()
            connected = await race([Address(socket.AF_INET6, ("::1", 1, 0, 0)), address_of(four)], stagger_s=5)
            assert connected.family == socket.AF_INET
            connected.close()

    run(main())


@pytest.mark.skipif(not HAS_IPV6, reason="no IPv6 on this machine")
def test_a_server_on_ipv6_alone() -> None:
    async def main() -> None:
        async with serving(answering(OK), host="::1") as server, client_of() as client:
            assert await fetch(client, server) == (200, b"ok")

    run(main())


class Full:
    """A listener whose queue is full: connecting to it neither succeeds nor fails (Linux drops the SYN)."""

    def __init__(self) -> None:
        self.listener = listening(socket.AF_INET, "127.0.0.1", 0)
        self._fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(self.listener.getsockname())
            self._fillers.append(filler)

    def close(self) -> None:
        for filler in self._fillers:
            filler.close()
        self.listener.close()


def test_a_silent_address_is_overtaken_and_its_attempt_closed() -> None:
    async def main() -> None:
        full = Full()
        try:
            with listening(socket.AF_INET, "127.0.0.1") as listener:
                loop = asyncio.get_running_loop()
                begun = loop.time()
                connected = await race([address_of(full.listener), address_of(listener)], stagger_s=0.03)
                assert 0.025 <= loop.time() - begun < 0.5
                assert connected.getpeername() == listener.getsockname()
                connected.close()
                await asyncio.sleep(0)
                await until(lambda: len(asyncio.all_tasks()) == 1)
            task = asyncio.ensure_future(race([address_of(full.listener)] * 2, stagger_s=0.001))
            await asyncio.sleep(0.005)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await until(lambda: len(asyncio.all_tasks()) == 1)
        finally:
            full.close()

    run(main())


def test_a_silent_address_times_out_as_a_client_sees_it() -> None:
    async def main() -> None:
        full = Full()
        try:
            async with client_of() as client:
                origin = Origin("http", "127.0.0.1", full.listener.getsockname()[1])
                with pytest.raises(RelayError, match="connect_timeout_s"):
                    await client.request(origin, "GET", "/", [], b"", Timeouts(0.03, 5, 5))
                assert client.counts(origin) == (0, 0, 0)
        finally:
            full.close()

    run(main())


def test_small_writes_are_not_held_back() -> None:
    async def main() -> None:
        async with serving(answering(OK)) as server, client_of() as client:
            answer = await post(client, server)
            connected = answer._connection.transport.get_extra_info("socket")
            assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
            answer.close()

    run(main())


def test_post_helper_is_what_other_tests_use() -> None:
    """``post`` sends what the tests above believe it sends."""
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.request())
        await peer.send(OK)

    async def main() -> None:
        async with serving(script) as server, client_of() as client:
            (await post(client, server)).close()
        assert seen[0].endswith(b"\r\n\r\n{}")

    run(main())
