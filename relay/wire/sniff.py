"""What a body is, told by its first bytes.

Source: WHATWG HTML, "Parsing an event stream" (fields, comments, BOM); RFC 8259 §2; decision 50. Gateways label streams
as JSON or plain text and JSON as a stream (openclaw/openclaw#96497, Wei-Shaw/sub2api#2826).
"""

from __future__ import annotations

from typing import Final, Literal

Shape = Literal["stream", "json", "other"]

_BOM: Final = b"\xef\xbb\xbf"
_BLANKS: Final = b" \t\r\n"
_FIELDS: Final = (b":", b"data:", b"event:", b"id:", b"retry:", b"error:")
_LONGEST: Final = max(map(len, _FIELDS))


def opened(data: bytes) -> bytes:
    """A body's beginning without the mark and the blanks that may stand before it."""
    return data.removeprefix(_BOM).lstrip(_BLANKS)


def shape_of(head: bytes) -> Shape | None:
    """What an ``opened`` beginning tells; None where it is too short to tell."""
    if head.startswith(_FIELDS):
        return "stream"
    if head.startswith((b"{", b"[")):
        return "json"
    short = len(head) < _LONGEST and any(one.startswith(head) for one in (*_FIELDS, _BOM))
    return None if short else "other"
