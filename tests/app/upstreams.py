"""A bare upstream: what came, when its client left, and writes made one at a time by the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def _sse(name: str | None, payload: object) -> bytes:
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: " + orjson.dumps(payload) + b"\n\n"


def first(dialect: str) -> bytes:
    """The events that come before the first token."""
    response = {
        "id": "resp_up",
        "object": "response",
        "created_at": 1,
        "status": "in_progress",
        "model": "m",
        "output": [],
    }
    item = {"id": "msg_up", "type": "message", "status": "in_progress", "role": "assistant", "content": []}
    part = {"type": "output_text", "annotations": [], "logprobs": [], "text": ""}
    place = {"item_id": "msg_up", "output_index": 0, "content_index": 0}
    made = {
        "chat": [(None, {"choices": [{"index": 0, "delta": {"role": "assistant"}, "finish_reason": None}]})],
        "responses": [
            (kind, {"type": kind, "sequence_number": number, **fields})
            for number, (kind, fields) in enumerate(
                [
                    ("response.created", {"response": response}),
                    ("response.in_progress", {"response": response}),
                    ("response.output_item.added", {"output_index": 0, "item": item}),
                    ("response.content_part.added", {**place, "part": part}),
                ]
            )
        ],
        "anthropic": [
            (
                "message_start",
                {
                    "type": "message_start",
                    "message": {
                        "id": "msg_up",
                        "type": "message",
                        "role": "assistant",
                        "model": "m",
                        "content": [],
                        "stop_reason": None,
                        "usage": {"input_tokens": 1, "output_tokens": 1},
                    },
                },
            ),
            (
                "content_block_start",
                {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            ),
        ],
        "gemini": [],
    }
    return b"".join(_sse(name, payload) for name, payload in made[dialect])


def token(dialect: str, text: str, number: int) -> bytes:
    """One token of text; ``number`` counts from 0."""
    made: dict[str, tuple[str | None, object]] = {
        "chat": (None, {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}),
        "responses": (
            "response.output_text.delta",
            {
                "type": "response.output_text.delta",
                "item_id": "msg_up",
                "output_index": 0,
                "content_index": 0,
                "delta": text,
                "logprobs": [],
                "sequence_number": number + 4,
            },
        ),
        "anthropic": (
            "content_block_delta",
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}},
        ),
        "gemini": (None, {"candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}]}),
    }
    return _sse(*made[dialect])


class Upstream:
    """One connection at a time. ``asked`` is set when a request is whole, ``left`` when its client is gone."""

    def __init__(self) -> None:
        self.port = 0
        self.connected = asyncio.Event()
        self.asked = asyncio.Event()
        self.left = asyncio.Event()
        self.connections = 0
        self.writer: asyncio.StreamWriter | None = None
        self.silent = False
        """Do not even read: a TLS client waits for its handshake."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writer = writer
        self.connected.set()
        try:
            if not self.silent:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(line.split(b":")[1])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length")
                )
                await reader.readexactly(length)
                self.asked.set()
            while await reader.read(65536):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.left.set()
            writer.close()

    def write(self, data: bytes) -> None:
        assert self.writer is not None
        self.writer.write(data)

    async def drain(self) -> None:
        assert self.writer is not None
        await self.writer.drain()


@asynccontextmanager
async def upstream() -> AsyncIterator[Upstream]:
    """A bare upstream on a free port."""
    one = Upstream()
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    one.port = server.sockets[0].getsockname()[1]
    try:
        yield one
    finally:
        server.close()
        if one.writer is not None:
            one.writer.close()
