"""A WebSocket client's frames, written from RFC 6455 §5.2 and RFC 7692 §7.2.1, not from the code under test."""

from __future__ import annotations

import struct
import zlib

TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10
RSV1, RSV2, RSV3 = 0x40, 0x20, 0x10


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True) -> bytes:
    """One frame of a client."""
    size = len(payload)
    first = (0x80 if fin else 0) | rsv | opcode
    bit = 0x80 if masked else 0
    if size < 126:
        head = bytes((first, bit | size))
    elif size < 65_536:
        head = struct.pack("!BBH", first, bit | 126, size)
    else:
        head = struct.pack("!BBQ", first, bit | 127, size)
    if not masked:
        return head + payload
    key = b"\x37\xfa\x21\x3d"
    whole = key * (size // 4 + 1)
    return head + key + (int.from_bytes(payload) ^ int.from_bytes(whole[:size])).to_bytes(size)


def announced(opcode: int, size: int, rsv: int = 0) -> bytes:
    """A header alone, announcing ``size`` bytes."""
    return struct.pack("!BBQ", 0x80 | rsv | opcode, 0xFF, size) + b"mask"


def deflate(*payloads: bytes) -> list[bytes]:
    """Each payload compressed, by one compressor over all of them (context takeover)."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    parts = [compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH) for payload in payloads]
    return [part.removesuffix(b"\0\0\xff\xff") for part in parts]
