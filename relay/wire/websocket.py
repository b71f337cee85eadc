"""WebSocket frames and the server's half of the opening handshake, without I/O.

Source: RFC 6455 (frames, handshake), RFC 7692 (permessage-deflate), decisions.md 33 to 35. wsproto reads the frames;
what it leaves open is closed by one extension of ours: sizes and framing are judged from a frame's header, before
its payload is kept, and inflation never makes more than one message may hold. Outgoing data frames get their header
here (0.2 µs, where wsproto's send costs 3.6 µs).

Exceptions to the RFCs, all of them refusals: a message may have any number of frames, but their headers count as
framing (``http1.framing_limit``, 1009); behind a final DEFLATE block (RFC 7692 §7.2.3.4) only the one padding octet may
follow in a message, and the next one starts with an empty window.
"""

from __future__ import annotations

import base64
import binascii
import io
import struct
import zlib
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, ParseFailed, RsvBits
from wsproto.utilities import generate_accept_token

from relay.errors import RelayError
from relay.wire.http1 import encode_head, framing_limit

FRAMES_A_FEED: Final = 128  # about 1 ms of work; ``Reader.behind`` says that there is more
SLICE_BYTES: Final = 4 * 1024  # of what may be compressed, at once: DEFLATE makes at most 4.2 MB of it (1 : 1,032)
INFLATED_A_FEED: Final = 256 * 1024  # about 1 ms of work, with at most one slice more
CLIENT_WINDOW_BITS: Final = 12  # asked for where the client lets us choose: inflating then holds 4 KiB a socket, not 32

NO_STATUS: Final = int(CloseReason.NO_STATUS_RCVD)
_TOO_BIG: Final = CloseReason.MESSAGE_TOO_BIG
_NO_BITS: Final = RsvBits(False, False, False)
_COMPRESSED_BIT: Final = RsvBits(True, False, False)


class Text(NamedTuple):
    """A whole text message; its UTF-8 was checked."""

    data: str


class Binary(NamedTuple):
    """A whole binary message."""

    data: bytes


class Ping(NamedTuple):
    """The other side wants a ``pong(payload)``; of several unanswered ones only the last (RFC 6455 §5.5.3)."""

    payload: bytes


class Pong(NamedTuple):
    """An answer to a ping, or unasked for."""

    payload: bytes


class Close(NamedTuple):
    """The other side closes: the same code goes back. Nothing follows. ``NO_STATUS`` where it gave none."""

    code: int
    reason: str


class Failure(NamedTuple):
    """The other side broke a rule: it is told ``code``, and what it sends is no longer read. Nothing follows."""

    code: int
    reason: str


Event = Text | Binary | Ping | Pong | Close | Failure


# --- the opening handshake -----------------------------------------------------------------------------------------


class Deflate(NamedTuple):
    """What both sides agreed on for permessage-deflate; the server's side never keeps its context."""

    client_takeover: bool
    client_window_bits: int
    server_window_bits: int
    header: bytes


class Upgrade(NamedTuple):
    """What a valid opening request asks for."""

    key: bytes
    subprotocols: tuple[str, ...]
    deflate: Deflate | None


def read_upgrade(headers: Iterable[tuple[bytes, bytes]]) -> Upgrade:
    """Check a GET over HTTP/1.1 that asks for an upgrade to ``websocket``; header names in lower case.

    Raises: RelayError: ``bad_request``, or ``upgrade_required`` naming version 13 (RFC 6455 §4.4).
    """
    found: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        found.setdefault(name, []).append(value)
    if not _lists(found, b"connection", b"upgrade") or not _lists(found, b"upgrade", b"websocket"):
        raise RelayError("bad_request", "A WebSocket handshake needs Upgrade: websocket and Connection: Upgrade.")
    if found.get(b"sec-websocket-version") != [b"13"]:
        raise RelayError(
            "upgrade_required",
            "Only version 13 of the WebSocket protocol is spoken here.",
            headers=(("sec-websocket-version", "13"), ("upgrade", "websocket")),
        )
    keys = found.get(b"sec-websocket-key", [])
    if len(keys) != 1 or not _is_nonce(keys[0]):
        raise RelayError("bad_request", "Sec-WebSocket-Key must be 16 bytes in base64, once.")
    if b"transfer-encoding" in found or found.get(b"content-length", [b"0"]) != [b"0"]:
        raise RelayError("bad_request", "A WebSocket handshake has no body.")
    names = [name.decode("latin-1") for value in found.get(b"sec-websocket-protocol", []) for name in _tokens(value)]
    return Upgrade(keys[0], tuple(names), negotiate_deflate(found.get(b"sec-websocket-extensions", [])))


