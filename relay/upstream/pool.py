"""Who gets which connection of one origin: decided here without I/O, acted on by the client.

Rules: the connection that was idle last is used first; one is opened only when none is idle and fewer than the limit
are out; beyond it callers wait, and what comes back goes to whose turn it is by the owners' shares (``relay.shares``).
A *slot* is the right to hold one connection: whoever was admitted holds one until ``release``.
"""

from __future__ import annotations

from typing import Generic, NamedTuple, Protocol, TypeVar

from relay.shares import Shares


class Pooled(Protocol):
    """What the pool must know of a connection."""

    @property
    def alive(self) -> bool: ...


C = TypeVar("C", bound=Pooled)
T = TypeVar("T")


class Counts(NamedTuple):
    """How one origin stands."""

    in_use: int
    idle: int
    waiting: int


class Admission(NamedTuple, Generic[C]):
    """``admitted``: the caller holds a slot, and a connection to reuse if there was one. Else it has to wait."""

    admitted: bool
    connection: C | None


class Grant(NamedTuple, Generic[C, T]):
    """The slot (and the connection, if it is still good) belongs to this ticket now."""

    ticket: T
    connection: C | None


class Pool(Generic[C, T]):
    """The connections of one origin; at most ``limit`` are out or idle together."""

    __slots__ = ("_idle", "_idle_limit_s", "_shares")

    def __init__(self, limit: int, idle_limit_s: float) -> None:
        self._idle_limit_s = idle_limit_s
        self._idle: list[tuple[C, float]] = []
        self._shares: Shares[T] = Shares(limit)

    @property
    def counts(self) -> Counts:
        return Counts(self._shares.in_use, len(self._idle), self._shares.waiting)

    @property
    def empty(self) -> bool:
        return self._shares.empty and not self._idle

    @property
    def tickets(self) -> list[T]:
        """Who waits, in the order in which they came."""
        return self._shares.tickets

    def take(self, owner: str = "") -> Admission[C]:
        """A slot, at once, or not at all. Whoever is told no calls ``wait``."""
        if not self._shares.take(owner):
            return Admission(False, None)
        while self._idle:
            connection, _ = self._idle.pop()
            if connection.alive:
                return Admission(True, connection)
        return Admission(True, None)

    def wait(self, ticket: T, owner: str = "") -> None:
        """Stand in the queue."""
        self._shares.wait(ticket, owner)

    def withdraw(self, ticket: T) -> None:
        """Leave the queue, if still in it."""
        self._shares.withdraw(ticket)

    def release(self, connection: C | None, now: float, owner: str = "") -> Grant[C, T] | None:
        """A slot of this owner's comes back, with its connection if that can be used again; who is next gets both."""
        if connection is not None and not connection.alive:
            connection = None
        ticket = self._shares.release(owner)
        if ticket is not None:
            return Grant(ticket, connection)
        if connection is not None:
            self._idle.append((connection, now))
        return None

    def forget(self, connection: C) -> None:
        """An idle connection died."""
        self._idle = [entry for entry in self._idle if entry[0] is not connection]

    def expire(self, now: float) -> list[C]:
        """Takes out, for the caller to close, what has been idle for too long."""
        old = [connection for connection, since in self._idle if now - since >= self._idle_limit_s]
        if old:
            self._idle = self._idle[len(old) :]  # they came in order of time
        return old

    def next_expiry(self) -> float | None:
        """When ``expire`` next finds something."""
        return self._idle[0][1] + self._idle_limit_s if self._idle else None
