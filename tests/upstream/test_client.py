"""The client through real sockets: reuse, the one retry, the cap, and leaving. Source: decisions 5 and 8."""

from __future__ import annotations

import asyncio
import errno
import os
import socket

import pytest

from relay.errors import RelayError
from relay.upstream import Answer, Client, Origin, Timeouts
from relay.upstream.failures import converted
from tests.support import run, until
from tests.upstream.scripted import OK, QUICK, Peer, answering, client_of, fetch, post, serving

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
SOON_S = 0.1  # the cancel matrix of issue 2


def test_the_request_arrives_as_written() -> None:
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.request())
        await peer.send(OK)

    async def main() -> None:
        async with serving(script) as server, client_of() as client:
            for body in (b'{"a":1}', b"x" * 3_000_000):
                answer = await post(client, server, body)
                assert await answer.body(10) == b"ok"
                answer.close()
                head, _, received = seen.pop().partition(b"\r\n\r\n")
                assert received == body
                lines = head.split(b"\r\n")
                assert lines[0] == b"POST /v1/x HTTP/1.1"
                assert f"host: 127.0.0.1:{server.origin.port}".encode() in lines
                assert b"authorization: Bearer k" in lines
                assert b"accept-encoding: identity" in lines
                assert b"content-length: %d" % len(body) in lines

    run(main())


def test_a_connection_is_reused_and_the_last_one_first() -> None:
    async def script(peer: Peer) -> None:
        number = len(await peer.request())
        while True:
            await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n%20d" % id(peer))
            number = len(await peer.request())
        assert number

    async def main() -> None:
        async with serving(script) as server, client_of() as client:
            answers = [await post(client, server) for _ in range(3)]
            assert client.counts(server.origin) == (3, 0, 0)
            names = [await answer.body(100) for answer in answers]
            assert len(set(names)) == 3
            for answer in answers:
                answer.close()
            assert client.counts(server.origin) == (0, 3, 0)
            for _ in range(3):
                assert (await fetch(client, server))[1] == names[2]
            assert server.accepted == 3

    run(main())


def test_an_answer_that_is_left_early_is_not_reused() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + b"1\r\na\r\n")
        await peer.left()

    async def main() -> None:
        async with serving(script) as server, client_of() as client:
            answer = await post(client, server)
            assert await answer.read() == b"a"
            answer.close()
            assert client.counts(server.origin) == (0, 0, 0)
            async with asyncio.timeout(SOON_S):
                await until(lambda: server.finished == 1)
            assert client.open_connections == 0

    run(main())


