"""Gemini generateContent: streams and bodies written.

Source: ai.google.dev (generateContent, thinking, thought signatures, grounding); ``google.genai.types``; the recordings
of ``corpus/gemini-generate/google``. Each event is a whole response; only ``finishReason`` marks the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import orjson

from relay.demo.chat import new_id
from relay.demo.gemini_request import read_contents
from relay.demo.script import SOURCE, Part, Refusal, Reply, Turn

if TYPE_CHECKING:
    from relay.demo.application import Target

_FINISH: Final = {
    "stop": "STOP",
    "stop_sequence": "STOP",
    "calls": "STOP",
    "length": "MAX_TOKENS",
    "pause": "CONTINUATION",
}
_STATUSES: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class Gemini:
    """The generateContent format."""

    def read(self, body: dict[str, Any], target: Target) -> Turn:
        """Raises: Refusal, in Google's words."""
        return read_contents(body, target.model or "demo", bool(target.stream))

    def stream(self, turn: Turn, reply: Reply) -> Iterator[tuple[bytes, int]]:
        """One response an event, a token in each; the last has the finish reason and the full usage."""
        if reply.finish == "refusal":
            yield _event(_blocked(turn, reply)), 0
            return
        shared = {"modelVersion": turn.model, "responseId": new_id("")}
        end = b"," + orjson.dumps(shared)[1:] + b"\n\n"
        prompt = {"promptTokenCount": reply.input_tokens, "totalTokenCount": reply.input_tokens}
        usage = b"" if turn.behaviour.nousage else b',"usageMetadata":' + orjson.dumps(prompt)
        after = b'],"role":"model"},"index":0}]' + usage + end
        for part, tokens in _parts(turn, reply):
            yield b'data: {"candidates":[{"content":{"parts":[' + orjson.dumps(part) + after, tokens
        yield _event({**_final(turn, reply, [_closing(turn, reply)]), **shared}), 0

    def whole(self, turn: Turn, reply: Reply) -> dict[str, Any]:
        """One response; neighbouring texts joined."""
        if reply.finish == "refusal":
            return _blocked(turn, reply)
        parts: list[dict[str, Any]] = []
        for part, _ in _parts(turn, reply):
            if parts and "text" in part and "text" in parts[-1] and part.get("thought") == parts[-1].get("thought"):
                parts[-1] = {**parts[-1], **part, "text": parts[-1]["text"] + part["text"]}
            else:
                parts.append(part)
        closing = _closing(turn, reply)
        if "thoughtSignature" in closing and parts and "text" in parts[-1] and "thought" not in parts[-1]:
            parts[-1] = {**parts[-1], "thoughtSignature": closing["thoughtSignature"]}
        return {**_final(turn, reply, parts), "modelVersion": turn.model, "responseId": new_id("")}

    def refused(self, refusal: Refusal) -> dict[str, Any]:
        """``{"error": {code, message, status}}``."""
        status = 503 if refusal.status == 529 else refusal.status
        error: dict[str, Any] = {
            "code": status,
            "message": refusal.message,
            "status": _STATUSES.get(status, "INTERNAL" if status >= 500 else "INVALID_ARGUMENT"),
        }
        if status == 429:
            error["details"] = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1s"}]
        return {"error": error}

    def stream_error(self, refusal: Refusal) -> bytes:
        """An error as an event."""
        return _event(self.refused(refusal))


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(data) + b"\n\n"


def _parts(turn: Turn, reply: Reply) -> Iterator[tuple[dict[str, Any], int]]:
    """The parts that carry content, with the tokens in each; only the first call of a reply has the signature."""
    sealed = False
    for part in reply.parts:
        if part.kind == "thought":
            if turn.show_reason and not turn.behaviour.redacted:
                for token in part.tokens:
                    yield {"text": token, "thought": True}, 1
        elif part.kind == "call":
            if reply.finish == "length" and part is reply.parts[-1]:
                return  # a call that was cut is no call
            yield _call(part, None if sealed else reply.seal), len(part.tokens)
            sealed = True
        else:
            for token in part.tokens:  # hot: bench/ one token a write
                yield {"text": token}, 1


def _call(part: Part, seal: str | None) -> dict[str, Any]:
    call = part.call
    assert call is not None
    made = {"functionCall": {"name": call.name, "args": orjson.loads("".join(part.tokens)), "id": call.id}}
    return made if seal is None else {**made, "thoughtSignature": seal}


def _closing(turn: Turn, reply: Reply) -> dict[str, Any]:
    """The empty text of the last event; on it the signature of an answer that is text."""
    if reply.seal is not None and reply.finish not in ("calls", "length"):
        return {"text": "", "thoughtSignature": reply.seal}
    return {"text": ""}


def _final(turn: Turn, reply: Reply, parts: list[dict[str, Any]]) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
    if not turn.behaviour.nofinish:
        candidate["finishReason"] = _FINISH[reply.finish]
    if reply.finish == "pause":
        candidate["continuationToken"] = turn.next_token
    if turn.behaviour.cite and reply.parts[-1].kind == "text":
        candidate["groundingMetadata"] = _grounding(turn, reply.parts[-1])
    final: dict[str, Any] = {"candidates": [candidate]}
    if not turn.behaviour.nousage:
        final["usageMetadata"] = _usage(reply)
    return final


def _blocked(turn: Turn, reply: Reply) -> dict[str, Any]:
    prompt = reply.input_tokens
    usage = {"promptTokenCount": prompt, "totalTokenCount": prompt}
    return {
        "promptFeedback": {"blockReason": "PROHIBITED_CONTENT"},
        "usageMetadata": usage,
        "modelVersion": turn.model,
        "responseId": new_id(""),
    }


def _usage(reply: Reply) -> dict[str, Any]:
    usage: dict[str, Any] = {
        "promptTokenCount": reply.input_tokens,
        "candidatesTokenCount": reply.output_tokens - reply.thought_tokens,
        "totalTokenCount": reply.input_tokens + reply.output_tokens,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": reply.input_tokens}],
    }
    if reply.thought_tokens:
        usage["thoughtsTokenCount"] = reply.thought_tokens
    return usage


def _grounding(turn: Turn, part: Part) -> dict[str, Any]:
    """The demo source for the whole text; segments count bytes."""
    text = "".join(part.tokens)
    segment = {"startIndex": 0, "endIndex": len(text.encode("utf-8", "replace")), "text": text}
    return {
        "webSearchQueries": [turn.talk.text],
        "groundingChunks": [{"web": {"uri": SOURCE["url"], "title": SOURCE["title"]}}],
        "groundingSupports": [{"segment": segment, "groundingChunkIndices": [0]}],
    }
