"""``serve``: one process, or a parent that binds the sockets and keeps workers alive; signals and the graceful stop.

The parent runs no loop and no app. It binds, forks, waits for signals and for its children's ends, and starts again
what crashes, later each time. Workers end when the parent does, however that dies: they watch a pipe of its.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Final, NamedTuple

from relay.server.context import App, logger
from relay.server.limits import Limits
from relay.server.server import Server
from relay.server.sockets import bind, bind_for_workers, remove_path

if TYPE_CHECKING:
    from relay.config import ServerSettings

_GC_THRESHOLD: Final = 10_000  # allocations between two looks at the young; 700, the default, costs a short answer 4 %
_KEPT_BYTES: Final = 8 * 1024 * 1024
_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_HURRY_SIGNAL: Final = signal.SIGUSR1  # parent to worker: do not drain. A second SIGTERM would merge with a pending one
_WORKER_SIGNALS: Final = (*_STOP_SIGNALS, _HURRY_SIGNAL)
_KILL_S: Final = 15.0  # beyond all of a worker's own times of a drain


class Built(NamedTuple):
    """An app and what the server calls when it drains."""

    app: App
    on_drain: Callable[[], None] | None = None
    on_deadline: Callable[[], Awaitable[None]] | None = None


def serve(
    build: Callable[[], Built],
    settings: ServerSettings,
    *,
    limits: Limits = Limits(),  # noqa: B008 (frozen)
    on_ready: Callable[[int], None] | None = None,
) -> int:
    """Serve what ``build`` makes, in each worker anew, until SIGTERM or SIGINT; gives the exit code.

    ``on_ready`` is called with the port (0 for a Unix socket) once connections are accepted, or, with several workers,
    once the first of them accepts.
    Raises: OSError where the address cannot be bound; StartupError, ssl.SSLError (one process only).
    """
    if settings.workers <= 1:
        with closing(bind(settings)) as sock:
            try:
                _run(_Process(build, settings, limits, on_ready=on_ready), sock)
            finally:
                if settings.uds:
                    remove_path(settings.uds)
        return 0
    return _Parent(build, settings, limits, on_ready).run()


class _Process(NamedTuple):
    """What one serving process needs."""

    build: Callable[[], Built]
    settings: ServerSettings
    limits: Limits
    on_ready: Callable[[int], None] | None = None
    lifeline: int | None = None  # a pipe that ends with the parent
    ready: int | None = None  # a pipe that takes one byte once connections are accepted


def _run(process: _Process, sock: socket.socket) -> None:
    _keep_freed_memory()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(process, sock))


def _keep_freed_memory() -> None:
    """Have glibc keep up to 8 MiB that were freed, in place of 128 KiB.

    What one large read needs is freed before the next; given back to the kernel and faulted in again each time, it cost
    up to 250 page faults in 1,000 tokens. Twice the largest block that was mapped and freed is what glibc keeps from
    then on (mallopt(3), M_MMAP_THRESHOLD); this one is never touched.
    """
    bytes(_KEPT_BYTES // 2)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:  # not made for this machine
        return asyncio.new_event_loop
    return uvloop.new_event_loop


async def _serve(process: _Process, sock: socket.socket) -> None:
    """Serve until a signal; a second one cuts the drain short."""
    loop = asyncio.get_running_loop()
    asked, hurried = asyncio.Event(), asyncio.Event()

    def on_stop() -> None:
        event = hurried if asked.is_set() else asked
        event.set()

    def on_hurry() -> None:
        asked.set()
        hurried.set()

    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, on_stop)
    if process.lifeline is not None:
        loop.add_signal_handler(_HURRY_SIGNAL, on_hurry)
        loop.add_signal_handler(signal.SIGINT, lambda: None)  # the terminal's goes to the parent, which forwards it
        loop.add_reader(process.lifeline, asked.set)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _WORKER_SIGNALS)  # blocked by the parent until here
    app, on_drain, on_deadline = process.build()
    server = Server(app, process.settings, limits=process.limits, on_drain=on_drain, on_deadline=on_deadline)
    await server.start(sock)
    # what was imported and built until here lives as long as the process: the collector need not look at it again
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD)
    logger.info("process %d accepts connections", os.getpid())
    if process.on_ready is not None:
        process.on_ready(server.port)
    if process.ready is not None:
        with suppress(BrokenPipeError):  # the parent is dead: the lifeline says so
            os.write(process.ready, b"r")
    await asked.wait()
    if process.lifeline is not None:
        loop.remove_reader(process.lifeline)  # ended, it would be readable from now on
    logger.info("process %d stops, %d connections are open", os.getpid(), server.connections)
    # Two tasks, because the drain must go on while we look for a second signal.
    stopping = asyncio.create_task(server.stop())
    hurrying = asyncio.create_task(hurried.wait())
    await asyncio.wait([stopping, hurrying], return_when=asyncio.FIRST_COMPLETED)
    hurrying.cancel()
    if not stopping.done():
        stopping.cancel()
        await server.abort()
        return
    await stopping


@dataclass(slots=True)
class _Worker:
    """One place in the parent's row: its socket, and the process that has it now (0: none)."""

    sock: socket.socket
    pid: int = 0
    started_at: float = 0.0
    start_at: float = 0.0
    crashes: int = 0


