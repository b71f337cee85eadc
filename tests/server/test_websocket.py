"""A WebSocket on our server, as the app and the client see it: handshake, limits, back-pressure, pings, endings."""

from __future__ import annotations

import asyncio
import gc
import os
import ssl
import struct
import tempfile
from collections.abc import Awaitable
from typing import Any

import pytest
import trustme
import websockets

from relay.server import Limits
from tests.server.support import serving
from tests.server.websocket_support import Frame, Session, echo_session, request, serving_websocket, websocket_app
from tests.support import run, until
from tests.wire.frames import BINARY, CLOSE, PING, PONG, RSV1, TEXT, deflate, frame

CLOSE_1000 = Frame(CLOSE, b"\x03\xe8")


async def soon(awaitable: Awaitable[Any]) -> Any:
    """What must happen at once."""
    return await asyncio.wait_for(awaitable, 5)


async def forever(send: Any) -> None:
    """Send until that fails."""
    while True:
        await send({"type": "websocket.send", "bytes": bytes(50_000)})


async def ended(receive: Any) -> dict[str, Any]:
    """The websocket.disconnect, whatever comes before it."""
    while (message := await receive())["type"] == "websocket.receive":
        pass
    return dict(message)


class Recorder:
    """A session that accepts, keeps what it receives, and ends with the disconnect."""

    def __init__(self) -> None:
        self.received: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            self.received.append(message.get("text", message.get("bytes")))
        self.received.append((message["code"], message["reason"]))


# --- the handshake ----------------------------------------------------------------------------------------------------


