"""``relay.shares`` for tasks: a place is waited for, and comes back exactly once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from relay.shares import Shares


class _Ticket(asyncio.Future[None]):
    owner = ""


class Places:
    """``limit`` places, shared by owners. One event loop."""

    def __init__(self, limit: int) -> None:
        self._shares: Shares[_Ticket] = Shares(limit)

    @property
    def waiting(self) -> int:
        """How many wait."""
        return self._shares.waiting

    @property
    def in_use(self) -> int:
        """How many places are held."""
        return self._shares.in_use

    async def take(self, owner: str) -> None:
        """Hold a place, once it is this owner's turn; cancelled, it holds none."""
        if self._shares.take(owner):
            return
        ticket = _Ticket()
        ticket.owner = owner
        self._shares.wait(ticket, owner)
        try:
            await ticket
        except BaseException:
            self._shares.withdraw(ticket)
            if ticket.done() and not ticket.cancelled():  # it was granted in the moment of leaving
                self.release(owner)
            raise

    @asynccontextmanager
    async def held(self, owner: str) -> AsyncIterator[None]:
        """Hold a place for a block."""
        await self.take(owner)
        try:
            yield
        finally:
            self.release(owner)

    def release(self, owner: str) -> None:
        """Give a place of this owner's back."""
        while (ticket := self._shares.release(owner)) is not None:
            if not ticket.done():
                ticket.set_result(None)
                return
            owner = ticket.owner  # it is cancelled, and not yet awake to withdraw
