"""A strict WebSocket client of ``/v1/responses``: the `websockets` package, one JSON object a text message."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import websockets

TERMINAL = ("response.completed", "response.incomplete", "response.failed", "error")
WAIT_S = 10.0

Event = dict[str, Any]


class Socket:
    """An open session. ``turn`` runs one create to its end; ``create`` and ``event`` are its halves."""

    def __init__(self, connection: websockets.ClientConnection) -> None:
        self.connection = connection

    async def send(self, message: Any) -> None:
        await self.connection.send(orjson.dumps(message).decode())

    async def create(self, **fields: Any) -> None:
        """A ``response.create``; model demo, not stored."""
        await self.send({"type": "response.create", "model": "demo", "store": False, **fields})

    async def event(self) -> Event:
        """The next message; a binary one is a failure, as Codex has it."""
        async with asyncio.timeout(WAIT_S):
            message = await self.connection.recv()
        assert isinstance(message, str)
        content: Event = orjson.loads(message)
        return content

    async def events(self) -> list[Event]:
        """Up to the next end of a turn."""
        events = [await self.event()]
        while events[-1]["type"] not in TERMINAL:
            events.append(await self.event())
        return events

    async def turn(self, **fields: Any) -> Event:
        """One create; its last message."""
        await self.create(**fields)
        return (await self.events())[-1]

    async def completed(self, **fields: Any) -> dict[str, Any]:
        """One create that completes; its response."""
        last = await self.turn(**fields)
        assert last["type"] == "response.completed", last
        response: dict[str, Any] = last["response"]
        return response

    async def refused(self, **fields: Any) -> dict[str, Any]:
        """One create that is refused with the envelope; ``error``, with ``status`` in it."""
        last = await self.turn(**fields)
        assert last["type"] == "error", last
        return {**last["error"], "status": last["status"]}

    async def closed(self) -> int | None:
        """What is still said is dropped; the code of the server's Close."""
        async with asyncio.timeout(WAIT_S):
            try:
                while True:
                    await self.connection.recv()
            except websockets.ConnectionClosed:
                return self.connection.close_code


@asynccontextmanager
async def connected(port: int, *, key: str | None = None, **headers: str) -> AsyncIterator[Socket]:
    """A session of its own."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    if key is not None:
        fields["authorization"] = f"Bearer {key}"
    async with websockets.connect(
        f"ws://127.0.0.1:{port}/v1/responses", additional_headers=fields, max_size=None, proxy=None
    ) as connection:
        yield Socket(connection)


def text_of(response: dict[str, Any]) -> str:
    """The text of all message items."""
    parts = [part for item in response["output"] if item["type"] == "message" for part in item["content"]]
    return "".join(part.get("text", "") for part in parts)


def missing_id() -> str:
    """An id that no server made."""
    return f"resp_openresponses_missing_{time.time_ns()}"
