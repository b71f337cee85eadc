"""What all connections of one server share, and what the server asks of a connection, HTTP or WebSocket."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from relay.server.door import Door
from relay.server.limits import Limits

if TYPE_CHECKING:
    from relay.config import ServerSettings
    from relay.server.upgrade import Upgrade

logger = logging.getLogger("relay.server")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Connection(Protocol):
    """An open connection, as the server sees it when it stops."""

    def drain(self) -> None:
        """Close now if nothing runs, else when what runs has ended; a WebSocket leaves this to the app."""

    def close(self) -> None:
        """The time is over: cancel what runs and close (a WebSocket with 1001)."""


@dataclass(slots=True)
class Context:
    """One server's app, settings and limits, and what is alive in it."""

    app: App
    settings: ServerSettings
    limits: Limits
    state: dict[str, Any] | None = None  # of the lifespan protocol; a scope gets a copy
    draining: bool = False
    door: Door = field(init=False)
    connections: set[Connection] = field(default_factory=set)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    upgrade: Upgrade | None = None  # what takes over after a WebSocket handshake
    on_empty: Callable[[], None] | None = None  # called when the last connection has closed

    def __post_init__(self) -> None:
        self.door = Door(self.settings.max_connections, self.limits.head_places)

    def add(self, connection: Connection) -> None:
        """A connection has opened."""
        self.connections.add(connection)

    def remove(self, connection: Connection) -> None:
        """It has closed, or is now another's (which was added before)."""
        self.connections.discard(connection)
        if not self.connections and self.on_empty is not None:
            self.on_empty()

    def start(self, task: asyncio.Task[None]) -> None:
        """Keep a reference to a request's task until it is done."""
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
