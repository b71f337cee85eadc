"""What comes back, through real sockets. Expected values: RFC 9112 §6–7, RFC 9110 §15, decisions 5–7 and 26."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc

import pytest

from relay.errors import RelayError
from relay.upstream import Timeouts
from tests.support import run, until
from tests.upstream.scripted import OK, QUICK, Peer, Script, answering, client_of, fetch, post, serving

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
LENGTH = b"HTTP/1.1 200 OK\r\ncontent-length: "
CODED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: "
EARLY, GARBAGE = "upstream_ended_early", "upstream_bad_response"

# name, bytes on the wire, closed behind them, status, body, connection kept
GOOD = [
    ("length", LENGTH + b"5\r\n\r\nhello", False, 200, b"hello", True),
    ("length zero", LENGTH + b"0\r\n\r\n", False, 200, b"", True),
    ("chunked", CHUNKED + b"5\r\nhello\r\n1;a=b\r\n!\r\n0\r\n\r\n", False, 200, b"hello!", True),
    ("trailers", CHUNKED + b"1\r\na\r\n0\r\nx-checksum: 1\r\n\r\n", False, 200, b"a", True),
    ("until closed", b"HTTP/1.1 200 OK\r\n\r\nhello", True, 200, b"hello", False),
    ("until closed, empty", b"HTTP/1.1 200 OK\r\n\r\n", True, 200, b"", False),
    ("version 1.0", b"HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\na", False, 200, b"a", False),
    ("connection close", LENGTH + b"1\r\nconnection: close\r\n\r\na", False, 200, b"a", False),
    ("204", b"HTTP/1.1 204 No Content\r\n\r\n", False, 204, b"", True),
    ("304 with length", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", False, 304, b"", True),
    ("1xx first", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 X\r\nlink: x\r\n\r\n" + OK, False, 200, b"ok", True),
    ("redirect is passed", b"HTTP/1.1 307 X\r\nlocation: /y\r\ncontent-length: 1\r\n\r\na", False, 307, b"a", True),
    ("no reason", b"HTTP/1.1 200\r\ncontent-length: 1\r\n\r\na", False, 200, b"a", True),
    ("error status", b"HTTP/1.1 500 X\r\ncontent-length: 1\r\n\r\na", False, 500, b"a", True),
    ("bytes behind the end", OK + OK, False, 200, b"ok", False),
    ("junk behind the end", OK + b"\0\0", False, 200, b"ok", False),
    ("gzip", LENGTH + b"%d\r\ncontent-encoding: gzip\r\n\r\n" % len(gzip.compress(b"zip")) + gzip.compress(b"zip"),
     False, 200, b"zip", True),
    ("204 with a coding", b"HTTP/1.1 204 X\r\ncontent-encoding: br\r\n\r\n", False, 204, b"", True),
]  # fmt: skip

# name, bytes on the wire (the server then closes), kind
BAD = [
    ("nothing", b"", "upstream_unreachable"),
    ("half a head", b"HTTP/1.1 200 OK\r\ncont", EARLY),
    ("short length", LENGTH + b"5\r\n\r\nhell", EARLY),
    ("head only", LENGTH + b"5\r\n\r\n", EARLY),
    ("cut chunk", CHUNKED + b"5\r\nhel", EARLY),
    ("no last chunk", CHUNKED + b"5\r\nhello\r\n", EARLY),
    ("cut last chunk", CHUNKED + b"5\r\nhello\r\n0\r\n", EARLY),
    ("cut gzip", b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n" + gzip.compress(b"a" * 99)[:-5], EARLY),
    ("not HTTP", b"SSH-2.0-OpenSSH_9.9\r\n", GARBAGE),
    ("HTML at once", b"<html><body>hi</body></html>\r\n\r\n", GARBAGE),
    ("HTTP/2 preface", b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", GARBAGE),
    ("bad chunk size", CHUNKED + b"zz\r\nhello\r\n", GARBAGE),
    ("negative length", LENGTH + b"-1\r\n\r\n", GARBAGE),
    ("two lengths", LENGTH + b"1\r\ncontent-length: 2\r\n\r\nab", GARBAGE),
    ("length and chunked", LENGTH + b"1\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", GARBAGE),
    ("stacked transfer codings", CODED + b"gzip, chunked\r\n\r\n0\r\n\r\n", GARBAGE),
    ("other transfer coding", CODED + b"gzip\r\n\r\nx", GARBAGE),
    ("unknown coding", LENGTH + b"1\r\ncontent-encoding: br\r\n\r\na", GARBAGE),
    ("two codings", LENGTH + b"1\r\ncontent-encoding: gzip\r\ncontent-encoding: gzip\r\n\r\na", GARBAGE),
    ("not gzip", LENGTH + b"4\r\ncontent-encoding: gzip\r\n\r\nabcd", GARBAGE),
    ("switching", b"HTTP/1.1 101 X\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n", GARBAGE),
    ("one large header", b"HTTP/1.1 200 OK\r\nx: " + b"a" * 33_000 + b"\r\n\r\n", GARBAGE),
    ("many headers", b"HTTP/1.1 200 OK\r\n" + b"x: 1\r\n" * 300 + b"\r\n", GARBAGE),
    ("large trailers", CHUNKED + b"1\r\na\r\n0\r\nx: " + b"a" * 33_000 + b"\r\n\r\n", GARBAGE),
]  # fmt: skip


def by_pieces(response: bytes, size: int, *, close: bool) -> Script:
    async def script(peer: Peer) -> None:
        await peer.request()
        for at in range(0, len(response), size):
            await peer.send(response[at : at + size])
            await asyncio.sleep(0)
        if not close:
            await peer.left()

    return script


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize(("name", "wire", "close", "status", "body", "kept"), GOOD, ids=[row[0] for row in GOOD])
def test_good_answers(name: str, wire: bytes, close: bool, status: int, body: bytes, kept: bool, size: int) -> None:
    async def main() -> None:
        async with serving(by_pieces(wire, size, close=close)) as server, client_of() as client:
            assert await fetch(client, server) == (status, body)
            if "behind" not in name or size > 7:  # small pieces may come after the answer was closed
                assert client.counts(server.origin) == (0, int(kept), 0)
            if not kept:
                await until(lambda: client.open_connections == 0)

    run(main())


@pytest.mark.parametrize("size", [1, 100_000])
@pytest.mark.parametrize(("name", "wire", "kind"), BAD, ids=[row[0] for row in BAD])
def test_bad_answers_are_never_a_success(name: str, wire: bytes, kind: str, size: int) -> None:
    async def main() -> None:
        async with serving(by_pieces(wire, max(size, len(wire) // 500), close=True)) as server, client_of() as client:
            with pytest.raises(RelayError) as caught:
                await fetch(client, server)
            assert caught.value.kind == kind
            assert "127.0.0.1" not in caught.value.message
            assert client.counts(server.origin) == (0, 0, 0)
            await until(lambda: client.open_connections == 0)

    run(main())


def test_what_came_before_the_cut_is_delivered_first() -> None:
    async def main() -> None:
        async with (
            serving(by_pieces(CHUNKED + b"5\r\nhello\r\n", 100_000, close=True)) as server,
            client_of() as client,
        ):
            answer = await post(client, server)
            await until(lambda: client.open_connections == 0)
            assert await answer.read() == b"hello"
            for _ in range(2):
                with pytest.raises(RelayError, match="ended early"):
                    await answer.read()
            answer.close()

    run(main())


def test_a_reset_in_the_middle_is_an_early_end() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + b"5\r\nhello\r\n")
        await peer.reader.read(1)
        peer.reset()

    async def main() -> None:
        async with serving(script) as server, client_of() as client:
            answer = await post(client, server)
            assert await answer.read() == b"hello"
            answer._connection.transport.write(b"!")  # the sign to reset
            with pytest.raises(RelayError) as caught:
                await answer.read()
            assert caught.value.kind == EARLY
            answer.close()

    run(main())


def test_headers_are_lowercase_bytes_in_order() -> None:
    wire = b"HTTP/1.1 200 OK\r\nX-B: 1\r\nContent-Length: 0\r\nX-Empty:\r\nx-b: \xe9\r\n\r\n"

    async def main() -> None:
        async with serving(answering(wire)) as server, client_of() as client:
            answer = await post(client, server)
            assert answer.headers == [(b"x-b", b"1"), (b"content-length", b"0"), (b"x-empty", b""), (b"x-b", b"\xe9")]
            assert answer.header(b"x-b") == b"1"
            assert answer.header(b"x-c") is None
            assert await answer.read() == b""
            assert await answer.read() == b""
            answer.close()
            answer.close()
            assert client.counts(server.origin) == (0, 1, 0)

    run(main())


def test_head_has_no_body() -> None:
    async def main() -> None:
        async with serving(answering(LENGTH + b"5\r\n\r\n")) as server, client_of() as client:
            answer = await client.request(server.origin, "HEAD", "/", [], b"", QUICK)
            assert await answer.body(10) == b""
            answer.close()

    run(main())


def test_reads_come_as_the_upstream_writes() -> None:
    """One read for each write, without waiting for the next; several writes in one read if nobody reads meanwhile."""
    go = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED)
        for number in range(5):
            await go.wait()
            go.clear()
            await peer.send(b"1\r\n%d\r\n" % number)
        await peer.send(b"0\r\n\r\n")

    async def main() -> None:
        async with serving(script) as server, client_of() as client:
            answer = await post(client, server)
            for number in range(3):
                go.set()
                assert await answer.read() == b"%d" % number
            for length in (1, 2):
                go.set()
                await until(lambda length=length: len(answer._pieces) == length)
            assert await answer.read() == b"34"
            assert await answer.read() == b""
            answer.close()

    run(main())


def test_a_whole_body_is_bounded() -> None:
    async def main() -> None:
        async with serving(answering(LENGTH + b"11\r\n\r\nhello world")) as server, client_of() as client:
            answer = await post(client, server)
            with pytest.raises(RelayError, match="larger than 10 bytes"):
                await answer.body(10)
            answer.close()
            answer = await post(client, server)
            assert await answer.body(11) == b"hello world"
            answer.close()

    run(main())


ENDLESS = {
    "chunk extension": b"1;" + b"a" * 400_000,
    "many trailers": b"0\r\n" + b"x: 1\r\n" * 60_000,
    "one trailer": b"0\r\nx: " + b"a" * 400_000,
}


@pytest.mark.parametrize("endless", ENDLESS.values(), ids=ENDLESS)
def test_endless_framing_is_bounded(endless: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + b"1\r\na\r\n")
        for at in range(0, len(endless), 4_000):
            await peer.send(endless[at : at + 4_000])
            await asyncio.sleep(0)
        await peer.left()

    async def main() -> None:
        async with serving(script) as server, client_of() as client:
            with pytest.raises(RelayError) as caught:
                await fetch(client, server)
            assert caught.value.kind == GARBAGE
            assert server.peers[0].sent_bytes < 300_000

    run(main())


def test_an_endless_head_is_bounded() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        while True:
            await peer.send(b"HTTP/1.1 100 Continue\r\nx: y\r\n\r\n")

    async def main() -> None:
        async with serving(script) as server, client_of() as client:
            with pytest.raises(RelayError) as caught:
                await fetch(client, server)
            assert caught.value.kind == GARBAGE

    run(main())


def test_a_reader_that_stops_stops_the_upstream_and_memory_stays_flat() -> None:
    total = 50_000_000
    piece = b"x" * 50_000

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(LENGTH + b"%d\r\n\r\n" % total)
        for _ in range(total // len(piece)):
            await peer.send(piece)
        await peer.left()

    async def main() -> None:
        async with serving(script) as server, client_of() as client:
            answer = await post(client, server)
            await until(lambda: answer._paused)
            for _ in range(10):  # until the kernel's buffers are full, too
                await asyncio.sleep(0.01)
            assert server.peers[0].sent_bytes < total / 2
            assert sum(map(len, answer._pieces)) <= 64 * 1024 + 256 * 1024
            tracemalloc.start()
            received = 0
            while data := await answer.read():
                received += len(data)
                await asyncio.sleep(0)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert received == total
            assert peak < 2_000_000
            answer.close()
            assert client.counts(server.origin) == (0, 1, 0)

    run(main())


def test_a_gzip_answer_is_inflated_under_back_pressure() -> None:
    text = b"".join(b"data: %d\n\n" % number for number in range(300_000))

    async def main() -> None:
        packed = gzip.compress(text)
        wire = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(packed) + packed
        async with serving(answering(wire)) as server, client_of() as client:
            answer = await post(client, server)
            pieces = []
            while data := await answer.read():
                assert len(data) <= 64 * 1024
                pieces.append(data)
            assert b"".join(pieces) == text
            answer.close()
            assert client.counts(server.origin) == (0, 1, 0)

    run(main())


@pytest.mark.parametrize(
    ("wire", "timeouts", "words"),
    [
        (b"", Timeouts(5, 0.03, 5), "no first byte within 0.03 s .first_byte_timeout_s"),
        (b"HTTP/1.1 200 OK\r\nx: ", Timeouts(5, 0.03, 5), "no first byte within 0.03 s"),
        (CHUNKED, Timeouts(5, 0.03, 5), "no first byte within 0.03 s"),
        (CHUNKED + b"1\r\na\r\n", Timeouts(5, 5, 0.03), "nothing for 0.03 s .idle_timeout_s"),
    ],
)
def test_silence_ends_and_is_named(wire: bytes, timeouts: Timeouts, words: str) -> None:
    async def main() -> None:
        async with serving(by_pieces(wire, 1_000, close=False)) as server, client_of() as client:
            loop = asyncio.get_running_loop()
            begun = loop.time()
            with pytest.raises(RelayError, match=words) as caught:
                await fetch(client, server, timeouts)
            assert caught.value.kind == "upstream_timeout"
            assert caught.value.status == 504
            assert 0.025 <= loop.time() - begun < 1
            await until(lambda: server.finished == 1)

    run(main())


def test_bytes_in_time_keep_the_idle_limit_away() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED)
        for _ in range(20):
            await peer.send(b"1\r\na\r\n")
            await asyncio.sleep(0.005)
        await peer.send(b"0\r\n\r\n")

    async def main() -> None:
        async with serving(script) as server, client_of() as client:
            assert await fetch(client, server, Timeouts(5, 5, 0.05)) == (200, b"a" * 20)

    run(main())


def test_silence_is_not_counted_while_we_paused() -> None:
    async def main() -> None:
        wire = LENGTH + b"200000\r\n\r\n" + b"x" * 200_000
        async with serving(answering(wire)) as server, client_of() as client:
            answer = await post(client, server, timeouts=Timeouts(5, 5, 0.02))
            await until(lambda: answer._paused)
            for _ in range(10):
                await asyncio.sleep(0.01)
            assert len(await answer.body(300_000)) == 200_000
            answer.close()

    run(main())


def test_silence_is_counted_anew_when_we_read_on() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(LENGTH + b"100001\r\n\r\n" + b"x" * 100_000)
        await last.wait()
        await peer.send(b"x")
        await peer.left()

    last = asyncio.Event()

    async def main() -> None:
        async with serving(script) as server, client_of() as client:
            answer = await post(client, server, timeouts=Timeouts(5, 5, 0.3))
            await until(lambda: len(b"".join(answer._pieces)) == 100_000)
            assert answer._paused
            loop = asyncio.get_running_loop()
            paused_at = loop.time()
            await until(lambda: loop.time() - paused_at > 0.32)
            assert len(await answer.read()) == 100_000
            answer._look_at_time()  # the timer may fire right now
            last.set()
            assert await answer.body(10) == b"x"
            answer.close()

    run(main())


def test_a_failure_closes_the_socket_before_the_caller_does() -> None:
    async def main() -> None:
        async with serving(by_pieces(CHUNKED + b"1\r\na\r\n", 1_000, close=False)) as server, client_of() as client:
            answer = await post(client, server, timeouts=Timeouts(5, 5, 0.02))
            await until(lambda: server.finished == 1)
            assert await answer.read() == b"a"
            with pytest.raises(RelayError, match="idle_timeout_s"):
                await answer.read()
            answer.close()

    run(main())


def test_closing_wakes_a_reader() -> None:
    async def main() -> None:
        async with serving(by_pieces(CHUNKED, 1_000, close=False)) as server, client_of() as client:
            answer = await post(client, server)
            reading = asyncio.ensure_future(answer.read())
            await asyncio.sleep(0.002)
            answer.close()
            with pytest.raises(RelayError, match="closed while being read"):
                await reading

    run(main())


def test_what_has_ceased_is_read_to_where_it_was_and_not_used_again() -> None:
    """Decision 44: an answer that waited long enough ends with what has come; what comes later is nobody's."""

    async def cease() -> None:
        more, sent = asyncio.Event(), asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(CHUNKED + b"5\r\nhello\r\n")
            await more.wait()
            await peer.send(b"5\r\n late\r\n0\r\n\r\n")
            sent.set()
            await peer.left()

        async with serving(script) as server, client_of() as client:
            answer = await post(client, server)
            await until(lambda: answer._pieces)
            answer.cease()
            answer.cease()
            more.set()
            await sent.wait()
            await asyncio.sleep(0.01)
            assert [await answer.read(), await answer.read()] == [b"hello", b""]
            answer.close()
            assert client.counts(server.origin).idle == 0

    run(cease())
