"""A clock that the test moves: what waits by it comes due at once, or never."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class _Timer:
    def __init__(self, at: float, callback: Callable[[], object], timers: list[_Timer]) -> None:
        self.at = at
        self.callback = callback
        self._timers = timers

    def cancel(self) -> None:
        if self in self._timers:
            self._timers.remove(self)


class Clock:
    """``timers`` are those that wait, ``begun`` counts all there ever were."""

    def __init__(self) -> None:
        self.now = 0.0
        self.begun = 0
        self.timers: list[_Timer] = []

    def call_later(self, delay: float, callback: Callable[..., object], /, *args: Any) -> _Timer:
        self.begun += 1
        timer = _Timer(self.now + delay, lambda: callback(*args), self.timers)
        self.timers.append(timer)
        return timer

    @property
    def left_s(self) -> list[float]:
        """How long each timer still has."""
        return [round(timer.at - self.now, 6) for timer in self.timers]

    def pass_by(self, seconds: float) -> None:
        """Let time pass, and call what comes due in it."""
        self.now += seconds
        for timer in sorted(self.timers, key=lambda one: one.at):
            if timer.at <= self.now + 1e-9:
                timer.cancel()
                timer.callback()
