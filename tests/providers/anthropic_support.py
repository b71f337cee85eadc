"""What the Anthropic tests share: requests built, streams spoken to a fresh emitter, events judged by the oracle."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from typing import Any

from relay.errors import RelayError
from relay.providers.anthropic import PROVIDER
from relay.providers.anthropic_content import Context
from relay.providers.base import Continue, Done, Media, Target, UpstreamRequest
from relay.responses import request as requests
from relay.responses.emitter import Emitter
from relay.responses.response import template
from relay.responses.sinks import SSESink
from relay.responses.tools import Tool
from tests import oracle

Json = dict[str, Any]

NEWEST = "claude-opus-5-5"
BASE = "https://api.anthropic.com"


def parsed(body: Json, *, strict: bool = False) -> requests.Request:
    """The request as the app has it at ``build``."""
    return requests.parse({"model": "client-model", "input": "hi", **body}, strict=strict)


def build(
    body: Json,
    *,
    model: str = NEWEST,
    base_url: str = BASE,
    media: dict[str, Media] | None = None,
    repairs: Iterable[str] = (),
    strict: bool = False,
    **target: Any,
) -> UpstreamRequest:
    """The upstream request for a Responses body, as the app would ask for it."""
    where = Target("up", model, base_url, **target)
    return PROVIDER.build(parsed(body, strict=strict), where, media or {}, frozenset(repairs))


def sent(body: Json, **options: Any) -> Json:
    """The JSON that would go to the upstream."""
    return json.loads(build(body, **options).body)  # type: ignore[no-any-return]


def event(kind: str, **fields: Any) -> bytes:
    """One event of a stream."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def start(**fields: Any) -> bytes:
    """``message_start``."""
    usage = {"input_tokens": 10, "output_tokens": 1}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": usage}
    return event("message_start", message={**message, **fields})


def block(index: int, content: Json, *deltas: Json) -> bytes:
    """A whole block: its start, its deltas, its stop."""
    opening = event("content_block_start", index=index, content_block=content)
    middle = [event("content_block_delta", index=index, delta=delta) for delta in deltas]
    return b"".join([opening, *middle, event("content_block_stop", index=index)])


def text(index: int, *pieces: str, citations: Iterable[Json] = ()) -> bytes:
    """A text block."""
    deltas = [{"type": "text_delta", "text": piece} for piece in pieces]
    notes = [{"type": "citations_delta", "citation": citation} for citation in citations]
    return block(index, {"type": "text", "text": ""}, *deltas, *notes)


def thought(index: int, signature: str | None, *pieces: str) -> bytes:
    """A thinking block."""
    deltas: list[Json] = [{"type": "thinking_delta", "thinking": piece} for piece in pieces]
    if signature is not None:
        deltas.append({"type": "signature_delta", "signature": signature})
    return block(index, {"type": "thinking", "thinking": "", "signature": ""}, *deltas)


def call(index: int, call_id: str, name: str, *pieces: str, kind: str = "tool_use", **fields: Any) -> bytes:
    """A call with its arguments in pieces."""
    deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ("", *pieces)]
    return block(index, {"type": kind, "id": call_id, "name": name, "input": {}, **fields}, *deltas)


def end(reason: str | None = "end_turn", usage: Json | None = None, **delta: Any) -> bytes:
    """``message_delta`` and ``message_stop``."""
    fields = {"stop_reason": reason, "stop_sequence": None, **delta}
    return event("message_delta", delta=fields, usage=usage or {"output_tokens": 5}) + event("message_stop")


class Heard:
    """What came out of one answer: events, the final Response, how it ended, the error if it failed."""

    def __init__(self) -> None:
        self.events: list[Json] = []
        self.final: Json = {}
        self.done: Done | Continue | None = None
        self.error: RelayError | None = None
        self.started = False
        self.hops: list[Json] = []

    @property
    def output(self) -> list[Json]:
        found: list[Json] = self.final["output"]
        return found

    @property
    def text(self) -> str:
        return "".join(
            part.get("text", "") for item in self.output if item["type"] == "message" for part in item["content"]
        )

    @property
    def kinds(self) -> list[str]:
        return [item["type"] for item in self.output]

    def of(self, kind: str) -> list[Json]:
        """The events of one type, ``response.`` left out."""
        return [one for one in self.events if one["type"] == "response." + kind]

    def items(self, kind: str) -> list[Json]:
        return [item for item in self.output if item["type"] == kind]


def emitter_for(request_body: Json, sink: SSESink, *, show_summary: bool = True) -> Emitter:
    request = requests.parse({"model": "client-model", "input": "hi", **request_body})
    count = itertools.count(1)
    return Emitter(
        template(request, "resp_" + "0" * 24, 1_700_000_000),
        sink,
        lambda prefix: f"{prefix}_{next(count):024x}",
        lambda: 1_700_000_001,
        show_summary=show_summary,
    )


def hear(
    *hops: Iterable[bytes] | bytes | Json,
    context: Context | None = None,
    tools: dict[str, Tool] | None = None,
    call: UpstreamRequest | None = None,
    request_body: Json | None = None,
    check: bool = True,
    show_summary: bool = True,
) -> Heard:
    """Feed an answer (pieces of a stream, or one JSON body; one a hop) as the exchange does; the oracle judges it."""
    sink = SSESink()
    emitter = emitter_for(request_body or {}, sink, show_summary=show_summary)
    request = call or UpstreamRequest(
        "/v1/messages", b'{"messages":[{}]}', tools=tools or {}, context=context or Context(model="m")
    )
    voice = emitter.voice(request.tools)
    heard = Heard()
    try:
        for pieces in hops:
            translator = PROVIDER.translator(request, voice)
            if isinstance(pieces, dict):
                translator.from_body(pieces)
            else:
                for piece in [pieces] if isinstance(pieces, bytes) else pieces:
                    translator.feed(piece)
            heard.done = translator.close()
            if isinstance(heard.done, Continue):
                voice.next_hop()
                request = heard.done.request
                heard.hops.append(json.loads(request.body))
    except RelayError as error:
        heard.error = error
    heard.started = emitter.started
    if heard.error is not None:
        heard.final = emitter.conclude("failed", error=heard.error)
    else:
        done = heard.done if isinstance(heard.done, Done) else Done("incomplete", "max_output_tokens")
        heard.final = emitter.conclude(done.status, reason=done.reason)
    emitter.terminal()
    body = sink.take()
    if check:
        heard.events = oracle.parse_sse(body)
        oracle.check_stream(heard.events)
    else:
        heard.events = [json.loads(line[6:]) for line in body.split(b"\n") if line.startswith(b"data: {")]
    heard.final = json.loads(json.dumps(heard.events[-1]["response"]))
    return heard
