"""Opening one connection: names resolved anew each time, addresses raced, TLS, Unix sockets.

Source: RFC 8305 (Happy Eyeballs, §4 order, §5 delay), RFC 6125 (host names in certificates). uvloop's
``create_connection`` knows no ``happy_eyeballs_delay``, so the race is here.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import chain, zip_longest
from typing import Final, TypeVar

from relay.errors import RelayError
from relay.upstream.liveness import keep_alive
from relay.upstream.names import Address
from relay.upstream.origin import Origin

AddressGuard = Callable[[str], None]
Resolver = Callable[[str, int], Awaitable[list[Address]]]
"""Host and port to addresses (``names.Names.resolve``). Raises: OSError (gaierror)."""
P = TypeVar("P", bound=asyncio.Protocol)

STAGGER_S: Final = 0.25  # RFC 8305 §5: the Connection Attempt Delay
_MAX_ADDRESSES: Final = 16


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """System certificates, or those of ``ca_file``; the host name is checked. Reads files: call it once.

    Raises: RelayError upstream_misconfigured.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # SSLError is one
        raise RelayError(
            "upstream_misconfigured", "The upstream's ca_file cannot be read.", detail=f"{ca_file}: {error}"
        ) from None
    context.set_alpn_protocols(["http/1.1"])
    # RFC 6125 §6.4.4: the subject's common name is no host name; without this it counts where there is no other.
    context.hostname_checks_common_name = False
    return context


async def dial(
    origin: Origin,
    tls: ssl.SSLContext | None,
    make: Callable[[], P],
    resolver: Resolver,
    guard: AddressGuard | None = None,
    *,
    dead_peer_timeout_s: float = 0.0,
) -> P:
    """A connected protocol. ``guard`` sees every resolved address before any is connected to, and may raise.

    ``dead_peer_timeout_s`` is what the kernel's keep-alive is told (``liveness``).

    Raises: OSError (gaierror, SSLError, ...) and what ``guard`` raises.
    """
    loop = asyncio.get_running_loop()
    if origin.unix is not None:
        if guard is not None:
            guard(origin.unix)
        protocol = make()
        try:
            await loop.create_unix_connection(lambda: protocol, origin.unix)
        except BaseException:
            _lose(loop, protocol, None)
            raise
        return protocol
    addresses = await resolve(resolver, origin.host, origin.port)
    if guard is not None:
        for address in addresses:
            guard(str(address.sockaddr[0]))
    connected = await race(addresses)
    keep_alive(connected, dead_peer_timeout_s)
    protocol = make()
    try:
        await loop.create_connection(
            lambda: protocol, sock=connected, ssl=tls, server_hostname=origin.host if tls is not None else None
        )
    except BaseException:
        _lose(loop, protocol, connected)
        raise
    return protocol


def _lose(loop: asyncio.AbstractEventLoop, protocol: asyncio.Protocol, connected: socket.socket | None) -> None:
    """Clean up behind a connection that failed, or was left, while the loop made it.

    uvloop has closed the descriptor without a word to the protocol and to the socket object, which must not close that
    number again: it may be another's by now. asyncio's own loop closes the socket and tells the protocol, a step later.
    """
    if type(loop).__module__.startswith("uvloop"):
        if connected is not None:
            connected.detach()
        protocol.connection_lost(None)


async def resolve(resolver: Resolver, host: str, port: int) -> list[Address]:
    """The host's addresses, families in turn, the resolver's first family first (RFC 8305 §4)."""
    return interleave(await resolver(host, port))[:_MAX_ADDRESSES]


def interleave(addresses: Iterable[Address]) -> list[Address]:
    """One of each family in turn."""
    families: dict[int, list[Address]] = {}
    for address in addresses:
        families.setdefault(address.family, []).append(address)
    return [address for address in chain.from_iterable(zip_longest(*families.values())) if address is not None]


async def race(addresses: Sequence[Address], stagger_s: float = STAGGER_S) -> socket.socket:
    """The socket that connects first. The next address starts when one fails, or after ``stagger_s``.

    Raises: the first address's OSError when all have failed.
    """
    if len(addresses) == 1:
        return await _connect(addresses[0])
    waiting = list(reversed(addresses))
    running: set[asyncio.Task[socket.socket]] = set()
    failures: list[OSError] = []
    winner: socket.socket | None = None
    try:
        while winner is None and (waiting or running):
            if waiting:
                # A task each, because attempts run side by side; none outlives this function's last step.
                running.add(asyncio.ensure_future(_connect(waiting.pop())))
            done, running = await asyncio.wait(
                running, timeout=stagger_s if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                try:
                    connected = task.result()
                except OSError as error:
                    failures.append(error)
                    continue
                if winner is None:
                    winner = connected
                else:
                    connected.close()
    finally:
        for task in running:
            task.add_done_callback(_discard)
            task.cancel()
    if winner is None:
        raise failures[0]
    return winner


def _discard(task: asyncio.Task[socket.socket]) -> None:
    """A loser: its socket is closed if it won after all, and its error is nobody's."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()


async def _connect(address: Address) -> socket.socket:
    attempt = socket.socket(address.family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        attempt.setblocking(False)
        await asyncio.get_running_loop().sock_connect(attempt, address.sockaddr)
    except BaseException:
        attempt.close()
        raise
    return attempt
