"""What the chat tests share: requests built, streams spoken to a fresh emitter, events judged by the oracle."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from typing import Any

from relay.errors import RelayError
from relay.providers.base import Done, Media, Target, UpstreamRequest
from relay.providers.chat import PROVIDER
from relay.providers.chat_stream import ChatTranslator, Context
from relay.responses import request as requests
from relay.responses.emitter import Emitter, Voice
from relay.responses.response import template
from relay.responses.sinks import SSESink
from relay.responses.tools import Tool
from tests import oracle

Json = dict[str, Any]


def build(
    body: Json,
    *,
    model: str = "some-model",
    quirks: str | None = None,
    base_url: str = "https://inference.example/v1",
    media: dict[str, Media] | None = None,
    repairs: Iterable[str] = (),
    strict: bool = False,
    **target: Any,
) -> UpstreamRequest:
    """The upstream request for a Responses body, as the app would ask for it."""
    request = requests.parse({"model": "client-model", **body}, strict=strict)
    where = Target("up", model, base_url, quirks, **target)
    return PROVIDER.build(request, where, media or {}, frozenset(repairs))


def sent(body: Json, **options: Any) -> Json:
    """The JSON that would go to the upstream."""
    return json.loads(build(body, **options).body)  # type: ignore[no-any-return]


def chunk(delta: Json | None = None, finish: str | None = None, **top: Any) -> Json:
    """A chunk of one choice."""
    choice: Json = {"index": 0, "delta": delta if delta is not None else {}, "finish_reason": finish}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [choice],
        **top,
    }


def stream(*chunks: Any, done: bool = True) -> bytes:
    """Chunks as an event stream; bytes go in as they are."""
    pieces = [c if isinstance(c, bytes) else b"data: " + json.dumps(c).encode() + b"\n\n" for c in chunks]
    return b"".join([*pieces, b"data: [DONE]\n\n"] if done else pieces)


class Heard:
    """What came out of one answer: events, the final Response, how it ended, the error if it failed."""

    def __init__(self) -> None:
        self.events: list[Json] = []
        self.final: Json = {}
        self.done: Done | None = None
        self.error: RelayError | None = None
        self.started = False

    @property
    def output(self) -> list[Json]:
        found: list[Json] = self.final["output"]
        return found

    @property
    def text(self) -> str:
        return "".join(
            part.get("text", "") for item in self.output if item["type"] == "message" for part in item["content"]
        )

    def of(self, kind: str) -> list[Json]:
        """The events of one type, ``response.`` left out."""
        return [event for event in self.events if event["type"] == "response." + kind]

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
    pieces: Iterable[bytes] | Json,
    *,
    context: Context | None = None,
    tools: dict[str, Tool] | None = None,
    request_body: Json | None = None,
    check: bool = True,
    show_summary: bool = True,
) -> Heard:
    """Feed an answer (pieces of a stream, or one JSON body) as the exchange does; the oracle judges what came out."""
    sink = SSESink()
    emitter = emitter_for(request_body or {}, sink, show_summary=show_summary)
    voice: Voice = emitter.voice(tools or {})
    translator = ChatTranslator(voice, context or Context(model="m"))
    heard = Heard()
    try:
        if isinstance(pieces, dict):
            translator.from_body(pieces)
        else:
            for piece in pieces:
                translator.feed(piece)
        heard.done = translator.close()
    except RelayError as error:
        heard.error = error
    heard.started = emitter.started
    if heard.done is not None:
        heard.final = emitter.conclude(heard.done.status, reason=heard.done.reason)
    else:
        heard.final = emitter.conclude("failed", error=heard.error)
    emitter.terminal()
    body = sink.take()
    if check:
        heard.events = oracle.parse_sse(body)
        oracle.check_stream(heard.events)
    else:
        heard.events = [json.loads(line[6:]) for line in body.split(b"\n") if line.startswith(b"data: {")]
    heard.final = json.loads(json.dumps(heard.events[-1]["response"]))
    return heard
