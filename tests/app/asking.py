"""Plain HTTP requests to a relay, and what came of them."""

from __future__ import annotations

from typing import Any

import orjson

from tests.app.support import Relay
from tests.server.support import Client

Json = dict[str, Any]


class Asker:
    """One client of a relay, with a key or without."""

    def __init__(self, relay: Relay, key: str | None = None) -> None:
        self.relay = relay
        self.key = key

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Json]:
        """Status and JSON body."""
        client = await Client.connect(self.relay.port)
        headers = {"host": "127.0.0.1", "content_type": "application/json"}
        if self.key is not None:
            headers["authorization"] = f"Bearer {self.key}"
        answer = await client.request(f"/v1{path}", method, b"" if body is None else orjson.dumps(body), **headers)
        client.leave()
        return answer.status, orjson.loads(answer.body) if answer.body else {}

    async def get(self, path: str) -> Json:
        """A GET that succeeds."""
        status, content = await self.ask("GET", path)
        assert status == 200, content
        return content

    async def post(self, path: str, **body: Any) -> Json:
        """A POST that succeeds; model demo."""
        status, content = await self.ask("POST", path, {"model": "demo", **body})
        assert status == 200, content
        return content

    async def create(self, **body: Any) -> Json:
        """A response."""
        return await self.post("/responses", **body)

    async def refused(self, method: str, path: str, body: Any = None) -> Json:
        """A request that is refused: ``error``, with ``status`` in it."""
        status, content = await self.ask(method, path, body)
        assert status >= 400, content
        assert set(content["error"]) == {"message", "type", "param", "code"}
        return {**content["error"], "status": status}

    async def not_created(self, **body: Any) -> Json:
        """A create that is refused."""
        return await self.refused("POST", "/responses", {"model": "demo", **body})


def seen(relay: Relay, at: int = -1) -> Json:
    """The body of a request that reached the demo."""
    content: Json = orjson.loads(relay.demo.requests[at].body)
    return content


def said(relay: Relay, at: int = -1) -> list[str]:
    """The texts of the messages of a chat request that reached the demo."""
    return [message["content"] for message in seen(relay, at)["messages"]]
