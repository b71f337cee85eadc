"""What comes on one socket, whatever it is, holds the worker for no longer than decision 61 says."""

from __future__ import annotations

import zlib

import pytest

from tests.stalls.harness import MIB, Input, Stage, check, frame


def deflated(body: bytes) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = compressor.compress(body) + compressor.flush(zlib.Z_SYNC_FLUSH)
    return frame(data.removesuffix(b"\0\0\xff\xff"), compressed=True)


def pinged(body: bytes) -> bytes:
    """The frame behind 20,000 pings."""
    return b"\x89\x80\0\0\0\0" * 20_000 + frame(body)


def split(body: bytes) -> bytes:
    """In frames of 8 bytes."""
    pieces = [body[at : at + 8] for at in range(0, len(body), 8)]
    head = [bytes([0x01 if not at else 0x80 if at == len(pieces) - 1 else 0]) for at in range(len(pieces))]
    return b"".join(h + bytes([0x80 | len(p)]) + bytes(4) + p for h, p in zip(head, pieces, strict=True))


LONG = {"input": "x" * (25 * MIB)}
BLANKS = b'{"type":"response.create","model":"chat-m","store":false,"input":"hi"' + b" " * (25 * MIB) + b"}"

INPUTS = [
    Input("25-MiB-of-text-compressed", LONG, transport="ws", deflate=True, frames=deflated),
    Input("25-MiB-of-blanks-compressed", BLANKS, transport="ws", deflate=True, frames=deflated),
    Input("25-MiB-of-blanks-twice", BLANKS, transport="ws", deflate=True, frames=deflated, times=2),
    Input("25-MiB-of-text", LONG, transport="ws"),
    Input("1-MiB-in-small-frames", {"input": "x" * MIB}, transport="ws", frames=split),
    Input("pings", {}, transport="ws", frames=pinged),
]


@pytest.mark.parametrize("one", INPUTS, ids=str)
def test_others_are_served_meanwhile(stage: Stage, one: Input) -> None:
    assert check(stage, one).said
