"""What a proxy says of a request that it passes on: X-Forwarded-For and X-Forwarded-Proto (decision 31).

Every proxy appends the address that it saw, so a list is to be believed from its right end, and from there only as far
as those who wrote it are trusted; what stands left of that anyone may have written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from relay.config import Network
    from relay.server.context import Scope

_MOST_HOPS: Final = 32  # that are looked at: a client may write thousands of addresses
# Some proxies append the port, which is not kept. No IPv6 zone: it means nothing on another machine.
_ENTRY: Final = re.compile(
    rb"[ \t]*(?:\[([0-9a-f:.]{2,45})\](?::\d{1,5})?|([0-9.]{7,15})(?::\d{1,5})?|([0-9a-f:.]{2,45}))[ \t]*",
    re.IGNORECASE,
)
_SCHEMES: Final = {b"http": "http", b"ws": "http", b"https": "https", b"wss": "https"}


def trusts(trusted: tuple[Network, ...], peer: tuple[str, int] | None) -> bool:
    """Whether ``peer`` is listed; that of a Unix socket (None) has no address and never is."""
    return bool(trusted) and peer is not None and _is_listed(ip_address(peer[0]), trusted)


def believe(scope: Scope, trusted: tuple[Network, ...]) -> None:
    """Give ``scope``, whose peer is trusted, the client and the scheme of its headers; http(s) for WebSockets too.

    The client is the first address from the right that is not trusted, else the last before what is no address.
    """
    client = None
    # Of more hops the rest stays in one piece, which is no address.
    for entry in reversed(_joined(scope["headers"], b"x-forwarded-for").rsplit(b",", _MOST_HOPS)):
        address = _address(entry)
        if address is None:
            break
        client = address
        if not _is_listed(address, trusted):
            break
    if client is not None:
        scope["client"] = (str(_plain(client)), 0)
    # The last word is the peer's own, whether it replaces what it was sent or appends to it.
    said = _joined(scope["headers"], b"x-forwarded-proto").rpartition(b",")[2]
    scope["scheme"] = _SCHEMES.get(said.strip(b" \t").lower(), scope["scheme"])


def _joined(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> bytes:
    """The value of a list's header lines, in order (RFC 9110 §5.3)."""
    return b",".join([value for name, value in headers if name == wanted])


def _address(entry: bytes) -> IPv4Address | IPv6Address | None:
    match = _ENTRY.fullmatch(entry)
    if match is None:
        return None
    try:
        return ip_address((match[1] or match[2] or match[3]).decode("ascii"))
    except ValueError:
        return None


def _is_listed(address: IPv4Address | IPv6Address, trusted: tuple[Network, ...]) -> bool:
    return any(address in one or _plain(address) in one for one in trusted)


def _plain(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """An IPv4 address as such, where a socket that listens on both has it as ``::ffff:…``."""
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
