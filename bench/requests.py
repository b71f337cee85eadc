"""What the generator sends: a request for so many tokens, in the words of who is asked."""

from __future__ import annotations

import random
from typing import Any, Final

import orjson

from bench.clients import frame

PATHS: Final = {"responses": "/v1/responses", "chat": "/v1/chat/completions"}
TOOL: Final[dict[str, Any]] = {
    "type": "function",
    "name": "look_up",
    "description": "Look something up.",
    "parameters": {"type": "object", "properties": {}, "additionalProperties": False},
}
_WORDS: Final = ("table", "river", "seven", "because", "light", "naïve", "the", "of", "answer", "and", "window", "42")


def history(size_bytes: int, seed: int = 5) -> list[dict[str, Any]]:
    """Messages of about ``size_bytes`` in JSON, user and assistant in turns, the last one the user's."""
    draw = random.Random(seed)
    messages: list[dict[str, Any]] = []
    left = size_bytes
    while left > 0 or len(messages) % 2 == 0:
        count = max(1, min(600, left // 6))
        text = " ".join(draw.choices(_WORDS, k=count))
        messages.append({"role": "assistant" if len(messages) % 2 else "user", "content": text})
        left -= len(text.encode()) + 40
    return messages


def worst(size_bytes: int, items: int) -> list[Any]:
    """An input of about ``size_bytes`` with so many items that say nothing: what costs a relay most for its size."""
    return [*[""] * items, {"role": "user", "content": "x" * max(1, size_bytes - 3 * items)}]


def body(
    format: str, transport: str, model: str, *, store: bool, input_bytes: int, tokens: int, input_items: int = 0
) -> dict[str, Any]:
    """A request body; ``input_bytes`` 0 is one word, ``input_items`` are ``worst`` (of Responses only)."""
    messages = history(input_bytes) if input_bytes else [{"role": "user", "content": "Go."}]
    if input_items and format == "responses":
        messages = worst(input_bytes, input_items)
    if format == "chat":
        asked: dict[str, Any] = {"model": model, "messages": messages}
        if transport == "sse":
            asked |= {"stream": True, "stream_options": {"include_usage": True}}
        return asked
    asked = {"model": model, "input": messages, "store": store, "max_output_tokens": max(16, tokens + 1)}
    return asked | {"stream": True} if transport == "sse" else asked


def wire(format: str, transport: str, content: dict[str, Any]) -> bytes:
    """A body as it goes out."""
    if transport == "ws":
        return frame(orjson.dumps({"type": "response.create", **content}))
    payload = orjson.dumps(content)
    head = f"POST {PATHS[format]} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(payload)}\r\n\r\n".encode() + payload
