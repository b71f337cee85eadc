"""RFC 6455 and RFC 7692 on a raw socket, case by case, against our server with an echoing app."""

from __future__ import annotations

import os
import struct
import time

import pytest

from relay.server import Limits
from tests.server.support import PARSERS
from tests.server.websocket_support import Frame, echo_session, serving_websocket
from tests.support import run
from tests.wire.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    RSV1,
    RSV2,
    RSV3,
    TEXT,
    announced,
    deflate,
    frame,
)

LIMIT = 100_000
PLAIN: dict[str, str] = {}
DEFLATE = {"sec_websocket_extensions": "permessage-deflate"}
NO_TAKEOVER = {"sec_websocket_extensions": "permessage-deflate; client_no_context_takeover"}
ONE, AGAIN = deflate(b"Hello, Hello, Hello!", b"Hello, Hello, Hello!")
assert len(AGAIN) < len(ONE)
TINY_FRAGMENTS = frame(TEXT, b"a", fin=False) + frame(CONTINUATION, b"a", fin=False) * 400_000

ECHOED: dict[str, tuple[dict[str, str], bytes, list[Frame]]] = {
    "text": (PLAIN, frame(TEXT, "€😀".encode()), [Frame(TEXT, "€😀".encode())]),
    "an empty text": (PLAIN, frame(TEXT), [Frame(TEXT, b"")]),
    "bytes": (PLAIN, frame(BINARY, b"\xff\x00"), [Frame(BINARY, b"\xff\x00")]),
    **{
        f"{size} bytes": (PLAIN, frame(BINARY, b"\xff" * size), [Frame(BINARY, b"\xff" * size)])
        for size in (125, 126, 127, 65_535, 65_536, LIMIT)
    },
    "fragments": (
        PLAIN,
        frame(TEXT, b"a", fin=False) + frame(CONTINUATION, fin=False) + frame(CONTINUATION, b"b"),
        [Frame(TEXT, b"ab")],
    ),
    "a character cut by fragments": (
        PLAIN,
        frame(TEXT, b"\xf0", fin=False) + frame(CONTINUATION, b"\x9f\x98", fin=False) + frame(CONTINUATION, b"\x80"),
        [Frame(TEXT, "😀".encode())],
    ),
    "a ping": (PLAIN, frame(PING, b"p" * 125), [Frame(PONG, b"p" * 125)]),
    "a pong that nobody asked for": (PLAIN, frame(PONG, b"p") + frame(TEXT, b"a"), [Frame(TEXT, b"a")]),
    "compressed": (DEFLATE, frame(TEXT, ONE, rsv=RSV1), [Frame(TEXT, b"Hello, Hello, Hello!")]),
    "compressed, with context takeover": (
        DEFLATE,
        frame(TEXT, ONE, rsv=RSV1) + frame(TEXT, b"plain") + frame(TEXT, AGAIN, rsv=RSV1),
        [Frame(TEXT, b"Hello, Hello, Hello!"), Frame(TEXT, b"plain"), Frame(TEXT, b"Hello, Hello, Hello!")],
    ),
    "compressed, without context takeover": (
        NO_TAKEOVER,
        frame(TEXT, ONE, rsv=RSV1) * 2,
        [Frame(TEXT, b"Hello, Hello, Hello!")] * 2,
    ),
    "compressed, as long as a message may be": (
        DEFLATE,
        frame(TEXT, deflate(b"x" * LIMIT)[0], rsv=RSV1),
        [Frame(TEXT, b"x" * LIMIT)],
    ),
}


@pytest.mark.parametrize("http", PARSERS)
@pytest.mark.parametrize("case", ECHOED)
@pytest.mark.parametrize("step", [1 << 20, 1], ids=["whole", "bytewise"])
def test_echoes(case: str, step: int, http: str) -> None:
    headers, data, expected = ECHOED[case]
    if step == 1 and len(data) > 1_000:
        step = 9_973

    async def check() -> None:
        async with serving_websocket(echo_session, max_body_bytes=LIMIT, http=http) as served:
            peer = await served.open(**headers)
            for at in range(0, len(data), step):
                peer.write(data[at : at + step])
                if step < 10:
                    await peer.client.writer.drain()
            assert [await peer.read() for _ in expected] == expected
            peer.close(3000, "done")
            assert await peer.read() == Frame(CLOSE, struct.pack("!H", 3000))
            assert await peer.client.ended() == b""

    run(check())


def test_answers_a_ping_inside_a_message_at_once() -> None:
    async def check() -> None:
        async with serving_websocket(echo_session) as served:
            peer = await served.open()
            peer.write(frame(TEXT, b"a", fin=False) + frame(PING, b"1"))
            assert await peer.read() == Frame(PONG, b"1")
            peer.write(frame(CONTINUATION, b"b"))
            assert await peer.read() == Frame(TEXT, b"ab")

    run(check())


def test_answers_pings_inside_a_compressed_message_at_once() -> None:
    async def check() -> None:
        async with serving_websocket(echo_session) as served:
            peer = await served.open(**DEFLATE)
            peer.write(frame(TEXT, ONE[:3], rsv=RSV1, fin=False) + frame(PING, b"1"))
            assert await peer.read() == Frame(PONG, b"1")
            peer.write(frame(CONTINUATION, ONE[3:7], fin=False) + frame(PING, b"2"))
            assert await peer.read() == Frame(PONG, b"2")
            peer.write(frame(CONTINUATION, ONE[7:]) + frame(TEXT, AGAIN, rsv=RSV1))
            assert [await peer.read(), await peer.read()] == [Frame(TEXT, b"Hello, Hello, Hello!")] * 2

    run(check())


