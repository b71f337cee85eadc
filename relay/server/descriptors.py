"""File descriptors: as many as the system grants, no more connections than fit, and a word when they run out.

Source: operate.md L8; getrlimit(2), accept(2). uvloop says nothing when accept finds none: libuv keeps one spare, with
which it accepts and closes, so that clients learn of it. asyncio's own loop waits a second, and says it for each try.
"""

from __future__ import annotations

import asyncio
import errno
import os
import resource
from typing import Any, Final

from relay.server.context import logger

SPARE: Final = 64  # for what is neither a client's nor an upstream's: listeners, the store, the log, places for heads
_MOST: Final = 1 << 20
_OUT: Final = (errno.EMFILE, errno.ENFILE)
_LOOK_S: Final = 1.0
_SAY_S: Final = 10.0
_ASYNCIO_SAYS: Final = "socket.accept() out of system resource"
# It schedules one new beginning for each try, and those that come after the listener's end fail.
_ASYNCIO_FAILS: Final = "Exception in callback BaseSelectorEventLoop._start_serving"


def raise_limit() -> int:
    """Take what the hard limit allows, 1,048,576 at most; gives what this process may open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (ValueError, OSError):  # macOS grants less than its hard limit says
            return soft
        return wanted
    return _MOST if soft == resource.RLIM_INFINITY else soft


def fitting_connections(wanted: int, upstreams: int, limit: int) -> int:
    """``max_connections`` beside ``upstreams`` connections to upstreams in ``limit`` descriptors.

    Upstreams rarely have all that they may, so a quarter of the descriptors is always the clients'.
    """
    return min(wanted, max(limit - upstreams - SPARE, limit // 4, 1))


class Watch:
    """Looks once a second whether a descriptor can be had, and says so if not: at most once in ten seconds."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._handle: asyncio.TimerHandle | None = None
        self._said_at = -_SAY_S
        self._seen = 0  # since it was last said
        self._before = loop.get_exception_handler()

    def start(self) -> None:
        self._loop.set_exception_handler(self._on_exception)
        self._handle = self._loop.call_later(_LOOK_S, self._look)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _look(self) -> None:
        self._handle = self._loop.call_later(_LOOK_S, self._look)
        try:
            os.close(os.dup(2))
        except OSError as error:
            if error.errno in _OUT:
                self.note(error)

    def note(self, error: OSError) -> None:
        """There was none."""
        self._seen += 1
        now = self._loop.time()
        if now - self._said_at < _SAY_S:
            return
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        logger.error(
            "out of file descriptors (%s): all %d are open; who connects is turned away until some are closed",
            errno.errorcode.get(error.errno or 0, "?"),
            limit,
            extra={"seen": self._seen},
        )
        self._said_at, self._seen = now, 0

    def _on_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error, message = context.get("exception"), str(context.get("message"))
        if isinstance(error, OSError) and message.startswith(_ASYNCIO_SAYS):
            self.note(error)
        elif self._handle is None and message.startswith(_ASYNCIO_FAILS):
            pass
        elif self._before is not None:
            self._before(loop, context)
        else:
            loop.default_exception_handler(context)
