"""One serving process: a loop, a server, the signals and the wish of a parent that end it.

Source: decision 38 and spec/operate.md D3 (the order of an end).
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from relay.server.context import App, logger
from relay.server.heartbeat import Heart
from relay.server.limits import Limits
from relay.server.server import Server

if TYPE_CHECKING:
    from relay.config import ServerSettings

# Allocations between two looks at the young (700, the default, costs a short answer 4 %), looks between two at the
# middle-aged, and none at the old by itself: a request of 500,000 values made it walk over all of them, 60 to 180 ms.
_GC_THRESHOLDS: Final = (10_000, 5, 1_000_000)
_COLLECT_S: Final = 300.0  # between two looks at the old; a turn leaves no circles (tests/app/test_garbage.py)
_SWITCH_S: Final = 0.0002  # for which a thread may keep the interpreter from the loop: relay.app.heavy has the figures
_KEPT_BYTES: Final = 8 * 1024 * 1024
STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_TERMINAL_SIGNALS: Final = (signal.SIGINT, signal.SIGHUP)  # go to the workers too; the parent forwards what it gets
AT_ONCE_SIGNAL: Final = signal.SIGUSR2  # parent to worker: SIGINT, which knows no ``drain_delay_s``
HURRY_SIGNAL: Final = signal.SIGUSR1  # parent to worker: do not drain. A second SIGTERM would merge with a pending one
WORKER_SIGNALS: Final = (*STOP_SIGNALS, AT_ONCE_SIGNAL, HURRY_SIGNAL)
HANDED_AT_ONCE: Final = 64


class Built(NamedTuple):
    """An app and what the server calls when it drains."""

    app: App
    on_drain: Callable[[], None] | None = None
    on_deadline: Callable[[], Awaitable[None]] | None = None
    on_unready: Callable[[], None] | None = None


class Process(NamedTuple):
    """What one serving process needs."""

    build: Callable[[], Built]
    settings: ServerSettings
    limits: Limits
    on_ready: Callable[[int], None] | None = None
    family: Family | None = None  # of a worker


class Family(NamedTuple):
    """What a worker has of its parent."""

    lifeline: int
    """A pipe that ends with the parent."""
    ready: int
    """A pipe that takes one byte once connections are accepted."""
    heart: Heart
    handed: socket.socket
    """Brings connections that were accepted for a worker that is no more."""


def run_process(process: Process, sock: socket.socket) -> None:
    """Serve on ``sock`` until a signal. Raises: OSError, StartupError, ssl.SSLError."""
    _keep_freed_memory()
    sys.setswitchinterval(_SWITCH_S)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(process, sock))


def _keep_freed_memory() -> None:
    """Have glibc keep up to 8 MiB that were freed, in place of 128 KiB.

    What one large read needs is freed before the next; given back to the kernel and faulted in again each time, it cost
    up to 250 page faults in 1,000 tokens. Twice the largest block that was mapped and freed is what glibc keeps from
    then on (mallopt(3), M_MMAP_THRESHOLD); this one is never touched.
    """
    bytes(_KEPT_BYTES // 2)


def _collect_now_and_then() -> None:
    """Look at the old every ``_COLLECT_S``, where something has become old since."""
    asyncio.get_running_loop().call_later(_COLLECT_S, _collect_now_and_then)
    if gc.get_count()[2]:
        gc.collect()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:  # not made for this machine
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def stop_signals() -> list[signal.Signals]:
    """Those that are not ignored: nohup means that a terminal's end is none of ours."""
    return [number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


class _Wish:
    """What signals, or the parent's end, ask of a serving process: to stop, at once perhaps, and then to hurry."""

    def __init__(self) -> None:
        self.asked, self.hurried = asyncio.Event(), asyncio.Event()
        self.at_once = False

    def stop(self, at_once: bool = False) -> None:
        self.at_once = self.at_once or at_once
        (self.hurried if self.asked.is_set() else self.asked).set()

    def hurry(self) -> None:
        self.asked.set()
        self.hurried.set()

    def listen(self, family: Family | None) -> None:
        """Take signals from here on."""
        loop = asyncio.get_running_loop()
        for number in stop_signals():
            loop.add_signal_handler(number, self.stop, number == signal.SIGINT)
        if family is not None:
            for number in _TERMINAL_SIGNALS:
                loop.add_signal_handler(number, _on_terminal)
            loop.add_signal_handler(AT_ONCE_SIGNAL, self.stop, True)
            loop.add_signal_handler(HURRY_SIGNAL, self.hurry)
            loop.add_reader(family.lifeline, self.asked.set)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, WORKER_SIGNALS)  # blocked by the parent until here


def _on_terminal() -> None:
    """The terminal's signal goes to the parent too, which forwards it."""


async def _serve(process: Process, sock: socket.socket) -> None:
    """Serve until a signal; a second one cuts the drain short."""
    loop, family = asyncio.get_running_loop(), process.family
    wish = _Wish()
    wish.listen(family)
    app, on_drain, on_deadline, on_unready = process.build()
    server = Server(
        app,
        process.settings,
        limits=process.limits,
        on_unready=on_unready,
        on_drain=on_drain,
        on_deadline=on_deadline,
    )
    await server.start(sock)
    # what was imported and built until here lives as long as the process: the collector need not look at it again
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    _collect_now_and_then()
    logger.info("process %d accepts connections", os.getpid())
    if process.on_ready is not None:
        process.on_ready(server.port)
    if family is not None:
        family.heart.start()
        loop.add_reader(family.handed, _take_handed, family.handed, server)
        with suppress(BrokenPipeError):  # the parent is dead: the lifeline says so
            os.write(family.ready, b"r")
    await wish.asked.wait()
    if family is not None:
        loop.remove_reader(family.lifeline)  # ended, it would be readable from now on
        loop.remove_reader(family.handed)
    logger.info("process %d stops, %d connections are open", os.getpid(), server.connections)
    # Two tasks, because the drain must go on while we look for a second signal.
    stopping = asyncio.create_task(_leave(server, 0.0 if wish.at_once else process.settings.drain_delay_s))
    hurrying = asyncio.create_task(wish.hurried.wait())
    await asyncio.wait([stopping, hurrying], return_when=asyncio.FIRST_COMPLETED)
    hurrying.cancel()
    if not stopping.done():
        stopping.cancel()
        await server.abort()
        return
    await stopping


async def _leave(server: Server, delay_s: float) -> None:
    await server.retire(delay_s)
    await server.stop()


def _take_handed(handed: socket.socket, server: Server) -> None:
    with suppress(BlockingIOError):
        _, descriptors, _, _ = socket.recv_fds(handed, 1, HANDED_AT_ONCE)
        for descriptor in descriptors:
            server.adopt(socket.socket(fileno=descriptor))