def accept_head(
    upgrade: Upgrade,
    subprotocol: str | None = None,
    headers: Iterable[tuple[bytes, bytes]] = (),
    *,
    deflate: bool = True,
) -> bytes:
    """The 101 answer, to its empty line; ``headers`` are the application's own.

    Raises: ValueError where one holds CR, LF or NUL.
    """
    answer = [
        (b"upgrade", b"websocket"),
        (b"connection", b"upgrade"),
        (b"sec-websocket-accept", generate_accept_token(upgrade.key)),
    ]
    if subprotocol is not None:
        answer.append((b"sec-websocket-protocol", subprotocol.encode("latin-1")))
    if upgrade.deflate is not None:
        answer.append((b"sec-websocket-extensions", upgrade.deflate.header))
    return encode_head(101, [*answer, *headers])


def negotiate_deflate(values: Sequence[bytes]) -> Deflate | None:
    """The first offer of permessage-deflate that can be met; ``values`` are the Sec-WebSocket-Extensions lines."""
    for offer in b",".join(values).split(b","):
        name, *parameters = (part.strip() for part in offer.split(b";"))
        if name == b"permessage-deflate":
            deflate = _agreement(parameters)
            if deflate is not None:
                return deflate
    return None


def _agreement(parameters: list[bytes]) -> Deflate | None:
    """RFC 7692 §7.1: an offer with an unknown, doubled or ill-formed parameter is declined."""
    asked: dict[bytes, bytes] = {}
    for parameter in parameters:
        name, equals, value = (part.strip() for part in parameter.partition(b"="))
        if value[:1] == value[-1:] == b'"' and len(value) > 1:
            value = value[1:-1]
        if name in asked or value not in _DEFLATE_PARAMETERS.get(name, ()) or (equals and not value):
            return None
        asked[name] = value
    client_bits = int(asked.get(b"client_max_window_bits") or 15)
    server_bits = int(asked.get(b"server_max_window_bits", 15))
    header = b"permessage-deflate; server_no_context_takeover"
    if b"client_no_context_takeover" in asked:
        header += b"; client_no_context_takeover"
    if b"client_max_window_bits" in asked:
        client_bits = min(client_bits, CLIENT_WINDOW_BITS)
        header += b"; client_max_window_bits=%d" % client_bits
    if b"server_max_window_bits" in asked:
        header += b"; server_max_window_bits=%d" % server_bits
    return Deflate(b"client_no_context_takeover" not in asked, client_bits, server_bits, header)


# The values each parameter of an offer may have; b"" is a parameter without one. zlib cannot deflate with 8 bits.
_DEFLATE_PARAMETERS: Final[dict[bytes, tuple[bytes, ...]]] = {
    b"server_no_context_takeover": (b"",),
    b"client_no_context_takeover": (b"",),
    b"server_max_window_bits": tuple(b"%d" % bits for bits in range(9, 16)),
    b"client_max_window_bits": (b"", *(b"%d" % bits for bits in range(8, 16))),
}


def _lists(headers: dict[bytes, list[bytes]], name: bytes, token: bytes) -> bool:
    return token in _tokens(b",".join(headers.get(name, ())).lower())


def _tokens(value: bytes) -> list[bytes]:
    return [token for part in value.split(b",") if (token := part.strip())]


def _is_nonce(key: bytes) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except binascii.Error:
        return False


# --- reading -------------------------------------------------------------------------------------------------------


