"""Who gets a place and who gives one up (issue 10 point 4): the decisions, then connections."""

from __future__ import annotations

import asyncio
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.config import ServerSettings
from relay.server import Limits, http
from relay.server.door import Door, Seat, stranger_address
from tests.server import support
from tests.server.support import PARSERS, Client
from tests.support import run, until


class Hall:
    """A door, and who was sent away."""

    def __init__(self, places: int, heads: int = 2) -> None:
        self.door = Door(places, heads)
        self.closed: list[str] = []

    def enter(self, name: str, address: str | None = None, *, busy: bool = False) -> Seat | None:
        seat = self.door.enter(address, lambda: self.closed.append(name))
        if seat is not None and busy:
            self.door.wake(seat)
        return seat

    def sit(self, name: str, address: str | None = None, *, busy: bool = False) -> Seat:
        seat = self.enter(name, address, busy=busy)
        assert seat is not None
        return seat


def test_the_stranger_that_has_rested_longest_gives_its_place_up() -> None:
    hall = Hall(8)
    strangers = [hall.sit(f"s{number}", f"10.0.0.{number}") for number in range(8)]
    hall.door.wake(strangers[0])
    hall.door.admit(strangers[1])
    hall.door.wake(strangers[2])
    hall.door.rest(strangers[2])  # refused: a stranger still, and now the last in the row
    for number in range(5):
        assert not hall.sit(f"n{number}", f"10.0.1.{number}", busy=True).extra
    assert hall.closed == ["s3", "s4", "s5", "s6", "s7"]
    assert not hall.sit("n5", "10.0.1.5", busy=True).extra
    assert hall.closed[-1] == "s2"
    # what is left is busy or was let in
    assert hall.sit("n6", "10.0.1.6").extra
    assert len(hall.closed) == 6


def test_strangers_of_one_address_hold_a_quarter() -> None:
    hall = Hall(8)
    first, second = hall.sit("a", "10.0.0.1", busy=True), hall.sit("b", "10.0.0.1", busy=True)
    assert hall.enter("c", "10.0.0.1") is None
    assert hall.sit("d", "10.0.0.2").resting
    hall.door.rest(first)
    assert hall.enter("e", "10.0.0.1") is not None  # in the place of its own neighbour
    assert hall.closed == ["a"]
    hall.door.admit(second)  # no stranger any more: it does not count
    assert hall.enter("f", "10.0.0.1") is not None
    assert hall.closed == ["a"]


def test_few_places_leave_each_address_one() -> None:
    hall = Hall(1)
    hall.sit("a", "10.0.0.1", busy=True)
    assert hall.enter("b", "10.0.0.1") is None
    assert hall.sit("c", "10.0.0.2").extra


def test_who_is_let_in_without_a_place_takes_one_of_those_that_rest() -> None:
    hall = Hall(3)
    known = [hall.sit(name) for name in ("a", "b", "c")]
    hall.door.wake(known[0])
    hall.door.wake(known[1])
    late = hall.sit("d", busy=True)
    assert late.extra
    assert hall.door.admit(late)
    assert not late.extra
    assert hall.closed == ["c"]
    later = hall.sit("e", busy=True)
    assert not hall.door.admit(later)
    assert later.extra
    hall.door.leave(known[0])
    assert hall.door.admit(later)
    assert (hall.door.taken, hall.door.extra) == (3, 0)
    assert hall.closed == ["c"]


def test_strangers_go_before_those_that_were_let_in() -> None:
    hall = Hall(2)
    hall.sit("known")
    busy = hall.sit("stranger", "10.0.0.1", busy=True)
    late = hall.sit("late", busy=True)
    hall.door.rest(busy)
    assert hall.door.admit(late)
    assert hall.closed == ["stranger"]


def test_places_for_heads_are_not_held_by_silence() -> None:
    hall = Hall(1, heads=2)
    hall.sit("a", busy=True)
    first = hall.sit("b", "10.0.0.1")
    hall.sit("c", "10.0.0.2", busy=True)
    assert hall.sit("d", "10.0.0.3").extra
    assert hall.closed == ["b"]
    assert first.gone
    assert hall.sit("e", "10.0.0.4", busy=True).extra
    assert hall.closed == ["b", "d"]
    assert hall.enter("f", "10.0.0.5") is None


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_it_never_loses_count(data: st.DataObject) -> None:
    places, heads = data.draw(st.integers(1, 9)), data.draw(st.integers(0, 3))
    door, seats, gone = Door(places, heads), [], []
    addresses = [None, "a", "b", "c"]
    for _ in range(data.draw(st.integers(0, 60))):
        act = data.draw(st.sampled_from(["enter", "enter", "wake", "rest", "admit", "leave"]))
        living = [seat for seat in seats if not seat.gone]
        if act == "enter" or not living:
            busy = {seat for seat in living if not seat.resting or (seat.address is None and not seat.extra)}
            seat = door.enter(data.draw(st.sampled_from(addresses)), lambda: gone.append(1))
            assert not any(one.gone for one in busy)
            if seat is not None:
                seats.append(seat)
        else:
            seat = data.draw(st.sampled_from(living))
            if act in ("wake", "admit") and seat.resting:
                door.wake(seat)
            if act != "wake":
                getattr(door, act)(seat)
        living = [seat for seat in seats if not seat.gone]
        assert door.taken == sum(not seat.extra for seat in living) <= places
        assert door.extra == sum(seat.extra for seat in living) <= heads
        for address in ("a", "b", "c"):
            assert sum(seat.address == address for seat in living) <= max(1, places // 4)
    for seat in seats:
        door.leave(seat)
    assert (door.taken, door.extra, door._strangers, door._rows, door._by_address) == (0, 0, {}, ({}, {}, {}), {})


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "20010db800010002::"),
        ("2001:db8:1:2::", "20010db800010002::"),
        ("fe80::1%eth0", "fe80000000000000::"),
        ("127.0.0.1", None),
        ("::1", None),
        ("::ffff:127.0.0.1", None),
        ("10.1.2.3", None),
        (None, None),
    ],
)
def test_who_is_a_stranger(peer: str | None, expected: str | None) -> None:
    keyed = ServerSettings(auth="keys", trusted_proxies=(ip_network("10.0.0.0/8"),))
    where = (peer, 1) if peer else None
    assert stranger_address(keyed, where) == expected
    assert stranger_address(ServerSettings(auth="passthrough"), where) is None


