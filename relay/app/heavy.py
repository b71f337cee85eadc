"""Work on large requests, beside the loop: at most 10 ms of our own work between two of its turns (decision 61).

Whatever walks over a client's input is pure, so it may run in a thread, which the interpreter takes off after 0.2 ms
(``sys.setswitchinterval`` in ``relay.server.process``) when the loop wants to turn. Measured with 50 connections, a
reply each 10 ms, and work that never rests: p99 71 ms in a thread with Python's own 5 ms, because each of the loop's
callbacks takes the lock anew; 5.8 ms with 0.2 ms; 9.3 ms in slices of 5 ms on the loop.

One thread, because two would wait for the same lock; who is next goes by the owners' shares.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, Final, TypeVar

from relay.places import Places

LIGHT: Final = 1_000
"""Values of a request that is worked on where it comes: about 3 ms of work at the most."""

ALWAYS: Final = LIGHT + 1
"""The weight of work that is known to be heavy."""

T = TypeVar("T")


class Heavy:
    """Runs work on the loop where it is light, else in its thread. One event loop."""

    def __init__(self) -> None:
        self._places = Places(1)
        self._thread: ThreadPoolExecutor | None = None

    @property
    def waiting(self) -> int:
        """How much work waits for its turn."""
        return self._places.waiting

    async def run(self, weight: int, owner: str, work: Callable[[], T]) -> T:
        """What ``work`` gives or raises. ``weight``: the JSON values that it walks over, about.

        Cancelled while the work runs, it is not waited for; the work ends by itself.
        """
        if weight <= LIGHT:
            return work()
        async with self._places.held(owner):
            if self._thread is None:
                self._thread = ThreadPoolExecutor(1, thread_name_prefix="relay-heavy")
            context = copy_context()
            return await asyncio.get_running_loop().run_in_executor(self._thread, context.run, work)

    def close(self) -> None:
        """Take no more work; what runs ends by itself."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)


def weight_of(items: list[Any]) -> int:
    """About how many values some items hold that are there already; many items are heavy whatever they hold."""
    weight = 8 * len(items)
    if weight > LIGHT:
        return weight
    for item in items:  # hot: bench short
        for member in item.values():
            if member.__class__ is list:
                weight += 8 * len(member)
    return weight
