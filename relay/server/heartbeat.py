"""Signs of life of workers: each says once a second that its loop turned, and the parent looks.

Source: issue 10 point 14; spec/operate.md M2, D4 (which read the same).
"""

from __future__ import annotations

import asyncio
import mmap
import struct
from dataclasses import dataclass
from typing import Final

BEAT_S: Final = 1.0
_SLOT: Final = struct.Struct("Q")


class Board:
    """Memory that a parent shares with the workers that it forks: a counter for each place."""

    def __init__(self, places: int) -> None:
        self._memory = mmap.mmap(-1, places * _SLOT.size)

    def beat(self, place: int) -> None:
        """Count one turn of the loop. Only the worker at ``place`` writes there."""
        _SLOT.pack_into(self._memory, place * _SLOT.size, self.count(place) + 1)

    def count(self, place: int) -> int:
        """Turns counted at ``place``."""
        return int(_SLOT.unpack_from(self._memory, place * _SLOT.size)[0])

    def close(self) -> None:
        """Let go of the memory."""
        self._memory.close()


class Heart:
    """Beats in a running loop, from ``start`` on."""

    def __init__(self, board: Board, place: int) -> None:
        self._board = board
        self._place = place

    def start(self) -> None:
        """Beat now and every ``BEAT_S``."""
        self._board.beat(self._place)
        asyncio.get_running_loop().call_later(BEAT_S, self.start)


@dataclass(slots=True)
class Watch:
    """Whether one worker's loop still turns; pure, times in seconds.

    Only time in which the parent looked counts: one that was stopped or slept with its machine knows nothing of it.
    ``patience_s`` begins with the first beat, and is ``start_s`` until then.
    """

    patience_s: float
    start_s: float
    count: int
    looked_at: float
    silent_s: float = 0.0
    beats: bool = False

    def hangs(self, count: int, now: float) -> bool:
        """One look; looks are at most ``2 * BEAT_S`` apart, what is longer counts as that."""
        self.silent_s += min(now - self.looked_at, 2 * BEAT_S)
        self.looked_at = now
        if count != self.count:
            self.count, self.silent_s, self.beats = count, 0.0, True
        return self.silent_s >= (self.patience_s if self.beats else self.start_s + self.patience_s)
