"""Look-ups: a silent name holds only who asks for it. The resolver is a function here that answers when it is let."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter

import pytest

from relay.upstream import Client, Origin, Timeouts
from relay.upstream.names import Address, Names
from tests.support import run, until
from tests.upstream.scripted import OK, answering, serving

HERE = [Address(socket.AF_INET, ("127.0.0.1", 80))]


class Resolver:
    """Names that begin with ``silent`` wait for ``go``; ``missing`` is none."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.go = threading.Event()

    def __call__(self, host: str, port: int) -> list[Address]:
        self.asked[host] += 1
        if host.startswith("silent"):
            assert self.go.wait(20)
        if host == "missing.example":
            raise socket.gaierror(socket.EAI_NONAME, "not known")
        if host == "strange.example":
            raise UnicodeError("label too long")
        return [Address(socket.AF_INET, ("127.0.0.1", port))]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "fe80::1", "0x7f.1", "2130706433"])
def test_a_literal_is_never_looked_up(host: str) -> None:
    resolver = Resolver()
    found = run(Names(1, resolver).resolve(host, 80))
    assert [address.sockaddr[:2] for address in found] == [
        row[4][:2] for row in socket.getaddrinfo(host, 80, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    ]
    assert not resolver.asked


def test_one_look_up_runs_for_a_name_and_outlives_who_asked_first() -> None:
    async def main() -> None:
        resolver = Resolver()
        names = Names(4, resolver)
        first, *others = (asyncio.create_task(names.resolve("silent.example", 80)) for _ in range(10))
        await until(lambda: resolver.asked)
        first.cancel()
        resolver.go.set()
        assert await asyncio.gather(*others) == [HERE] * 9
        assert resolver.asked == {"silent.example": 1}
        assert await names.resolve("silent.example", 80) == HERE  # and is not remembered
        assert resolver.asked == {"silent.example": 2}

    run(main())


def test_silent_names_hold_no_literal_and_no_more_than_their_owners_share() -> None:
    async def main() -> None:
        resolver = Resolver()
        names = Names(2, resolver)
        silent = [asyncio.create_task(names.resolve(f"silent{n}.example", 80, "greedy")) for n in range(5)]
        await until(lambda: len(resolver.asked) == 2)
        assert await names.resolve("127.0.0.1", 80, "other") == HERE
        late = asyncio.create_task(names.resolve("here.example", 80, "other"))
        gone = asyncio.create_task(names.resolve("gone.example", 80, "other"))
        await asyncio.sleep(0)
        gone.cancel()
        assert not late.done()
        resolver.go.set()
        assert await late == HERE
        assert await asyncio.gather(*silent) == [HERE] * 5
        # the other's only name went before the three that had waited longer
        assert list(resolver.asked).index("here.example") == 2

    run(main())


@pytest.mark.parametrize("host", ["missing.example", "strange.example"])
def test_a_name_that_is_none(host: str) -> None:
    async def main() -> None:
        names = Names(1, Resolver())
        for _ in range(2):
            with pytest.raises(socket.gaierror):
                await names.resolve(host, 80)

    run(main())


def test_two_who_wait_for_a_place_with_the_same_name_look_up_once() -> None:
    async def main() -> None:
        resolver = Resolver()
        names = Names(1, resolver)
        silent = asyncio.create_task(names.resolve("silent.example", 80))
        await until(lambda: resolver.asked)
        twice = [asyncio.create_task(names.resolve("here.example", 80)) for _ in range(2)]
        await asyncio.sleep(0)
        resolver.go.set()
        assert await asyncio.gather(silent, *twice) == [HERE] * 3
        assert resolver.asked["here.example"] == 1

    run(main())


def test_what_nobody_waits_for_any_more_is_not_looked_up() -> None:
    async def main() -> None:
        resolver = Resolver()
        names = Names(1, resolver)
        silent = asyncio.create_task(names.resolve("silent.example", 80))
        await until(lambda: resolver.asked)
        left = [asyncio.create_task(names.resolve("here.example", 80)) for _ in range(2)]
        await asyncio.sleep(0)
        for one in left:
            one.cancel()
        await asyncio.sleep(0)
        again = asyncio.create_task(names.resolve("again.example", 80))
        gone = asyncio.create_task(names.resolve("again.example", 80))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(*left, gone, return_exceptions=True)
        resolver.go.set()
        assert await asyncio.gather(silent, again) == [HERE] * 2
        assert await names.resolve("there.example", 80) == HERE
        assert "here.example" not in resolver.asked

    run(main())


def test_clients_names_do_not_hold_the_configurations(monkeypatch: pytest.MonkeyPatch) -> None:
    """All look-ups of hosts that clients name are silent; an upstream by its name is reached all the same."""
    resolver = Resolver()

    async def main() -> None:
        async with serving(answering(OK)) as server:
            client = Client()
            guarded, configured = client._names[True], client._names[False]
            guarded._look_up = configured._look_up = resolver
            asking = [
                asyncio.create_task(
                    client.request(Origin("http", f"silent{n}.example", 80), "GET", "/", [], address_guard=print)
                )
                for n in range(20)
            ]
            await until(lambda: len(resolver.asked) == 8)
            origin = Origin("http", "upstream.example", server.origin.port)
            answer = await client.request(origin, "GET", "/", [], b"", Timeouts(connect_timeout_s=5))
            assert await answer.body(10) == b"ok"
            answer.close()
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
            resolver.go.set()
            await client.aclose()

    run(main())
