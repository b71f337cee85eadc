"""Pieces of text cut out of an upstream's events without parsing each event.

The events of a stream that say one more piece of text are equal but for that piece. Once such an event was parsed
whole, the source before and after its string is known; an event with the same source around another string parses to
the same tree with that string in its place, so the string's literal can go on as it is. Whatever does not match is
parsed whole: both ways give the same bytes (tests/providers/test_splice.py).

hot: bench/test_translators.py
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final

import orjson

from relay.providers.base import Wait
from relay.wire.sse import WINDOW_BYTES, Decoder, Event, windows

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

    __slots__ = ("_between", "_head", "_tail", "_tries", "held", "ready")

    def __init__(self) -> None:
        self.held = False
        """Whether the next events are to be parsed although a template is known."""
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
        if not self.ready or self.held:
            return None
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


class Spliced(ABC):
    """How a translator is fed whose pieces of text are spliced: it takes literals, or events that were not spliced."""

    __slots__ = ("_decoder", "_splice", "ended", "wait")

    _on_literals: Callable[[list[bytes]], None]
    """At least one literal, none empty. A slot or a method of the translator."""

    def __init__(self) -> None:
        self._decoder = Decoder(thins=True)
        self._splice = Splice()
        self.ended = False
        self.wait: Wait | None = None

    @abstractmethod
    def _on_events(self, events: list[Event]) -> None:
        """Events of which at least one may be no text."""

    thins: Final = True

    @property
    def heavy(self) -> bool:
        """Whether what is fed next may complete a large event."""
        return self._decoder.heavy

    def feed(self, data: bytes) -> None:
        """Bytes of the stream. Raises: RelayError for an error that the upstream reports, or nonsense."""
        if self.ended:
            return
        # hot: bench/test_translators.py; most reads hold nothing but pieces of text
        decoder = self._decoder
        clear = decoder.clear
        block = data if clear else decoder.cut(data)
        literals = self._splice.literals(block)
        if literals is None:
            self._on_block(decoder.cut(data) if clear else block)
        elif literals:
            self._on_literals(literals)

    def _on_block(self, block: bytes) -> None:
        """What is not text only: a large block may begin before there is a template, or end with what is no text."""
        if len(block) <= WINDOW_BYTES:
            self._on_events(self._decoder.parse(block))
            return
        for window in windows(block):
            if self.ended:
                break
            literals = self._splice.literals(window)
            if literals is None:
                self._on_events(self._decoder.parse(window))
            elif literals:
                self._on_literals(literals)
