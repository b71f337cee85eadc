"""``serve``: one process, or a parent that binds the sockets and keeps workers alive.

The parent runs no loop and no app. It binds, forks, waits for signals and for its children's ends, and starts again
what crashes, later each time, and what hangs. Workers end when the parent does, however that dies: they watch a pipe
of its. No socket holds connections for a worker that is not there: they are handed to one that is.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import cycle
from types import FrameType
from typing import TYPE_CHECKING, Final

from relay.server.context import logger
from relay.server.heartbeat import BEAT_S, Board, Heart, Watch
from relay.server.lifespan import StartupError
from relay.server.limits import Limits
from relay.server.process import (
    AT_ONCE_SIGNAL,
    HURRY_SIGNAL,
    WORKER_SIGNALS,
    Built,
    Family,
    Process,
    run_process,
    stop_signals,
)
from relay.server.sockets import bind, bind_again, bind_for_workers, remove_path

if TYPE_CHECKING:
    from relay.config import ServerSettings

_KILL_S: Final = 15.0  # beyond all of a worker's own times of a drain
_QUEUE_S: Final = 1.0  # how long a socket may hold connections for the only worker there is, which starts again
_FOREVER: Final = float("inf")


def serve(
    build: Callable[[], Built],
    settings: ServerSettings,
    *,
    limits: Limits = Limits(),  # noqa: B008 (frozen)
    on_ready: Callable[[int], None] | None = None,
) -> int:
    """Serve what ``build`` makes, in each worker anew, until SIGTERM, SIGINT or SIGHUP; gives the exit code.

    A SIGHUP that is ignored (nohup) stays so.

    ``on_ready`` is called with the port (0 for a Unix socket) once connections are accepted, or, with several workers,
    once the first of them accepts.
    Raises: OSError where the address cannot be bound; StartupError, ssl.SSLError (one process only).
    """
    if settings.workers <= 1:
        with closing(bind(settings)) as sock:
            try:
                run_process(Process(build, settings, limits, on_ready=on_ready), sock)
            finally:
                if settings.uds:
                    remove_path(settings.uds)
        return 0
    return _Parent(build, settings, limits, on_ready).run()


@dataclass(slots=True)
class _Worker:
    """One place in the parent's row: its socket, and the process that has it now (0: none)."""

    place: int
    sock: socket.socket | None
    """None: closed, so that nobody waits in it for a worker that is not there."""
    pid: int = 0
    started_at: float = 0.0
    start_at: float = 0.0
    crashes: int = 0
    handing: socket.socket | None = None
    """Takes connections for it."""
    watch: Watch | None = None

    def close(self) -> None:
        """Let go of its sockets, which the process itself may still have."""
        for sock in (self.sock, self.handing):
            if sock is not None:
                sock.close()
        self.sock = self.handing = None


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
        sockets = bind_for_workers(settings, settings.workers)
        self._workers = [_Worker(place, sock) for place, sock in enumerate(sockets)]
        self._own_sockets = len(set(map(id, sockets))) > 1
        if not settings.uds:
            self._port = sockets[0].getsockname()[1]
        self._board = Board(len(sockets))
        self._asked = 0  # how many signals asked us to stop
        self._kill_at = _FOREVER
        self._code = 0
        self._served = False  # a worker has accepted connections

    def run(self) -> int:
        self._ready, self._ready_end = os.pipe()
        self._lifeline, self._lifeline_end = os.pipe()
        self._signals, self._signals_end = os.pipe()
        for end in (self._signals, self._signals_end):
            os.set_blocking(end, False)
        before = {number: signal.signal(number, self._on_stop) for number in stop_signals()}
        before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, _on_child)
        wakeup = signal.set_wakeup_fd(self._signals_end, warn_on_full_buffer=False)
        try:
            while not self._asked or any(worker.pid for worker in self._workers):
                self._start_due()
                self._wait()
                self._reap()
                self._kill_hung()
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._close()
            if self._settings.uds:
                remove_path(self._settings.uds)
        return self._code

    # --- the end

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        self._stop(AT_ONCE_SIGNAL if number == signal.SIGINT else signal.SIGTERM)

    def _stop(self, first: signal.Signals = signal.SIGTERM) -> None:
        """Forward the wish to stop; after the second the workers do not drain."""
        if not self._asked:
            settings, limits = self._settings, self._limits
            times = (settings.drain_delay_s, limits.grace_s, settings.drain_timeout_s, limits.deadline_s, _KILL_S)
            self._kill_at = time.monotonic() + sum(times)
        self._asked += 1
        for worker in self._workers:
            if self._asked == 1:
                worker.close()  # else what connects now would wait in a queue that nobody reads
            if worker.pid:
                os.kill(worker.pid, first if self._asked == 1 else HURRY_SIGNAL)

    def _close(self) -> None:
        for worker in self._workers:
            worker.close()
        ends = (self._ready, self._ready_end, self._lifeline, self._lifeline_end, self._signals, self._signals_end)
        for end in ends:
            os.close(end)
        self._board.close()

    # --- the start

    def _start_due(self) -> None:
        for worker in self._workers:
            if not self._asked and not worker.pid and worker.start_at <= time.monotonic():
                self._start(worker)

    def _start(self, worker: _Worker) -> None:
        if worker.sock is None:
            try:
                worker.sock = bind_again(self._settings)
            except OSError as error:
                logger.error("a worker cannot listen: %s", error.strerror or error)
                worker.start_at = time.monotonic() + self._limits.restart_max_s
                return
        sys.stdout.flush()  # else the child would print it too
        handing, handed = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        handing.setblocking(False)
        handed.setblocking(False)
        # A signal between fork and the child's own handlers must not run ours in the child.
        signal.pthread_sigmask(signal.SIG_BLOCK, WORKER_SIGNALS)
        try:
            if self._asked:
                handing.close()
                return
            worker.started_at = now = time.monotonic()
            worker.handing, patience_s = handing, self._settings.hang_timeout_s
            if patience_s:
                worker.watch = Watch(patience_s, self._limits.startup_s, self._board.count(worker.place), now)
            worker.pid = os.fork()
            if not worker.pid:
                self._become(worker, handed)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, WORKER_SIGNALS)
            handed.close()

    def _become(self, worker: _Worker, handed: socket.socket) -> None:
        """The child's life; does not return."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for number in stop_signals():
                signal.signal(number, signal.SIG_DFL)
            sock = worker.sock
            assert sock is not None
            for other in self._workers:
                if other.sock is sock:
                    other.sock = None
                other.close()
            for end in (self._ready, self._lifeline_end, self._signals, self._signals_end):
                os.close(end)
            family = Family(self._lifeline, self._ready_end, Heart(self._board, worker.place), handed)
            run_process(Process(self._build, self._settings, self._limits, None, family), sock)
            code = 0
        except (StartupError, OSError) as error:  # ssl.SSLError is one
            logger.error("worker %d cannot start: %s", os.getpid(), _words(error))
        except BaseException:  # outermost: nothing may get into the parent's frames
            logger.exception("worker %d failed", os.getpid())
        finally:
            with suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            logging.shutdown()  # what is logged may wait to be written
            os._exit(code)

    # --- between

    def _wait(self) -> None:
        """Until a signal, a child's end, the first worker's readiness, the next start, or the next look at workers."""
        now = time.monotonic()
        due = [worker.start_at for worker in self._workers if not worker.pid and not self._asked]
        looks = [now + BEAT_S] if any(worker.watch for worker in self._workers) and not self._asked else []
        until = min([*due, *looks, self._kill_at])
        timeout_s = None if until == _FOREVER else max(0.0, until - now)
        ready, _, _ = select.select([self._signals, self._ready], [], [], timeout_s)
        if self._signals in ready:
            os.read(self._signals, 4096)
        if self._ready in ready and os.read(self._ready, 4096) and not self._served:
            self._served = True
            if self._on_ready is not None:
                self._on_ready(self._port)
        if time.monotonic() >= self._kill_at:
            self._kill_at = _FOREVER
            for worker in self._workers:
                if worker.pid:
                    logger.error("worker %d did not stop and is killed", worker.pid)
                    os.kill(worker.pid, signal.SIGKILL)

    def _kill_hung(self) -> None:
        if self._asked:  # ``_kill_at`` is the bound of an end
            return
        now = time.monotonic()
        for worker in self._workers:
            if worker.pid and worker.watch is not None and worker.watch.hangs(self._board.count(worker.place), now):
                logger.error("worker %d did nothing for %.0f s and is killed", worker.pid, worker.watch.silent_s)
                worker.watch = None
                os.kill(worker.pid, signal.SIGKILL)

    def _reap(self) -> None:
        for worker in self._workers:
            if not worker.pid:
                continue
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid:
                worker.pid = 0
                worker.watch = None
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
        self._hand_over(worker, delay_s)

    def _hand_over(self, worker: _Worker, delay_s: float) -> None:
        """Give what waits in a dead worker's socket to the living, and close it."""
        if worker.handing is not None:
            worker.handing.close()
            worker.handing = None
        if not self._own_sockets or worker.sock is None:
            return
        living = [other.handing for other in self._workers if other.pid and other.handing is not None]
        if not living and delay_s <= _QUEUE_S:
            return
        takers = cycle(living)
        while living:
            try:
                accepted, _ = worker.sock.accept()
            except OSError:  # nobody waits, or no descriptors are left
                break
            with accepted:
                _hand(accepted, takers, len(living))
        worker.sock.close()
        worker.sock = None


def _hand(accepted: socket.socket, takers: cycle[socket.socket], most: int) -> None:
    for taker, _ in zip(takers, range(most), strict=False):
        with suppress(OSError):  # full, or just dead
            socket.send_fds(taker, [b"c"], [accepted.fileno()])
            return


def _words(error: Exception) -> str:
    return error.reason if isinstance(error, ssl.SSLError) else str(error)


def _on_child(number: int, frame: FrameType | None) -> None:
    """Only the wake-up counts."""
