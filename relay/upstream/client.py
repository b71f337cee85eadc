"""The client: one request on a pooled or a fresh connection, and who has which slot.

Source: decisions 5, 6, 8; design.md §1 (moves bytes, knows no dialect). Redirects are not followed.

Rules. A slot is taken before a connection is opened and goes back exactly once: when its answer is closed, or when
there was none. A connection that a guard has looked at is used once, so that a reused one never escapes the look.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from functools import partial
from typing import Final, NamedTuple

from relay.errors import RelayError
from relay.ids import current_request
from relay.upstream.connection import Answer, Connection, Timeouts
from relay.upstream.dial import AddressGuard, dial, tls_context
from relay.upstream.failures import FOREIGN, converted, timed_out
from relay.upstream.head import encode_head
from relay.upstream.names import CLIENT_LIMIT, CONFIGURED_LIMIT, Names
from relay.upstream.origin import Origin
from relay.upstream.pool import Counts, Pool

_NO_TIMEOUTS: Final = Timeouts()


class _Ticket(asyncio.Future["Connection | None"]):
    """Who waits for a slot."""

    owner = ""


class _Lane(NamedTuple):
    """The key of a pool."""

    origin: Origin
    guarded: bool


class _Slot(NamedTuple):
    """What a request holds until its answer is closed."""

    lane: _Lane
    owner: str


class Client:
    """``max_connections`` is for each origin; idle connections are closed after ``idle_limit_s``. One event loop."""

    def __init__(self, *, max_connections: int = 1_000, idle_limit_s: float = 60.0) -> None:
        self._max_connections = max_connections
        self._idle_limit_s = idle_limit_s
        self._pools: dict[_Lane, Pool[Connection, _Ticket]] = {}
        self._contexts: dict[str | None, ssl.SSLContext] = {}
        self._names = {False: Names(CONFIGURED_LIMIT), True: Names(CLIENT_LIMIT)}
        self._open: set[Connection] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Future[None] | None = None
        self._closed = False

    # -- requests

    async def request(
        self,
        origin: Origin,
        method: str,
        target: str,
        headers: Iterable[tuple[str, str]],
        body: bytes = b"",
        timeouts: Timeouts = _NO_TIMEOUTS,
        *,
        address_guard: AddressGuard | None = None,
        owner: str = "",
    ) -> Answer:
        """Sends and waits for status and headers. The caller closes the answer, always.

        Where callers wait for a connection, their owners have equal shares of the limit.

        Sent a second time, on a fresh connection, only if a reused one died before a byte of the answer (decision 8).
        Raises: RelayError upstream_unreachable, upstream_timeout, upstream_bad_response, upstream_misconfigured.
        """
        head = encode_head(origin, method, target, headers, len(body))
        lane = _Lane(origin, address_guard is not None)
        slot = _Slot(lane, owner)
        connection = await self._admitted(slot, timeouts)
        if connection is not None:
            answer = self._sent(slot, connection, method, (head, body), timeouts)
            if await self._headed(answer, may_retry=True):
                return answer
            # The slot of the dead connection was kept for this one.
        try:
            connection = await self._dialed(slot, timeouts, address_guard)
        except BaseException:
            self._release(slot, None)
            raise
        answer = self._sent(slot, connection, method, (head, body), timeouts)
        await self._headed(answer, may_retry=False)
        return answer

    def _sent(
        self, slot: _Slot, connection: Connection, method: str, message: tuple[bytes, bytes], timeouts: Timeouts
    ) -> Answer:
        answer = Answer(connection, method, timeouts, partial(self._on_close, slot))
        connection.send(*message)
        return answer

    async def _headed(self, answer: Answer, *, may_retry: bool) -> bool:
        """False: sending again is allowed, and the slot is still held."""
        try:
            await answer.head()
        except RelayError:
            if may_retry and answer.died and answer.untouched:
                answer.abandon()
                return False
            answer.close()
            raise
        except BaseException:
            answer.close()
            raise
        return True

    async def _dialed(self, slot: _Slot, timeouts: Timeouts, guard: AddressGuard | None) -> Connection:
        origin, guarded = slot.lane
        if self._closed:
            raise _shutting_down()
        tls = self._context(origin.ca_file) if origin.tls else None
        make = partial(Connection, origin, self._open, self._on_lost)
        # The connection's callbacks run in the context of now, and it outlives this request.
        asker = current_request.set("")
        try:
            async with asyncio.timeout(timeouts.connect_timeout_s) as deadline:
                connection = await dial(
                    origin,
                    tls,
                    make,
                    partial(self._names[guarded].resolve, owner=slot.owner),
                    guard,
                    dead_peer_timeout_s=timeouts.dead_peer_timeout_s,
                )
        except FOREIGN as error:
            if deadline.expired():
                raise timed_out("connect_timeout_s", timeouts.connect_timeout_s, origin) from None
            raise converted(error, origin) from error
        finally:
            current_request.reset(asker)
        if self._closed:
            connection.abort()
            raise _shutting_down()
        return connection

    def _context(self, ca_file: str | None) -> ssl.SSLContext:
        if ca_file not in self._contexts:
            self._contexts[ca_file] = tls_context(ca_file)
        return self._contexts[ca_file]

    # -- slots

    async def _admitted(self, slot: _Slot, timeouts: Timeouts) -> Connection | None:
        """Takes a slot, with a connection to reuse or without. One that dies on the way here is for the retry."""
        if self._closed:
            raise _shutting_down()
        lane, owner = slot
        pool = self._pools.get(lane)
        if pool is None:
            pool = self._pools[lane] = Pool(self._max_connections, self._idle_limit_s)
        loop = asyncio.get_running_loop()
        admission = pool.take(owner)
        if admission.admitted:
            return admission.connection
        ticket = _Ticket(loop=loop)
        ticket.owner = owner
        pool.wait(ticket, owner)
        try:
            async with asyncio.timeout(timeouts.first_byte_timeout_s):
                return await ticket
        except BaseException as error:
            pool.withdraw(ticket)
            if ticket.done() and not ticket.cancelled() and ticket.exception() is None:
                self._release(slot, ticket.result())  # it was granted in the moment of leaving
            if isinstance(error, TimeoutError):
                raise timed_out("queue", timeouts.first_byte_timeout_s, lane.origin) from None
            raise

    def _on_close(self, slot: _Slot, connection: Connection, reusable: bool) -> None:
        if reusable and (slot.lane.guarded or self._closed):
            connection.abort()
            reusable = False
        self._release(slot, connection if reusable else None)

    def _release(self, slot: _Slot, connection: Connection | None) -> None:
        lane, owner = slot
        pool = self._pools[lane]
        loop = asyncio.get_running_loop()
        while (grant := pool.release(connection, loop.time(), owner)) is not None:
            asked = grant.ticket
            if not asked.done():
                asked.set_result(grant.connection)
                return
            connection, owner = grant.connection, asked.owner  # it is cancelled, and not yet awake to withdraw
        if pool.empty:
            del self._pools[lane]
        elif self._sweep is None and not self._closed:
            # The one timer of idle connections: an upstream that never closes them must not fill our descriptors.
            self._sweep = loop.call_later(self._idle_limit_s, self._on_sweep)

    def _on_lost(self, connection: Connection) -> None:
        for guarded in (False, True):
            lane = _Lane(connection.origin, guarded)
            pool = self._pools.get(lane)
            if pool is not None:
                pool.forget(connection)
                if pool.empty:
                    del self._pools[lane]
        if self._emptied is not None and not self._open and not self._emptied.done():
            self._emptied.set_result(None)

    def _on_sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._sweep = None
        expiries = []
        for lane, pool in list(self._pools.items()):
            for connection in pool.expire(now):
                connection.abort()
            if pool.empty:
                del self._pools[lane]
            elif (expiry := pool.next_expiry()) is not None:
                expiries.append(expiry)
        if expiries:
            self._sweep = loop.call_later(max(min(expiries) - now, 0.001), self._on_sweep)

    # -- the end, and what tests ask

    async def aclose(self) -> None:
        """Closes every connection at once, also those in use; waiting callers get an error."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for pool in self._pools.values():
            for ticket in pool.tickets:
                if not ticket.done():
                    ticket.set_exception(_shutting_down())
        for connection in list(self._open):
            connection.abort()
        if self._open:
            self._emptied = asyncio.get_running_loop().create_future()
            await self._emptied

    @property
    def open_connections(self) -> int:
        """Sockets that are connected now, in use or idle."""
        return len(self._open)

    def counts(self, origin: Origin) -> Counts:
        """In use, idle, waiting; guarded ones included."""
        pools = [self._pools.get(_Lane(origin, guarded)) for guarded in (False, True)]
        rows = [pool.counts for pool in pools if pool is not None]
        return Counts(*(sum(column) for column in zip(*rows, strict=True))) if rows else Counts(0, 0, 0)


def _shutting_down() -> RelayError:
    return RelayError("draining", "The relay is shutting down.")
