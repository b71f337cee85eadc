"""Runs of deltas that differ only in their text, their number and their padding: told apart without parsing.

Source: decision 20; responses-api.md §4.3. Inside a JSON string every quote is escaped, so that the bytes which follow
a text in one event of a run can be looked for in the next.
"""

from __future__ import annotations

import re
from typing import Final

from relay.responses.tools import JSON

_DELTA: Final = b'"delta":"'
_NUMBER: Final = b'"sequence_number":'
_PADDING: Final = b'"obfuscation":"'
_REST_OF_STRING: Final = re.compile(rb'(?:[^"\\]|\\.)*')


def is_plain(piece: bytes) -> bool:
    """Whether the inside of a JSON string is one string indeed, and free of escaped code units (lone surrogates)."""
    return b"\\u" not in piece and b'"' not in piece.replace(b"\\\\", b"").replace(b'\\"', b"")


class Run:
    """The constant bytes of a run of deltas; ``pieces`` takes their texts, as the JSON source has them."""

    __slots__ = ("_end", "_lead", "_middle", "_number_first", "_start", "name", "pieces")

    def __init__(
        self, name: bytes, pieces: list[bytes], number_first: bool, lead: bytes, start: bytes, middle: bytes, end: bytes
    ) -> None:
        self.name = name
        self.pieces = pieces
        self._number_first = number_first
        self._lead = lead
        self._start = start
        self._middle = middle
        self._end = end

    @classmethod
    def learn(cls, name: str, payload: bytes, content: JSON, pieces: list[bytes]) -> Run | None:
        """The run that a whole delta event begins; None where its members stand in another way."""
        number = _NUMBER + str(content.get("sequence_number")).encode()
        if payload.count(_DELTA) != 1 or payload.count(_NUMBER) != 1 or number not in payload:
            return None
        begin = payload.index(_DELTA) + len(_DELTA)
        stop = _end_of_string(payload, begin)
        number_at = payload.index(_NUMBER) + len(_NUMBER)
        number_end = payload.index(number) + len(number)
        padding = payload.find(_PADDING)
        if padding < 0:
            padding_begin = padding_end = stop
        else:
            padding_begin = padding + len(_PADDING)
            padding_end = _end_of_string(payload, padding_begin)
        encoded = name.encode()
        if number_end <= begin:
            if padding_begin < stop:
                return None
            middle = payload[stop:padding_begin]
            return cls(
                encoded, pieces, True, payload[:number_at], payload[number_end:begin], middle, payload[padding_end:]
            )
        if not stop <= padding_begin <= padding_end <= number_at:
            return None
        middle = payload[stop:padding_begin]
        lead = payload[padding_end:number_at]
        return cls(encoded, pieces, False, lead, payload[:begin], middle, payload[number_end:])

    def match(self, payload: bytes, number: int) -> bytes | None:
        """The text of the next delta of the run, kept; None for any other event."""
        # hot: bench/test_native.py
        if self._number_first:
            head = b"%b%d%b" % (self._lead, number, self._start)
            tail = self._end
        else:
            head = self._start
            tail = b"%b%d%b" % (self._lead, number, self._end)
        if not (payload.startswith(head) and payload.endswith(tail)):
            return None
        begin, stop = len(head), len(payload) - len(tail)
        if self._middle:
            stop = payload.find(self._middle, begin, stop)
        if stop < begin:
            return None
        piece = payload[begin:stop]
        if (b"\\" in piece or b'"' in piece) and not is_plain(piece):
            return None
        self.pieces.append(piece)
        return piece

    def numbered(self, payload: bytes, theirs: int, ours: int) -> bytes:
        """A matched event with our number in the place of the upstream's."""
        digits = len(str(theirs))
        if self._number_first:
            return b"%b%d%b" % (self._lead, ours, payload[len(self._lead) + digits :])
        return b"%b%d%b" % (payload[: len(payload) - len(self._end) - digits], ours, self._end)


def _end_of_string(payload: bytes, begin: int) -> int:
    match = _REST_OF_STRING.match(payload, begin)
    return match.end() if match is not None else begin
