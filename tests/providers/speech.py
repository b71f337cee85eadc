"""The same few things said in each translated dialect: a beginning, a piece of text, a reason for the end, an error."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final, NamedTuple

Json = dict[str, Any]


def data(payload: Json, name: str | None = None) -> bytes:
    """One event."""
    return (f"event: {name}\n" if name else "").encode() + b"data: " + json.dumps(payload).encode() + b"\n\n"


class Speech(NamedTuple):
    """Pieces of one dialect's stream. ``reason(word, text)``: with the text in the same event where ``joint``."""

    begin: bytes
    text: Callable[[str], bytes]
    reason: Callable[..., bytes]
    stop: str
    limit: str
    error: bytes
    again: bytes
    """What says nothing new: a ping, an empty piece."""
    joint: bool


def _chunk(delta: Json, finish: str | None = None) -> bytes:
    return data({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


CHAT: Final = Speech(
    begin=_chunk({"role": "assistant", "content": ""}),
    text=lambda text: _chunk({"content": text}),
    reason=lambda word, text="": _chunk({"content": text} if text else {}, word),
    stop="stop",
    limit="length",
    error=data({"error": {"message": "boom", "code": 500, "type": "server_error"}}),
    again=b": ping\n\n" + _chunk({"role": "assistant", "content": ""}),
    joint=True,
)


def _event(kind: str, **fields: Any) -> bytes:
    return data({"type": kind, **fields}, kind)


def _claude_reason(word: str) -> bytes:
    return _event("message_delta", delta={"stop_reason": word}, usage={"output_tokens": 3})


_MESSAGE: Final = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": []}
_USAGE: Final = {"input_tokens": 5, "output_tokens": 1}


def _claude_text(text: str) -> bytes:
    return (
        _event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        + _event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})
        + _event("content_block_stop", index=0)
    )


ANTHROPIC: Final = Speech(
    begin=_event("message_start", message={**_MESSAGE, "usage": _USAGE}),
    text=_claude_text,
    reason=_claude_reason,
    stop="end_turn",
    limit="max_tokens",
    error=_event("error", error={"type": "api_error", "message": "boom"}),
    again=_event("ping"),
    joint=False,
)


def _candidate(text: str, finish: str | None = None) -> bytes:
    parts = [{"text": text}] if text else []
    candidate = {"content": {"role": "model", "parts": parts}, "index": 0}
    return data({"candidates": [{**candidate, "finishReason": finish} if finish else candidate]})


GEMINI: Final = Speech(
    begin=b"",
    text=_candidate,
    reason=lambda word, text="": _candidate(text, word),
    stop="STOP",
    limit="MAX_TOKENS",
    error=data({"error": {"code": 500, "message": "boom", "status": "INTERNAL"}}),
    again=b": ping\n\n" + data({"candidates": [{"content": {"parts": [{"text": "", "thoughtSignature": "s"}]}}]}),
    joint=True,
)

SPEECHES: Final = {"chat": CHAT, "anthropic": ANTHROPIC, "gemini": GEMINI}
