"""chat/completions as OpenAI serves it: requests checked, streams and bodies written.

Source: OpenAI's API reference of chat completions, ``openai.types.chat``; reasoning fields after DeepSeek
(``reasoning_content``), vLLM (``reasoning``) and OpenRouter (``reasoning_details``).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import orjson

from relay.demo.behaviour import Behaviour
from relay.demo.chat_request import read_chat
from relay.demo.script import SOURCE, Call, Part, Refusal, Reply, Turn

if TYPE_CHECKING:
    from relay.demo.application import Target

_FINISH: Final = {
    "stop": "stop",
    "stop_sequence": "stop",
    "calls": "tool_calls",
    "length": "length",
    "refusal": "stop",
    "pause": "stop",
}
_ERROR_TYPES: Final[dict[int, tuple[str, str | None]]] = {
    401: ("invalid_request_error", "invalid_api_key"),
    402: ("insufficient_quota", "insufficient_quota"),
    403: ("invalid_request_error", None),
    429: ("rate_limit_error", "rate_limit_exceeded"),
    503: ("server_error", "server_overloaded"),
    529: ("server_error", "server_overloaded"),
}


def new_id(prefix: str) -> str:
    """``prefix`` and 24 random hex digits."""
    return prefix + os.urandom(12).hex()


def openai_error(refusal: Refusal) -> dict[str, Any]:
    """OpenAI's error object."""
    usual = ("server_error", "server_error") if refusal.status >= 500 else ("invalid_request_error", None)
    kind, code = _ERROR_TYPES.get(refusal.status, usual)
    return {"message": refusal.message, "type": kind, "param": refusal.param, "code": refusal.code or code}


def annotation(length: int) -> dict[str, Any]:
    """The flat URL citation of the demo source over a text of ``length`` characters."""
    return {"type": "url_citation", "start_index": 0, "end_index": length, **SOURCE}


def logprobs_of(token: str) -> dict[str, Any]:
    """The log probability of a token, always the same."""
    return {"token": token, "logprob": -0.25, "bytes": list(token.encode("utf-8", "replace")), "top_logprobs": []}


class Chat:
    """The chat/completions format."""

    def read(self, body: dict[str, Any], target: Target) -> Turn:
        """Raises: Refusal, in OpenAI's words."""
        return read_chat(body)

    def stream(self, turn: Turn, reply: Reply) -> Iterator[tuple[bytes, int]]:
        """Chunks, ``[DONE]`` last."""
        behaviour = turn.behaviour
        shared = {
            "id": new_id("chatcmpl-"),
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": turn.model,
            "service_tier": "default",
            "system_fingerprint": "fp_demo",
        }
        asked = (turn.body.get("stream_options") or {}).get("include_usage") and not behaviour.nousage
        head = orjson.dumps(shared)[:-1] + (b',"usage":null' if asked else b"") + b',"choices":[{"index":0,"delta":'
        tail = b',"logprobs":null,"finish_reason":null}]}\n\n'

        def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
            end = b',"logprobs":null,"finish_reason":%b}]}\n\n' % orjson.dumps(finish)
            return b"data: " + head + orjson.dumps(delta) + end

        yield chunk({"role": "assistant", "content": None if reply.finish == "calls" else "", "refusal": None}), 0
        calls = 0
        for part in reply.parts:
            if part.kind == "call" and part.call is not None:
                index = 0 if behaviour.sameindex else calls
                yield from _stream_call(part, part.call, index, chunk)
                calls += 1
            elif part.kind == "thought":
                yield from _stream_thought(part, reply, behaviour, chunk)
            elif part.kind == "text" and turn.body.get("logprobs") is True:
                for token in part.tokens:
                    data = orjson.dumps({"content": [logprobs_of(token)], "refusal": None})
                    yield (
                        b'data: %b{"content":%b},"logprobs":%b,"finish_reason":null}]}\n\n'
                        % (head, orjson.dumps(token), data),
                        1,
                    )
            else:
                before = b"data: " + head + (b'{"content":' if part.kind == "text" else b'{"refusal":')
                after = b"}" + tail
                for token in part.tokens:  # hot: bench/ one token a write
                    yield before + orjson.dumps(token) + after, 1
            if part.kind == "text" and behaviour.cite:
                yield chunk({"annotations": [_citation(part)]}), 0
        if behaviour.nofinish:
            return
        yield chunk({}, _FINISH[reply.finish]), 0
        if asked:
            yield b"data: " + orjson.dumps({**shared, "choices": [], "usage": _usage(reply)}) + b"\n\n", 0
        if not behaviour.nodone:
            yield b"data: [DONE]\n\n", 0

    def whole(self, turn: Turn, reply: Reply) -> dict[str, Any]:
        """A ``chat.completion``."""
        message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
        calls = []
        logprobs = None
        for part in reply.parts:
            text = "".join(part.tokens)
            if part.kind == "call" and part.call is not None:
                calls.append(_call(part.call, text))
            elif part.kind == "thought":
                message.update(_thought(text, reply, turn.behaviour))
            elif part.kind == "refusal":
                message["refusal"] = text
            else:
                message["content"] = text
                message["annotations"] = [_citation(part)] if turn.behaviour.cite else []
                if turn.body.get("logprobs") is True:
                    logprobs = {"content": [logprobs_of(token) for token in part.tokens], "refusal": None}
        if calls:
            message["tool_calls"] = calls
        finish = None if turn.behaviour.nofinish else _FINISH[reply.finish]
        answer = {
            "id": new_id("chatcmpl-"),
            "object": "chat.completion",
            "created": int(time.time()),
            "model": turn.model,
            "service_tier": "default",
            "system_fingerprint": "fp_demo",
            "choices": [{"index": 0, "message": message, "logprobs": logprobs, "finish_reason": finish}],
        }
        if not turn.behaviour.nousage:
            answer["usage"] = _usage(reply)
        return answer

    def refused(self, refusal: Refusal) -> dict[str, Any]:
        """``{"error": {…}}``."""
        return {"error": openai_error(refusal)}

    def stream_error(self, refusal: Refusal) -> bytes:
        """An error chunk, as vLLM and OpenRouter send it."""
        return b"data: " + orjson.dumps(self.refused(refusal)) + b"\n\n"