REFUSED: dict[str, tuple[dict[str, str], bytes, int]] = {
    "an unmasked frame": (PLAIN, frame(TEXT, b"a", masked=False), 1002),
    **{f"opcode {code}": (PLAIN, frame(code), 1002) for code in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "rsv1 without compression": (PLAIN, frame(TEXT, ONE, rsv=RSV1), 1002),
    "rsv2": (DEFLATE, frame(TEXT, b"a", rsv=RSV2), 1002),
    "rsv3": (DEFLATE, frame(TEXT, b"a", rsv=RSV3), 1002),
    "rsv1 on a ping": (DEFLATE, frame(PING, rsv=RSV1), 1002),
    "rsv1 on a continuation": (DEFLATE, frame(TEXT, fin=False) + frame(CONTINUATION, rsv=RSV1), 1002),
    "a fragmented ping": (PLAIN, frame(PING, fin=False), 1002),
    "a ping of 126 bytes": (PLAIN, frame(PING, b"p" * 126), 1002),
    "a continuation of nothing": (PLAIN, frame(CONTINUATION, b"a"), 1002),
    "a text inside a message": (PLAIN, frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"), 1002),
    "a close of 1 byte": (PLAIN, frame(CLOSE, b"\x03"), 1002),
    **{
        f"close code {code}": (PLAIN, frame(CLOSE, struct.pack("!H", code)), 1002)
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000)
    },
    "a close reason that is not UTF-8": (PLAIN, frame(CLOSE, b"\x03\xe8\xff"), 1007),
    "invalid UTF-8": (PLAIN, frame(TEXT, b"a\xff"), 1007),
    "invalid UTF-8, before the message ends": (PLAIN, frame(TEXT, b"a\xff", fin=False), 1007),
    "invalid UTF-8 in the middle of a frame": (PLAIN, announced(TEXT, 70_000) + b"\xff" * 9, 1007),
    "a cut character": (PLAIN, frame(TEXT, b"\xe2", fin=False) + frame(CONTINUATION, b"\x82"), 1007),
    "damaged deflate": (DEFLATE, frame(TEXT, b"\xff\xff\xff", rsv=RSV1), 1007),
    "a context that was not agreed on": (NO_TAKEOVER, frame(TEXT, ONE, rsv=RSV1) + frame(TEXT, AGAIN, rsv=RSV1), 1007),
    "a byte too many, announced": (PLAIN, announced(TEXT, LIMIT + 1), 1009),
    "2**62 bytes, announced": (PLAIN, announced(BINARY, 1 << 62), 1009),
    "a byte too many over fragments": (PLAIN, frame(TEXT, b"a" * LIMIT, fin=False) + frame(CONTINUATION, b"a"), 1009),
    "200,000 tiny fragments": (
        PLAIN,
        frame(TEXT, b"a", fin=False) + frame(CONTINUATION, b"a", fin=False) * 200_000,
        1009,
    ),
    "an inflation bomb": (DEFLATE, frame(TEXT, deflate(bytes(64 << 20))[0], rsv=RSV1), 1009),
    "an inflation bomb in fragments": (
        DEFLATE,
        frame(TEXT, deflate(bytes(LIMIT + 1))[0], rsv=RSV1, fin=False) + frame(CONTINUATION, b"", fin=False),
        1009,
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses(case: str) -> None:
    """The client gets the code, and the app a disconnect with it; what follows is not read."""
    headers, data, code = REFUSED[case]
    ends: list[object] = []

    async def session(scope: object, receive: object, send: object) -> None:
        await send({"type": "websocket.accept"})  # type: ignore[operator]
        while (message := await receive())["type"] == "websocket.receive":  # type: ignore[operator]
            pass
        ends.append(message["code"])

    async def check() -> None:
        # The client need not wait for the end: ours is sent with the Close.
        async with serving_websocket(session, max_body_bytes=LIMIT, limits=Limits(linger_s=60)) as served:
            peer = await served.open(**headers)
            peer.write(data)
            assert await peer.closed_with() == code
        assert ends == [code]

    run(check())


def test_a_refused_client_costs_no_more_than_what_was_read() -> None:
    async def check() -> None:
        async with serving_websocket(echo_session) as served:
            peer = await served.open()
            used = time.process_time()
            peer.write(TINY_FRAGMENTS)
            assert await peer.closed_with() == 1009
            assert time.process_time() - used < 10.0  # 175,000 frames at 10 µs; 225,000 more are not read

    run(check(), 60)


def test_negotiates_only_what_it_keeps() -> None:
    async def check() -> None:
        async with serving_websocket(echo_session) as served:
            offers = {
                "permessage-deflate": "permessage-deflate; server_no_context_takeover",
                "permessage-deflate; client_max_window_bits": (
                    "permessage-deflate; server_no_context_takeover; client_max_window_bits=12"
                ),
                "permessage-deflate; client_max_window_bits=99": None,
                "x-webkit-deflate-frame": None,
            }
            for offer, answer in offers.items():
                peer = await served.open(sec_websocket_extensions=offer)
                assert peer.headers.get("sec-websocket-extensions") == answer
                peer.text("a" * 10_000)
                assert await peer.read() == Frame(TEXT, b"a" * 10_000)  # sent as it is

    run(check())


def test_a_long_message_of_noise_arrives_whole() -> None:
    noise = os.urandom(8 << 20)

    async def check() -> None:
        async with serving_websocket(echo_session) as served:
            peer = await served.open(**DEFLATE)
            peer.write(frame(BINARY, deflate(noise)[0], rsv=RSV1) + frame(BINARY, noise))
            assert [await peer.read(), await peer.read()] == [Frame(BINARY, noise)] * 2

    run(check())