@pytest.mark.parametrize("farewell", ["fin", "rst", "junk"])
def test_an_idle_connection_that_ends_or_speaks_is_forgotten(farewell: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await gone.wait()
        if farewell == "rst":
            peer.reset()
        elif farewell == "junk":
            await peer.send(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
            await peer.left()

    gone = asyncio.Event()

    async def main() -> None:
        async with serving(script) as server, client_of() as client:
            await fetch(client, server)
            assert client.counts(server.origin) == (0, 1, 0)
            gone.set()
            await until(lambda: client.counts(server.origin) == (0, 0, 0))
            await until(lambda: client.open_connections == 0 and server.finished == 1)

    run(main())


def test_idle_connections_are_closed_after_the_limit() -> None:
    async def main() -> None:
        async with serving(answering(OK)) as server, client_of(idle_limit_s=0.03) as client:
            one, two = await post(client, server), await post(client, server)
            for answer in (one, two):
                await answer.body(10)
            one.close()
            await asyncio.sleep(0.01)
            two.close()
            assert client.counts(server.origin) == (0, 2, 0)
            await until(lambda: client.counts(server.origin) == (0, 1, 0))
            await until(lambda: client.counts(server.origin) == (0, 0, 0))
            await until(lambda: server.finished == 2)

    run(main())


# what the second request on a kept connection meets, how often the request is sent in all, and whether it succeeds
RETRIES = [
    ("fin", 3, True),
    ("rst", 3, True),
    ("after a byte", 2, False),
    ("after the head", 2, False),
    ("silence", 2, False),
]


@pytest.mark.parametrize(("end", "sent", "succeeds"), RETRIES)
def test_only_a_reused_connection_that_died_untouched_is_retried(end: str, sent: int, succeeds: bool) -> None:
    requests: list[bytes] = []

    async def script(peer: Peer) -> None:
        requests.append(await peer.request())
        await peer.send(OK)
        requests.append(await peer.request())
        if end == "rst":
            peer.reset()
        elif end == "after a byte":
            await peer.send(b"H")
        elif end == "after the head":
            await peer.send(CHUNKED)
        elif end == "silence":
            await peer.left()

    async def main() -> None:
        async with serving(script) as server, client_of(max_connections=1) as client:
            await fetch(client, server)
            if succeeds:
                assert await fetch(client, server) == (200, b"ok")
                assert requests[2] == requests[1]
            else:
                with pytest.raises(RelayError):
                    await fetch(client, server, Timeouts(5, 0.05, 5))
            assert len(requests) == sent
            assert client.counts(server.origin).in_use == 0

    run(main())


@pytest.mark.parametrize("end", ["fin", "rst"])
def test_a_fresh_connection_that_dies_is_not_retried(end: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        if end == "rst":
            peer.reset()

    async def main() -> None:
        async with serving(script) as server, client_of() as client:
            with pytest.raises(RelayError) as caught:
                await fetch(client, server)
            assert caught.value.kind == "upstream_unreachable"
            assert caught.value.status == 502
            assert server.accepted == 1
            assert client.counts(server.origin) == (0, 0, 0)

    run(main())


def test_the_retry_itself_is_not_retried() -> None:
    requests: list[bytes] = []

    async def script(peer: Peer) -> None:
        requests.append(await peer.request())
        if len(requests) == 1:
            await peer.send(OK)
            requests.append(await peer.request())

    async def main() -> None:
        async with serving(script) as server, client_of() as client:
            await fetch(client, server)
            with pytest.raises(RelayError, match="without an answer"):
                await fetch(client, server)
            assert len(requests) == 3
            assert client.counts(server.origin) == (0, 0, 0)

    run(main())


def test_beyond_the_cap_requests_wait_in_order_and_a_cancelled_one_loses_nothing() -> None:
    order: list[int] = []

    async def main() -> None:
        async with serving(answering(OK)) as server, client_of(max_connections=1) as client:

            async def ask(number: int) -> None:
                assert await fetch(client, server) == (200, b"ok")
                order.append(number)

            held = await post(client, server)
            tasks = []
            for number in range(5):
                tasks.append(asyncio.ensure_future(ask(number)))
                await asyncio.sleep(0)
            assert client.counts(server.origin) == (1, 0, 5)
            tasks[1].cancel()
            await asyncio.sleep(0)
            assert client.counts(server.origin) == (1, 0, 4)
            await held.body(10)
            tasks[0].cancel()  # not yet awake to leave the queue
            held.close()
            tasks[2].cancel()  # granted in this very moment, and not yet awake
            await asyncio.gather(*tasks, return_exceptions=True)
            assert [task.cancelled() for task in tasks] == [True, True, True, False, False]
            assert order == [3, 4]
            assert server.accepted == 1
            assert client.counts(server.origin) == (0, 1, 0)

    run(main())


def test_a_slot_goes_on_when_its_connection_does_not() -> None:
    async def main() -> None:
        async with serving(answering(OK, close=True)) as server, client_of(max_connections=2) as client:
            results = await asyncio.gather(*(fetch(client, server) for _ in range(9)))
            assert results == [(200, b"ok")] * 9
            assert server.accepted == 9
            assert client.counts(server.origin) == (0, 0, 0)

    run(main())


def test_waiting_for_a_slot_is_bounded() -> None:
    async def main() -> None:
        async with serving(answering(OK)) as server, client_of(max_connections=1) as client:
            held = await post(client, server)
            with pytest.raises(RelayError, match=r"became free within 0\.02 s") as caught:
                await fetch(client, server, Timeouts(5, 0.02, 5))
            assert caught.value.kind == "upstream_timeout"
            assert client.counts(server.origin) == (1, 0, 0)
            held.close()

    run(main())


async def never(peer: Peer) -> None:
    await peer.left()


async def headless(peer: Peer) -> None:
    await peer.request()
    await peer.left()


async def halfway(peer: Peer) -> None:
    await peer.request()
    await peer.send(CHUNKED + b"1\r\na\r\n")
    await peer.left()


@pytest.mark.parametrize("stage", [never, headless, halfway])
def test_cancelling_closes_the_socket_at_once_and_frees_the_slot(stage: object) -> None:
    async def main() -> None:
        async with serving(stage) as server, client_of(max_connections=1) as client:  # type: ignore[arg-type]
            task = asyncio.ensure_future(fetch(client, server))
            await until(lambda: server.accepted == 1)
            await asyncio.sleep(0.01)
            task.cancel()
            async with asyncio.timeout(SOON_S):
                await until(lambda: server.finished == 1)
            with pytest.raises(asyncio.CancelledError):
                await task
            assert client.counts(server.origin) == (0, 0, 0)
            assert client.open_connections == 0
            assert len(asyncio.all_tasks()) <= 1

    run(main())


def test_an_answer_before_the_request_was_read_does_not_keep_the_connection() -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(b"HTTP/1.1 413 X\r\ncontent-length: 0\r\n\r\n")
        done.set()
        await closed.wait()

    done, closed = asyncio.Event(), asyncio.Event()

    async def main() -> None:
        async with serving(script) as server, client_of() as client:
            answer = await post(client, server, b"x" * 30_000_000)
            assert answer.status == 413
            answer.close()
            assert client.counts(server.origin) == (0, 0, 0)
            closed.set()

    run(main())


def test_closing_the_client_ends_everything() -> None:
    async def main() -> None:
        async with serving(halfway) as server:
            client = Client(max_connections=1)
            answer = await post(client, server)
            waiting = asyncio.ensure_future(post(client, server))
            await until(lambda: client.counts(server.origin).waiting == 1)
            await client.aclose()
            assert client.open_connections == 0
            with pytest.raises(RelayError, match="shutting down"):
                await waiting
            assert await answer.read() == b"a"
            with pytest.raises(RelayError, match="ended early"):
                await answer.read()
            answer.close()
            with pytest.raises(RelayError, match="shutting down"):
                await post(client, server)
            assert client.counts(server.origin) == (0, 0, 0)

    run(main())


def test_bad_headers_take_no_slot() -> None:
    async def main() -> None:
        async with serving(answering(OK)) as server, client_of() as client:
            with pytest.raises(RelayError, match="forbidden"):
                await client.request(server.origin, "POST", "/", [("x", "a\nb")], b"", QUICK)
            assert server.accepted == 0
            assert client.counts(server.origin) == (0, 0, 0)

    run(main())


def test_many_waiters_that_are_cancelled_at_once_lose_nothing() -> None:
    async def main() -> None:
        async with serving(answering(OK)) as server, client_of(max_connections=1) as client:
            held = await post(client, server)
            tasks = [asyncio.ensure_future(fetch(client, server)) for _ in range(3_000)]
            await until(lambda: client.counts(server.origin).waiting == 3_000)
            for task in tasks:
                task.cancel()
            held.close()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert client.counts(server.origin) == (0, 1, 0)  # its body had come
            assert await fetch(client, server) == (200, b"ok")

    run(main())


# what comes after the terminal event, and whether the connection is kept
RETIREMENTS = [
    ("its end", b"0\r\n\r\n", True),
    ("its end and more", b"0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", False),
    ("nothing", b"", False),
    ("garbage", b"zz\r\n", False),
    ("too much", b"ffffff\r\n" + b"x" * 400_000, False),
]


@pytest.mark.parametrize("already", [True, False])
@pytest.mark.parametrize(("name", "rest", "kept"), RETIREMENTS, ids=[row[0] for row in RETIREMENTS])
def test_a_retired_answer_keeps_its_connection_if_it_ends_soon(
    name: str, rest: bytes, kept: bool, already: bool
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + b"6\r\n[DONE]\r\n")
        await retired.wait()
        await peer.send(rest)
        await peer.left()

    retired = asyncio.Event()

    async def main() -> None:
        async with serving(script) as server, client_of() as client:
            answer = await post(client, server)
            assert await answer.read() == b"[DONE]"
            if already:
                retired.set()
                await asyncio.sleep(0.01)
            answer.retire(0.05)
            answer.retire(0.05)
            retired.set()
            await until(lambda: client.counts(server.origin).in_use == 0)
            assert client.counts(server.origin) == (0, int(kept), 0)
            await until(lambda: client.open_connections == int(kept))
            if not kept:
                await until(lambda: server.finished == 1)

    run(main())


def test_a_connection_that_opens_while_the_client_closes_is_closed() -> None:
    async def main() -> None:
        async with serving(never) as server:
            client = Client()
            task = asyncio.ensure_future(post(client, server))
            await asyncio.sleep(0)
            await client.aclose()
            with pytest.raises(RelayError, match="shutting down"):
                await task
            await until(lambda: client.open_connections == 0)
            await until(lambda: server.finished == server.accepted)
            assert client.counts(server.origin) == (0, 0, 0)

    run(main())


def test_many_requests_share_few_connections() -> None:
    async def main() -> None:
        async with serving(answering(OK)) as server, client_of(max_connections=8) as client:
            results = await asyncio.gather(*(fetch(client, server) for _ in range(500)))
            assert results == [(200, b"ok")] * 500
            assert server.accepted == 8
            assert client.counts(server.origin) == (0, 8, 0)

    run(main())


def test_an_owner_who_holds_all_connections_waits_behind_the_others() -> None:
    """Issue 10 point 3: one key with silent streams must not keep the next free connection from another."""

    async def main() -> None:
        async with serving(answering(OK)) as server, client_of(max_connections=2) as client:

            async def ask(owner: str) -> Answer:
                return await client.request(server.origin, "POST", "/", [], b"", QUICK, owner=owner)

            held = [await ask("greedy") for _ in range(2)]
            third = asyncio.create_task(ask("greedy"))
            await until(lambda: client.counts(server.origin).waiting == 1)
            other = asyncio.create_task(ask("other"))
            await until(lambda: client.counts(server.origin).waiting == 2)
            assert await held[0].body(10) == b"ok"
            held[0].close()
            answer = await other
            assert not third.done()
            assert await answer.body(10) == b"ok"
            answer.close()
            for one in (held[1], await third):
                await one.body(10)
                one.close()

    run(main())


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EMFILE, "Too many open files"),
        OSError(errno.ENFILE, "Too many open files in system"),
        socket.gaierror(socket.EAI_SYSTEM, "System error"),
    ],
)
def test_without_descriptors_it_is_the_relay_that_is_overloaded(
    error: OSError, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(descriptor: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "dup", none_left)
    told = converted(error, Origin("http", "up.example", 80))
    assert (told.kind, told.status, told.message) == ("overloaded", 503, "The relay is out of file descriptors.")
    assert "up.example" in (told.detail or "")


def test_a_resolver_that_fails_for_another_reason_is_told_as_such() -> None:
    told = converted(socket.gaierror(socket.EAI_SYSTEM, "System error"), Origin("http", "up.example", 80))
    assert "its name could not be resolved" in told.message
