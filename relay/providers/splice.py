"""Pieces of text cut out of an upstream's events without parsing each event.

The events of a stream that say one more piece of text are equal but for that piece. Once such an event was parsed
whole, the source before and after its string is known; an event with the same source around another string parses to
the same tree with that string in its place, so the string's literal can go on as it is. Whatever does not match is
parsed whole: both ways give the same bytes (tests/providers/test_splice.py).

hot: bench/test_translators.py
"""

from __future__ import annotations

import re
from typing import Final

import orjson

TRIES_LIMIT: Final = 16
"""Templates that are learned for one stream; one whose events differ each time is parsed whole from then on."""

# the inside of a string literal as orjson writes it: other escapes are not canonical; and several, joined by LF
_ONE: Final = re.compile(rb'[^"\\\x00-\x1f]*(?:\\["\\bfnrt][^"\\\x00-\x1f]*)*')
_SEVERAL: Final = re.compile(rb'[^"\\\x00-\x1f]*(?:(?:\\["\\bfnrt]|\n)[^"\\\x00-\x1f]*)*')


def cut(block: bytes, before: int, after: int) -> list[bytes]:
    """What stands in each event of a block behind its first ``before`` and ahead of its last ``after`` bytes.

    It is for the caller to see, by joining them again, whether these are all alike. A search for a long separator is
    slow: for each occurrence CPython prepares it anew (0.9 us for one of 150 bytes).
    """
    stop = -after or None
    return [event[before:stop] for event in block[:-2].split(b"\n\n")]


class Splice:
    """``literals(block)`` of a block of whole events; ``learn`` from an event that said a piece of text only."""

    __slots__ = ("_between", "_head", "_tail", "_tries", "ready")

    def __init__(self) -> None:
        self._head = b""
        self._between = b""
        self._tail = b""
        self._tries = 0
        self.ready = False
        """Whether a template is known."""

    def literals(self, block: bytes) -> list[bytes] | None:
        """The insides of the string literals of all events, but empty ones; None where the block has any other event.

        What has literals is whole events with line feeds for line ends, whether a ``Decoder`` has cut it or not.
        """
        head, tail = self._head, self._tail
        if not (block.startswith(head) and block.endswith(tail)) or len(block) < len(head) + len(tail):
            return None
        inside = block[len(head) : len(block) - len(tail)]
        if _ONE.fullmatch(inside) is not None:
            found = [inside] if inside else []
        else:
            found = cut(block, len(head), len(tail) - 2)
            if self._between.join(found) != inside:
                return None
            inside = b"\n".join(found)
            if _SEVERAL.fullmatch(inside) is None or inside.count(b"\n") != len(found) - 1:
                return None
            if b"" in found:
                found = [literal for literal in found if literal]
        if not inside.isascii():
            try:
                inside.decode()
            except UnicodeDecodeError:
                return None
        return found

    def learn(self, name: bytes | None, data: bytes, key: bytes, text: str) -> None:
        """Take the source around ``text``, the value of the only member ``key`` (with its quotes) in ``data``."""
        if self._tries >= TRIES_LIMIT:
            self.ready = False
            return
        self._tries += 1
        self.ready = False
        before, found, after = data.partition(key)
        if not found or key in after or b"\\" in before:
            return
        colon = b": " if after.startswith(b": ") else b":"
        try:
            literal = orjson.dumps(text)
        except TypeError:  # a lone surrogate
            return
        rest = after[len(colon) :]
        if not after.startswith(colon) or not rest.startswith(literal):
            return
        suffix = rest[len(literal) - 1 :]
        if b"\\" in suffix or b"\n" in data:
            return
        lead = b"data: " if name is None else b"event: %b\ndata: " % name
        self._head = lead + before + key + colon + b'"'
        self._tail = suffix + b"\n\n"
        self._between = self._tail + self._head
        self.ready = True
