"""A native Responses upstream that keeps its responses, as OpenAI does; scripted, and no more than the tests need."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import orjson

from relay.app import create_app
from relay.config import ServerSettings, Settings, StoreSettings, UpstreamSettings
from relay.demo import create_app as create_demo
from relay.state import open_store
from tests.app.support import Relay, quiet_uvicorn
from tests.server.support import serving

Json = dict[str, Any]


class Stateful:
    """``kept`` by id; ``asked`` are (method, path, body, authorization) as they came; ``text`` is all that came.
    ``output`` is what it answers with in place of a message.
    """

    def __init__(self) -> None:
        self.kept: dict[str, Json] = {}
        self.asked: list[tuple[str, str, Json, str]] = []
        self.output: list[Json] = []
        self.text = b""

    @property
    def bodies(self) -> list[Json]:
        """The bodies of the creates."""
        return [body for method, path, body, _ in self.asked if (method, path) == ("POST", "/v1/responses")]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        raw = b""
        while (message := await receive()).get("more_body"):
            raw += message["body"]
        raw += message["body"]
        path, method = scope["path"], scope["method"]
        query = scope["query_string"].decode()
        headers = dict(scope["headers"])
        body = orjson.loads(raw) if raw else {}
        self.text += raw
        full = path + (f"?{query}" if query else "")
        self.asked.append((method, full, body, headers.get(b"authorization", b"").decode()))
        match = re.fullmatch(r"/v1/responses(?:/([^/]+))?(?:/(\w+))?", path)
        assert match is not None
        if method == "POST" and match[1] is None:
            await self._create(send, body)
        elif method == "POST" and match[1] in ("compact", "input_tokens"):
            await self._json(send, 200, _SPECIAL[match[1]])
        elif match[1] not in self.kept:
            await self._missing(send, f"Response with id '{match[1]}' not found.")
        elif "stream=true" in query:
            await self._events(send, self.kept[match[1]])
        elif method == "DELETE":
            del self.kept[match[1]]
            await self._json(send, 200, {"id": match[1], "object": "response", "deleted": True})
        elif match[2] == "cancel":
            self.kept[match[1]]["status"] = "cancelled"
            await self._json(send, 200, self.kept[match[1]])
        elif match[2] == "input_items":
            await self._json(
                send, 200, {"object": "list", "data": [], "first_id": "", "last_id": "", "has_more": False}
            )
        else:
            await self._json(send, 200, self.kept[match[1]])

    async def _create(self, send: Any, body: Json) -> None:
        previous = body.get("previous_response_id")
        if previous is not None and previous not in self.kept:
            error = {
                "message": f"Previous response with id '{previous}' not found.",
                "type": "invalid_request_error",
                "param": "previous_response_id",
                "code": "previous_response_not_found",
            }
            await self._json(send, 400, {"error": error})
            return
        number = len(self.asked)
        message = {
            "id": f"msg_up_{number}",
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": f"Answer {number}.", "annotations": []}],
        }
        response: Json = {
            "id": f"resp_up_{number}",
            "object": "response",
            "created_at": 1_700_000_000,
            "status": "queued" if body.get("background") else "completed",
            "background": bool(body.get("background")),
            "model": "gpt-dated",
            "output": [] if body.get("background") else self.output or [message],
            "previous_response_id": previous,
            "store": body.get("store", True),
            "usage": {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
        }
        if body.get("store", True):
            self.kept[response["id"]] = response
        if body.get("stream"):
            await self._events(send, response)
        else:
            await self._json(send, 200, response)

    async def _events(self, send: Any, response: Json) -> None:
        started = {**response, "status": "in_progress", "output": []}
        events: list[Json] = [{"type": "response.created", "response": started}]
        for index, item in enumerate(response["output"]):
            if item["type"] != "message":
                events += [
                    {"type": f"response.output_item.{step}", "output_index": index, "item": item}
                    for step in ("added", "done")
                ]
                continue
            place = {"item_id": item["id"], "output_index": index, "content_index": 0}
            part = item["content"][0]
            events += [
                {"type": "response.output_item.added", "output_index": index, "item": {**item, "content": []}},
                {"type": "response.content_part.added", **place, "part": {**part, "text": ""}},
                {"type": "response.output_text.delta", **place, "delta": part["text"], "logprobs": []},
                {"type": "response.output_text.done", **place, "text": part["text"], "logprobs": []},
                {"type": "response.content_part.done", **place, "part": part},
                {"type": "response.output_item.done", "output_index": index, "item": item},
            ]
        events.append({"type": f"response.{response['status']}", "response": response})
        body = b""
        for number, event in enumerate(events):
            data = orjson.dumps({**event, "sequence_number": number})
            body += b"event: " + event["type"].encode() + b"\ndata: " + data + b"\n\n"
        await self._answer(send, 200, b"text/event-stream", body)

    async def _missing(self, send: Any, text: str) -> None:
        error = {"message": text, "type": "invalid_request_error", "param": None, "code": None}
        await self._json(send, 404, {"error": error})

    async def _json(self, send: Any, status: int, content: Json) -> None:
        await self._answer(send, status, b"application/json", orjson.dumps(content))

    async def _answer(self, send: Any, status: int, kind: bytes, body: bytes) -> None:
        headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


_SPECIAL: dict[str, Json] = {
    "compact": {
        "id": "resp_compacted",
        "object": "response.compaction",
        "created_at": 1_700_000_000,
        "output": [{"id": "cmp_up", "type": "compaction", "encrypted_content": "theirs"}],
        "usage": {
            "input_tokens": 1,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 1,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 2,
        },
    },
    "input_tokens": {"object": "response.input_tokens", "input_tokens": 77},
}


@asynccontextmanager
async def keeping_upstream(
    *, foreign: bool = False, keys: Mapping[str, str] | None = None, api_key: str | None = "up-key", **upstream: Any
) -> AsyncIterator[tuple[Relay, Stateful]]:
    """A relay before an upstream that keeps its responses."""
    app = Stateful()
    async with serving(app, lifespan=False) as server:
        one = UpstreamSettings(
            "up",
            "responses",
            f"http://127.0.0.1:{server.port}/v1",
            **{"api_key": api_key, "models": ("*",), "state": "upstream", "quirks": "openai", **upstream},
        )
        settings = Settings(
            server=ServerSettings(port=0), keys=keys or {}, upstreams=(one,), store=StoreSettings(kind="memory")
        )
        relay = create_app(settings, store=open_store("memory", None))
        if foreign:
            async with quiet_uvicorn(relay) as port:
                yield Relay(port, relay, create_demo(), 0), app
        else:
            async with serving(relay, on_drain=relay.on_drain, on_deadline=relay.on_deadline) as running:
                yield Relay(running.port, relay, create_demo(), 0, running), app