class _Bounds(Extension):
    """wsproto's view into each frame: judges it by its header, and inflates within the message's budget.

    wsproto calls ``frame_inbound_header`` again for a header that arrives in pieces, so that one only looks; the
    counters move in the other two.
    """

    name = "permessage-deflate"

    def __init__(self, limit_bytes: int, deflate: Deflate | None) -> None:
        self._limit_bytes = limit_bytes
        self._deflate = deflate
        self._inflate: Any = None  # zlib's object: kept between messages where the client keeps its context
        self._begun = False  # a frame of this message has ended
        self._framing = 0  # bytes of this message's frame headers, ended frames only
        self._header = 0  # bytes of this frame's
        self._received = 0  # bytes of this message on the wire
        self._made = 0  # bytes of this message, inflated
        self._compressed = False  # this message
        self._control = False  # this frame
        self.inflated_bytes = 0  # ever

    @property
    def compresses(self) -> bool:
        """Whether messages may be compressed."""
        return self._deflate is not None

    def enabled(self) -> bool:
        return True

    def offer(self) -> bool | str:
        raise NotImplementedError("a server makes no offers")

    def frame_inbound_header(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> CloseReason | RsvBits:
        self._control = opcode.iscontrol()
        if self._control:
            return _NO_BITS
        if (opcode is Opcode.CONTINUATION) != self._begun:
            raise ParseFailed("a message must end before the next one begins")
        self._header = 6 if payload_length < 126 else 8 if payload_length < 65_536 else 14  # RFC 6455 §5.2, masked
        if self._framing + self._header > framing_limit(self._received + payload_length):
            raise ParseFailed("the message is in too many small frames", _TOO_BIG)
        if opcode is not Opcode.CONTINUATION:
            self._compressed = rsv.rsv1
        # DEFLATE makes incompressible data a little longer: 5 bytes in 16 KiB, and a few once.
        slack = (self._limit_bytes >> 10) + 64 if self._compressed else 0
        if self._received + payload_length > self._limit_bytes + slack:
            raise ParseFailed(f"a message may have {self._limit_bytes} bytes", _TOO_BIG)
        return _NO_BITS if self._deflate is None or opcode is Opcode.CONTINUATION else _COMPRESSED_BIT

    def frame_inbound_payload_data(self, proto: FrameDecoder | FrameProtocol, data: bytes) -> bytes | CloseReason:
        if self._control:
            return data
        self._received += len(data)
        return self._inflated(data) if self._compressed else data

    def frame_inbound_complete(self, proto: FrameDecoder | FrameProtocol, fin: bool) -> bytes | CloseReason | None:
        if self._control:
            return None
        self._begun = True
        self._framing += self._header
        if not fin:
            return None
        data = None
        if self._compressed:
            assert self._deflate is not None  # wsproto refused the reserved bit
            data = b"" if self._inflate.eof else self._inflated(b"\x00\x00\xff\xff")
            if self._inflate.eof or not self._deflate.client_takeover:
                self._inflate = None
        self._framing = self._received = self._made = 0
        self._begun = False
        return data

    def _inflated(self, data: bytes) -> bytes:
        assert self._deflate is not None  # wsproto refused the reserved bit
        if self._inflate is None:
            self._inflate = zlib.decompressobj(-max(self._deflate.client_window_bits, 9))
        room = self._limit_bytes - self._made
        try:
            made: bytes = self._inflate.decompress(data, room + 1)
        except zlib.error as error:
            raise ParseFailed("the compressed data is damaged", CloseReason.INVALID_FRAME_PAYLOAD_DATA) from error
        if len(made) > room:
            raise ParseFailed(f"a message may have {self._limit_bytes} bytes", _TOO_BIG)
        if self._inflate.unused_data not in (b"", b"\x00"):
            raise ParseFailed("data behind the end of the compressed data", CloseReason.INVALID_FRAME_PAYLOAD_DATA)
        self._made += len(made)
        self.inflated_bytes += len(made)
        return made


class Reader:
    """Bytes of one client in, events out. ``inflated_bytes``: what was made of compressed messages so far.

    Memory: one message of at most ``limit_bytes``, and what was fed last. The time is linear in what is fed.
    """

    __slots__ = ("_binary", "_bounds", "_kept", "_protocol", "_text", "behind")

    def __init__(self, limit_bytes: int, deflate: Deflate | None = None) -> None:
        self._bounds = _Bounds(limit_bytes, deflate)
        self._protocol: FrameProtocol | None = FrameProtocol(False, [self._bounds])
        self._kept = b""  # not yet looked at
        self._text: io.StringIO | None = None  # a text message of which a part is here
        self._binary: bytearray | None = None
        self.behind = False  # there are frames that the last call left alone: ``feed(b"")`` goes on

    def feed(self, data: bytes) -> list[Event]:
        """The events that ``data`` completes, at most ``FRAMES_A_FEED`` frames of them; see ``behind``."""
        events: list[Event] = []
        protocol = self._protocol
        if protocol is None:
            return events
        bounds = self._bounds
        until = bounds.inflated_bytes + INFLATED_A_FEED
        data = self._kept + data if self._kept else data
        size = SLICE_BYTES if bounds.compresses else len(data)
        at = seen = 0
        try:
            while True:
                if at < len(data):
                    protocol.receive_bytes(data[at : at + size] if size < len(data) else data)
                    at += size
                for frame in islice(protocol.received_frames(), FRAMES_A_FEED - seen):
                    seen += 1
                    event = _READ[frame.opcode](self, frame.payload, frame.message_finished)
                    if event is not None:
                        events.append(event)
                if at >= len(data) or seen == FRAMES_A_FEED or bounds.inflated_bytes >= until:
                    break
        except ParseFailed as failure:
            utf8 = isinstance(failure.__context__, UnicodeDecodeError)  # its own words quote the client's bytes
            events.append(Failure(int(failure.code), "the text is not UTF-8" if utf8 else str(failure)))
        self._kept = data[at:]
        self.behind = seen == FRAMES_A_FEED or bool(self._kept)
        if events and isinstance(events[-1], Close | Failure):
            self.discard()
        return events

    def keep(self, data: bytes) -> None:
        """Look at this later: ``feed(b"")`` goes on."""
        if self._protocol is not None:
            self._kept += data
            self.behind = True

    @property
    def inflated_bytes(self) -> int:
        """What was made of compressed messages so far."""
        return self._bounds.inflated_bytes

    def discard(self) -> None:
        """Let go of everything; what is fed from now on is ignored."""
        self._protocol = self._text = self._binary = None
        self._kept = b""
        self.behind = False

    def _on_text(self, payload: Any, finished: bool) -> Text | None:
        text = self._text
        if text is None:
            if finished:
                return Text(payload)
            text = self._text = io.StringIO()
        text.write(payload)
        if not finished:
            return None
        self._text = None
        return Text(text.getvalue())

    def _on_binary(self, payload: Any, finished: bool) -> Binary | None:
        binary = self._binary
        if binary is None:
            if finished:
                return Binary(payload)
            binary = self._binary = bytearray()
        binary += payload
        if not finished:
            return None
        self._binary = None
        return Binary(bytes(binary))

    def _on_ping(self, payload: Any, finished: bool) -> Ping:
        return Ping(payload)

    def _on_pong(self, payload: Any, finished: bool) -> Pong:
        return Pong(payload)

    def _on_close(self, payload: Any, finished: bool) -> Close:
        code, reason = payload
        return Close(int(code), reason)


# wsproto hands continuations out under the opcode of their message.
_READ: Final = {
    Opcode.TEXT: Reader._on_text,
    Opcode.BINARY: Reader._on_binary,
    Opcode.PING: Reader._on_ping,
    Opcode.PONG: Reader._on_pong,
    Opcode.CLOSE: Reader._on_close,
}


# --- writing -------------------------------------------------------------------------------------------------------

_pack_medium: Final = struct.Struct("!HH").pack
_pack_long: Final = struct.Struct("!HQ").pack


def _header(first: int, size: int) -> bytes:
    """RFC 6455 §5.2: the first octet, then the payload's length in 7, 16 or 64 bits."""
    if size < 126:
        return bytes((first, size))
    if size < 65_536:
        return _pack_medium(first << 8 | 126, size)
    return _pack_long(first << 8 | 127, size)


# A token's frame is smaller than this: its header is looked up, without a call. Making all takes 0.2 ms.
_USUAL_BYTES: Final = 512
_USUAL_TEXT: Final = tuple(_header(0x81, size) for size in range(_USUAL_BYTES))


def text_frames(payloads: Iterable[bytes]) -> list[bytes]:
    """Headers and payloads, one after the other, to be gathered into one write. hot: bench/test_websocket.py."""
    parts: list[bytes] = []
    for payload in payloads:
        size = len(payload)
        parts.append(_USUAL_TEXT[size] if size < _USUAL_BYTES else _header(0x81, size))
        parts.append(payload)
    return parts


def text_frame(payload: bytes) -> bytes:
    """A text message as ``text_frames`` frames it, in one piece: for small ones, since the payload is copied."""
    size = len(payload)
    return (_USUAL_TEXT[size] if size < _USUAL_BYTES else _header(0x81, size)) + payload


def deflated_text_frames(payloads: Iterable[bytes], deflate: Deflate, from_bytes: int) -> list[bytes]:
    """As ``text_frames``; each message of at least ``from_bytes`` is compressed by itself."""
    parts: list[bytes] = []
    for payload in payloads:
        if len(payload) < from_bytes:
            parts += text_frames((payload,))
        else:
            small = zlib.compressobj(zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, -deflate.server_window_bits)
            data = small.compress(payload) + small.flush(zlib.Z_SYNC_FLUSH)
            parts += _frame(0xC1, data[:-4])
    return parts


def binary_frame(payload: bytes) -> list[bytes]:
    """Header and payload of one binary message."""
    return _frame(0x82, payload)


def ping(payload: bytes = b"") -> bytes:
    """A ping; ``payload`` of at most 125 bytes."""
    return b"".join(_frame(0x89, payload))


def pong(payload: bytes) -> bytes:
    """The answer to a ``Ping``."""
    return b"".join(_frame(0x8A, payload))


def close(code: int = 1000, reason: str = "") -> bytes:
    """A Close frame; ``NO_STATUS`` makes an empty one, a reason is cut to 123 bytes at a whole character."""
    if code == NO_STATUS:
        return b"\x88\x00"
    text = reason.encode("utf-8", "replace")[:123].decode("utf-8", "ignore").encode()
    return b"".join(_frame(0x88, code.to_bytes(2, "big") + text))


def _frame(first: int, payload: bytes) -> list[bytes]:
    return [_header(first, len(payload)), payload]
