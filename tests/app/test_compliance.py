"""The seventeen cases of the Open Responses compliance suite, written from open-responses-suite.md.

What the suite looks at is looked at here, no more and no less: which events it accepts, its schemas, its way to tell
the end of a turn on a WebSocket, and that what comes after an end counts against the next turn. Every dialect behind,
our server and uvicorn in front.
"""

from __future__ import annotations

import asyncio
import base64
import struct
import zlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx2
import orjson
import pytest
import websockets

from relay.providers.registry import PROVIDERS
from tests.app.sockets import missing_id
from tests.app.support import Relay, relaying
from tests.support import run

SERVERS = ["ours", "uvicorn"]
MODEL = "demo"
TURN_S = 30.0
TERMINAL = ("response.completed", "response.failed", "response.incomplete")

Json = dict[str, Any]

# ------------------------------------------------------------------------------------------------ schemas (§2.3, §3)

ANY = object()


def _string(value: Any) -> bool:
    return isinstance(value, str)


def _integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _boolean(value: Any) -> bool:
    return isinstance(value, bool)


def _null_or(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or check(value)


def _object(**keys: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """All of ``keys`` are there and pass."""
    return lambda value: isinstance(value, dict) and all(key in value and ok(value[key]) for key, ok in keys.items())


def _optional(value: Json, **keys: Callable[[Any], bool]) -> bool:
    return all(key not in value or ok(value[key]) for key, ok in keys.items())


def _list(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(check(one) for one in value)


def _part(value: Any) -> bool:
    shapes = {
        "output_text": _object(text=_string, annotations=_list(_object(type=_string))),
        "input_text": _object(text=_string),
        "refusal": _object(refusal=_string),
        "reasoning_text": _object(text=_string),
        "summary_text": _object(text=_string),
        "text": _object(text=_string),
        "input_image": _object(image_url=_null_or(_string), detail=_string),
        "input_file": lambda part: True,
    }
    shape = shapes.get(value.get("type")) if isinstance(value, dict) else None
    return shape is not None and shape(value) and _optional(value, logprobs=_list(_object(token=_string)))


def _item(value: Any) -> bool:
    shapes = {
        "message": _object(id=_string, status=_string, role=_string, content=_list(_part)),
        "function_call": _object(id=_string, call_id=_string, name=_string, arguments=_string, status=_string),
        "function_call_output": _object(id=_string, call_id=_string, status=_string, output=lambda value: True),
        "reasoning": _object(id=_string, summary=_list(_part)),
        "compaction": _object(id=_string, encrypted_content=_string),
    }
    shape = shapes.get(value.get("type")) if isinstance(value, dict) else None
    if shape is None or not shape(value):
        return False
    return _optional(value, phase=_string, encrypted_content=_string, content=_list(_part))


_USAGE = _object(
    input_tokens=_integer,
    output_tokens=_integer,
    total_tokens=_integer,
    input_tokens_details=_object(cached_tokens=_integer),
    output_tokens_details=_object(reasoning_tokens=_integer),
)
_TOOL = _object(
    name=_string, description=_null_or(_string), parameters=lambda v: True, strict=_null_or(_boolean), type=_string
)


def _tool_choice(value: Any) -> bool:
    return value in ("none", "auto", "required") or (
        isinstance(value, dict) and value.get("type") in ("function", "allowed_tools")
    )


def _reasoning(value: Any) -> bool:
    efforts = (None, "none", "low", "medium", "high", "xhigh")
    return isinstance(value, dict) and {"effort", "summary"} <= set(value) and value["effort"] in efforts


RESPONSE: dict[str, Callable[[Any], bool]] = {
    "id": _string,
    "object": lambda value: value == "response",
    "created_at": _integer,
    "completed_at": _null_or(_integer),
    "status": _string,
    "incomplete_details": _null_or(_object(reason=_string)),
    "model": _string,
    "previous_response_id": _null_or(_string),
    "instructions": _null_or(_string),
    "output": _list(_item),
    "error": _null_or(_object(code=_string, message=_string)),
    "tools": _list(_TOOL),
    "tool_choice": _tool_choice,
    "truncation": lambda value: value in ("auto", "disabled"),
    "parallel_tool_calls": _boolean,
    "text": lambda value: _object(format=_object(type=_string))(value) and _optional(value, verbosity=_string),
    "top_p": _number,
    "presence_penalty": _number,
    "frequency_penalty": _number,
    "top_logprobs": _integer,
    "temperature": _number,
    "reasoning": _null_or(_reasoning),
    "usage": _null_or(_USAGE),
    "max_output_tokens": _null_or(_integer),
    "max_tool_calls": _null_or(_integer),
    "store": _boolean,
    "background": _boolean,
    "service_tier": _string,
    "metadata": lambda value: True,
    "safety_identifier": _null_or(_string),
    "prompt_cache_key": _null_or(_string),
}
assert len(RESPONSE) == 31


def response_faults(response: Any) -> list[str]:
    if not isinstance(response, dict):
        return ["no Response"]
    missing = [f"response.{key} is missing" for key in RESPONSE if key not in response]
    wrong = [
        f"response.{key} is {response[key]!r}"
        for key, ok in RESPONSE.items()
        if key in response and not ok(response[key])
    ]
    return missing + wrong


def _compaction_faults(body: Any) -> list[str]:
    shape = _object(id=_string, object=_string, output=_list(_item), created_at=_integer, usage=_USAGE)
    return [] if shape(body) else [f"no compaction: {body!r}"]


_LIFECYCLE = ("response.created", "response.queued", "response.in_progress", *TERMINAL)
_DELTA = {"item_id": _string, "output_index": _integer, "content_index": _integer}
_SUMMARY = {"item_id": _string, "output_index": _integer, "summary_index": _integer}
_ERROR = _object(type=_string, code=_null_or(_string), message=_string, param=_null_or(_string))

EVENTS: dict[str, dict[str, Callable[[Any], bool]]] = {
    **{name: {"response": lambda value: not response_faults(value)} for name in _LIFECYCLE},
    "response.output_item.added": {"output_index": _integer, "item": _null_or(_item)},
    "response.output_item.done": {"output_index": _integer, "item": _null_or(_item)},
    "response.content_part.added": {**_DELTA, "part": _part},
    "response.content_part.done": {**_DELTA, "part": _part},
    "response.output_text.delta": {**_DELTA, "delta": _string},
    "response.output_text.done": {**_DELTA, "text": _string},
    "response.refusal.delta": {**_DELTA, "delta": _string},
    "response.refusal.done": {**_DELTA, "refusal": _string},
    "response.function_call_arguments.delta": {"item_id": _string, "output_index": _integer, "delta": _string},
    "response.function_call_arguments.done": {"item_id": _string, "output_index": _integer, "arguments": _string},
    "response.reasoning_summary_part.added": {**_SUMMARY, "part": _part},
    "response.reasoning_summary_part.done": {**_SUMMARY, "part": _part},
    "response.reasoning.delta": {**_DELTA, "delta": _string},
    "response.reasoning.done": {**_DELTA, "text": _string},
    "response.reasoning_summary_text.delta": {**_SUMMARY, "delta": _string},
    "response.reasoning_summary_text.done": {**_SUMMARY, "text": _string},
    "response.output_text.annotation.added": {**_DELTA, "annotation_index": _integer, "annotation": lambda v: True},
    "error": {"error": _ERROR},
}
assert len(EVENTS) == 24


def event_faults(event: Json) -> list[str]:
    name = event.get("type")
    shape = EVENTS.get(name) if isinstance(name, str) else None
    if shape is None:
        return [f"{name} is not an event"]
    if not _integer(event.get("sequence_number")):
        return [f"{name} has no sequence_number"]
    faults = [f"{name}.{key}" for key, ok in shape.items() if key not in event or not ok(event[key])]
    return faults + (response_faults(event.get("response")) if faults and name in _LIFECYCLE else [])


def envelope_faults(message: Json) -> list[str]:
    """The WebSocket error envelope, or the SSE form of an error."""
    if _object(status=_integer, error=_object(code=_string, message=_string))(message):
        return [] if _optional(message["error"], type=_string, param=_null_or(_string)) else ["error envelope"]
    return event_faults(message)


# ------------------------------------------------------------------------------------------- SSE as the suite reads it


def read_by_read(reads: list[bytes]) -> Iterator[tuple[str, str]]:
    """The suite's parser: LF only, the last data line counts, and what is not ended within one read is lost."""
    rest = ""
    for read in reads:
        text = rest + read.decode()
        *lines, rest = text.split("\n")
        name, data = "", ""
        for line in lines:
            if line.startswith("event:"):
                name = line[6:].strip()
            elif line.startswith("data:"):
                data = line[5:].strip()
            elif line == "" and data:
                yield name, data
                name = data = ""


# ------------------------------------------------------------------------------------------------ the client's side


class Suite:
    """One run of the suite against one relay."""

    def __init__(self, relay: Relay, http: httpx2.AsyncClient) -> None:
        self.relay = relay
        self.http = http

    async def post(self, body: Json, path: str = "/responses", *, model: bool = True) -> httpx2.Response:
        sent = {"model": MODEL, **body} if model else body
        return await self.http.post(self.relay.base_url + path, json=sent, headers={"authorization": "Bearer key"})

    async def respond(self, body: Json) -> Json:
        """POST; 200, and a Response that the schema accepts, with output."""
        answer = await self.post(body)
        assert answer.status_code == 200, answer.text
        assert "application/json" in answer.headers["content-type"]
        response: Json = answer.json()
        assert response_faults(response) == []
        assert response["output"]
        return response

    async def stream(self, body: Json) -> tuple[list[Json], list[str]]:
        reads: list[bytes] = []
        sent = {"model": MODEL, "stream": True, **body}
        async with self.http.stream("POST", self.relay.base_url + "/responses", json=sent) as answer:
            assert answer.status_code == 200
            async for read in answer.aiter_raw():
                reads.append(read)
        events, faults = [], []
        for _, data in read_by_read(reads):
            if data != "[DONE]":
                events.append(orjson.loads(data))
                faults += event_faults(events[-1])
        return events, faults

    def connect(self) -> websockets.connect:
        headers = {"authorization": "Bearer key", "content-type": "application/json"}
        url = f"ws://127.0.0.1:{self.relay.port}/v1/responses"
        return websockets.connect(url, additional_headers=headers, proxy=None, max_size=None)


class Turn:
    """What the suite keeps of one turn."""

    def __init__(self) -> None:
        self.events: list[Json] = []
        self.faults: list[str] = []
        self.response: Json | None = None
        self.code: str | None = None
        self.errored = False

    @property
    def failed(self) -> bool:
        return self.errored or self.code is not None or (self.response or {}).get("status") == "failed"

    def valid(self) -> Json:
        """No errors, and a Response that the schema accepts."""
        assert self.faults == []
        assert not self.errored, self.code
        assert response_faults(self.response) == []
        assert self.response is not None
        return self.response

    def completed(self) -> Json:
        response = self.valid()
        assert self.events
        assert response["status"] == "completed"
        return response


async def take_turn(socket: websockets.ClientConnection, body: Json) -> Turn:
    """Send, and listen until the suite would call it the end: whatever comes then is for the next turn."""
    turn = Turn()
    await socket.send(orjson.dumps({"type": "response.create", "model": MODEL, **body}).decode())
    async with asyncio.timeout(TURN_S):
        while True:
            text = await socket.recv()
            if text == "[DONE]":
                turn.faults.append("[DONE] before the end")
                return turn
            message = orjson.loads(text)
            code = (message.get("error") or {}).get("code") if isinstance(message.get("error"), dict) else None
            if message.get("type") == "error" or isinstance(code, str):
                turn.errored = True
                turn.code = code
                turn.faults += envelope_faults(message)
                return turn
            turn.events.append(message)
            turn.faults += event_faults(message)
            if message["type"] in TERMINAL:
                turn.response = message["response"]
                turn.code = (message["response"].get("error") or {}).get("code")
                return turn


def user(text: str) -> Json:
    return {"type": "message", "role": "user", "content": text}


def assistant(text: str, **fields: str) -> Json:
    return {"type": "message", "role": "assistant", "content": text, **fields}


# ------------------------------------------------------------------------------------------------ the HTTP cases


async def basic_response(suite: Suite) -> None:
    response = await suite.respond({"input": [user("Say hello in exactly three words.")]})
    assert response["status"] == "completed"


async def assistant_phase(suite: Suite) -> None:
    items = [
        assistant("I will look for the number.", phase="commentary"),
        assistant("The number is 42.", phase="final_answer"),
        user("Repeat the number."),
    ]
    assert (await suite.respond({"input": items}))["status"] == "completed"


async def response_output_phase_schema(suite: Suite) -> None:
    """A fixture of the suite's own: our copy of its schema accepts phases, and not a null in their place."""
    response = await suite.respond({"input": [user("Hello.")]})
    (message,) = response["output"]
    phased = [{**message, "phase": phase} for phase in ("commentary", "final_answer")]
    assert response_faults({**response, "output": phased}) == []
    assert response_faults({**response, "output": [{**message, "phase": None}]})


async def streaming_response(suite: Suite) -> None:
    events, faults = await suite.stream({"input": [user("Count from 1 to 5.")]})
    assert events
    assert faults == []
    ends = [event for event in events if event["type"] in TERMINAL]
    assert response_faults(ends[-1]["response"]) == []
    assert ends[-1]["response"]["status"] == "completed"


async def system_prompt(suite: Suite) -> None:
    items = [{"type": "message", "role": "system", "content": "You are a pirate."}, user("Say hello.")]
    assert (await suite.respond({"input": items}))["status"] == "completed"


async def tool_calling(suite: Suite) -> None:
    tool = {
        "type": "function",
        "name": "get_weather",
        "description": "Get the current weather for a location",
        "parameters": {
            "type": "object",
            "properties": {"location": {"type": "string", "description": "The city and state"}},
            "required": ["location"],
        },
    }
    response = await suite.respond({"input": [user("What's the weather in San Francisco?")], "tools": [tool]})
    assert any(item["type"] == "function_call" for item in response["output"])


async def image_input(suite: Suite) -> None:
    parts = [{"type": "input_text", "text": "What do you see?"}, {"type": "input_image", "image_url": png()}]
    items = [{"type": "message", "role": "user", "content": parts}]
    assert (await suite.respond({"input": items}))["status"] == "completed"


async def multi_turn(suite: Suite) -> None:
    items = [user("My name is Alice."), assistant("Hello Alice!"), user("What is my name?")]
    assert (await suite.respond({"input": items}))["status"] == "completed"


async def compact_response(suite: Suite) -> None:
    body = {"prompt_cache_key": "suite", "input": [user("My name is Alice."), assistant("Hello Alice!")]}
    answer = await suite.post(body, "/responses/compact")
    assert answer.status_code == 200, answer.text
    compaction = answer.json()
    assert _compaction_faults(compaction) == []
    assert compaction["object"] == "response.compaction"
    assert any(item["type"] == "compaction" for item in compaction["output"])


async def compact_missing_model(suite: Suite) -> None:
    answer = await suite.post({"input": [user("Hello.")]}, "/responses/compact", model=False)
    assert answer.status_code in (400, 422)


# ------------------------------------------------------------------------------------------------ the WebSocket cases


async def websocket_response(suite: Suite) -> None:
    async with suite.connect() as socket:
        (await take_turn(socket, {"input": [user("Say hello.")]})).completed()


async def websocket_sequential_responses(suite: Suite) -> None:
    async with suite.connect() as socket:
        for text in ("first", "second"):
            (await take_turn(socket, {"store": False, "input": f"Say {text}."})).completed()


async def websocket_continuation(suite: Suite) -> None:
    async with suite.connect() as socket:
        first = (await take_turn(socket, {"store": False, "input": "The code word is plum."})).valid()
        body = {"store": False, "previous_response_id": first["id"], "input": "What is the code word?"}
        (await take_turn(socket, body)).completed()


async def websocket_reconnect_store_false_recovery(suite: Suite) -> None:
    async with suite.connect() as socket:
        first = (await take_turn(socket, {"store": False, "input": "The code word is plum."})).valid()
    async with suite.connect() as socket:
        body = {"store": False, "previous_response_id": first["id"], "input": "What is the code word?"}
        second = await take_turn(socket, body)
        assert (second.code, second.faults) == ("previous_response_not_found", [])
        (await take_turn(socket, {"store": False, "input": [user("The code word is plum. Say it.")]})).valid()


async def websocket_previous_response_not_found(suite: Suite) -> None:
    async with suite.connect() as socket:
        body = {"store": False, "previous_response_id": missing_id(), "input": "Go on."}
        turn = await take_turn(socket, body)
        assert (turn.code, turn.faults) == ("previous_response_not_found", [])


async def websocket_failed_continuation_evicts_cache(suite: Suite) -> None:
    async with suite.connect() as socket:
        first = (await take_turn(socket, {"store": False, "input": "The code word is plum."})).valid()
        orphan = {"type": "function_call_output", "call_id": "call_openresponses_missing", "output": "{}"}
        body = {"store": False, "previous_response_id": first["id"]}
        second = await take_turn(socket, {**body, "input": [orphan]})
        assert second.failed
        third = await take_turn(socket, {**body, "input": "What is the code word?"})
        assert (third.code, third.faults) == ("previous_response_not_found", [])


async def websocket_compact_new_chain(suite: Suite) -> None:
    history = [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "My name is Alice."}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hello Alice!"}]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "I live in Paris."}]},
    ]
    answer = await suite.post({"input": history}, "/responses/compact")
    assert answer.is_success
    output = answer.json()["output"]
    async with suite.connect() as socket:
        body = {"store": False, "tools": [], "input": [*output, user("Where do I live?")]}
        (await take_turn(socket, body)).completed()


CASES: list[Callable[[Suite], Awaitable[None]]] = [
    basic_response,
    assistant_phase,
    response_output_phase_schema,
    streaming_response,
    system_prompt,
    tool_calling,
    image_input,
    multi_turn,
    compact_response,
    compact_missing_model,
    websocket_response,
    websocket_sequential_responses,
    websocket_continuation,
    websocket_reconnect_store_false_recovery,
    websocket_previous_response_not_found,
    websocket_failed_continuation_evicts_cache,
    websocket_compact_new_chain,
]
assert len(CASES) == 17


def png() -> str:
    """A small picture as a data URL."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack("!I", len(data)) + kind + data + struct.pack("!I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes([255, 0, 64] * 32) for _ in range(32))
    header = struct.pack("!IIBBBBB", 32, 32, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + data).decode()


def in_suite(dialect: str, server: str, body: Callable[[Suite], Awaitable[Any]]) -> None:
    async def served() -> None:
        async with relaying(dialect, foreign=server == "uvicorn") as relay, httpx2.AsyncClient(trust_env=False) as http:
            await body(Suite(relay, http))

    run(served(), 60)


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("dialect", sorted(PROVIDERS))
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_case(case: Callable[[Suite], Awaitable[None]], dialect: str, server: str) -> None:
    in_suite(dialect, server, case)


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("dialect", sorted(PROVIDERS))
def test_all_cases_at_once(dialect: str, server: str) -> None:
    """As the suite runs them: every case starts at the same time."""

    async def together(suite: Suite) -> None:
        async with asyncio.TaskGroup() as group:
            for case in CASES:
                group.create_task(case(suite))  # type: ignore[arg-type]

    in_suite(dialect, server, together)


# ------------------------------------------------------------------------------------------------ the judge is judged


def test_the_schemas_refuse_what_the_suite_refuses() -> None:
    """responses-api.md §2.3: removing a key fails, and null is accepted only where it says so."""
    template = {
        "id": "resp_x", "object": "response", "created_at": 0, "completed_at": None, "status": "in_progress",
        "background": False, "error": None, "incomplete_details": None, "instructions": None,
        "max_output_tokens": None, "max_tool_calls": None, "model": "m", "output": [], "parallel_tool_calls": True,
        "presence_penalty": 0, "frequency_penalty": 0, "previous_response_id": None, "prompt_cache_key": None,
        "reasoning": {"effort": None, "summary": None}, "safety_identifier": None, "service_tier": "default",
        "store": True, "temperature": 1, "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [],
        "top_logprobs": 0, "top_p": 1, "truncation": "disabled", "usage": None, "metadata": {},
    }  # fmt: skip
    assert response_faults(template) == []
    nullable = {
        "completed_at", "error", "incomplete_details", "instructions", "max_output_tokens", "max_tool_calls",
        "previous_response_id", "prompt_cache_key", "reasoning", "safety_identifier", "usage", "metadata",
    }  # fmt: skip
    for key in template:
        assert response_faults({name: value for name, value in template.items() if name != key})
        assert bool(response_faults({**template, key: None})) == (key not in nullable)
    assert event_faults({"type": "response.reasoning_text.delta", "sequence_number": 1})
    assert event_faults({"type": "response.created", "sequence_number": 0, "response": template}) == []
    assert event_faults({"type": "response.created", "response": template})
    assert envelope_faults({"type": "error", "status": 400, "error": {"code": None, "message": "x"}})
    assert envelope_faults({"type": "error", "status": 400, "error": {"code": "x", "message": "x"}}) == []


def test_the_parser_loses_what_a_read_cuts() -> None:
    whole = b'event: a\ndata: {"x":1}\n\n'
    assert list(read_by_read([whole + whole])) == [("a", '{"x":1}')] * 2
    assert list(read_by_read([whole[:-1], b"\n"])) == []
    assert list(read_by_read([whole.replace(b"\n", b"\r\n")])) == []


def test_a_second_message_counts_against_the_next_turn() -> None:
    """Why an envelope and ``response.failed`` must never both end one turn."""

    async def serve(socket: websockets.ServerConnection) -> None:
        async for _ in socket:
            error = {"type": "error", "status": 400, "error": {"code": "x", "message": "x"}}
            await socket.send(orjson.dumps(error).decode())
            await socket.send(orjson.dumps({"type": "response.failed", "sequence_number": 0, "response": {}}).decode())

    async def listen() -> None:
        async with websockets.serve(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with websockets.connect(f"ws://127.0.0.1:{port}", proxy=None) as socket:
                assert (await take_turn(socket, {})).code == "x"
                assert (await take_turn(socket, {})).faults

    run(listen())
