"""Who gets a place among ``max_connections``, and who gives one up: decided here, acted on by the connections.

Source: issue 10 point 4. Rules. A *stranger* is a connection of which no request was let in yet; without keys, on Unix
sockets, from loopback and from trusted proxies there are none. Strangers of one address hold at most a quarter of all
places. Where all are taken, the stranger that has rested longest gives its up; one that was let in does so only for
one that was let in too, and none in which a request is under way. ``head_places`` more are there for those that find
none: a probe is answered in them, a request that is let in moves to a place, or has to come back later.

All in constant time: whoever rests stands in a dict, which keeps the order and forgets at once.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Final

from relay.server.forwarded import trusts

if TYPE_CHECKING:
    from relay.config import ServerSettings

HEAD_PLACES: Final = 64
_SHARE: Final = 4  # strangers of one address hold at most 1 / 4 of the places
_NETWORK_BITS: Final = 64  # of an IPv6 address: whoever has one has all of its network (RFC 6177)


class Seat:
    """A connection's place; ``address`` while it is a stranger's, ``resting`` while no request is under way."""

    __slots__ = ("address", "close", "extra", "gone", "resting")

    def __init__(self, address: str | None, close: Callable[[], None]) -> None:
        self.address = address
        self.close = close
        self.extra = False
        self.gone = False
        self.resting = True


_Row = dict[Seat, None]


class Door:
    """The places of one server."""

    def __init__(self, places: int, head_places: int = HEAD_PLACES) -> None:
        self._places = places
        self._head_places = head_places
        self._share = max(1, places // _SHARE)
        self.taken = 0
        self.extra = 0
        self._strangers: dict[str, int] = {}
        self._rows: tuple[_Row, _Row, _Row] = ({}, {}, {})  # who rests: strangers, those let in, those without a place
        self._by_address: dict[str, _Row] = {}  # strangers that rest, wherever

    def enter(self, address: str | None, close: Callable[[], None]) -> Seat | None:
        """A seat for a new connection, at rest; None: there is none. ``close`` is called if it has to give it up."""
        full = address is not None and self._strangers.get(address, 0) >= self._share
        if full and not self._evict(self._by_address.get(address or "", {})):
            return None
        seat = Seat(address, close)
        if self.taken >= self._places and not self._evict(self._rows[0]):
            if self.extra >= self._head_places and not self._evict(self._rows[2]):
                return None
            seat.extra = True
        if seat.extra:
            self.extra += 1
        else:
            self.taken += 1
        if address is not None:
            self._strangers[address] = self._strangers.get(address, 0) + 1
        self._lie_down(seat)
        return seat

    def wake(self, seat: Seat) -> None:
        """The first byte of a request has come."""
        seat.resting = False
        self._row(seat).pop(seat, None)
        if seat.address is not None:
            self._forget_address(seat, seat.address)

    def rest(self, seat: Seat) -> None:
        """Its request is answered."""
        if not (seat.resting or seat.gone):
            seat.resting = True
            self._lie_down(seat)

    def admit(self, seat: Seat) -> bool:
        """A request on it was let in: no stranger any more. Whether it has a place."""
        if seat.gone or (seat.address is None and not seat.extra):
            return True
        if seat.resting:
            self.wake(seat)
        self._introduce(seat)
        if seat.extra:
            if self.taken >= self._places and not (self._evict(self._rows[0]) or self._evict(self._rows[1])):
                return False
            seat.extra = False
            self.extra -= 1
            self.taken += 1
        return True

    def leave(self, seat: Seat) -> None:
        """It has closed."""
        if seat.gone:
            return
        self.wake(seat)
        self._introduce(seat)
        seat.gone = True
        seat.close = _nothing  # the connection holds its seat
        if seat.extra:
            self.extra -= 1
        else:
            self.taken -= 1

    def _row(self, seat: Seat) -> _Row:
        return self._rows[2 if seat.extra else 1 if seat.address is None else 0]

    def _lie_down(self, seat: Seat) -> None:
        self._row(seat)[seat] = None
        if seat.address is not None:
            self._by_address.setdefault(seat.address, {})[seat] = None

    def _forget_address(self, seat: Seat, address: str) -> None:
        row = self._by_address.get(address)
        if row is not None:
            row.pop(seat, None)
            if not row:
                del self._by_address[address]

    def _introduce(self, seat: Seat) -> None:
        address, seat.address = seat.address, None
        if address is not None:
            self._strangers[address] -= 1
            if not self._strangers[address]:
                del self._strangers[address]

    def _evict(self, row: _Row) -> bool:
        """Whether somebody was there; the one that rested longest leaves."""
        for seat in row:
            close = seat.close
            self.leave(seat)
            close()
            return True
        return False


def _nothing() -> None:
    """What a seat that is gone closes."""


def stranger_address(settings: ServerSettings, peer: tuple[str, int] | None) -> str | None:
    """What strangers of one client share: the address, in IPv6 its network; None where nobody is a stranger."""
    if settings.auth != "keys" or peer is None:
        return None
    ip = ip_address(peer[0].split("%")[0])
    if isinstance(ip, IPv6Address):
        ip = ip.ipv4_mapped or ip
    if ip.is_loopback or trusts(settings.trusted_proxies, peer):
        return None
    return f"{int(ip) >> _NETWORK_BITS:x}::" if isinstance(ip, IPv6Address) else str(ip)