# --- over sockets


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Lets in what has a key; a probe and a refusal are answered without."""
    status = 200
    if scope["path"] == "/in" and not scope["extensions"]["relay.admit"]():
        status = 503
    if scope["path"] == "/no":
        status = 401
    headers = [(b"content-length", b"0")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def strange(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every connection is a stranger's, each from an address of its own."""
    numbers = iter(range(1_000))
    monkeypatch.setattr(http, "stranger_address", lambda settings, peer: f"10.0.0.{next(numbers)}")


@pytest.mark.parametrize("parser", PARSERS)
def test_silent_strangers_keep_nobody_out(parser: str, strange: None) -> None:
    async def main() -> None:
        async with support.serving(app, lifespan=False, http=parser, max_connections=4) as server:
            first = await Client.connect(server)
            assert (await first.request("/in")).status == 200
            silent = [await Client.connect(server) for _ in range(20)]
            await until(lambda: server.connections == 4)
            assert (await first.request("/in")).status == 200  # which was let in, and stays
            client = await Client.connect(server)
            assert (await client.request("/in")).status == 200
            assert await silent[0].ended() == b""
            assert (await first.request("/in")).status == 200

    run(main())


@pytest.mark.parametrize("parser", PARSERS)
def test_a_request_under_way_is_never_closed(parser: str, strange: None) -> None:
    async def main() -> None:
        async with support.serving(app, lifespan=False, http=parser, max_connections=4) as server:
            begun = [await Client.connect(server) for _ in range(4)]
            for client in begun:
                client.write(b"GET /no HTTP/1.1\r\nHost: a\r\n")
            await until(lambda: server._context.door._rows[0] == {})
            over = await Client.connect(server)
            assert (await over.request("/probe")).status == 200
            assert await over.ended() == b""  # its place was for the head only
            late = await Client.connect(server)
            assert (await late.request("/in")).status == 503
            assert await late.ended() == b""
            for client in begun:
                client.write(b"\r\n")
                assert (await client.answer()).status == 401
            client = await Client.connect(server)  # those rest again, and are strangers still
            assert (await client.request("/in")).status == 200
            assert await begun[0].ended() == b""

    run(main())


@pytest.mark.parametrize("parser", PARSERS)
def test_without_strangers_one_that_rests_makes_way(parser: str) -> None:
    async def main() -> None:
        async with support.serving(app, lifespan=False, http=parser, max_connections=2) as server:
            kept = [await Client.connect(server) for _ in range(2)]
            for client in kept:
                assert (await client.request("/in")).status == 200
            late = await Client.connect(server)
            assert (await late.request("/in")).status == 200
            assert "connection" not in (await late.request("/in")).headers
            assert await kept[0].ended() == b""
            assert (await kept[1].request("/in")).status == 200

    run(main())


@pytest.mark.parametrize("parser", PARSERS)
def test_a_body_that_trickles_is_a_408(parser: str) -> None:
    """Under 1 KiB in 30 s after the first 30; here in units of 20 ms."""

    async def read(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await app(scope, receive, send)

    async def main() -> None:
        limits = Limits(body_window_s=0.02, body_window_bytes=10)
        async with support.serving(read, lifespan=False, http=parser, limits=limits) as server:
            client = await Client.connect(server)
            client.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
            began = client.reader
            answering = client.answer()
            for _ in range(3):
                client.write(b"x")
            answer = await answering
            assert answer.status == 408
            assert b"too slowly: under 10 bytes in 0.02 s" in answer.body
            assert began is client.reader

    run(main())


@pytest.mark.parametrize("parser", PARSERS)
def test_a_body_that_is_not_read_is_not_slow(parser: str) -> None:
    gate: list[Any] = []

    async def late(scope: Any, receive: Any, send: Any) -> None:
        gate.append(asyncio.Event())
        await gate[0].wait()
        while (await receive()).get("more_body"):
            pass
        await app(scope, receive, send)

    async def main() -> None:
        limits = Limits(body_window_s=0.01, body_window_bytes=1 << 20, body_s=5.0)
        async with support.serving(late, lifespan=False, http=parser, limits=limits) as server:
            client = await Client.connect(server)
            client.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n" + bytes(200_000))
            (connection,) = [*await _one(server)]
            await until(lambda: connection._reading_paused and connection._on_deadline is None)
            assert connection._window_ends_at is None
            client.write(bytes(100_000))
            gate[0].set()
            assert (await client.answer()).status == 200

    async def _one(server: Any) -> Any:
        await until(lambda: server.connections == 1 and gate)
        return server._context.connections

    run(main())
