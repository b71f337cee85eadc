"""The seam between the HTTP connection and what takes it over after a WebSocket handshake request.

``relay/server/websocket.py`` supplies ``upgrade``, an ``Upgrade``. The HTTP connection calls it once a GET request over
HTTP/1.1 with ``Upgrade: websocket`` was read whole and passed the rules of ``wire/http1``. The HTTP connection has then
let go of the transport: it has no timer and no task, and leaves ``context.connections`` when ``upgrade`` has returned.
Before that the handler calls ``transport.set_protocol(self)`` and ``context.add(self)``; on ``connection_lost`` it
calls ``context.remove(self)`` and ``context.door.leave(seat)``; its tasks go through ``context.start(task)``. The
handler answers the handshake itself, a refusal included, and closes the connection after one.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from relay.server.context import Connection, Context, Scope
from relay.server.door import Seat
from relay.wire.http1 import Head


@dataclass(frozen=True, slots=True)
class Handshake:
    """A handshake request: its head (lower-case names), its scope, the bytes that came after it, its connection's seat.

    ``scope`` is a ``websocket`` scope without ``subprotocols``: type, asgi, http_version, scheme (ws, wss), path,
    raw_path, query_string, root_path, headers, client, server, extensions ({}), and state where there is a lifespan.
    """

    head: Head
    scope: Scope
    data: bytes
    seat: Seat


class Upgrade(Protocol):
    """Takes a connection over."""

    def __call__(self, context: Context, transport: asyncio.Transport, handshake: Handshake) -> Connection: ...