def _citation(part: Part) -> dict[str, Any]:
    length = sum(len(token) for token in part.tokens)
    return {"type": "url_citation", "url_citation": {"start_index": 0, "end_index": length, **SOURCE}}


def _call(call: Call, text: str) -> dict[str, Any]:
    if call.custom:
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": text}}
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": text}}


def _stream_call(part: Part, call: Call, index: int, chunk: Any) -> Iterator[tuple[bytes, int]]:
    holder, key = ("custom", "input") if call.custom else ("function", "arguments")
    yield chunk({"tool_calls": [{"index": index, **_call(call, "")}]}), 0
    for token in part.tokens:
        yield chunk({"tool_calls": [{"index": index, holder: {key: token}}]}), 1


def _stream_thought(part: Part, reply: Reply, behaviour: Behaviour, chunk: Any) -> Iterator[tuple[bytes, int]]:
    for token in () if behaviour.redacted else part.tokens:
        yield chunk(_thought_text(token, behaviour)), 1
    if behaviour.redacted or behaviour.details:
        yield chunk({"reasoning_details": [_sealed(reply)]}), len(part.tokens) if behaviour.redacted else 0


def _thought_text(text: str, behaviour: Behaviour) -> dict[str, Any]:
    if behaviour.details:
        detail = {"type": "reasoning.text", "text": text, "format": "demo-v1", "index": 0}
        return {"reasoning": text, "reasoning_details": [detail]}
    return {"reasoning" if behaviour.vllm else "reasoning_content": text}


def _sealed(reply: Reply) -> dict[str, Any]:
    return {"type": "reasoning.encrypted", "data": reply.seal, "format": "demo-v1", "index": 1}


def _thought(text: str, reply: Reply, behaviour: Behaviour) -> dict[str, Any]:
    shown = {} if behaviour.redacted else _thought_text(text, behaviour)
    if behaviour.redacted or behaviour.details:
        shown["reasoning_details"] = [*shown.get("reasoning_details", ()), _sealed(reply)]
    return shown


def _usage(reply: Reply) -> dict[str, Any]:
    return {
        "prompt_tokens": reply.input_tokens,
        "completion_tokens": reply.output_tokens,
        "total_tokens": reply.input_tokens + reply.output_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": reply.thought_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
