"""What the Gemini tests share: requests built, streams spoken to a fresh emitter, events judged by the oracle."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from relay.errors import RelayError
from relay.providers.base import Continue, Done, Media, Target, UpstreamRequest
from relay.providers.gemini import PROVIDER
from relay.providers.gemini_stream import Context
from relay.responses import request as requests
from relay.responses.envelope import unseal
from relay.responses.sinks import SSESink
from relay.responses.tools import Tool
from tests import oracle
from tests.providers.chat_support import Heard as ChatHeard
from tests.providers.chat_support import emitter_for

Json = dict[str, Any]
MODEL = "gemini-3.5-pro"


def build(
    body: Json,
    *,
    model: str = MODEL,
    quirks: str | None = None,
    base_url: str = "https://generativelanguage.googleapis.com",
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


def chunk(*parts: Json, finish: str | None = None, candidate: Json | None = None, **top: Any) -> Json:
    """A response of one candidate."""
    found: Json = {"content": {"role": "model", "parts": list(parts)}, "index": 0, **(candidate or {})}
    if finish is not None:
        found["finishReason"] = finish
    return {"candidates": [found], "modelVersion": "m", "responseId": "r", **top}


def text(value: str, **more: Any) -> Json:
    return {"text": value, **more}


def stream(*chunks: Any) -> bytes:
    """Chunks as an event stream; bytes go in as they are."""
    pieces = [c if isinstance(c, bytes) else b"data: " + json.dumps(c).encode() + b"\r\n\r\n" for c in chunks]
    return b"".join(pieces)


class Heard(ChatHeard):
    """What came out of one answer, and what goes on with it (``next``)."""

    next: UpstreamRequest | None = None

    def blocks(self, number: int = 0) -> list[Json]:
        """The blocks of the envelope of a reasoning item."""
        envelope = unseal(self.items("reasoning")[number].get("encrypted_content"))
        assert envelope is not None
        assert envelope.family == "gemini"
        return [json.loads(block) for block in envelope.blocks]


def hear(
    *answers: Iterable[bytes] | Json | list[Any],
    context: Context | None = None,
    tools: dict[str, Tool] | None = None,
    request_body: Json | None = None,
    request: UpstreamRequest | None = None,
    check: bool = True,
    show_summary: bool = True,
) -> Heard:
    """Feed answers (pieces of a stream, or a JSON body), one a hop, as the exchange does; the oracle judges."""
    sink = SSESink()
    emitter = emitter_for(request_body or {}, sink, show_summary=show_summary)
    asked = request or UpstreamRequest("/", b'{"contents":[]}', context=context or Context(model=MODEL))
    voice = emitter.voice(tools or asked.tools)
    heard = Heard()
    try:
        for answer in answers:
            if heard.next is not None:
                voice.next_hop()
                asked, heard.next = heard.next, None
            translator = PROVIDER.translator(asked, voice)
            if isinstance(answer, dict) or (isinstance(answer, list) and answer and isinstance(answer[0], dict)):
                translator.from_body(answer)
            else:
                for piece in answer:
                    translator.feed(piece)
            outcome = translator.close()
            if isinstance(outcome, Continue):
                heard.next = outcome.request
            else:
                heard.done = outcome
    except RelayError as error:
        heard.error = error
    heard.started = emitter.started
    if heard.error is not None:
        emitter.conclude("failed", error=heard.error)
    else:
        done = heard.done or Done("incomplete", "max_output_tokens")
        emitter.conclude(done.status, reason=done.reason)
    emitter.terminal()
    body = sink.take()
    if check:
        heard.events = oracle.parse_sse(body)
        oracle.check_stream(heard.events)
    else:
        heard.events = [json.loads(line[6:]) for line in body.split(b"\n") if line.startswith(b"data: {")]
    heard.final = json.loads(json.dumps(heard.events[-1]["response"]))
    return heard
