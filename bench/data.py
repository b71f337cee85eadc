"""Seeded data that the micro suite shares: requests, and what each dialect's upstream answers.

The upstream's bytes come from the demo, which shares no code with the relay's translation, asked for in the words that
the dialect's own ``build`` writes.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import orjson

from bench.processes import UPSTREAMS
from bench.requests import history
from relay.demo import create_app
from relay.providers.base import Target, UpstreamRequest
from relay.providers.registry import PROVIDERS
from relay.responses.emitter import Emitter
from relay.responses.request import Request, parse
from relay.responses.response import template
from relay.responses.sinks import NullSink, Sink, SocketSink, SSESink

SEED: Final = 5
TOKENS: Final = 1_000
LONG_BYTES: Final = 4 * 1024 * 1024
READ_BYTES: Final = 16 * 1024
DIALECTS: Final = tuple(name for name in UPSTREAMS if name in PROVIDERS)
SINKS: Final[dict[str, Callable[[], Any]]] = {"sse": SSESink, "socket": SocketSink, "null": NullSink}
SIZES: Final = {"1kB": 1_000, "100kB": 100_000, "1MB": 1_000_000}

_WORDS: Final = (
    "the",
    " of",
    " and",
    " light",
    '"quoted"',
    "\n\n",
    " naïve",
    " 42",
    " Straße",
    "，然后",
    " 🙂",
    " tokens",
)


@cache
def words(count: int = TOKENS) -> tuple[str, ...]:
    """Tokens as a model says them: short, some with escapes, some beyond ASCII."""
    return tuple(random.Random(SEED).choices(_WORDS, k=count))


def body(size_bytes: int, **members: Any) -> dict[str, Any]:
    """A create request whose history is about that long."""
    return {"model": "demo", "stream": True, "store": False, "input": history(size_bytes, SEED), **members}


def request(size_bytes: int, **members: Any) -> Request:
    """The same, checked."""
    return parse(body(size_bytes, **members))


def target(dialect: str, model: str = "demo") -> Target:
    """A model of the demo behind ``dialect``."""
    return Target(dialect, model, base_url=f"http://127.0.0.1:1{UPSTREAMS[dialect]}")


def emitter(asked: Request, sink: Sink) -> Emitter:
    """An emitter whose ids and times are counted."""
    numbers = itertools.count(1)

    def new_id(prefix: str) -> str:
        return f"{prefix}_{next(numbers):024x}"

    return Emitter(template(asked, new_id("resp"), 1), sink, new_id, lambda: 1)


@cache
def spoken(dialect: str, size: str) -> tuple[Request, UpstreamRequest, bytes]:
    """A request, its upstream call and the bytes of the answer: ``tokens`` many of them, or ``event``, one of 4 MiB."""
    text = "".join(words()) if size == "tokens" else "x" * LONG_BYTES
    model = "claude-opus-4-5-demo-pace-0" if dialect == "anthropic" else "demo-pace-0"
    asked = parse({"model": model, "stream": True, "input": text, "max_output_tokens": 4_096})
    call = PROVIDERS[dialect].build(asked, target(dialect, model), {}, frozenset())
    return asked, call, asyncio.run(_answer(dialect, call))


async def _answer(dialect: str, call: UpstreamRequest) -> bytes:
    """What the demo answers to a call."""
    path, _, query = (UPSTREAMS[dialect] + call.path).partition("?")
    pieces: list[bytes] = []
    received = iter([{"type": "http.request", "body": call.body}])

    async def receive() -> dict[str, Any]:
        for message in received:
            return message
        return await asyncio.Future()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            assert message["status"] == 200, message
        pieces.append(message.get("body", b""))

    headers = [(name.encode(), value.encode()) for name, value in call.headers]
    scope = {"type": "http", "method": "POST", "path": path, "query_string": query.encode(), "headers": headers}
    await create_app()(scope, receive, send)
    return b"".join(pieces)


def by_event(stream: bytes) -> list[bytes]:
    """One event a read."""
    return [event + b"\n\n" for event in stream.split(b"\n\n") if event]


def by_size(stream: bytes, size: int = READ_BYTES) -> list[bytes]:
    """Reads of one size, whatever is in them."""
    return [stream[at : at + size] for at in range(0, len(stream), size)]


@cache
def turns(count: int) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Responses of a conversation with their inputs, each of about 1 kB."""
    made = []
    for number in range(count):
        text = "".join(random.Random(number).choices(_WORDS, k=100))
        output = [_message(f"msg_{number:024x}", "assistant", "output_text", text)]
        response = {"id": f"resp_{number:024x}", "object": "response", "status": "completed", "output": output}
        made.append((response, [_message(f"msg_1{number:023x}", "user", "input_text", text)]))
    return made


def _message(identifier: str, role: str, kind: str, text: str) -> dict[str, Any]:
    return {"id": identifier, "type": "message", "role": role, "content": [{"type": kind, "text": text}]}


@cache
def event_payloads(count: int = TOKENS) -> tuple[bytes, ...]:
    """Text deltas as the emitter writes them."""
    head = {"type": "response.output_text.delta", "item_id": f"msg_{1:024x}", "output_index": 0, "content_index": 0}
    return tuple(
        orjson.dumps({**head, "delta": word, "logprobs": [], "sequence_number": number})
        for number, word in enumerate(words(count))
    )