class _Parent:
    """Binds, forks, forwards signals, restarts."""

    def __init__(
        self,
        build: Callable[[], Built],
        settings: ServerSettings,
        limits: Limits,
        on_ready: Callable[[int], None] | None,
    ) -> None:
        self._build = build
        self._settings = settings
        self._limits = limits
        self._on_ready = on_ready
        self._port = 0
        self._workers = [_Worker(sock) for sock in bind_for_workers(settings, settings.workers)]
        if not settings.uds:
            self._port = self._workers[0].sock.getsockname()[1]
        self._asked = 0  # how many signals asked us to stop
        self._kill_at = float("inf")
        self._code = 0
        self._served = False  # a worker has accepted connections

    def run(self) -> int:
        self._ready, self._ready_end = os.pipe()
        self._lifeline, self._lifeline_end = os.pipe()
        self._signals, self._signals_end = os.pipe()
        for end in (self._signals, self._signals_end):
            os.set_blocking(end, False)
        before = {number: signal.signal(number, self._on_stop) for number in _STOP_SIGNALS}
        before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, _on_child)
        wakeup = signal.set_wakeup_fd(self._signals_end, warn_on_full_buffer=False)
        try:
            while not self._asked or any(worker.pid for worker in self._workers):
                self._start_due()
                self._wait()
                self._reap()
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._close()
            if self._settings.uds:
                remove_path(self._settings.uds)
        return self._code

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        self._stop()

    def _stop(self) -> None:
        """Forward the wish to stop; after the second the workers do not drain."""
        if not self._asked:
            self._kill_at = time.monotonic() + self._settings.drain_timeout_s + self._limits.deadline_s + _KILL_S
        self._asked += 1
        for worker in self._workers:
            if self._asked == 1:
                worker.sock.close()  # else what connects now would wait in a queue that nobody reads
            if worker.pid:
                os.kill(worker.pid, signal.SIGTERM if self._asked == 1 else _HURRY_SIGNAL)

    def _start_due(self) -> None:
        for worker in self._workers:
            if not self._asked and not worker.pid and worker.start_at <= time.monotonic():
                self._start(worker)

    def _start(self, worker: _Worker) -> None:
        sys.stdout.flush()  # else the child would print it too
        # A signal between fork and the child's own handlers must not run ours in the child.
        signal.pthread_sigmask(signal.SIG_BLOCK, _WORKER_SIGNALS)
        try:
            if self._asked:
                return
            worker.started_at = time.monotonic()
            worker.pid = os.fork()
            if not worker.pid:
                self._become(worker)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _WORKER_SIGNALS)

    def _become(self, worker: _Worker) -> None:
        """The child's life; does not return."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for number in _STOP_SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            for other in self._workers:
                if other.sock is not worker.sock:
                    other.sock.close()
            for end in (self._ready, self._lifeline_end, self._signals, self._signals_end):
                os.close(end)
            process = _Process(self._build, self._settings, self._limits, None, self._lifeline, self._ready_end)
            _run(process, worker.sock)
            code = 0
        except BaseException:  # outermost: nothing may get into the parent's frames
            logger.exception("worker %d failed", os.getpid())
        finally:
            with suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            logging.shutdown()  # what is logged may wait to be written
            os._exit(code)

    def _wait(self) -> None:
        """Until a signal, a child's end, the first worker's readiness, or the time of the next start."""
        due = [worker.start_at for worker in self._workers if not worker.pid and not self._asked]
        until = min([*due, self._kill_at])
        timeout_s = None if until == float("inf") else max(0.0, until - time.monotonic())
        ready, _, _ = select.select([self._signals, self._ready], [], [], timeout_s)
        if self._signals in ready:
            os.read(self._signals, 4096)
        if self._ready in ready and os.read(self._ready, 4096) and not self._served:
            self._served = True
            if self._on_ready is not None:
                self._on_ready(self._port)
        if time.monotonic() >= self._kill_at:
            self._kill_at = float("inf")
            for worker in self._workers:
                if worker.pid:
                    logger.error("worker %d did not stop and is killed", worker.pid)
                    os.kill(worker.pid, signal.SIGKILL)

    def _reap(self) -> None:
        for worker in self._workers:
            if not worker.pid:
                continue
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid:
                worker.pid = 0
                self._on_exit(worker, pid, os.waitstatus_to_exitcode(status))

    def _on_exit(self, worker: _Worker, pid: int, code: int) -> None:
        if self._asked:
            return
        if code > 0 and not self._served:
            # It has never worked, so it would not the next time.
            self._code = code
            self._stop()
            return
        now, limits = time.monotonic(), self._limits
        if now - worker.started_at >= limits.restart_reset_s:
            worker.crashes = 0
        delay_s = min(limits.restart_max_s, limits.restart_s * 2 ** min(worker.crashes, 30))
        worker.crashes += 1
        worker.start_at = now + delay_s
        logger.error("worker %d ended with %d and is started again in %.1f s", pid, code, delay_s)

    def _close(self) -> None:
        for worker in self._workers:
            worker.sock.close()
        ends = (self._ready, self._ready_end, self._lifeline, self._lifeline_end, self._signals, self._signals_end)
        for end in ends:
            os.close(end)


def _on_child(number: int, frame: FrameType | None) -> None:
    """Only the wake-up counts."""
