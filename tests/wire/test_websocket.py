"""Frames and handshake by the RFCs' own examples and rules; every input whole, byte by byte, and cut anywhere."""

from __future__ import annotations

import os
import struct
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto import ConnectionType
from wsproto.connection import Connection
from wsproto.events import BytesMessage, CloseConnection, TextMessage
from wsproto.events import Ping as WsprotoPing
from wsproto.events import Pong as WsprotoPong
from wsproto.extensions import PerMessageDeflate

from relay.errors import RelayError
from relay.wire import websocket
from relay.wire.websocket import Binary, Close, Deflate, Event, Failure, Ping, Pong, Reader, Text
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
KEEPS = Deflate(client_takeover=True, client_window_bits=15, server_window_bits=15, header=b"")
FORGETS = Deflate(client_takeover=False, client_window_bits=15, server_window_bits=15, header=b"")


def events_of(pieces: Iterator[bytes] | list[bytes], deflate: Deflate | None = None, limit: int = LIMIT) -> list[Event]:
    reader = Reader(limit, deflate)
    events: list[Event] = []
    for piece in pieces:
        events += reader.feed(piece)
        while reader.behind:
            events += reader.feed(b"")
    return events


def read(data: bytes, deflate: Deflate | None = None, limit: int = LIMIT) -> list[Event]:
    """What ``data`` means, the same whole, byte by byte, and in threes (the long ones in larger steps)."""
    whole = events_of([data], deflate, limit)
    for step in (1, 3) if len(data) < 2_000 else (997,):
        assert events_of([data[i : i + step] for i in range(0, len(data), step)], deflate, limit) == whole
    return whole


