"""A chat upstream whose every answer waits for the test: many at a time, told apart by the last text of the user.

``hold …`` says one word and waits, ``silent …`` says nothing and waits; anything else is echoed at once.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson

from tests.app.support import Relay, fronting
from tests.server.support import serving


class Gated:
    """``running`` are the texts that wait, ``asked`` all messages of each request, by its text."""

    def __init__(self) -> None:
        self.gates: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.running: set[str] = set()
        self.asked: dict[str, list[dict[str, Any]]] = {}
        self.order: list[str] = []
        self.most = 0

    def open(self, *texts: str) -> None:
        """Let these answers go on."""
        for text in texts:
            self.gates[text].set()

    def texts(self, text: str) -> list[str]:
        """The texts of the conversation in which ``text`` was asked."""
        return [str(message.get("content")) for message in self.asked[text]]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        messages = orjson.loads(body)["messages"]
        text = next(str(one["content"]) for one in reversed(messages) if one["role"] == "user")
        self.asked[text] = messages
        self.order.append(text)
        self.running.add(text)
        self.most = max(self.most, len(self.running))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", _SSE)]})
            words = [word + " " for word in text.split()]
            if text.startswith("hold"):
                await _say(send, words.pop(0))
            if text.startswith(("hold", "silent")):
                await self.gates[text].wait()
            for word in words:
                await _say(send, word)
            end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
            await send({"type": "http.response.body", "body": _event(end) + b"data: [DONE]\n\n"})
        finally:
            self.running.discard(text)


_SSE = b"text/event-stream"


def _event(content: Any) -> bytes:
    return b"data: " + orjson.dumps(content) + b"\n\n"


async def _say(send: Any, word: str) -> None:
    content = {"choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]}
    await send({"type": "http.response.body", "body": _event(content), "more_body": True})


@asynccontextmanager
async def gated(*, foreign: bool = False) -> AsyncIterator[tuple[Relay, Gated]]:
    """A relay before a gated upstream."""
    app = Gated()
    async with (
        serving(app, lifespan=False) as server,
        fronting("chat", f"http://127.0.0.1:{server.port}/v1", foreign=foreign) as relay,
    ):
        yield relay, app
