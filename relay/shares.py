"""Who is next for something scarce: of several owners nobody's surplus goes before another's share.

Source: decision 61 (scarce things are shared per owner); issue 10 point 3; weighted fair queueing with equal weights
(Demers, Keshav and Shenker 1989) is the idea, though places are held here, and not bits sent. Pure.

Rules. A place is given at once while one is free. Beyond ``limit`` callers wait. The next place goes to an owner that
holds less than its share, which is the limit divided by the owners that hold or wait; if all who wait hold theirs, to
one that holds least. Of several owners it goes to the one that was given a place longest ago, since it began to hold or
wait (of one place everybody's share is a turn); of those that were given none, to the one who has waited longest.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

T = TypeVar("T")


class Shares(Generic[T]):
    """``limit`` places. A ticket stands for one who waits; tickets are hashed and must be different."""

    __slots__ = ("_came", "_given", "_held", "_limit", "_owner_of", "_waiting", "in_use")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.in_use = 0
        self._held: dict[str, int] = {}
        # each owner's tickets in order, with the number of their coming; a dict would walk over its deleted front
        self._waiting: dict[str, OrderedDict[T, int]] = {}
        self._owner_of: dict[T, str] = {}
        self._came = 0
        self._given: dict[str, int] = {}  # when an owner was last given a place, while it holds or waits

    @property
    def tickets(self) -> list[T]:
        """Who waits, in the order in which they came."""
        queued = [(number, ticket) for queue in self._waiting.values() for ticket, number in queue.items()]
        return [ticket for _, ticket in sorted(queued, key=lambda pair: pair[0])]

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._owner_of)

    @property
    def empty(self) -> bool:
        """Whether nobody holds a place or waits for one."""
        return not self.in_use and not self._owner_of

    def take(self, owner: str) -> bool:
        """A place, at once, or not at all. Whoever is told no calls ``wait``."""
        if self.in_use >= self._limit:
            return False
        self._give(owner)
        return True

    def wait(self, ticket: T, owner: str) -> None:
        """Stand in the owner's queue."""
        self._came += 1
        self._owner_of[ticket] = owner
        self._waiting.setdefault(owner, OrderedDict())[ticket] = self._came

    def withdraw(self, ticket: T) -> None:
        """Leave the queue, if still in it."""
        owner = self._owner_of.pop(ticket, None)
        if owner is not None:
            queue = self._waiting[owner]
            del queue[ticket]
            if not queue:
                del self._waiting[owner]
                self._forget(owner)

    def release(self, owner: str) -> T | None:
        """A place of this owner's comes back. The ticket that has it from now on; None where nobody waits."""
        left = self._held[owner] - 1
        if left:
            self._held[owner] = left
        else:
            del self._held[owner]
        self.in_use -= 1
        self._forget(owner)
        if not self._owner_of:
            return None
        ticket = self._next()
        self._give(self._owner_of[ticket])
        self.withdraw(ticket)
        return ticket

    def _forget(self, owner: str) -> None:
        if owner not in self._held and owner not in self._waiting:
            self._given.pop(owner, None)

    def _give(self, owner: str) -> None:
        self._came += 1
        self._given[owner] = self._came
        self._held[owner] = self._held.get(owner, 0) + 1
        self.in_use += 1

    def _next(self) -> T:
        held, heads = self._held, {owner: next(iter(queue.items())) for owner, queue in self._waiting.items()}
        if len(heads) > 1:
            share = self._limit / len(held.keys() | heads.keys())
            least = min(held.get(owner, 0) for owner in heads)
            most = share if least < share else least + 1
            heads = {owner: head for owner, head in heads.items() if held.get(owner, 0) < most}
        given = self._given
        return heads[min(heads, key=lambda owner: (given.get(owner, 0), heads[owner][1]))][0]
