"""What a turn waits for, and for how long: one object a turn, told the clock.

Source: decisions 44 and 46 (what may come late). A wait belongs to what waits: one of several answers side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class Timer(Protocol):
    """What a clock gives for a callback that it will call."""

    def cancel(self) -> None:
        """Do not call it."""
        ...


class Clock(Protocol):
    """The part of an event loop that knows the time; a test passes one that it moves itself."""

    def call_later(self, delay: float, callback: Callable[..., object], /, *args: Any) -> Timer:
        """Call ``callback(*args)`` when ``delay`` seconds have passed."""
        ...


class Deadline:
    """The waits of one turn; ``expire`` of each is called once, when its time is over and it was not let go."""

    __slots__ = ("_clock", "_waits")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waits: dict[object, Timer] = {}

    def begin(self, owner: object, seconds: float, expire: Callable[[], object]) -> None:
        """``owner`` waits from now on; what it waited for before is forgotten."""
        self.end(owner)
        self._waits[owner] = self._clock.call_later(seconds, expire)

    def end(self, owner: object) -> None:
        """``owner`` waits no more."""
        timer = self._waits.pop(owner, None)
        if timer is not None:
            timer.cancel()
