"""The time that expiry goes by: the wall clock's, unless it jumped.

A clock that is set a month ahead makes everything too old at once. How much time really went by is what the monotonic
clock says; where the wall clock ran ahead of it, things grow older by the monotonic clock only, until ``DOUBT_S`` of
that one have passed: time for an operator to see the line in the log.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final, NamedTuple

LOG: Final = logging.getLogger("relay.state")
TOLERANCE_S: Final = 3_600.0  # ahead by more since the last look: a jump
ABSENCE_S: Final = 86_400.0  # between the youngest row and a start: after more, nobody knows whether the clock jumped
DOUBT_S: Final = 86_400.0  # of the monotonic clock, until a jump is believed


class Doubt(NamedTuple):
    """What must outlive a restart: the time that expiry went by, and how long the wall clock is still not believed."""

    time_s: float
    left_s: float


class _Look(NamedTuple):
    time_s: float  # what was said
    steady_s: float  # when, on the monotonic clock
    until_s: float | None  # on the monotonic clock; None: the wall clock is believed


class Calendar:
    """Pure: both times are passed in. ``look`` often (each read, at least each minute)."""

    def __init__(self) -> None:
        self._last: _Look | None = None

    def start(self, wall_s: float, steady_s: float, *, youngest_s: float | None, doubt: Doubt | None = None) -> None:
        """Begin where the youngest row was made at ``youngest_s``; ``doubt`` is what the last life left behind."""
        self._last = _Look(wall_s, steady_s, None)
        if doubt is not None and wall_s - doubt.time_s > TOLERANCE_S:
            self._last = _Look(doubt.time_s, steady_s, steady_s + doubt.left_s)
        elif doubt is None and youngest_s is not None and wall_s - youngest_s > ABSENCE_S:
            self._last = _Look(youngest_s, steady_s, steady_s + DOUBT_S)

    def look(self, wall_s: float, steady_s: float) -> float:
        """The time that expiry goes by; never after the wall clock's."""
        last = self._last or _Look(wall_s, steady_s, None)
        expected_s = last.time_s + max(0.0, steady_s - last.steady_s)
        until_s = last.until_s
        if wall_s - expected_s <= TOLERANCE_S:
            expected_s, until_s = wall_s, None
        elif until_s is None:
            until_s = steady_s + DOUBT_S
        elif steady_s >= until_s:
            expected_s, until_s = wall_s, None
        self._last = _Look(expected_s, steady_s, until_s)
        return expected_s

    def doubt(self) -> Doubt | None:
        """What to keep, as of the last look; None while the clocks agree."""
        if self._last is None or self._last.until_s is None:
            return None
        return Doubt(self._last.time_s, self._last.until_s - self._last.steady_s)


def steady_clock() -> float:
    """Seconds that went by, those of a machine that slept included where the system counts them."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot is None else time.clock_gettime(boot)


class ExpiryClock:
    """A calendar on two clocks, which says once when it begins to wait and when it ends."""

    def __init__(self, now: Callable[[], float], steady: Callable[[], float] | None) -> None:
        self.now = now
        self._steady = steady or (steady_clock if now is time.time else now)
        self._calendar = Calendar()
        self._waits = False

    def start(self, youngest_s: float | None, doubt: Doubt | None) -> None:
        """Begin with what the store holds."""
        self._calendar.start(self.now(), self._steady(), youngest_s=youngest_s, doubt=doubt)
        self()

    def __call__(self) -> float:
        """The time that expiry goes by now."""
        wall_s = self.now()
        time_s = self._calendar.look(wall_s, self._steady())
        doubt = self._calendar.doubt()
        if (doubt is not None) != self._waits:
            self._waits = doubt is not None
            if doubt is not None:
                words = "the clock is %.1f h ahead of what has passed since the store was last used: expiry goes on"
                LOG.warning(
                    f"{words} from the earlier time, for %.1f h", (wall_s - time_s) / 3_600, doubt.left_s / 3_600
                )
            else:
                LOG.warning("the clock is believed again: expiry goes by it")
        return time_s

    def doubt(self) -> Doubt | None:
        """What to keep for the next start."""
        return self._calendar.doubt()
