"""How many values a JSON text holds, before anything is made of them.

Source: decision 61; RFC 8259 §2, §7. What a value costs in memory and time has little to do with its bytes: 8 MiB of
``[""…]`` are 2.8 million of them. Every value but the first stands behind a comma or an opening bracket.
"""

from __future__ import annotations

import re
from typing import Final

WINDOW_BYTES: Final = 64 * 1024

_BLANKS: Final = b" \t\r\n"
_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*"?|[][{},]', re.DOTALL)


def most(data: bytes) -> int:
    """No fewer than the values in this piece of a text: commas and brackets in strings count too. At C speed."""
    return data.count(b",") + data.count(b"[") + data.count(b"{")


def count(data: bytes) -> int:
    """The values of a text that is valid JSON; of any other some number. Linear, a window at a time."""
    total, inside, escape, opened = 1, False, b"", b""
    for at in range(0, len(data), WINDOW_BYTES):
        window = escape + data[at : at + WINDOW_BYTES]
        # a backslash at the end belongs to what comes next
        odd = (len(window) - len(window.rstrip(b"\\"))) % 2
        window, escape = (window[:-1], b"\\") if odd else (window, b"")
        pieces = window.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        # a string leaves a mark, else an array of one string would look empty
        outside = opened + (b"0" * inside + b"0".join(pieces[inside::2])).translate(None, _BLANKS)
        inside ^= len(pieces) % 2 == 0
        opened = outside[-1:] if outside[-1:] in (b"[", b"{") else b""
        if opened:
            outside = outside[:-1]
        total += most(outside) - outside.count(b"[]") - outside.count(b"{}")
    return total


def where(data: bytes, limit: int) -> str:
    """The member of the outermost object in which a text passes ``limit`` values; empty if that is none.

    Walks over at most ``limit`` values, and strings between them.
    """
    depth, seen = 0, 1
    member = last = b""
    for match in _TOKEN.finditer(data):
        token = match[0]
        if token[:1] == b'"':
            last = token
            if depth == 1 and data[match.end() : match.end() + 64].lstrip(_BLANKS)[:1] == b":":
                member = last
            continue
        seen += token in b"[{,"
        depth += (token in b"[{") - (token in b"]}")
        if seen > limit:
            break
    return member.strip(b'"').decode("utf-8", "replace")[:64] if seen > limit else ""
