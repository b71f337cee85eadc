"""Runs of deltas that differ only in their text, their number and their padding: told apart without parsing.

Source: decision 20; responses-api.md §4.3. One pattern takes the variable bytes of all events of a block, and the block
is a passage if the events that these bytes make, each with its number, are the block again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

from relay.wire.sse import WINDOW_BYTES

_MOST_WINDOW_BYTES: Final = 64 * 1024

_DELTA: Final = b'"delta":"'
_NUMBER: Final = b'"sequence_number":'
_PADDING: Final = b'"obfuscation":"'

# the inside of a string: no escaped code unit, which may be half of a pair; possessive, so that time is linear
_STRING: Final = rb'[^"\\\x00-\x1f]*+(?:\\["\\/bfnrt][^"\\\x00-\x1f]*+)*+'
_REST_OF_STRING: Final = re.compile(_STRING)


class Passage(NamedTuple):
    """The deltas at the beginning of a block: ``used`` bytes of them, ``kept`` bytes of text in them.

    ``block`` is what goes out: the events as the relay frames and numbers them.
    """

    events: int
    used: int
    kept: int
    block: bytes


class Run:
    """The constant bytes of a run of deltas; ``said`` takes their texts, as the JSON source has them.

    The variable bytes stand in the order text, padding, number, or, where the number comes first, number, text,
    padding; without padding it is empty. ``proven``: the run has met a second event. ``skip``: bytes of an event of a
    passage before its payload. ``window_bytes``: how much of a block to look at; it grows while the run goes on,
    so that short runs cost no long looks.
    """

    __slots__ = ("_number_first", "_ours", "_pattern", "_theirs", "proven", "said", "skip", "window_bytes")

    def __init__(
        self, name: str, framed: bool, number_first: bool, padded: bool, constants: Sequence[bytes], said: bytearray
    ) -> None:
        """``constants``: what of a payload stands before, between and behind the variable bytes, all four."""
        frame = f"event: {name}\ndata: ".encode()
        self.skip = len(frame)
        self.said = said
        self.proven = False
        self._number_first = number_first
        self.window_bytes = WINDOW_BYTES
        theirs = b"%b%b" % (frame if framed else b"data: ", constants[0])
        # a look that begins elsewhere than an event ends at the next line feed: time is linear whatever the block holds
        lead = rb"(?m:^)" + rb"\n".join(b".{%d}" % len(line) for line in theirs.split(b"\n"))
        # what stands between the slots is only counted here, and compared when the events are put together again
        gaps = [b"(?s:.{%d})" % len(gap) for gap in (*constants[1:3], constants[3] + b"\n\n")]
        text, padding, digits = b"(%b)" % _STRING, b"(%b)" % (_STRING if padded else b""), b"[0-9]++"
        slots = (digits, text, padding) if number_first else (text, padding, digits)
        self._pattern = re.compile(lead + b"".join(chain.from_iterable(zip(slots, gaps, strict=True))))
        kinds = (b"%d", b"%b", b"%b") if number_first else (b"%b", b"%b", b"%d")
        event = b"".join(
            constant.replace(b"%", b"%%") + kind for constant, kind in zip(constants, (*kinds, b"\n\n"), strict=True)
        )
        self._ours = frame.replace(b"%", b"%%") + event
        self._theirs = self._ours if framed else b"data: " + event

    @classmethod
    def learn(cls, name: str, payload: bytes, number: int, framed: bool, said: bytearray) -> Run | None:
        """The run that a whole delta event begins; None where its members stand in another way.

        ``framed``: the upstream names its events, as the relay does.
        """
        numbered = b"%b%d" % (_NUMBER, number)
        if payload.count(_DELTA) != 1 or payload.count(_NUMBER) != 1 or numbered not in payload:
            return None
        text_at = payload.index(_DELTA) + len(_DELTA)
        text_end = _end_of_string(payload, text_at)
        number_at = payload.index(_NUMBER) + len(_NUMBER)
        number_end = payload.index(numbered) + len(numbered)
        padding = payload.find(_PADDING)
        padding_at = padding + len(_PADDING) if padding >= 0 else text_end
        padding_end = _end_of_string(payload, padding_at) if padding >= 0 else text_end
        number_first = number_end <= text_at
        if padding_at < text_end or not (number_first or padding_end <= number_at):
            return None
        slots = [(text_at, text_end), (padding_at, padding_end)]
        slots.insert(0 if number_first else 2, (number_at, number_end))
        (a, b), (c, d), (e, f) = slots
        constants = payload[:a], payload[b:c], payload[d:e], payload[f:]
        return cls(name, framed, number_first, padding >= 0, constants, said)

    def passage(self, block: bytes, theirs: int, ours: int) -> Passage | None:
        """The deltas of the run at the beginning of a block of whole events, if any; their texts are kept.

        ``theirs`` is the first number in ``block``, ``ours`` the one that it becomes.
        """
        # hot: bench/test_translators.py
        found = self._told_apart(block, theirs)
        if found is None:
            self.window_bytes = WINDOW_BYTES
            block = block[: self._end(block, theirs)]
            found = self._told_apart(block, theirs)
            if found is None:
                return None
        elif self.window_bytes < _MOST_WINDOW_BYTES:
            self.window_bytes *= 2
        self.proven = True
        texts, paddings = found
        said = b"".join(texts)
        self.said += said
        out = block
        if theirs != ours or self._theirs is not self._ours:
            out = self._put_together(self._ours, texts, paddings, ours)
        return Passage(len(texts), len(block), len(said), out)

    def _told_apart(self, block: bytes, number: int) -> tuple[Sequence[bytes], Sequence[bytes]] | None:
        """The texts and paddings of a block that is nothing but deltas of the run, numbered from ``number``."""
        found = self._pattern.findall(block)
        if not found:
            return None
        texts, paddings = zip(*found, strict=True)
        if self._put_together(self._theirs, texts, paddings, number) == block and (block.isascii() or _is_utf8(block)):
            return texts, paddings
        return None

    def _put_together(self, event: bytes, texts: Sequence[bytes], paddings: Sequence[bytes], number: int) -> bytes:
        numbers: Iterable[Any] = range(number, number + len(texts))
        slots = (numbers, texts, paddings) if self._number_first else (texts, paddings, numbers)
        return event * len(texts) % tuple(chain.from_iterable(zip(*slots, strict=True)))

    def _end(self, block: bytes, number: int) -> int:
        """How far the run goes in a block that holds other events too."""
        at = 0
        while match := self._pattern.match(block, at):
            event, (text, padding) = match.group(), match.groups()
            if self._put_together(self._theirs, (text,), (padding,), number) != event or not _is_utf8(event):
                break
            at, number = match.end(), number + 1
        return at


def _is_utf8(source: bytes) -> bool:
    try:
        source.decode()
    except UnicodeDecodeError:
        return False
    return True


def _end_of_string(payload: bytes, begin: int) -> int:
    match = _REST_OF_STRING.match(payload, begin)
    return match.end() if match is not None else begin
