"""Runs of deltas that differ only in their text, their number and their padding: told apart without parsing.

Source: decision 20; responses-api.md §4.3. Inside a JSON string every quote is escaped, so that the bytes which follow
a text in one event of a run can be looked for in the next.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from relay.providers.splice import cut

_DELTA: Final = b'"delta":"'
_NUMBER: Final = b'"sequence_number":'
_PADDING: Final = b'"obfuscation":"'
_REST_OF_STRING: Final = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*')


def is_plain(piece: bytes) -> bool:
    """Whether the inside of a JSON string is one string indeed, and free of escaped code units (lone surrogates)."""
    return b"\\u" not in piece and b'"' not in piece.replace(b"\\\\", b"").replace(b'\\"', b"")


class Passage(NamedTuple):
    """The deltas at the beginning of a block: ``used`` bytes of them, ``kept`` bytes of text in them.

    ``block`` is what goes out: the events as the relay frames and numbers them.
    """

    events: int
    used: int
    kept: int
    block: bytes


NO_PASSAGE: Final = Passage(0, 0, 0, b"")


class Constants(NamedTuple):
    """What all events of a run have in common, in pieces; ``middle`` is empty where there is no padding."""

    lead: bytes
    start: bytes
    middle: bytes
    end: bytes


class Run:
    """The constant bytes of a run of deltas; ``pieces`` takes their texts, as the JSON source has them.

    An event's payload is ``start``, text, ``middle``, padding, ``lead``, number, ``end``; or, where the number comes
    first, ``lead``, number, ``start``, text, ``middle``, padding, ``end``. A block of events is cut at what stands
    between the variable bytes of one and the next. ``proven``: the run has met a second event.
    """

    __slots__ = ("_between", "_constants", "_framed", "_number_first", "_open", "_ours", "pieces", "proven")

    def __init__(self, name: str, framed: bool, number_first: bool, constants: Constants, pieces: list[bytes]) -> None:
        self.pieces = pieces
        self.proven = False
        self._number_first = number_first
        self._constants = constants
        self._framed = framed
        self._ours = f"event: {name}\ndata: ".encode()
        frame = self._ours if framed else b"data: "
        self._open = frame + (constants.lead if number_first else constants.start)
        self._between = constants.end + b"\n\n" + self._open

    @classmethod
    def learn(cls, name: str, payload: bytes, number: int, framed: bool, pieces: list[bytes]) -> Run | None:
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
        middle = payload[text_end:padding_at]
        if number_first:
            constants = Constants(payload[:number_at], payload[number_end:text_at], middle, payload[padding_end:])
        else:
            constants = Constants(payload[padding_end:number_at], payload[:text_at], middle, payload[number_end:])
        return cls(name, framed, number_first, constants, pieces)

    @property
    def skip(self) -> int:
        """Bytes before the payload of an event of a passage."""
        return len(self._ours)

    def passage(self, block: bytes, theirs: int, ours: int) -> Passage:
        """The deltas of the run at the beginning of ``block``; their texts are kept.

        ``theirs`` is the first number in ``block``, ``ours`` the one that it becomes.
        """
        # hot: bench/test_translators.py
        if not block.startswith(self._open):
            return NO_PASSAGE
        number_first = self._number_first
        lead, start, middle, _ = self._constants
        chunks = self._chunks(block)
        pieces = self._texts(chunks, theirs)
        if pieces is not None:
            self.proven = True
            self.pieces += pieces
            used = len(chunks) * len(self._between) + sum(map(len, chunks))
            return self._said(chunks, used, sum(map(len, pieces)), block, theirs, ours)
        number, used, kept, around = theirs, 0, 0, len(self._between)
        keep = self.pieces.append
        for chunk in chunks:
            if number_first:
                head = b"%d%b" % (number, start)
                if not chunk.startswith(head):
                    break
                begin, stop = len(head), len(chunk)
            else:
                tail = b"%b%d" % (lead, number)
                if not chunk.endswith(tail):
                    break
                begin, stop = 0, len(chunk) - len(tail)
            # bytes of one character are asked for as numbers: anything else costs an exception inside CPython
            if middle:
                quote = chunk.find(34, begin, stop)
                stop = quote if chunk.startswith(middle, quote) else chunk.find(middle, begin, stop)
                if stop < 0:
                    break
            piece = chunk[begin:stop]
            if 10 in chunk or ((92 in piece or 34 in piece) and not is_plain(piece)):
                break
            keep(piece)
            kept += stop - begin
            used += len(chunk) + around
            number += 1
        events = number - theirs
        if not events:
            return NO_PASSAGE
        self.proven = True
        return self._said(chunks[:events], used, kept, block, theirs, ours)

    def _said(self, chunks: list[bytes], used: int, kept: int, block: bytes, theirs: int, ours: int) -> Passage:
        if theirs == ours and self._framed:
            return Passage(len(chunks), used, kept, block if used == len(block) else block[:used])
        return Passage(len(chunks), used, kept, self._rewritten(chunks, theirs, ours))

    def _texts(self, chunks: list[bytes], theirs: int) -> Sequence[bytes] | None:
        """The texts of all chunks, if every one goes on with the run; else ``passage`` finds where it ends."""
        # hot: bench/test_translators.py; nothing here is done for one chunk in Python
        lead, start, middle, _ = self._constants
        if self._number_first:
            parts = [chunk.partition(start) for chunk in chunks]
        else:
            parts = [chunk.rpartition(lead)[::-1] for chunk in chunks]
        if not parts or [part[0] for part in parts] != [
            b"%d" % number for number in range(theirs, theirs + len(chunks))
        ]:
            return None
        texts: Sequence[bytes] = [part[2] for part in parts]
        if middle:
            halves = [text.partition(middle) for text in texts]
            texts, seen, _ = zip(*halves, strict=True)
            if b"" in seen:
                return None
        joined = b"".join(texts)
        if b"\n" in b"".join(chunks) or ((92 in joined or 34 in joined) and not all(map(is_plain, texts))):
            return None
        return texts

    def _chunks(self, block: bytes) -> list[bytes]:
        """The variable bytes of the events at the beginning of the block that have the constants in their places."""
        begin, end = len(self._open), self._constants.end
        if block.endswith(end + b"\n\n"):
            chunks = cut(block, begin, len(end))
            if self._between.join(chunks) == block[begin : len(block) - len(end) - 2]:
                return chunks
        chunks = block[begin:].split(self._between)
        last, blank_line, _ = chunks.pop().partition(b"\n\n")
        if blank_line and last.endswith(end):
            chunks.append(last[: -len(end)])
        return chunks

    def _rewritten(self, chunks: list[bytes], theirs: int, ours: int) -> bytes:
        lead, start, _, end = self._constants
        head = self._ours + (lead if self._number_first else start)
        events: list[bytes] = []
        for offset, chunk in enumerate(chunks):
            digits = len(str(theirs + offset))
            if self._number_first:
                events.append(b"%d%b" % (ours + offset, chunk[digits:]))
            else:
                events.append(b"%b%d" % (chunk[:-digits], ours + offset))
        return b"%b%b%b\n\n" % (head, (end + b"\n\n" + head).join(events), end)


def _end_of_string(payload: bytes, begin: int) -> int:
    match = _REST_OF_STRING.match(payload, begin)
    return match.end() if match is not None else begin
