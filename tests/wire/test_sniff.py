"""What a body is, by its first bytes. Expected: WHATWG HTML (event streams), RFC 8259 §2, decision 50."""

from __future__ import annotations

import pytest

from relay.wire.sniff import opened, shape_of

BODIES = {
    b"data: {}\n\n": "stream",
    b"data:{}\n\n": "stream",
    b"event: message_start\ndata: {}\n\n": "stream",
    b"id: 1\ndata: {}\n\n": "stream",
    b"retry: 100\n\n": "stream",
    b"error: broken\n\n": "stream",
    b": OPENROUTER PROCESSING\n\n": "stream",
    b":\n\n": "stream",
    b'{"choices": []}': "json",
    b"[{}]": "json",
    b"<html>data: x": "other",
    b"dat": None,
    b"database": "other",
    b"iddqd": "other",
    b"event": None,
    b"eventually": "other",
    b'"data: x"': "other",
    b"null": "other",
    b"": None,
    b"\xff": "other",
}


@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf", b"\r\n\r\n  ", b"\xef\xbb\xbf\n"])
@pytest.mark.parametrize("body", BODIES)
def test_shapes(before: bytes, body: bytes) -> None:
    assert shape_of(opened(before + body)) == BODIES[body]


@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf", b"\n \n"])
@pytest.mark.parametrize("body", [body for body, shape in BODIES.items() if shape])
def test_a_beginning_tells_the_same_or_nothing(before: bytes, body: bytes) -> None:
    """As it comes byte by byte, what was seen of it kept opened."""
    head, told = b"", None
    for byte in before + body:
        head = opened(head + bytes([byte]))
        told = shape_of(head)
        if told is not None:
            break
    assert told == BODIES[body]
    assert len(head) <= 8
