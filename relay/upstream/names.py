"""Names to addresses, so that a silent name holds only those who ask for it.

Source: getaddrinfo(3); issue 10 point 12. The loop's own resolver has four threads and goes on with a look-up that
nobody waits for any more: one silent name stopped all dialling, to literal addresses too.

Rules. A literal address is never looked up. One look-up runs for a name, whoever asks for it. Look-ups run in threads
of their own, ``limit`` at once; beyond it callers wait by their owners' shares (``relay.places``).
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from relay.places import Places

CONFIGURED_LIMIT: Final = 32
"""Look-ups at once of hosts that the configuration names."""
CLIENT_LIMIT: Final = 8
"""Look-ups at once of hosts that clients name, which have no part in the others'."""


class Address(NamedTuple):
    """One row of what ``getaddrinfo`` says."""

    family: int
    sockaddr: tuple[Any, ...]


LookUp = Callable[[str, int], list[Address]]
"""Blocks. Raises: OSError (gaierror)."""


def look_up(host: str, port: int) -> list[Address]:
    """What the system's resolver says. Raises: socket.gaierror."""
    return _addresses(host, port, 0)


def _addresses(host: str, port: int, flags: int) -> list[Address]:
    rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=flags)
    return list(dict.fromkeys(Address(row[0], row[4]) for row in rows))


def literal(host: str, port: int) -> list[Address]:
    """The address that ``host`` writes out; nothing where it is a name."""
    try:
        return _addresses(host, port, socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return []


class _LookUp:
    """One name that is asked for, by ``waiters``; from ``began`` on it cannot be stopped."""

    __slots__ = ("began", "task", "waiters")

    def __init__(self) -> None:
        self.task: asyncio.Task[list[Address]]
        self.waiters = 0
        self.began = False


class Names:
    """Look-ups of one kind of hosts. One event loop."""

    def __init__(self, limit: int, look_up: LookUp = look_up) -> None:
        self._look_up = look_up
        self._asked: dict[tuple[str, int], _LookUp] = {}
        self._places = Places(limit)

    async def resolve(self, host: str, port: int, owner: str = "") -> list[Address]:
        """The host's addresses in the resolver's order. Raises: OSError (gaierror)."""
        found = literal(host, port)
        if found:
            return found
        one = self._asked.get((host, port))
        if one is None:
            one = self._asked[host, port] = _LookUp()
            # a task, because who asked first may leave while others wait for the same
            one.task = asyncio.get_running_loop().create_task(self._run(one, host, port, owner))
            one.task.add_done_callback(_heard)
        one.waiters += 1
        try:
            return await asyncio.shield(one.task)
        finally:
            one.waiters -= 1
            if not one.waiters and not one.began:
                self._forget(one, host, port)  # at once: who asks now must not get the end of this one
                one.task.cancel()

    async def _run(self, one: _LookUp, host: str, port: int, owner: str) -> list[Address]:
        try:
            await self._places.take(owner)
            one.began = True
            try:
                return await self._in_thread(host, port)
            finally:
                self._places.release(owner)
        finally:
            self._forget(one, host, port)

    def _forget(self, one: _LookUp, host: str, port: int) -> None:
        if self._asked.get((host, port)) is one:
            del self._asked[host, port]

    async def _in_thread(self, host: str, port: int) -> list[Address]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[Address]] = loop.create_future()

        def run() -> None:
            try:
                found = self._look_up(host, port)
            except OSError as error:
                tell: Callable[..., None] = answer.set_exception
                said: object = error
            except UnicodeError:  # a label that no name can have
                tell, said = answer.set_exception, socket.gaierror(socket.EAI_NONAME, "no name can look like this")
            else:
                tell, said = answer.set_result, found
            try:
                loop.call_soon_threadsafe(tell, said)
            except RuntimeError:
                pass  # the loop is closed: nobody waits

        # A thread for each, and a daemon: a look-up cannot be cancelled, and must not hold the process's end.
        threading.Thread(target=run, name="relay-name", daemon=True).start()
        return await answer


def _heard(task: asyncio.Task[list[Address]]) -> None:
    """An error that nobody waits for any more is nobody's."""
    if not task.cancelled():
        task.exception()
