"""Hosts that vanish: what is decided, what the kernel is told, and a real black hole (fleet.md 47)."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from relay.errors import RelayError
from relay.upstream import Timeouts, connection, liveness
from relay.upstream.liveness import Sent, is_gone, keep_alive
from tests.support import run
from tests.upstream.scripted import OK, Peer, client_of, fetch, post, serving

LINUX = sys.platform == "linux"


@pytest.mark.parametrize(
    ("state", "waited_s", "reused", "gone"),
    [
        (Sent(True, True, 30.0), 30.0, False, True),
        (Sent(True, True, 29.9), 100.0, False, False),
        (Sent(True, True, 100.0), 29.9, False, False),  # silent before it was asked
        (Sent(True, False, 100.0), 100.0, False, False),  # nothing had to be sent twice
        (Sent(False, False, 600.0), 600.0, False, False),  # all is acknowledged: it thinks
        (Sent(True, True, 20.0), 20.0, True, True),  # a fresh connection is tried within the time
        (Sent(True, True, 19.9), 19.9, True, False),
    ],
)
def test_when_a_host_is_gone(state: Sent, waited_s: float, reused: bool, gone: bool) -> None:
    assert is_gone(state, waited_s, 30.0, reused=reused) is gone


@pytest.mark.skipif(not LINUX, reason="the options' names are Linux's")
@pytest.mark.parametrize(("limit_s", "expected"), [(30.0, (1, 10, 5, 4)), (1.0, (1, 1, 1, 4)), (0.0, (0, 7200, 75, 9))])
def test_what_the_kernel_is_told(limit_s: float, expected: tuple[int, ...]) -> None:
    """Idle, interval, probes: 10 + 4 × 5 s. Off: the socket's own defaults (tcp(7))."""
    with socket.socket() as sock:
        keep_alive(sock, limit_s)
        options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        told = [sock.getsockopt(socket.IPPROTO_TCP, option) for option in options]
        assert (sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), *told) == expected


def test_a_unix_socket_is_left_alone() -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        keep_alive(sock, 30.0)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
        assert liveness.sent(sock) is None
    assert liveness.sent(None) is None


@pytest.mark.skipif(not LINUX, reason="TCP_INFO is Linux's")
def test_what_the_kernel_says_of_a_living_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as sock:
        sock.sendall(b"x")
        state = liveness.sent(sock)
        assert state is not None
        assert (state.unacknowledged, state.repeated) == (False, False)
        assert state.unheard_s < 5
        far, _ = listener.accept()
        sock.setblocking(False)
        try:
            while True:
                sock.send(bytes(65_536))
        except BlockingIOError:  # the other side reads nothing: it is there, and what waits is not acknowledged
            state = liveness.sent(sock)
            assert state is not None
            assert state.unacknowledged
        far.close()
    assert liveness.sent(sock) is None


def test_every_connection_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with serving(answer) as server, client_of() as client:
            got = await post(client, server)
            sock = got._connection.transport.get_extra_info("socket")
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            got.close()

    async def answer(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)

    run(main())


def test_a_request_that_nobody_acknowledges_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "sent", lambda sock: Sent(True, True, 100.0))

    async def silent(peer: Peer) -> None:
        await peer.request()
        await peer.left()

    async def main() -> None:
        async with serving(silent) as server, client_of() as client:
            with pytest.raises(RelayError, match=r"has not answered for 0.05 s .dead_peer_timeout_s") as failed:
                await fetch(client, server, Timeouts(5, 600, 300, 0.05))
            assert failed.value.kind == "upstream_timeout"
            assert server.accepted == 1

    run(main())


def test_on_a_reused_connection_a_fresh_one_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    async def once(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        if len(servers[0].peers) == 1:
            monkeypatch.setattr(connection, "sent", lambda sock: Sent(True, True, 100.0))
            await peer.left()
        else:
            monkeypatch.setattr(connection, "sent", lambda sock: None)

    servers = []

    async def main() -> None:
        async with serving(once) as server, client_of() as client:
            servers.append(server)
            timeouts = Timeouts(5, 600, 300, 0.05)
            assert await fetch(client, server, timeouts) == (200, b"ok")
            assert await fetch(client, server, timeouts) == (200, b"ok")
            assert server.accepted == 2

    run(main())


def test_looking_stops_once_all_is_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []

    def look(sock: object) -> Sent:
        looks.append(sock)
        return Sent(len(looks) < 3, False, 0.0)

    monkeypatch.setattr(connection, "sent", look)

    async def silent(peer: Peer) -> None:
        await peer.request()
        await peer.left()

    async def main() -> None:
        async with serving(silent) as server, client_of() as client:
            with pytest.raises(RelayError, match="first_byte_timeout_s"):
                await fetch(client, server, Timeouts(5, 0.2, 300, 0.05))
        assert len(looks) == 3

    run(main())


def _black_hole() -> str | None:
    if not (LINUX and all(map(shutil.which, ("unshare", "nsenter", "ip")))):
        return "unshare, nsenter and ip are needed"
    command = ["unshare", "-rn", "ip", "link", "add", "near", "type", "veth", "peer", "name", "far"]
    done = subprocess.run(command, capture_output=True, check=False)
    return None if done.returncode == 0 else f"no network namespaces here: {done.stderr.decode()[:200]}"


@pytest.fixture(scope="module")
def black_hole() -> None:
    reason = _black_hole()
    if reason:
        pytest.skip(reason)


def test_upstreams_that_vanish(black_hole: None) -> None:
    """Each is given up within 35 s of 30; here within 7 + 1 of 6, whole seconds being the kernel's unit."""
    command = ["unshare", "-rn", sys.executable, "-m", "tests.upstream.vanishing", "6"]
    done = subprocess.run(
        command, capture_output=True, check=False, timeout=60, cwd=Path(__file__).parent.parent.parent
    )
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads(done.stdout)
    assert found.pop("lives")[1] == "200"
    assert set(found) == {"asked", "sending", "in a stream", "asked on a reused connection", "idle"}
    for name, (seconds, message) in found.items():
        assert 3 < seconds < 8, (name, seconds, message)
        if name not in ("idle", "asked on a reused connection"):  # the last one's fresh connection was not accepted
            assert "(dead_peer_timeout_s)" in message