# RFC 6455 §5.7 and RFC 7692 §7.2.3, byte for byte; the compressed ones are unmasked there.
HELLO_DEFLATED = bytes.fromhex("f248cdc9c90700")
EXAMPLES: dict[str, tuple[bytes, Deflate | None, list[Event]]] = {
    "a masked text": (bytes.fromhex("818537fa213d7f9f4d5158"), None, [Text("Hello")]),
    "an empty text": (frame(TEXT), None, [Text("")]),
    "text in two fragments": (frame(TEXT, b"Hel", fin=False) + frame(CONTINUATION, b"lo"), None, [Text("Hello")]),
    "text in empty fragments": (
        frame(TEXT, fin=False) + frame(CONTINUATION, fin=False) + frame(CONTINUATION),
        None,
        [Text("")],
    ),
    "bytes, 256": (frame(BINARY, bytes(range(256))), None, [Binary(bytes(range(256)))]),
    "bytes, 64 KiB": (frame(BINARY, b"\xff" * 65_536), None, [Binary(b"\xff" * 65_536)]),
    "bytes in fragments": (
        frame(BINARY, b"\xff", fin=False) + frame(CONTINUATION, b"\xfe", fin=False) + frame(CONTINUATION, b"\xfd"),
        None,
        [Binary(b"\xff\xfe\xfd")],
    ),
    "a ping and a pong": (frame(PING, b"Hello") + frame(PONG, b"Hello"), None, [Ping(b"Hello"), Pong(b"Hello")]),
    "a ping of 125 bytes": (frame(PING, b"p" * 125), None, [Ping(b"p" * 125)]),
    "control frames inside a message": (
        frame(TEXT, b"\xe2\x82", fin=False) + frame(PING, b"1") + frame(PONG) + frame(CONTINUATION, b"\xac"),
        None,
        [Ping(b"1"), Pong(b""), Text("€")],
    ),
    "a close inside a message": (
        frame(TEXT, b"a", fin=False) + frame(CLOSE, b"\x03\xe8"),
        None,
        [Close(1000, "")],
    ),
    "two messages": (frame(TEXT, b"1") + frame(TEXT, "2€😀".encode()), None, [Text("1"), Text("2€😀")]),
    "nothing after a close": (frame(CLOSE, b"\x0b\xb8why") + frame(TEXT, b"x"), None, [Close(3000, "why")]),
    "a close without a code": (frame(CLOSE), None, [Close(1005, "")]),
    "compressed: Hello": (frame(TEXT, HELLO_DEFLATED, rsv=RSV1), KEEPS, [Text("Hello")]),
    "compressed: in fragments": (
        frame(TEXT, HELLO_DEFLATED[:3], rsv=RSV1, fin=False) + frame(CONTINUATION, HELLO_DEFLATED[3:]),
        KEEPS,
        [Text("Hello")],
    ),
    "compressed: control frames inside": (
        frame(TEXT, HELLO_DEFLATED[:3], rsv=RSV1, fin=False)
        + frame(PING, b"!")
        + frame(CONTINUATION, HELLO_DEFLATED[3:5], fin=False)
        + frame(PONG)
        + frame(CONTINUATION, HELLO_DEFLATED[5:]),
        KEEPS,
        [Ping(b"!"), Pong(b""), Text("Hello")],
    ),
    "compressed: the context is kept": (
        frame(TEXT, HELLO_DEFLATED, rsv=RSV1) + frame(TEXT, bytes.fromhex("f200110000"), rsv=RSV1),
        KEEPS,
        [Text("Hello"), Text("Hello")],
    ),
    "compressed: the context is not kept": (
        frame(TEXT, HELLO_DEFLATED, rsv=RSV1) * 2,
        FORGETS,
        [Text("Hello"), Text("Hello")],
    ),
    "compressed: no compression": (
        frame(TEXT, bytes.fromhex("000500faff48656c6c6f00"), rsv=RSV1),
        KEEPS,
        [Text("Hello")],
    ),
    "compressed: a final block": (
        frame(TEXT, bytes.fromhex("f348cdc9c9070000"), rsv=RSV1) * 2,
        KEEPS,
        [Text("Hello"), Text("Hello")],
    ),
    "compressed: two blocks": (
        frame(TEXT, bytes.fromhex("f24805000000ffffcac9c90700"), rsv=RSV1),
        KEEPS,
        [Text("Hello")],
    ),
    "compressed: nothing": (frame(BINARY, b"\0", rsv=RSV1), KEEPS, [Binary(b"")]),
    "compressed: an empty payload": (frame(TEXT, b"", rsv=RSV1), KEEPS, [Text("")]),
    "plain between compressed": (
        frame(TEXT, HELLO_DEFLATED, rsv=RSV1) + frame(TEXT, b"x") + frame(TEXT, HELLO_DEFLATED, rsv=RSV1),
        KEEPS,
        [Text("Hello"), Text("x"), Text("Hello")],
    ),
}


@pytest.mark.parametrize("case", EXAMPLES)
def test_reads(case: str) -> None:
    data, deflate, expected = EXAMPLES[case]
    assert read(data, deflate) == expected


