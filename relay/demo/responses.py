"""The Responses API as OpenAI serves it: streams and bodies written.

Source: OpenAI's API reference, ``openai.types.responses``, responses-api.md §2.3, §4.4, §4.5, and the recordings of
``corpus/openai-responses/openai``. It shares no code with ``relay.responses``: one error must not hide in both.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import orjson

from relay.demo.chat import annotation, logprobs_of, new_id, openai_error
from relay.demo.responses_request import read_responses
from relay.demo.script import Part, Refusal, Reply, Turn

if TYPE_CHECKING:
    from relay.demo.application import Target

_ECHOED: Final[dict[str, Any]] = {
    "background": False,
    "frequency_penalty": 0.0,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "parallel_tool_calls": True,
    "presence_penalty": 0.0,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "prompt_cache_retention": None,
    "safety_identifier": None,
    "store": True,
    "temperature": 1.0,
    "tool_choice": "auto",
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
    "metadata": {},
}

Event = tuple[str, dict[str, Any]]


class Responses:
    """The Responses format."""

    def read(self, body: dict[str, Any], target: Target) -> Turn:
        """Raises: Refusal, in OpenAI's words."""
        return read_responses(body)

    def stream(self, turn: Turn, reply: Reply) -> Iterator[tuple[bytes, int]]:
        """Typed events with running numbers, as OpenAI sends them: no ``[DONE]``."""
        number = 0
        response = _response(turn)
        for kind in ("response.created", "response.in_progress"):
            yield _event(kind, {"response": response}, number), 0
            number += 1
        output: list[dict[str, Any]] = []
        for index, part in enumerate(reply.parts):
            writer = _WRITERS[part.kind]
            done: dict[str, Any] = {}
            cut = reply.finish == "length" and index == len(reply.parts) - 1
            for kind, fields, tokens in writer(turn, reply, part, index, cut, done):
                yield _event(kind, fields, number), tokens
                number += 1
            output.append(done)
        if not turn.behaviour.nofinish:
            final = _finished(turn, reply, response, output)
            yield _event(f"response.{final['status']}", {"response": final}, number), 0

    def whole(self, turn: Turn, reply: Reply) -> dict[str, Any]:
        """The finished response object."""
        output: list[dict[str, Any]] = []
        for index, part in enumerate(reply.parts):
            done: dict[str, Any] = {}
            cut = reply.finish == "length" and index == len(reply.parts) - 1
            for _ in _WRITERS[part.kind](turn, reply, part, index, cut, done):
                pass
            output.append(done)
        return _finished(turn, reply, _response(turn), output)

    def refused(self, refusal: Refusal) -> dict[str, Any]:
        """``{"error": {…}}``."""
        return {"error": openai_error(refusal)}

    def stream_error(self, refusal: Refusal) -> bytes:
        """OpenAI's pair of ``error`` and ``response.failed``, as recorded."""
        error = openai_error(refusal)
        failed = {
            "id": new_id("resp_"),
            "object": "response",
            "created_at": int(time.time()),
            "status": "failed",
            "completed_at": None,
            "error": {"code": error["code"] or "server_error", "message": error["message"]},
            "incomplete_details": None,
            "model": "demo",
            "output": [],
            "tools": [],
            "reasoning": {"effort": None, "summary": None},
            "text": {"format": {"type": "text"}},
            "service_tier": "default",
            "usage": None,
            **_ECHOED,
        }
        data = {"type": "error", "sequence_number": 9999, **error}
        return (
            b"event: error\ndata: "
            + orjson.dumps(data)
            + b"\n\n"
            + _event("response.failed", {"response": failed}, 10_000)
        )


def _event(kind: str, fields: dict[str, Any], number: int) -> bytes:
    data = orjson.dumps({"type": kind, **fields, "sequence_number": number})
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)


def _response(turn: Turn) -> dict[str, Any]:
    body = turn.body
    echoed = {key: usual if body.get(key) is None else body[key] for key, usual in _ECHOED.items()}
    reasoning = body.get("reasoning") or {}
    text = body.get("text") or {}
    tools = [
        {"description": None, "parameters": None, "strict": True, **tool} if tool.get("type") == "function" else tool
        for tool in body.get("tools") or ()
    ]
    return {
        "id": turn.response_id,
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "model": turn.model,
        "moderation": None,
        "output": [],
        "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")},
        "service_tier": "default",
        "text": {"format": {"type": "text"}, "verbosity": "medium", **text},
        "tools": tools,
        "usage": None,
        **echoed,
    }


def _finished(turn: Turn, reply: Reply, response: dict[str, Any], output: list[dict[str, Any]]) -> dict[str, Any]:
    length = reply.finish == "length"
    usage = {
        "input_tokens": reply.input_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": reply.output_tokens,
        "output_tokens_details": {"reasoning_tokens": reply.thought_tokens},
        "total_tokens": reply.input_tokens + reply.output_tokens,
    }
    return {
        **response,
        "status": "incomplete" if length else "completed",
        "completed_at": None if length else int(time.time()),
        "incomplete_details": {"reason": "max_output_tokens"} if length else None,
        "output": output,
        "usage": None if turn.behaviour.nousage else usage,
    }