def test_the_scope_is_asgi() -> None:
    scopes: list[Any] = []

    async def session(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await echo_session(scope, receive, send)

    async def check() -> None:
        async with serving_websocket(session) as served:
            await served.open(sec_websocket_protocol="chat, v2", authorization="Bearer x")
            (scope,) = scopes
            assert {key: scope[key] for key in ("type", "asgi", "http_version", "scheme", "path", "raw_path")} == {
                "type": "websocket",
                "asgi": {"version": "3.0", "spec_version": "2.4"},
                "http_version": "1.1",
                "scheme": "ws",
                "path": "/v1/responses",
                "raw_path": b"/v1/responses",
            }
            assert scope["query_string"] == b"a=1"
            assert scope["subprotocols"] == ["chat", "v2"]
            assert (b"authorization", b"Bearer x") in scope["headers"]
            assert scope["server"] == ("127.0.0.1", served.server.port)
            assert set(scope["extensions"]) == {
                "websocket.http.response",
                "relay.send_batch",
                "relay.write",
                "relay.admit",
            }
            assert "method" not in scope

    run(check())


def test_accepts_with_a_subprotocol_and_headers() -> None:
    async def session(scope: Any, receive: Any, send: Any) -> None:
        accept = {"type": "websocket.accept", "subprotocol": "v2", "headers": [(b"x-models-etag", b"1")]}
        await send(accept)
        await ended(receive)

    async def check() -> None:
        async with serving_websocket(session) as served:
            peer = await served.open(sec_websocket_protocol="chat, v2")
            assert peer.headers["sec-websocket-protocol"] == "v2"
            assert peer.headers["x-models-etag"] == "1"

    run(check())


def test_what_comes_with_the_handshake_is_read_after_it() -> None:
    async def session(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.005)
        await echo_session(scope, receive, send)

    async def check() -> None:
        async with serving_websocket(session) as served:
            client = await served.connect()
            client.write(request() + frame(TEXT, b"1") + frame(TEXT, b"2")[:3])
            await asyncio.sleep(0.002)
            client.write(frame(TEXT, b"2")[3:])
            assert (await client.head())[0] == 101
            assert await client.reader.readexactly(6) == b"\x81\x011\x81\x012"

    run(check())


def test_a_flood_before_the_handshake_is_answered_is_cut() -> None:
    ends: list[Any] = []

    async def session(scope: Any, receive: Any, send: Any) -> None:
        ends.append(await ended(receive))
        with pytest.raises(ConnectionResetError):
            await send({"type": "websocket.accept"})

    async def check() -> None:
        async with serving_websocket(session) as served:
            client = await served.connect()
            client.write(request() + frame(BINARY, bytes(60_000)))
            await asyncio.sleep(0.002)
            client.write(frame(BINARY, bytes(60_000)))
            assert await client.ended() == b""
            assert ends[0]["code"] == 1006

    run(check())


REFUSED = {
    "an old version": ({"sec_websocket_version": "8"}, 426, {"sec-websocket-version": "13", "upgrade": "websocket"}),
    "no version": ({"sec_websocket_version": ""}, 426, {"sec-websocket-version": "13"}),
    "no key": ({"sec_websocket_key": ""}, 400, {}),
    "a short key": ({"sec_websocket_key": "c2hvcnQ="}, 400, {}),
    "no connection: upgrade": ({"connection": "keep-alive"}, 400, {}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses_a_bad_handshake_in_the_apis_envelope(case: str) -> None:
    headers, status, expected = REFUSED[case]

    async def check() -> None:
        async with serving_websocket(echo_session) as served:
            client = await served.connect()
            client.write(request(**headers))
            answer = await client.answer()
            assert answer.status == status
            assert b'"error":{"message":' in answer.body
            assert expected.items() <= answer.headers.items()
            assert answer.headers["x-request-id"].startswith("req_")
            assert "close" in answer.headers["connection"]
            assert await client.ended() == b""

    run(check())


def test_the_app_refuses_with_an_http_answer() -> None:
    async def session(scope: Any, receive: Any, send: Any) -> None:
        start = {"status": 426, "headers": [(b"upgrade", b"websocket"), (b"connection", b"keep-alive")]}
        await send({"type": "websocket.http.response.start", **start})
        await send({"type": "websocket.http.response.body", "body": b'{"error":{}}'})
        assert (await receive())["type"] == "websocket.disconnect"
        with pytest.raises(ConnectionResetError):
            await send({"type": "websocket.http.response.body"})

    async def check() -> None:
        async with serving_websocket(session) as served:
            client = await served.connect()
            client.write(request())
            answer = await client.answer()
            assert answer.head == (
                b"HTTP/1.1 426 Upgrade Required\r\nupgrade: websocket\r\ncontent-length: 12\r\n"
                b"connection: upgrade, close\r\n\r\n"
            )
            assert answer.body == b'{"error":{}}'
            assert await client.ended() == b""

    run(check())


def test_an_http_answer_may_come_in_parts_and_be_long() -> None:
    async def session(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.http.response.start", "status": 500})
        for _ in range(50):
            await send({"type": "websocket.http.response.body", "body": b"x" * 100_000, "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"end"})

    async def check() -> None:
        async with serving_websocket(session) as served:
            client = await served.connect(receive_buffer=4_096)
            client.write(request())
            answer = await client.answer()
            assert (answer.status, len(answer.body), answer.body[-4:]) == (500, 5_000_003, b"xend")

    run(check())


async def close_at_once(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "websocket.close"})


async def return_at_once(scope: Any, receive: Any, send: Any) -> None:
    pass


async def fail(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError("the app has a bug")


@pytest.mark.parametrize(("session", "status"), [(close_at_once, 403), (return_at_once, 500), (fail, 500)])
def test_a_session_that_ends_before_accept_is_an_http_error(session: Session, status: int) -> None:
    async def check() -> None:
        async with serving_websocket(session) as served:
            client = await served.connect()
            client.write(request())
            answer = await client.answer()
            assert answer.status == status
            assert b'"error"' in answer.body
            assert await client.ended() == b""

    run(check())


def test_an_http_answer_that_the_app_does_not_finish_is_cut() -> None:
    async def session(scope: Any, receive: Any, send: Any) -> None:
        start = {"status": 400, "headers": [(b"content-length", b"10")]}
        await send({"type": "websocket.http.response.start", **start})
        await send({"type": "websocket.http.response.body", "body": b"12345", "more_body": True})

    async def check() -> None:
        async with serving_websocket(session) as served:
            client = await served.connect()
            client.write(request())
            answer = await client.answer()
            assert (answer.status, answer.body, answer.whole) == (400, b"12345", False)

    run(check())


@pytest.mark.parametrize("value", [b"a\r\nx-injected: 1", b"a\nb", b"a\x00"])
def test_headers_that_would_end_the_head_are_refused(value: bytes) -> None:
    async def session(scope: Any, receive: Any, send: Any) -> None:
        with pytest.raises(ValueError, match="CR, LF"):
            await send({"type": "websocket.accept", "headers": [(b"x", value)]})
        await echo_session(scope, receive, send)

    async def check() -> None:
        async with serving_websocket(session) as served:
            peer = await served.open()
            assert "x-injected" not in peer.headers

    run(check())


def test_messages_at_the_wrong_time_are_the_apps_error() -> None:
    async def session(scope: Any, receive: Any, send: Any) -> None:
        for early in ("websocket.send", "relay.websocket.send_batch", "websocket.http.response.body", "http.nonsense"):
            with pytest.raises(RuntimeError, match=early):
                await send({"type": early, "text": "x", "texts": []})
        await send({"type": "websocket.accept"})
        for late in ("websocket.accept", "websocket.http.response.start", "websocket.http.response.body"):
            with pytest.raises(RuntimeError, match=late):
                await send({"type": late, "status": 200})
        waiting = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="second task"):
            await receive()
        waiting.cancel()
        await asyncio.sleep(0)
        await send({"type": "websocket.send", "text": (await receive())["text"]})
        await send({"type": "websocket.close", "code": 4000, "reason": "done"})
        await send({"type": "websocket.close"})
        assert await receive() == {"type": "websocket.disconnect", "code": 4000, "reason": "done"}
        with pytest.raises(ConnectionResetError):
            await send({"type": "websocket.send", "text": "x"})

    async def check() -> None:
        async with serving_websocket(session) as served:
            peer = await served.open()
            peer.text("ok")
            assert await peer.read() == Frame(TEXT, b"ok")
            assert await peer.read() == Frame(CLOSE, struct.pack("!H", 4000) + b"done")

    run(check())


# --- messages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_websockets_as_a_strict_client(compression: str | None) -> None:
    texts = ["", "Grüße 😀", "x" * 125, "x" * 126, "y" * 70_000, '{"type":"response.create"}' * 10_000]

    async def check() -> None:
        limits = Limits(deflate_from_bytes=100 if compression else None)
        async with serving(websocket_app(echo_session), limits=limits) as server:
            url = f"ws://127.0.0.1:{server.port}/v1/responses"
            async with websockets.connect(url, compression=compression, max_size=None) as client:  # type: ignore[arg-type]
                for text in texts:
                    await client.send(text)
                    assert await client.recv() == text
                await client.send([text.encode() for text in texts])  # fragments
                assert await client.recv() == "".join(texts).encode()
                noise = os.urandom(3_000_000)
                await client.send(noise)
                assert await client.recv() == noise
                await soon(await client.ping(b"p"))
                await client.close(3001, "bye")
                assert client.close_code == 3001

    run(check())


def test_messages_over_the_limit_are_1009_for_websockets_too() -> None:
    async def check() -> None:
        async with serving(websocket_app(echo_session), max_body_bytes=1_000) as server:
            for compression in (None, "deflate"):
                url = f"ws://127.0.0.1:{server.port}/"
                async with websockets.connect(url, compression=compression) as client:  # type: ignore[arg-type]
                    await client.send("x" * 1_000)
                    assert await client.recv() == "x" * 1_000
                    await client.send("x" * 1_001)
                    with pytest.raises(websockets.ConnectionClosed) as caught:
                        await client.recv()
                    assert caught.value.rcvd is not None
                    assert caught.value.rcvd.code == 1009

    run(check())


def test_sends_compressed_only_what_is_long_enough_and_only_when_configured() -> None:
    async def check() -> None:
        offer = {"sec_websocket_extensions": "permessage-deflate"}
        async with serving_websocket(echo_session, limits=Limits(deflate_from_bytes=100)) as served:
            peer = await served.open(**offer)
            peer.text("x" * 99)
            assert await peer.read() == Frame(TEXT, b"x" * 99)
            peer.text("x" * 100)
            answer = await peer.read()
            assert (answer.rsv, len(answer.payload) < 20) == (RSV1, True)
            plain = await served.open()
            plain.text("x" * 100)
            assert await plain.read() == Frame(TEXT, b"x" * 100)

    run(check())


class Writes(asyncio.Transport):
    """A transport that remembers its writes."""

    def __init__(self, inner: asyncio.Transport) -> None:
        self._inner = inner
        self.sizes: list[int] = []

    def write(self, data: Any) -> None:
        self.sizes.append(len(data))
        self._inner.write(data)

    def writelines(self, data: Any) -> None:
        self.sizes.append(sum(map(len, data)))
        self._inner.writelines(data)

    def __getattribute__(self, name: str) -> Any:
        if name in ("write", "writelines", "sizes", "_inner"):
            return object.__getattribute__(self, name)
        return getattr(self._inner, name)


def test_a_batch_is_one_write() -> None:
    texts = [b"%03d" % index * (index + 1) for index in range(64)]
    sizes: list[int] = []

    async def session(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        connection = send.__self__
        recorded = connection._transport = Writes(connection._transport)
        await send({"type": "relay.websocket.send_batch", "texts": texts})
        await send({"type": "relay.websocket.send_batch", "texts": []})
        await send({"type": "relay.websocket.send_batch", "texts": [b"x" * 70_000, b"y"]})
        sizes.extend(recorded.sizes)
        await ended(receive)

    async def check() -> None:
        async with serving_websocket(session) as served:
            peer = await served.open()
            assert [await peer.read() for _ in texts] == [Frame(TEXT, text) for text in texts]
            assert await peer.read() == Frame(TEXT, b"x" * 70_000)
            assert await peer.read() == Frame(TEXT, b"y")
            headers = sum(2 if len(text) < 126 else 4 for text in texts)
            assert sizes == [sum(map(len, texts)) + headers, 70_000 + 10 + 1 + 2]

    run(check())


# --- back-pressure ----------------------------------------------------------------------------------------------------


def test_send_waits_for_a_client_that_is_behind() -> None:
    sent = 0

    async def session(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        await send({"type": "websocket.accept"})
        for _ in range(2_000):
            await send({"type": "relay.websocket.send_batch", "texts": [b"x" * 10_000]})
            sent += 1
        await ended(receive)

    async def check() -> None:
        async with serving_websocket(session) as served:
            peer = await served.open(receive_buffer=4_096)
            before = -1
            while before != sent:
                before = sent
                await asyncio.sleep(0.01)
            assert sent < 1_000  # the rest is in the kernel's buffers and in one of 64 KiB
            for _ in range(2_000):
                assert len((await peer.read()).payload) == 10_000
            await until(lambda: sent == 2_000)

    run(check())


def test_one_turn_that_is_cancelled_in_send_leaves_the_others_waiting_and_whole() -> None:
    done: list[int] = []
    turns: list[asyncio.Task[None]] = []

    async def session(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})

        async def turn(number: int) -> None:
            for _ in range(200):
                await send({"type": "websocket.send", "text": str(number) * 30_000})
            done.append(number)

        turns.extend(asyncio.ensure_future(turn(number)) for number in range(4))
        await ended(receive)

    async def check() -> None:
        async with serving_websocket(session) as served:
            peer = await served.open(receive_buffer=4_096)
            await until(lambda: len(turns) == 4)
            for _ in range(5):
                await asyncio.sleep(0.002)
            turns[1].cancel()
            counts = dict.fromkeys("0123", 0)
            while len(done) < 3 or sum(counts[number] for number in "023") < 600:
                payload = (await peer.read()).payload.decode()
                assert payload == payload[0] * 30_000
                counts[payload[0]] += 1
            assert [counts[number] for number in "023"] == [200, 200, 200]
            assert counts["1"] < 200
            assert turns[1].cancelled()

    run(check())


def test_reading_stops_while_the_app_does_not_receive() -> None:
    go = asyncio.Event()
    recorder = Recorder()

    async def session(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await go.wait()
        while (message := await receive())["type"] == "websocket.receive":
            recorder.received.append(message["text"])
            await asyncio.sleep(0)

    async def check() -> None:
        async with serving_websocket(session) as served:
            peer = await served.open()
            count = 0
            transport = peer.client.writer.transport
            while transport.get_write_buffer_size() < 2_000_000:  # what the kernel and the server do not take
                peer.text(f"{count}:" + "x" * 20_000)
                count += 1
                assert count < 2_000
                await asyncio.sleep(0)
            peer.close()
            go.set()
            await until(lambda: len(recorder.received) == count, 10)
            assert [text.split(":")[0] for text in recorder.received] == [str(index) for index in range(count)]

    run(check())


def test_a_flood_of_tiny_messages_arrives_in_order_and_leaves_others_their_turn() -> None:
    recorder = Recorder()

    async def check() -> None:
        async with serving_websocket(recorder) as served:
            flood, other = await served.open(), await served.open()
            flood.write(b"".join(frame(TEXT, b"%d" % index) for index in range(8_000)))
            await asyncio.sleep(0)
            for _ in range(3):
                other.ping(b"!")
                assert await soon(other.read()) == Frame(PONG, b"!")
            assert len(recorder.received) < 8_000
            flood.close()
            assert await flood.read() == CLOSE_1000
            assert recorder.received == [str(index) for index in range(8_000)] + [(1000, "")]

    run(check())


def test_messages_that_the_app_does_not_receive_are_few_however_small() -> None:
    connections: list[Any] = []
    go = asyncio.Event()
    recorder = Recorder()

    async def session(scope: Any, receive: Any, send: Any) -> None:
        connections.append(send.__self__)
        await send({"type": "websocket.accept"})
        await go.wait()
        while (message := await receive())["type"] == "websocket.receive":
            recorder.received.append(message["text"])

    async def check() -> None:
        async with serving_websocket(session, limits=Limits(queued_messages=10)) as served:
            peer = await served.open()
            peer.write(frame(TEXT, b"x") * 3_000)
            for _ in range(20):
                await asyncio.sleep(0.002)
            assert 10 < len(connections[0]._queue) <= 10 + 128
            peer.close()
            go.set()
            assert await soon(peer.read()) == CLOSE_1000
            await until(lambda: recorder.received == ["x"] * 3_000)

    run(check())


def test_a_client_that_takes_nothing_has_left() -> None:
    ends: list[Any] = []

    async def session(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        with pytest.raises(ConnectionResetError):
            await forever(send)
        ends.append(await ended(receive))

    async def check() -> None:
        async with serving_websocket(session, limits=Limits(stall_s=0.1)) as served:
            await served.open(receive_buffer=4_096)
            await until(lambda: ends)
            assert ends[0]["code"] == 1006
            await until(lambda: served.server.connections == 0)

    run(check())


@pytest.mark.parametrize("closes", [False, True])
def test_a_slow_client_that_takes_something_has_not_left(closes: bool) -> None:
    """Its pings wait behind what it takes slowly; so does our Close."""
    size = 30_000_000

    async def session(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        sending = asyncio.ensure_future(send({"type": "websocket.send", "bytes": bytes(size)}))
        await asyncio.sleep(0)
        if closes:
            await send({"type": "websocket.close"})
            with pytest.raises(ConnectionResetError):
                await sending
        else:
            await sending
            await send({"type": "websocket.close"})

    async def check() -> None:
        limits = Limits(stall_s=0.4, close_s=0.4, ping_s=0.02, pong_s=0.02)
        async with serving_websocket(session, limits=limits) as served:
            peer = await served.open(receive_buffer=65_536)
            loop = asyncio.get_running_loop()
            started, got = loop.time(), b""
            while loop.time() < started + 1:
                got = (await peer.client.reader.read(100_000))[-4:]
                await asyncio.sleep(0.004)
            assert served.server.connections == 1
            while data := await peer.client.reader.read(1_000_000):
                got = (got + data)[-4:]
                if got == b"\x88\x02\x03\xe8":
                    peer.close()

    run(check())


def test_a_client_is_not_pinged_while_we_do_not_listen() -> None:
    go = asyncio.Event()

    async def session(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await go.wait()
        await send({"type": "websocket.send", "text": str(len((await receive())["bytes"]))})
        await ended(receive)

    async def check() -> None:
        async with serving_websocket(session, limits=Limits(ping_s=0.02, pong_s=0.02)) as served:
            peer = await served.open()
            peer.write(frame(BINARY, bytes(100_000)))
            for _ in range(10):
                await asyncio.sleep(0.01)
            go.set()
            assert await peer.read() == Frame(TEXT, b"100000")

    run(check())


# --- pings ------------------------------------------------------------------------------------------------------------


def test_a_silent_client_is_pinged_and_then_dropped() -> None:
    recorder = Recorder()

    async def check() -> None:
        async with serving_websocket(recorder, limits=Limits(ping_s=0.03, pong_s=0.05)) as served:
            peer = await served.open()
            for _ in range(3):
                assert await peer.read() == Frame(PING, b"")
                peer.write(frame(PONG))
            assert await peer.read() == Frame(PING, b"")
            assert recorder.received == []
            assert await peer.client.ended() == b""
            await until(lambda: recorder.received == [(1006, "the client did not answer a ping for 0.05 s")])

    run(check())


def test_whatever_a_client_says_is_a_sign_of_life() -> None:
    async def check() -> None:
        async with serving_websocket(echo_session, limits=Limits(ping_s=0.1, pong_s=0.1)) as served:
            peer = await served.open()
            loop = asyncio.get_running_loop()
            started = loop.time()
            while loop.time() < started + 0.3:
                peer.ping(b"1")
                assert await peer.read() == Frame(PONG, b"1")
                await asyncio.sleep(0.01)

    run(check())


def test_pings_are_answered_while_the_app_writes() -> None:
    async def session(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        while True:
            await send({"type": "websocket.send", "text": "token"})
            await asyncio.sleep(0)

    async def check() -> None:
        async with serving_websocket(session) as served:
            peer = await served.open()
            peer.ping(b"1")
            seen = 0
            while (await peer.read()).opcode != PONG:
                seen += 1
                assert seen < 1_000

    run(check())


def test_pings_of_a_client_that_reads_nothing_are_answered_once_and_last() -> None:
    async def session(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "bytes": bytes(9_000_000)})
        await ended(receive)

    async def check() -> None:
        async with serving_websocket(session) as served:
            peer = await served.open(receive_buffer=4_096)
            for index in range(1_000):
                peer.ping(b"%d" % index)
                await asyncio.sleep(0)
            await asyncio.sleep(0.01)
            assert len((await peer.read()).payload) == 9_000_000
            pongs = [await soon(peer.read())]
            while pongs[-1] != Frame(PONG, b"999"):
                pongs.append(await soon(peer.read()))
            assert len(pongs) < 10

    run(check())


# --- the end ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "code", "reason", "answer"),
    [
        (frame(CLOSE, b"\x03\xe8bye"), 1000, "bye", CLOSE_1000),
        (frame(CLOSE, b"\x03\xe9"), 1001, "", Frame(CLOSE, b"\x03\xe9")),
        (frame(CLOSE), 1005, "", Frame(CLOSE, b"")),
    ],
)
def test_the_clients_close_is_answered_and_told(data: bytes, code: int, reason: str, answer: Frame) -> None:
    recorder = Recorder()

    async def check() -> None:
        async with serving_websocket(recorder) as served:
            peer = await served.open()
            peer.write(frame(TEXT, b"last") + frame(PING, b"p") + data + frame(TEXT, b"ignored"))
            assert await peer.read() == Frame(PONG, b"p")
            assert await peer.read() == answer
            assert await peer.client.ended() == b""
            assert recorder.received == ["last", (code, reason)]
            await until(lambda: served.server.connections == 0)

    run(check())


@pytest.mark.parametrize("stalled", [False, True])
@pytest.mark.parametrize("way", ["leave", "reset", "close"])
def test_the_app_sees_at_once_that_the_client_left(way: str, stalled: bool) -> None:
    ends: list[Any] = []
    writing = asyncio.Event()

    async def session(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})

        async def write() -> None:
            while stalled:
                writing.set()
                await send({"type": "websocket.send", "bytes": bytes(50_000)})

        writer = asyncio.ensure_future(write())
        ends.append(await ended(receive))
        if stalled:
            with pytest.raises(ConnectionResetError):
                await writer

    async def check() -> None:
        async with serving_websocket(session, limits=Limits(close_s=0.05)) as served:
            peer = await served.open(receive_buffer=4_096)
            if stalled:
                await writing.wait()
                await asyncio.sleep(0.005)
            if way == "close":
                peer.close(1001)
            else:
                getattr(peer.client, way)()
            await until(lambda: ends)
            assert ends[0]["code"] == (1001 if way == "close" else 1006)
            await until(lambda: served.server.tasks == 0)
            await until(lambda: served.server.connections == 0)

    run(check())


def test_a_client_that_leaves_during_the_handshake_is_seen() -> None:
    ends: list[Any] = []

    async def session(scope: Any, receive: Any, send: Any) -> None:
        ends.append(await ended(receive))

    async def check() -> None:
        async with serving_websocket(session) as served:
            client = await served.connect()
            client.write(request())
            await until(lambda: served.server.tasks)
            client.leave()
            await until(lambda: ends and served.server.connections == 0)
            assert ends[0]["code"] == 1006

    run(check())


def test_an_app_that_does_not_end_after_the_disconnect_is_cancelled() -> None:
    outcome: list[str] = []

    async def session(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await ended(receive)
        outcome.append("told")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            outcome.append("cancelled")
            raise

    async def check() -> None:
        async with serving_websocket(session, limits=Limits(leave_s=0.05)) as served:
            peer = await served.open()
            peer.client.leave()
            await until(lambda: outcome == ["told"])
            await until(lambda: outcome == ["told", "cancelled"])
            await until(lambda: served.server.tasks == 0)

    run(check())


@pytest.mark.parametrize(("fails", "code"), [(False, 1000), (True, 1011)])
def test_a_session_that_ends_open_closes_the_socket(fails: bool, code: int) -> None:
    async def session(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        if fails:
            raise ValueError("the app has a bug")

    async def check() -> None:
        async with serving_websocket(session) as served:
            peer = await served.open()
            assert await peer.read() == Frame(CLOSE, code.to_bytes(2))
            peer.close(code)
            assert await soon(peer.client.ended()) == b""
            await until(lambda: served.server.connections == 0)

    run(check())


def test_after_our_close_what_comes_is_discarded_until_the_clients() -> None:
    async def session(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await until(lambda: send.__self__._queue)
        await send({"type": "websocket.close", "code": 1001})
        assert await receive() == {"type": "websocket.disconnect", "code": 1001, "reason": ""}

    async def check() -> None:
        async with serving_websocket(session) as served:
            peer = await served.open()
            peer.text("too late")
            assert await peer.read() == Frame(CLOSE, b"\x03\xe9")
            for _ in range(500):
                peer.text("x" * 1_000)
            peer.ping()
            peer.close(1001)
            assert await soon(peer.client.ended()) == b""
            await until(lambda: served.server.connections == 0)

    run(check())


def test_a_client_that_does_not_answer_our_close_is_cut() -> None:
    async def session(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close"})

    async def check() -> None:
        async with serving_websocket(session, limits=Limits(close_s=0.05)) as served:
            peer = await served.open()
            assert await peer.read() == CLOSE_1000
            assert await soon(peer.client.ended()) == b""
            await until(lambda: served.server.connections == 0)

    run(check())


def test_a_client_that_goes_on_after_breaking_a_rule_is_cut() -> None:
    async def check() -> None:
        async with serving_websocket(echo_session, limits=Limits(linger_s=0.05)) as served:
            peer = await served.open()
            peer.write(frame(TEXT, b"\xff"))
            assert (await peer.read()).payload[:2] == b"\x03\xef"
            await until(lambda: served.server.connections == 0)

    run(check())


def test_a_client_that_breaks_a_rule_after_our_close_is_told_nothing_more() -> None:
    async def session(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close"})

    async def check() -> None:
        async with serving_websocket(session) as served:
            peer = await served.open()
            assert await peer.read() == CLOSE_1000
            peer.write(frame(TEXT, b"\xff"))
            assert await soon(peer.client.ended()) == b""

    run(check())


def test_a_client_that_leaves_in_the_middle_of_a_flood_is_seen() -> None:
    recorder = Recorder()

    async def check() -> None:
        async with serving_websocket(recorder) as served:
            peer = await served.open()
            peer.write(frame(PING) * 5_000)
            await peer.read()
            peer.client.reset()
            await until(lambda: recorder.received == [(1006, "")])

    run(check())


def test_over_tls() -> None:
    authority = trustme.CA()
    client_tls = ssl.create_default_context()
    authority.configure_trust(client_tls)

    async def check(directory: str) -> None:
        certificate = authority.issue_cert("localhost")
        paths = {"ssl_certfile": f"{directory}/cert.pem", "ssl_keyfile": f"{directory}/key.pem"}
        certificate.private_key_pem.write_to_path(paths["ssl_keyfile"])
        certificate.cert_chain_pems[0].write_to_path(paths["ssl_certfile"])
        async with serving(websocket_app(echo_session), max_body_bytes=1_000_000, **paths) as server:
            url = f"wss://localhost:{server.port}/"
            async with websockets.connect(url, ssl=client_tls, host="127.0.0.1", max_size=None) as client:
                await client.send("x" * 1_000_000)
                assert await client.recv() == "x" * 1_000_000
                await client.send("x" * 1_000_001)
                with pytest.raises(websockets.ConnectionClosed) as caught:
                    await client.recv()
                assert caught.value.rcvd is not None
                assert caught.value.rcvd.code == 1009

    with tempfile.TemporaryDirectory() as directory:
        run(check(directory))


# --- stopping ---------------------------------------------------------------------------------------------------------


def test_the_app_closes_idle_sockets_when_draining_begins() -> None:
    draining = asyncio.Event()

    async def session(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await draining.wait()
        await send({"type": "websocket.close", "code": 1001})

    async def check() -> None:
        async with serving_websocket(session, on_drain=draining.set) as served:
            peer = await served.open()
            stopping = asyncio.ensure_future(served.server.stop(5.0))
            assert await peer.read() == Frame(CLOSE, b"\x03\xe9")
            peer.close(1001)
            await soon(stopping)
            assert served.server.connections == served.server.tasks == 0

    run(check())


def test_at_the_deadline_turns_end_and_then_1001() -> None:
    outcome: list[str] = []
    deadline = asyncio.Event()

    async def session(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        try:
            await deadline.wait()
            await send({"type": "websocket.send", "text": "response.failed"})
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            outcome.append((await receive())["type"])
            raise

    async def end_turns() -> None:
        deadline.set()

    async def check() -> None:
        async with serving_websocket(session, on_deadline=end_turns, limits=Limits(flush_s=0.05)) as served:
            peer = await served.open()
            stopping = asyncio.ensure_future(served.server.stop(0.01))
            assert await peer.read() == Frame(TEXT, b"response.failed")
            answer = await peer.read()
            assert answer == Frame(CLOSE, b"\x03\xe9the server is shutting down")
            peer.close(1001)
            await soon(stopping)
            assert outcome == ["websocket.disconnect"]

    run(check())


def test_a_client_that_ignores_the_1001_is_cut() -> None:
    async def check() -> None:
        async with serving_websocket(echo_session, limits=Limits(flush_s=0.01)) as served:
            peer = await served.open()
            await soon(served.server.stop(0.0))
            assert await peer.closed_with() == 1001
            assert served.server.connections == 0

    run(check())


def test_a_handshake_that_waits_when_the_server_stops_is_503() -> None:
    async def session(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(60)

    async def check() -> None:
        async with serving_websocket(session, limits=Limits(flush_s=0.01)) as served:
            client = await served.connect()
            client.write(request())
            await until(lambda: served.server.tasks)
            stopping = asyncio.ensure_future(served.server.stop(0.0))
            answer = await client.answer()
            assert (answer.status, b"shutting down" in answer.body) == (503, True)
            await soon(stopping)

    run(check())


def test_a_handshake_during_the_drain_is_503() -> None:
    release = asyncio.Event()

    async def session(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await release.wait()

    async def check() -> None:
        async with serving_websocket(session) as served:
            peer, late = await served.open(), await served.connect()
            late.write(request()[:20])  # so that the drain does not take it for idle
            await asyncio.sleep(0.005)
            stopping = asyncio.ensure_future(served.server.stop(5.0))
            await asyncio.sleep(0)
            late.write(request()[20:])
            answer = await late.answer()
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            release.set()
            assert await peer.read() == CLOSE_1000
            peer.close()
            await soon(stopping)

    run(check())


def test_nothing_of_a_closed_socket_stays() -> None:
    async def check() -> None:
        async with serving_websocket(echo_session) as served:
            for _ in range(20):
                peer = await served.open()
                peer.text("x")
                await peer.read()
                peer.close()
                assert await peer.read() == CLOSE_1000
                await peer.client.ended()
            await until(lambda: served.server.connections == 0 and served.server.tasks == 0)
            gc.collect()
            assert not [thing for thing in gc.get_objects() if type(thing).__name__ in ("WebSocket", "Reader")]

    run(check())


def test_what_a_socket_may_inflate_has_a_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """40 MB at 100 MB/s, a body limit of 100 KB at once: it is read later, in order, and nobody is refused."""
    monkeypatch.setattr("relay.server.websocket.INFLATED_BYTES_A_S", 100_000_000)
    count, size = 400, 100_000
    message = frame(TEXT, deflate(b"x" * size)[0], rsv=RSV1)
    seen: list[float] = []

    async def session(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        while len(seen) < count:
            event = await receive()
            assert len(event["text"]) == size
            seen.append(asyncio.get_running_loop().time())
        await send({"type": "websocket.send", "text": (await receive())["text"]})

    async def check() -> None:
        offer = {"sec_websocket_extensions": "permessage-deflate; client_no_context_takeover"}
        async with serving_websocket(session, max_body_bytes=size) as served:
            peer = await served.open(**offer)
            began = asyncio.get_running_loop().time()
            peer.write(message * count)
            peer.text("end")
            assert await soon(peer.read()) == Frame(TEXT, b"end")
            assert seen[-1] - began >= 0.3
            assert seen[0] - began < 0.2

    run(check())
