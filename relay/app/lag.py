"""How long the event loop kept others waiting: what decision 61 bounds, as the relay itself sees it."""

from __future__ import annotations

import asyncio
from typing import Final

PERIOD_S: Final = 0.05
"""Between two looks: 20 calls a second, of 2 µs each."""


class Lag:
    """A timer that notes how late it comes. A wait that ends before the next look is not seen."""

    __slots__ = ("_due", "_longest_s", "_loop", "_timer")

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._longest_s = 0.0

    def start(self) -> None:
        """Look from now on, in the running loop."""
        self._loop = asyncio.get_running_loop()
        self._arm(self._loop.time())

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def take_s(self) -> float:
        """The longest wait since the last call, in seconds, the one that has just ended included."""
        self._note(self._loop.time() if self._timer is not None else self._due)
        longest, self._longest_s = self._longest_s, 0.0
        return longest

    def _arm(self, now: float) -> None:
        self._due = now + PERIOD_S
        self._timer = self._loop.call_at(self._due, self._look)

    def _look(self) -> None:
        now = self._loop.time()
        self._note(now)
        self._arm(now)

    def _note(self, now: float) -> None:
        self._longest_s = max(self._longest_s, now - self._due)