Written = Iterator[tuple[str, dict[str, Any], int]]


def _write_message(turn: Turn, reply: Reply, part: Part, index: int, cut: bool, done: dict[str, Any]) -> Written:
    """A message with one part, text or refusal."""
    item_id = new_id("msg_")
    at = {"item_id": item_id, "output_index": index, "content_index": 0}
    item: dict[str, Any] = {
        "id": item_id,
        "type": "message",
        "status": "in_progress",
        "content": [],
        "role": "assistant",
    }
    refusal = part.kind == "refusal"
    kind = "refusal" if refusal else "output_text"
    logged = turn.body.get("include") is not None and "message.output_text.logprobs" in turn.body["include"]
    empty = {"type": "refusal", "refusal": ""} if refusal else _text_part("", [], [])
    yield "response.output_item.added", {"output_index": index, "item": item}, 0
    yield "response.content_part.added", {**at, "part": empty}, 0
    said: list[str] = []
    logs: list[dict[str, Any]] = []
    for token in part.tokens:  # hot: bench/ one token a write
        said.append(token)
        fields: dict[str, Any] = {**at, "delta": token}
        if not refusal:
            fields["logprobs"] = [logprobs_of(token)] if logged else []
            logs += fields["logprobs"]
        yield f"response.{kind}.delta", fields, 1
    text = "".join(said)
    notes = [annotation(len(text))] if turn.behaviour.cite and not refusal else []
    for number, note in enumerate(notes):
        yield "response.output_text.annotation.added", {**at, "annotation_index": number, "annotation": note}, 0
    if refusal:
        yield "response.refusal.done", {**at, "refusal": text}, 0
    else:
        yield "response.output_text.done", {**at, "text": text, "logprobs": logs}, 0
    full = {"type": "refusal", "refusal": text} if refusal else _text_part(text, notes, logs)
    yield "response.content_part.done", {**at, "part": full}, 0
    done.update(item, status="incomplete" if cut else "completed", content=[full])
    yield "response.output_item.done", {"output_index": index, "item": done}, 0


def _text_part(text: str, annotations: list[Any], logprobs: list[Any]) -> dict[str, Any]:
    return {"type": "output_text", "annotations": annotations, "logprobs": logprobs, "text": text}


def _write_call(turn: Turn, reply: Reply, part: Part, index: int, cut: bool, done: dict[str, Any]) -> Written:
    """A function call or a custom tool call."""
    call = part.call
    assert call is not None
    item_id = new_id("ctc_" if call.custom else "fc_")
    kind, key, event = _CALL_WORDS[call.custom]
    item: dict[str, Any] = {
        "id": item_id,
        "type": kind,
        "status": "in_progress",
        key: "",
        "call_id": call.id,
        "name": call.name,
    }
    if call.namespace is not None:
        item["namespace"] = call.namespace
    at = {"item_id": item_id, "output_index": index}
    yield "response.output_item.added", {"output_index": index, "item": item}, 0
    for token in part.tokens:
        yield f"response.{event}.delta", {**at, "delta": token}, 1
    text = "".join(part.tokens)
    yield f"response.{event}.done", {**at, key: text}, 0
    done.update(item, status="incomplete" if cut else "completed", **{key: text})
    yield "response.output_item.done", {"output_index": index, "item": done}, 0


_CALL_WORDS: Final = {
    False: ("function_call", "arguments", "function_call_arguments"),
    True: ("custom_tool_call", "input", "custom_tool_call_input"),
}


def _write_thought(turn: Turn, reply: Reply, part: Part, index: int, cut: bool, done: dict[str, Any]) -> Written:
    """A reasoning item: its summary if one was asked for (or raw text for the models that show it), and its seal."""
    item_id = new_id("rs_")
    item: dict[str, Any] = {"id": item_id, "type": "reasoning", "summary": []}
    at = {"item_id": item_id, "output_index": index, "summary_index": 0}
    yield "response.output_item.added", {"output_index": index, "item": item}, 0
    summary = []
    if turn.show_reason and not turn.behaviour.redacted:
        empty = {"type": "summary_text", "text": ""}
        yield "response.reasoning_summary_part.added", {**at, "part": empty}, 0
        for token in part.tokens:
            yield "response.reasoning_summary_text.delta", {**at, "delta": token}, 1
        text = "".join(part.tokens)
        summary = [{"type": "summary_text", "text": text}]
        yield "response.reasoning_summary_text.done", {**at, "text": text}, 0
        yield "response.reasoning_summary_part.done", {**at, "part": summary[0]}, 0
    done.update(item, summary=summary, encrypted_content=reply.seal)
    hidden = 0 if summary else len(part.tokens)
    yield "response.output_item.done", {"output_index": index, "item": done}, hidden


_WRITERS: Final = {
    "text": _write_message,
    "refusal": _write_message,
    "call": _write_call,
    "thought": _write_thought,
}
