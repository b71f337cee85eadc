"""What the native dialect's tests share: requests built, answers spoken to a fresh emitter, what came out."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from typing import Any

from relay.errors import RelayError
from relay.providers.base import Done, Target, UpstreamRequest
from relay.providers.openai import PROVIDER, ResponsesTranslator
from relay.responses import request as requests
from relay.responses.emitter import OUTPUT_LIMIT_BYTES, Emitter
from relay.responses.response import template
from relay.responses.sinks import Sink, SSESink
from tests import oracle

Json = dict[str, Any]


def build(
    body: Json,
    *,
    model: str = "gpt-5",
    base_url: str = "https://inference.example/v1",
    quirks: str | None = None,
    repairs: Iterable[str] = (),
    strict: bool = False,
    **target: Any,
) -> UpstreamRequest:
    """The upstream request for a Responses body, as the app asks for it."""
    request = requests.parse({"model": "alias", **body}, strict=strict)
    return PROVIDER.build(request, Target("up", model, base_url, quirks, **target), {}, frozenset(repairs))


def sent(body: Json, **options: Any) -> Json:
    """The JSON that would go to the upstream."""
    return json.loads(build(body, **options).body)  # type: ignore[no-any-return]


class Heard:
    """One answer, spoken: what the client would read, the final Response, how it ended."""

    def __init__(
        self,
        body: Json | None = None,
        *,
        holds_state: bool = False,
        sink: Sink | None = None,
        limit_bytes: int = OUTPUT_LIMIT_BYTES,
    ) -> None:
        body = {"model": "alias", "input": "hi", "stream": True, **(body or {})}
        request = requests.parse(body)
        counter = itertools.count(1)
        self.sink: Any = sink or SSESink()
        self.emitter = Emitter(
            template(request, f"resp_{0:048x}", 1_700_000_000),
            self.sink,
            lambda prefix: f"{prefix}_{next(counter):024x}",
            lambda: 1_700_000_009,
            limit_bytes=limit_bytes,
        )
        call = PROVIDER.build(request, Target("up", "gpt-5", holds_state=holds_state), {}, frozenset())
        self.voice = self.emitter.voice(call.tools)
        self.translator: ResponsesTranslator = PROVIDER.translator(call, self.voice)
        self.final: Json = {}
        self.done: Done | None = None
        self.error: RelayError | None = None
        self.taken: list[Any] = []

    def feed(self, *pieces: bytes) -> Heard:
        """Bytes, until the terminal event; what the sink holds is taken after each, as the app does."""
        for piece in pieces:
            self.translator.feed(piece)
            self.taken.append(self.sink.take())
            if self.translator.ended:
                break
        return self

    def hear(self, pieces: Iterable[bytes]) -> Heard:
        """A whole stream, to its end, as a turn runs it."""
        return self._end(lambda: self.feed(*pieces))

    def read(self, body: Json) -> Heard:
        """A whole JSON body."""
        return self._end(lambda: self.translator.from_body(body))

    def _end(self, run: Any) -> Heard:
        try:
            run()
            self.done = self.translator.close()
            assert self.done.response is not None
            self.final = self.emitter.conclude_with(self.done.response)
        except RelayError as error:
            self.error = error
            if not self.emitter.started:
                return self
            self.final = self.emitter.conclude("failed", error=error)
        self.emitter.terminal()
        self.taken.append(self.sink.take())
        return self

    @property
    def wire(self) -> bytes:
        """All bytes that the client reads."""
        return b"".join(self.taken)

    @property
    def events(self) -> list[Json]:
        """The events, read as the strictest client does."""
        return oracle.parse_sse(self.wire)

    @property
    def names(self) -> list[str]:
        """Their types, without ``response.``."""
        return [event["type"].removeprefix("response.") for event in self.events]

    @property
    def output(self) -> list[Json]:
        """The items of the final Response."""
        found: list[Json] = self.final["output"]
        return found

    def check(self, *tolerate: str, vendor: bool = False) -> Heard:
        """Ask the oracle."""
        oracle.check_stream(self.events, self.final, vendor=vendor, tolerate=tolerate)
        return self


# --- what an upstream says


def event(name: str, number: int, /, **fields: Any) -> bytes:
    """One event as OpenAI frames it."""
    payload = json.dumps({"type": f"response.{name}", **fields, "sequence_number": number}, separators=(",", ":"))
    return f"event: response.{name}\ndata: {payload}\n\n".encode()


def renamed(frames: Iterable[tuple[str, Json]]) -> list[bytes]:
    """Events numbered in their order."""
    return [event(name, number, **fields) for number, (name, fields) in enumerate(frames)]


MESSAGE = {"id": "msg_1", "type": "message", "status": "in_progress", "role": "assistant", "content": []}
CALL = {
    "id": "fc_1",
    "type": "function_call",
    "status": "in_progress",
    "arguments": "",
    "call_id": "call_1",
    "name": "f",
}


def response(status: str = "in_progress", output: list[Json] | None = None, **fields: Any) -> Json:
    """A Response as OpenAI sends it, in short."""
    return {
        "response": {
            "id": "resp_upstream",
            "object": "response",
            "created_at": 1_700_000_001,
            "status": status,
            "model": "gpt-5-2026",
            "output": output or [],
            **fields,
        }
    }


USAGE = {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7}


def text_frames(*deltas: str, index: int = 0, item: Json = MESSAGE) -> list[tuple[str, Json]]:
    """A message of one text part."""
    place = {"item_id": item["id"], "output_index": index, "content_index": 0}
    text = "".join(deltas)
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return [
        ("output_item.added", {"output_index": index, "item": item}),
        ("content_part.added", {**place, "part": {**part, "text": ""}}),
        *(("output_text.delta", {**place, "delta": delta, "logprobs": []}) for delta in deltas),
        ("output_text.done", {**place, "text": text, "logprobs": []}),
        ("content_part.done", {**place, "part": part}),
        ("output_item.done", {"output_index": index, "item": {**item, "status": "completed", "content": [part]}}),
    ]


def call_frames(*deltas: str, index: int = 0, item: Json = CALL) -> list[tuple[str, Json]]:
    """A function call."""
    place = {"item_id": item["id"], "output_index": index}
    arguments = "".join(deltas)
    return [
        ("output_item.added", {"output_index": index, "item": item}),
        *(("function_call_arguments.delta", {**place, "delta": delta}) for delta in deltas),
        ("function_call_arguments.done", {**place, "arguments": arguments}),
        (
            "output_item.done",
            {"output_index": index, "item": {**item, "status": "completed", "arguments": arguments}},
        ),
    ]


def stream(*frames: tuple[str, Json], status: str = "completed", **final: Any) -> list[bytes]:
    """A whole stream around the events of items; its terminal Response holds the done items."""
    output = [fields["item"] for name, fields in frames if name == "output_item.done"]
    opening = [("created", response()), ("in_progress", response())]
    ending = (status, response(status, **{"output": output, "usage": USAGE, **final}))
    return renamed([*opening, *frames, ending])


HELLO = stream(*text_frames("Hel", "lo", " wor\n", 'ld "q"', "!"))
"""A text of five deltas, as OpenAI streams it."""
