"""What tests share: running a coroutine with a deadline, and waiting for a condition without a sleep of our own."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T], timeout_s: float = 20.0) -> T:
    """Run on a fresh uvloop loop; a test that hangs fails after ``timeout_s``."""

    async def bounded() -> T:
        async with asyncio.timeout(timeout_s):
            return await coroutine

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(bounded())


async def until(condition: Callable[[], object], timeout_s: float = 5.0) -> None:
    """Wait until ``condition()`` is true, looking every 2 ms; raises ``TimeoutError``."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.002)


async def all_of(*awaitables: Awaitable[Any]) -> list[Any]:
    """``asyncio.gather`` whose first failure cancels the others."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_as_coroutine(item)) for item in awaitables]
    return [task.result() for task in tasks]


async def _as_coroutine(item: Awaitable[Any]) -> Any:
    return await item


def cpu_seconds(call: Callable[[], object], tries: int = 1) -> float:
    """The CPU time of ``call``, the best of ``tries``, without the tracer of a coverage run."""
    seen = []
    for _ in range(tries):
        tracer = sys.gettrace()
        sys.settrace(None)
        try:
            started = time.process_time()
            call()
            seen.append(time.process_time() - started)
        finally:
            sys.settrace(tracer)
    return min(seen)


def assert_linear(seconds_of: Callable[[int], object], size: int, ratio: float = 2.3) -> None:
    """CPU time at twice the size is at most ``ratio`` times that at ``size``; the best of several tries counts.

    What is measured runs without the tracer of a coverage run and with an allocator that keeps its memory, whose
    costs are none of ours: by default glibc gives megabytes back at each free, and the kernel's page faults for having
    them again, of which there are none or thousands, made a translation of 4 MiB cost 17 or 47 ms.
    """

    seen = []
    with _memory_kept():
        for _ in range(6):
            one, two = (cpu_seconds(lambda: seconds_of(count), 3) for count in (size, 2 * size))  # noqa: B023
            seen.append(two / one)
            if seen[-1] <= ratio:
                return
    raise AssertionError(f"not linear: {seen}")


_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # mallopt(3)
_USUAL_TRIM_BYTES, _USUAL_MAPS = 128 * 1024, 65_536


@contextmanager
def _memory_kept() -> Iterator[None]:
    """glibc's allocator keeps what is freed, and maps nothing apart; another allocator is left as it is.

    The collector does not walk over what other tests have left, as it does not in a server (``relay.server.process``).
    """
    libc = ctypes.CDLL(None)
    gc.collect()
    gc.freeze()
    if not hasattr(libc, "mallopt"):
        yield
        gc.unfreeze()
        return
    libc.mallopt(_ARENA_MAX, 1)  # the thread of large work has the loop's memory, not one that shrinks with each turn
    libc.mallopt(_MMAP_MAX, 0)
    libc.mallopt(_TRIM_THRESHOLD, 1024 * 1024 * 1024)
    try:
        yield
    finally:
        gc.unfreeze()
        libc.mallopt(_MMAP_MAX, _USUAL_MAPS)
        libc.mallopt(_TRIM_THRESHOLD, _USUAL_TRIM_BYTES)
        libc.malloc_trim(0)