REFUSED: dict[str, tuple[bytes, Deflate | None, int]] = {
    "unmasked": (frame(TEXT, b"x", masked=False), None, 1002),
    **{f"opcode {code}": (frame(code, b"x"), None, 1002) for code in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "rsv1 without the extension": (frame(TEXT, HELLO_DEFLATED, rsv=RSV1), None, 1002),
    "rsv2": (frame(TEXT, b"x", rsv=RSV2), KEEPS, 1002),
    "rsv3": (frame(TEXT, b"x", rsv=RSV3), KEEPS, 1002),
    "rsv1 on a ping": (frame(PING, b"", rsv=RSV1), KEEPS, 1002),
    "rsv1 on a continuation": (
        frame(TEXT, b"", rsv=RSV1, fin=False) + frame(CONTINUATION, b"", rsv=RSV1),
        KEEPS,
        1002,
    ),
    "a fragmented ping": (frame(PING, b"", fin=False), None, 1002),
    "a ping of 126 bytes": (frame(PING, b"p" * 126), None, 1002),
    "a continuation of nothing": (frame(CONTINUATION, b"x"), None, 1002),
    "a text inside a message": (frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"), None, 1002),
    "a length in too many bytes": (struct.pack("!BBH", 0x81, 0xFE, 3) + b"mask" + b"abc", None, 1002),
    "a length in far too many bytes": (struct.pack("!BBQ", 0x81, 0xFF, 300) + b"mask", None, 1002),
    "a length with its highest bit set": (announced(TEXT, 1 << 63), None, 1002),
    "a close of 1 byte": (frame(CLOSE, b"\x03"), None, 1002),
    **{
        f"close code {code}": (frame(CLOSE, struct.pack("!H", code)), None, 1002)
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
    },
    "a close reason that is not UTF-8": (frame(CLOSE, b"\x03\xe8\xff"), None, 1007),
    "an invalid byte": (frame(TEXT, b"a\xffb"), None, 1007),
    "an invalid byte, before the message ends": (frame(TEXT, b"a\xff", fin=False), None, 1007),
    "a cut character": (frame(TEXT, b"\xe2\x82"), None, 1007),
    "a cut character over fragments": (frame(TEXT, b"\xe2", fin=False) + frame(CONTINUATION, b"\x82"), None, 1007),
    "an overlong character": (frame(TEXT, b"\xc0\xaf"), None, 1007),
    "a surrogate": (frame(TEXT, b"\xed\xa0\x80"), None, 1007),
    "beyond U+10FFFF": (frame(TEXT, b"\xf4\x90\x80\x80"), None, 1007),
    "invalid UTF-8, compressed": (frame(TEXT, deflate(b"\xff")[0], rsv=RSV1), KEEPS, 1007),
    "damaged deflate": (frame(TEXT, b"\xff\xff\xff", rsv=RSV1), KEEPS, 1007),
    "a context that was not agreed on": (
        frame(TEXT, HELLO_DEFLATED, rsv=RSV1) + frame(TEXT, bytes.fromhex("f200110000"), rsv=RSV1),
        FORGETS,
        1007,
    ),
    "data behind the final block": (
        frame(TEXT, bytes.fromhex("f348cdc9c9070000") + HELLO_DEFLATED, rsv=RSV1),
        KEEPS,
        1007,
    ),
    "one byte too many, announced": (announced(TEXT, LIMIT + 1), None, 1009),
    "very many, announced": (announced(BINARY, 1 << 62), None, 1009),
    "very many, announced as compressed": (announced(BINARY, 1 << 62, RSV1), KEEPS, 1009),
    "one byte too many in fragments": (
        frame(TEXT, b"x" * (LIMIT - 1), fin=False) + frame(CONTINUATION, b"", fin=False) + frame(CONTINUATION, b"xx"),
        None,
        1009,
    ),
    "one byte too many, inflated": (frame(TEXT, deflate(b"x" * (LIMIT + 1))[0], rsv=RSV1), KEEPS, 1009),
    "a MiB of empty frames": (frame(TEXT, fin=False) + frame(CONTINUATION, fin=False) * 174_763, None, 1009),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses(case: str) -> None:
    data, deflate, code = REFUSED[case]
    events = read(data + frame(TEXT, b"is not read"), deflate)
    assert isinstance(events[-1], Failure)
    assert events[-1].code == code
    assert events[-1].reason
    assert not any(isinstance(event, Failure | Close) for event in events[:-1])


@pytest.mark.parametrize(
    "code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 3999, 4000, 4999]
)
def test_reads_every_close_code_a_client_may_send(code: int) -> None:
    assert read(frame(CLOSE, struct.pack("!H", code) + "grüß".encode())) == [Close(code, "grüß")]


def test_a_message_may_be_exactly_as_long_as_the_limit() -> None:
    noise = os.urandom(LIMIT)
    assert events_of([frame(BINARY, noise)]) == [Binary(noise)]
    compressed = deflate(noise)[0]
    assert len(compressed) > LIMIT
    assert events_of([frame(BINARY, compressed, rsv=RSV1)], KEEPS) == [Binary(noise)]
    text = "x" * LIMIT
    data = frame(TEXT, deflate(text.encode())[0], rsv=RSV1) + frame(TEXT, text.encode())
    assert events_of([data], KEEPS) == [Text(text), Text(text)]


def test_each_message_has_the_whole_limit() -> None:
    parts = deflate(*[b"x" * (LIMIT - 1)] * 3)
    data = b"".join(frame(TEXT, part, rsv=RSV1) + frame(TEXT, b"y" * (LIMIT - 1)) for part in parts)
    assert events_of([data], KEEPS) == [Text("x" * (LIMIT - 1)), Text("y" * (LIMIT - 1))] * 3


@pytest.mark.parametrize("last", [frame(CLOSE), frame(CONTINUATION, b"\xff")])
def test_nothing_is_kept_after_the_end(last: bytes) -> None:
    reader = Reader(LIMIT)
    assert len(reader.feed(frame(TEXT, b"a" * 1_000, fin=False) + frame(PING) + last[:2])) == 1
    reader.feed(last[2:])
    more = frame(TEXT, b"x" * 60_000)
    tracemalloc.start()
    assert [reader.feed(more) for _ in range(10)] == [[]] * 10
    assert tracemalloc.get_traced_memory()[0] < 10_000
    tracemalloc.stop()


def test_control_frames_are_no_part_of_a_message_s_framing() -> None:
    data = frame(TEXT, b"a", fin=False) + (frame(PING) + frame(CONTINUATION, b"b", fin=False)) * 20_000
    assert events_of([data + frame(CONTINUATION, b"c") + frame(TEXT, b"d")])[-2:] == [
        Text("a" + "b" * 20_000 + "c"),
        Text("d"),
    ]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("size", [1, 48, 125, 126, 1_000, 4_086])
def test_a_message_may_come_in_any_number_of_frames(size: int, compressed: bool) -> None:
    """gorilla/websocket writes frames of 4 KiB, whatever the message."""
    payload = os.urandom(min(LIMIT, size * 60_000)).hex().encode()[:LIMIT]
    body = deflate(payload)[0] if compressed else payload
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    data = frame(TEXT, parts[0], fin=False, rsv=RSV1 if compressed else 0)
    data += b"".join(frame(CONTINUATION, part, fin=False) for part in parts[1:]) + frame(CONTINUATION)
    assert events_of([data], KEEPS) == [Text(payload.decode())]


@pytest.mark.parametrize(("size", "frames", "fine"), [(1, 170_000, True), (1, 180_000, False), (48, 300_000, True)])
def test_the_framing_of_a_message_is_bounded_by_what_it_frames(size: int, frames: int, fine: bool) -> None:
    """Six bytes a frame against 1 MiB + an eighth of the payload."""
    data = frame(BINARY, fin=False) + frame(CONTINUATION, b"x" * size, fin=False) * frames + frame(CONTINUATION)
    reader, events = Reader(1 << 30), []
    for at in range(0, len(data), 262_144):
        events += reader.feed(data[at : at + 262_144])
        while reader.behind:
            events += reader.feed(b"")
    assert isinstance(events[0], Binary) is fine


def test_one_call_reads_a_bounded_number_of_frames() -> None:
    reader = Reader(LIMIT)
    counts = [len(reader.feed(frame(PING) * 300))]
    while reader.behind:
        counts.append(len(reader.feed(b"")))
    assert counts == [128, 128, 44]


def test_the_time_is_linear_in_the_number_of_frames() -> None:
    def seconds(count: int) -> float:
        data = frame(PING, b"x") * count
        started = time.perf_counter()
        assert len(events_of([data])) == count
        return time.perf_counter() - started

    seconds(1_000)
    assert min(seconds(16_000) for _ in range(2)) < 16 * min(seconds(2_000) for _ in range(3))


def test_a_bomb_is_refused_before_it_inflates() -> None:
    # 64 MiB of zeros in 64 KiB; the limit is 100 kB.
    bomb = frame(TEXT, deflate(bytes(64 << 20))[0], rsv=RSV1)
    tracemalloc.start()
    events = events_of([bomb], KEEPS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [event[0] for event in events] == [1009]
    assert peak < 2 << 20


def test_an_announced_size_reserves_nothing() -> None:
    reader = Reader(1 << 30)
    tracemalloc.start()
    assert reader.feed(announced(TEXT, 1 << 30)) == []
    assert reader.feed(b"x") == []
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()


def test_a_message_that_comes_byte_by_byte_keeps_no_more_than_its_text() -> None:
    data = frame(TEXT, "é".encode() * 8_000)
    reader = Reader(LIMIT)
    tracemalloc.start()
    for i in range(len(data) - 1):
        assert reader.feed(data[i : i + 1]) == []
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert kept < 100_000
    assert reader.feed(data[-1:]) == [Text("é" * 8_000)]


MESSAGES = st.lists(st.one_of(st.text(max_size=300), st.binary(max_size=300)), min_size=1, max_size=5)


@settings(max_examples=150, deadline=None)
@given(MESSAGES, st.booleans(), st.booleans(), st.data())
def test_any_fragmentation_and_any_split_gives_the_same_messages(
    messages: list[str | bytes], compressed: bool, takeover: bool, data: st.DataObject
) -> None:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    stream = b""
    for message in messages:
        payload = message.encode() if isinstance(message, str) else message
        if compressed:
            if not takeover:
                compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
            payload = (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
        cuts = sorted(data.draw(st.lists(st.integers(0, len(payload)), max_size=4)))
        parts = [payload[a:b] for a, b in zip([0, *cuts], [*cuts, len(payload)], strict=True)]
        for index, part in enumerate(parts):
            opcode = CONTINUATION if index else TEXT if isinstance(message, str) else BINARY
            rsv = RSV1 if compressed and not index else 0
            stream += frame(opcode, part, fin=index == len(parts) - 1, rsv=rsv)
            stream += frame(PING, b"x")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    events = events_of(pieces, KEEPS if takeover else FORGETS)
    assert [event.data for event in events if isinstance(event, Text | Binary)] == messages


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_garbage_is_refused_or_read_but_never_breaks_the_reader(garbage: bytes, compressed: bool) -> None:
    read(garbage, KEEPS if compressed else None)


def test_a_discarded_reader_ignores_everything() -> None:
    reader = Reader(LIMIT)
    assert reader.feed(frame(TEXT, b"a", fin=False)) == []
    reader.discard()
    assert reader.feed(frame(CONTINUATION, b"b")) == []


# --- writing: wsproto's client side is the judge ----------------------------------------------------------------------


def as_client(data: bytes, *, compressed: bool = False) -> list[object]:
    extensions = []
    if compressed:
        extension = PerMessageDeflate()
        extension.finalize("permessage-deflate; server_no_context_takeover; server_max_window_bits=10")
        extensions = [extension]
    client = Connection(ConnectionType.CLIENT, extensions)
    client.receive_data(data)
    messages: list[object] = []
    part: list[str] = []
    for event in client.events():
        if isinstance(event, TextMessage):
            part.append(event.data)
            if event.message_finished:
                messages.append("".join(part))
                part = []
        elif isinstance(event, BytesMessage):
            messages.append(bytes(event.data))
        else:
            messages.append(event)
    return messages


SIZES = [0, 1, 125, 126, 127, 511, 512, 65_535, 65_536, 70_000]


def test_writes_text_in_every_length_form() -> None:
    assert b"".join(websocket.text_frames([b"Hello"])) == bytes.fromhex("810548656c6c6f")  # RFC 6455 §5.7
    texts = ["€" * (size // 3) + "x" * (size % 3) for size in SIZES]
    assert as_client(b"".join(websocket.text_frames(text.encode() for text in texts))) == texts
    small = [text for text in texts if len(text.encode()) < 65_536]
    assert len(small) > 3
    assert as_client(b"".join(websocket.text_frame(text.encode()) for text in small)) == small


def test_writes_bytes_in_every_length_form() -> None:
    for size in SIZES:
        assert as_client(b"".join(websocket.binary_frame(b"\xff" * size))) == [b"\xff" * size]


def test_writes_compressed_text_that_needs_no_context() -> None:
    agreed = Deflate(True, 15, 10, b"")
    texts = ["short", "a" * 5_000, os.urandom(50_000).hex(), "a" * 5_000]
    data = b"".join(websocket.deflated_text_frames([text.encode() for text in texts], agreed, 100))
    assert as_client(data, compressed=True) == texts
    parts = websocket.deflated_text_frames([b"short", b"a" * 5_000, b"a" * 5_000], agreed, 100)
    assert parts[:2] == [b"\x81\x05", b"short"]
    assert parts[2:4] == parts[4:6]
    assert len(parts[3]) < 50


def test_writes_control_frames() -> None:
    assert as_client(websocket.ping(b"p") + websocket.pong(b"q")) == [WsprotoPing(b"p"), WsprotoPong(b"q")]
    assert as_client(websocket.close(1001, "bye")) == [CloseConnection(1001, "bye")]
    assert websocket.close(1005) == b"\x88\x00"
    long = websocket.close(1009, "é" * 100)
    assert as_client(long) == [CloseConnection(1009, "é" * 61)]


# --- the opening handshake --------------------------------------------------------------------------------------------

REQUEST = [
    (b"host", b"server.example.com"),
    (b"upgrade", b"websocket"),
    (b"connection", b"Upgrade"),
    (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
    (b"sec-websocket-version", b"13"),
]


def with_header(name: bytes, *values: bytes) -> list[tuple[bytes, bytes]]:
    return [pair for pair in REQUEST if pair[0] != name] + [(name, value) for value in values]


@pytest.mark.parametrize(
    "headers",
    [
        with_header(b"connection", b"keep-alive, UPGRADE"),
        with_header(b"connection", b"Upgrade", b"close"),
        with_header(b"upgrade", b"h2c, WebSocket"),
    ],
)
def test_knows_an_upgrade_in_any_spelling(headers: list[tuple[bytes, bytes]]) -> None:
    assert websocket.read_upgrade(headers).key == b"dGhlIHNhbXBsZSBub25jZQ=="


def test_answers_the_rfcs_own_request() -> None:
    upgrade = websocket.read_upgrade(REQUEST)
    assert upgrade.subprotocols == ()
    assert upgrade.deflate is None
    assert websocket.accept_head(upgrade) == (
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    )


def test_answers_with_protocol_extension_and_headers() -> None:
    upgrade = websocket.read_upgrade(
        [
            *REQUEST,
            (b"sec-websocket-protocol", b"chat, superchat"),
            (b"sec-websocket-protocol", b"third"),
            (b"sec-websocket-extensions", b"permessage-deflate"),
            (b"content-length", b"0"),
        ]
    )
    assert upgrade.subprotocols == ("chat", "superchat", "third")
    head = websocket.accept_head(upgrade, "superchat", [(b"x-request-id", b"req_1")])
    assert head.endswith(
        b"\r\nsec-websocket-protocol: superchat"
        b"\r\nsec-websocket-extensions: permessage-deflate; server_no_context_takeover"
        b"\r\nx-request-id: req_1\r\n\r\n"
    )
    with pytest.raises(ValueError, match="CR, LF"):
        websocket.accept_head(upgrade, None, [(b"x", b"1\r\ny: 2")])


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (with_header(b"connection", b"keep-alive"), 400),
        (with_header(b"connection"), 400),
        (with_header(b"upgrade", b"h2c"), 400),
        (with_header(b"sec-websocket-version", b"8"), 426),
        (with_header(b"sec-websocket-version"), 426),
        (with_header(b"sec-websocket-version", b"13", b"8"), 426),
        (with_header(b"sec-websocket-key"), 400),
        (with_header(b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ==", b"dGhlIHNhbXBsZSBub25jZQ=="), 400),
        (with_header(b"sec-websocket-key", b"c2hvcnQ="), 400),
        (with_header(b"sec-websocket-key", b"not base64!"), 400),
        (with_header(b"content-length", b"5"), 400),
        (with_header(b"transfer-encoding", b"chunked"), 400),
    ],
)
def test_refuses_a_bad_opening(headers: list[tuple[bytes, bytes]], status: int) -> None:
    with pytest.raises(RelayError) as caught:
        websocket.read_upgrade(headers)
    assert caught.value.status == status
    assert dict(caught.value.headers).get("sec-websocket-version") == ("13" if status == 426 else None)


PLAIN = b"permessage-deflate; server_no_context_takeover"


@pytest.mark.parametrize(
    ("offers", "agreed"),
    [
        ([], None),
        ([b""], None),
        ([b"x-webkit-deflate-frame"], None),
        ([b"permessage-deflate"], Deflate(True, 15, 15, PLAIN)),
        ([b"permessage-deflate;server_no_context_takeover"], Deflate(True, 15, 15, PLAIN)),
        (  # Codex (tungstenite) and `websockets`
            [b"permessage-deflate; client_max_window_bits"],
            Deflate(True, 12, 15, PLAIN + b"; client_max_window_bits=12"),
        ),
        (
            [b"permessage-deflate; client_max_window_bits=8"],
            Deflate(True, 8, 15, PLAIN + b"; client_max_window_bits=8"),
        ),
        (
            [b'permessage-deflate; client_no_context_takeover; server_max_window_bits="10"'],
            Deflate(False, 15, 10, PLAIN + b"; client_no_context_takeover; server_max_window_bits=10"),
        ),
        ([b"foo, permessage-deflate; server_max_window_bits=8", b"permessage-deflate"], Deflate(True, 15, 15, PLAIN)),
        ([b"permessage-deflate; unknown"], None),
        ([b"permessage-deflate; client_max_window_bits=abc"], None),
        ([b"permessage-deflate; client_max_window_bits=16"], None),
        ([b"permessage-deflate; client_max_window_bits="], None),
        ([b"permessage-deflate; server_max_window_bits"], None),
        ([b"permessage-deflate; server_no_context_takeover=1"], None),
        ([b"permessage-deflate; client_no_context_takeover; client_no_context_takeover"], None),
        ([b'permessage-deflate; server_max_window_bits="'], None),
    ],
)
def test_negotiates_deflate(offers: list[bytes], agreed: Deflate | None) -> None:
    assert websocket.negotiate_deflate(offers) == agreed


def test_a_window_of_8_bits_is_inflated() -> None:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -9)
    payload = compressor.compress(b"Hello" * 50) + compressor.flush(zlib.Z_SYNC_FLUSH)
    assert read(frame(TEXT, payload[:-4], rsv=RSV1), Deflate(True, 8, 15, b"")) == [Text("Hello" * 50)]


def test_makes_no_offers() -> None:
    with pytest.raises(NotImplementedError):
        websocket._Bounds(LIMIT, None).offer()


def test_a_compressed_message_is_inflated_some_at_a_time() -> None:
    """25 KB on the wire are 25 MB: others get their turn after each 256 KiB, and what one slice makes."""
    size = 25_000_000
    data = frame(TEXT, deflate(b"x" * size)[0], rsv=RSV1)
    assert len(data) < 30_000
    reader = Reader(1 << 25, KEEPS)
    events = reader.feed(data)
    made = [reader.inflated_bytes]
    while reader.behind:
        events += reader.feed(b"")
        made.append(reader.inflated_bytes)
    assert [len(event.data) for event in events if isinstance(event, Text)] == [size]
    assert made[-1] == size
    assert max(after - before for before, after in pairwise([0, *made])) <= 256 * 1024 + 1_032 * 4_096


def test_what_is_kept_is_looked_at_later() -> None:
    reader = Reader(LIMIT, KEEPS)
    reader.keep(frame(TEXT, b"one")[:3])
    reader.keep(frame(TEXT, b"one")[3:])
    assert reader.behind
    assert reader.feed(frame(TEXT, b"two")) == [Text("one"), Text("two")]
    assert not reader.behind
    reader.discard()
    reader.keep(b"x")
    assert not reader.behind
