"""Whatever a client or an upstream says: one answer, no status 500, no traceback (issue 10, kind 8).

Requests: every seed of ``tests.hostile`` and every recorded request, broken at random, over JSON, SSE and WebSocket.
Answers: every golden stream, whole bodies, errors and recorded answers, broken likewise; what a client got is continued
by another upstream, for which it must be as good as anything else.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest

from relay.app import Application
from tests import corpus, hostile
from tests.app.scripted import Answer, Complaints, Socket, asked, scripted
from tests.app.upstreams import first, token
from tests.support import run

Json = dict[str, Any]

UPSTREAMS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("chat", {}),
    "responses": ("responses", {}),
    "stateful": ("responses", {"state": "upstream"}),
    "anthropic": ("anthropic", {}),
    "gemini": ("gemini", {}),
}
ORDINARY, THOROUGH = 2_000, 20_000
ORDINARY_ANSWERS = 1_000
FOLDERS = {"responses": "openai"}
APIS = {
    "chat": "openai-chat",
    "responses": "openai-responses",
    "anthropic": "anthropic-messages",
    "gemini": "gemini-generate",
}
TERMINAL = ("response.completed", "response.incomplete", "response.failed")
INTERNAL = "The relay had an internal error."
_FINISHED = {
    "chat": b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n',
    "responses": b'data: {"type":"response.completed","response":{"id":"resp_up","output":[]}}\n\n',
    "anthropic": b'data: {"type":"content_block_stop","index":0}\n\n'
    b'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":1}}\n\n'
    b'data: {"type":"message_stop"}\n\n',
    "gemini": b'data: {"candidates":[{"content":{"parts":[]},"finishReason":"STOP","index":0}]}\n\n',
}
_SAID = {"id": "msg_up", "type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hi"}]}
_WHOLE = {"id": "resp_up", "object": "response", "status": "completed", "model": "m", "output": [_SAID]}


def good(name: str, method: str, target: str, body: bytes) -> Answer:
    """What an upstream answers that means well."""
    dialect = UPSTREAMS[name][0]
    if method == "GET":
        return Answer([b"\x89PNG\r\n\x1a\n" + bytes(64)], "image/png")
    if "ount" in target or target.endswith("tokens"):
        return Answer([b'{"input_tokens":1,"totalTokens":1}'], "application/json")
    if dialect == "responses" and (target.endswith("compact") or b'"stream":true' not in body):
        return Answer([orjson.dumps(_WHOLE)], "application/json")
    return Answer([first(dialect) + token(dialect, "Hi", 0) + _FINISHED[dialect]], "text/event-stream")


# --- what a client is told


class Told(NamedTuple):
    """An answer: what is wrong with it, if anything; its status; the last Response, where it ended as one."""

    problem: str | None
    status: int
    response: Any = None


def of_error(status: int, body: bytes) -> Told:
    error = orjson.loads(body).get("error")
    kinds = (("message", str), ("type", str), ("param", str | None), ("code", str | None))
    whole = isinstance(error, dict) and set(error) == {name for name, _ in kinds}
    if not whole or not all(isinstance(error[name], kind) for name, kind in kinds) or not 400 <= status < 600:
        return Told(f"{status}, no envelope: {body!r:.300}", status)
    return Told(INTERNAL if error["message"] == INTERNAL else None, status)


def of_events(events: list[Any], *, numbered: bool = True) -> Told:
    """``numbered``: the numbers are the relay's own."""
    numbers = [event["sequence_number"] for event in events]
    if (numbers != list(range(len(events)))) if numbered else (numbers != sorted(set(numbers))):
        return Told(f"numbers {numbers}", 200)
    ends = [event["type"] for event in events if event["type"] in TERMINAL]
    response = events[-1].get("response")
    if len(ends) != 1 or events[-1]["type"] != ends[0] or response["status"] != ends[0].removeprefix("response."):
        return Told(f"ends {ends}, {response}", 200)
    internal = (response.get("error") or {}).get("message") == INTERNAL
    return Told(INTERNAL if internal else None, 200, response)


def events_of(body: bytes) -> list[Any]:
    frames = [frame for frame in body.split(b"\n\n") if frame and not frame.startswith(b":")]
    data = [frame.partition(b"data: ")[2] for frame in frames]
    assert data[-1:] == [b"[DONE]"], body[-300:]
    return [orjson.loads(one) for one in data[:-1]]


def of_answer(status: int, kind: bytes, body: bytes) -> Told:
    if status != 200:
        return of_error(status, body)
    if kind.startswith(b"text/event-stream"):
        return of_events(events_of(body))
    response = orjson.loads(body)
    return Told(None if isinstance(response, dict) else f"no object: {body!r:.300}", status, response)


def of_messages(texts: list[bytes]) -> Told:
    messages = [orjson.loads(text) for text in texts]
    if messages[-1]["type"] in TERMINAL:
        return of_events(messages)
    last = messages[-1]
    if last["type"] == "response.steer.failed":
        return Told(None if len(messages) == 1 else f"{texts!r:.300}", 400)
    if len(messages) > 1 or not isinstance(last["error"].get("code"), str):
        return Told(f"an error message: {texts!r:.300}", last["status"])
    return Told(INTERNAL if last["error"]["message"] == INTERNAL else None, last["status"])


def is_last(text: bytes) -> bool:
    """Whether a message of a socket is the last for its create."""
    return orjson.loads(text)["type"] in (*TERMINAL, "error", "response.steer.failed")


class Asking:
    """One application and its clients. What is wrong with an answer, and what was logged, is its ``problem``."""

    def __init__(self, script: Callable[[str, str, str, bytes], Answer]) -> None:
        self.app: Application = scripted(UPSTREAMS, script)
        self._socket: Socket | None = None
        self._sent = 0
        self.complaints = Complaints()

    async def __aenter__(self) -> Asking:
        self.complaints.__enter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.complaints.__exit__()
        if self._socket is not None:
            await self._socket.close()

    async def ask(self, path: str, body: bytes) -> Told:
        """``path`` ``ws`` is a message on a socket, which serves a few."""
        async with asyncio.timeout(10):
            told = await (self._message(body) if path == "ws" else self._post(path, body))
        if self.complaints.found:
            told = told._replace(problem="\n".join(self.complaints.found))
            self.complaints.found.clear()
        return told

    async def _post(self, path: str, body: bytes) -> Told:
        return of_answer(*await asked(self.app, path, body))

    async def _message(self, body: bytes) -> Told:
        if self._socket is None or self._sent % 30 == 0:
            if self._socket is not None:
                await self._socket.close()
            self._socket = await Socket(self.app).ready()
        self._sent += 1
        return of_messages(await self._socket.told(body, is_last))


# --- requests

PATHS = ("/v1/responses", "/v1/responses", "/v1/responses", "/v1/responses/input_tokens", "/v1/responses/compact")


def recorded_requests() -> list[Any]:
    """Of the Responses API and of chat/completions, whose messages are taken too; all of them are somebody's shapes."""
    found = [one.request for one in corpus.exchanges() if isinstance(one.request, dict)]
    return [one for one in found if len(json.dumps(one)) < 20_000]


async def broken_requests(name: str, count: int, seed: object = 0) -> AsyncIterator[tuple[bytes, str, Told]]:
    """``count`` requests, each with its path and its answer. Some go on from what was answered before."""
    bodies = [*hostile.seeds(), *recorded_requests()]
    chance = random.Random(f"{name} {seed}")
    last = "resp_nobody"
    async with Asking(good) as asking:
        for number in range(count):
            content = hostile.broken(chance.choice(bodies), chance)
            path = PATHS[number % len(PATHS)] if number % 3 else "ws"
            if isinstance(content, dict):
                if chance.random() < 0.95:
                    content["model"] = f"{name}/m"
                if number % 7 == 0:
                    content["previous_response_id"] = last
                if path == "ws":
                    content.setdefault("type", "response.create")
                elif number % 2:
                    content["stream"] = True
            body = hostile.encoded(content)
            if number % 11 == 0:
                body = hostile.with_repeated_members(body, chance)
            told = await asking.ask(path, body)
            if told.response is not None and isinstance(told.response.get("id"), str):
                last = told.response["id"]
            yield body, path, told


# --- answers


def frames_of(body: bytes) -> list[Any]:
    """A stream as ``[event name, JSON or text]`` pairs."""
    found: list[Any] = []
    for frame in corpus.frames(body):
        try:
            found.append([frame.event, json.loads(frame.data)])
        except ValueError:
            found.append([frame.event, frame.data])
    return found


def stream_of(frames: Any) -> bytes:
    """The other way round, as far as what was broken allows."""
    pieces = []
    for frame in frames if isinstance(frames, list) else [["", frames]]:
        name, payload = frame if isinstance(frame, list) and len(frame) == 2 else ["", frame]
        head = f"event: {name}\n".encode("utf-8", "replace") if isinstance(name, str) and name else b""
        text = payload.encode("utf-8", "replace") if isinstance(payload, str) else hostile.encoded(payload)
        pieces.append(head + b"data: " + text + b"\n\n")
    return b"".join(pieces)


class Seed(NamedTuple):
    status: int
    content: Any
    streams: bool


def answers(dialect: str) -> Iterator[Seed]:
    folder = Path(__file__).parent.parent / "golden" / FOLDERS.get(dialect, dialect)
    for path in sorted(folder.glob("*.in")):
        yield Seed(200, frames_of(path.read_bytes()), True)
    for body in hostile.BODIES[dialect]:
        yield Seed(200, body, False)
    for status, error in hostile.ERRORS:
        yield Seed(status, error, False)
        yield Seed(200, [["", error]], True)
    for one in corpus.exchanges(APIS[dialect]):
        if len(one.body) < 30_000:
            streams = one.sse is not None
            yield Seed(one.status, frames_of(one.body) if streams else one.response, streams)


ASKS: tuple[Any, ...] = (
    {"input": "go"},
    {
        "input": "go",
        "include": [
            "message.output_text.logprobs",
            "reasoning.encrypted_content",
            "code_interpreter_call.outputs",
            "web_search_call.action.sources",
        ],
        "reasoning": {"effort": "low", "summary": "auto"},
    },
    {"input": "go", "tools": [*hostile.TOOLS[:1], *hostile.TOOLS[3:4], *hostile.TOOLS[6:10]]},
    {"input": "go", "text": {"format": {"type": "json_schema", "name": "o", "schema": {"type": "object"}}}},
    {"input": "go", "n": 2},
)


class Hearing(Asking):
    """An application whose upstream ``name`` says what it is given."""

    def __init__(self, name: str) -> None:
        super().__init__(self._script)
        self.name = name
        self.body = b""
        self._said = Seed(200, None, False)

    def _script(self, asked: str, method: str, target: str, sent: bytes) -> Answer:
        if asked != self.name or method == "GET":
            return good(asked, method, target, sent)
        return Answer([self.body], "text/event-stream" if self._said.streams else "application/json", self._said.status)

    async def hear(self, said: Seed, request: Json, number: int) -> Told:
        """What a client gets; ``number`` picks its transport."""
        self._said = said
        self.body = stream_of(said.content) if said.streams else hostile.encoded(said.content)
        path = ("/v1/responses", "/v1/responses", "ws")[number % 3]
        added = {"type": "response.create"} if path == "ws" else {"stream": True} if number % 2 else {}
        return await self.ask(path, orjson.dumps({"model": f"{self.name}/m", **request, **added}))

    async def go_on(self, told: Told, other: str) -> Told | None:
        """The same conversation at another upstream, which takes what the client got or leaves it out."""
        if told.response is None or told.response.get("status") not in ("completed", "incomplete"):
            return None
        request = {"model": f"{other}/m", "previous_response_id": told.response["id"], "input": "go"}
        again = await self.ask("/v1/responses", orjson.dumps(request))
        return again._replace(problem=again.problem or f"status {again.status}") if again.status >= 500 else again


async def broken_answers(name: str, count: int, seed: object = 0) -> AsyncIterator[tuple[bytes, str, Told]]:
    """``count`` answers of the upstream ``name``, each with what it said and what the client got."""
    seeds = list(answers(UPSTREAMS[name][0]))
    others = [one for one in UPSTREAMS if one != name]
    chance = random.Random(f"{name} {seed}")
    async with Hearing(name) as hearing:
        for number in range(count):
            one = chance.choice(seeds)
            status = one.status if chance.random() < 0.9 else chance.choice((200, 400, 404, 429, 500))
            said = Seed(status, hostile.broken(one.content, chance), one.streams)
            told = await hearing.hear(said, chance.choice(ASKS), number)
            yield hearing.body, "an answer", told
            other = chance.choice(others)
            again = await hearing.go_on(told, other)
            if again is not None:
                yield hearing.body, f"continued by {other}", again


# --- tests


def check(runs: AsyncIterator[tuple[bytes, str, Told]], *, refusals: bool) -> None:
    """``refusals``: nothing but a status under 500 is an answer to what a client got wrong."""

    async def play() -> list[str]:
        found = []
        async for body, path, told in runs:
            if told.problem is not None or (refusals and told.status >= 500):
                found.append(f"{path} {told.status} {told.problem}\n{body[:2_000]!r}")
        return found

    found = run(play(), 900)
    assert not found, f"{len(found)}:\n" + "\n\n".join(found[:3])


USER = {"role": "user", "content": "go"}
REASONS: list[dict[str, Any]] = [
    {"type": "reasoning", "summary": [], "encrypted_content": hostile.sealed(family, block)}
    for family, blocks in {
        "chat": ([], 7, "go", {}, {"k": []}, {"k": "rc"}, {"k": "rd", "v": "[1]"}, {"k": "fc", "sig": "$deep250"}),
        "gemini": ([], {"k": {}}, {"k": "part", "part": 5}, {"k": "text", "sig": "s", "from": -9, "to": 10**40}),
        "anthropic": (None, {"type": []}, {"type": "thinking", "thinking": "$deep250"}, "{'type': 'thinking'}"),
    }.items()
    for block in blocks
]
SHAPES: dict[str, tuple[tuple[int, ...], Any]] = {
    **{
        f"role {role!r}": ((400,), {"input": [{"role": role, "content": "x"}]})
        for role in ([], {}, ["user"], None, 5, True)
    },
    "role of a chat message": ((400,), {"messages": [{"role": [], "content": "x"}]}),
    "file of a chat message": ((400,), {"messages": [{"role": "user", "content": [{"type": "file", "file": "f"}]}]}),
    **{
        f"block {number}": ((200,), {"input": [USER, one, hostile.CALL, hostile.ANSWER]})
        for number, one in enumerate(REASONS)
    },
    "outputs of code": (
        (200,),
        {"input": [USER, {"type": "code_interpreter_call", "id": "ci", "code": "x", "outputs": 7}, USER]},
    ),
    **{
        f"output {output!r} of a shell": (
            (200,),
            {
                "input": [
                    USER,
                    {"type": "local_shell_call", "call_id": "k", "action": {"command": ["ls"]}},
                    {"type": "local_shell_call_output", "call_id": "k", "output": output},
                ]
            },
        )
        for output in ([0], ["x"], [[]], {}, None, True)
    },
    "action of a shell": (
        (200, 400),
        {
            "input": [
                USER,
                {"type": "local_shell_call", "call_id": "k", "action": "ls"},
                {"type": "local_shell_call_output", "call_id": "k", "output": "x"},
            ]
        },
    ),
    "type of a part": ((200,), {"input": [USER, {"type": "of_tomorrow", "content": [{"type": ["x"], "text": "y"}]}]}),
    "chosen tools": (
        (200, 400),
        {
            "input": "go",
            "tools": hostile.TOOLS[:1],
            "tool_choice": {"type": "allowed_tools", "tools": [{"type": []}, {"type": "function", "name": "f"}]},
        },
    ),
    **{
        f"{name} of a tool": ((200, 400), {"input": "go", "tools": [{**tool, name: ["x"]}]})
        for tool in (hostile.TOOLS[11], hostile.TOOLS[17])
        for name in tool
    },
}


@pytest.mark.parametrize("name", UPSTREAMS)
def test_shapes(name: str) -> None:
    """Each, over all three transports."""

    async def play() -> None:
        async with Asking(good) as asking:
            for shape, (expected, body) in SHAPES.items():
                for number in range(3):
                    path = ("/v1/responses", "/v1/responses", "ws")[number]
                    added = ({}, {"stream": True}, {"type": "response.create"})[number]
                    told = await asking.ask(path, hostile.encoded({"model": f"{name}/m", **body, **added}))
                    assert told.problem is None, (shape, path, told)
                    assert told.status in expected, (shape, path, told)

    run(play())


@pytest.mark.parametrize("name", UPSTREAMS)
def test_requests(name: str) -> None:
    check(broken_requests(name, ORDINARY), refusals=True)


def _chat(message: Any, **more: Any) -> Json:
    return {"choices": [{"index": 0, "finish_reason": "stop", "message": message, **more}]}


def _native(*items: Any, **more: Any) -> Json:
    return {"id": "r", "status": "completed", "output": [*items], **more}


def _claude(*blocks: Any, **usage: Any) -> Json:
    return {"type": "message", "role": "assistant", "content": [*blocks], "stop_reason": "end_turn", "usage": usage}


_INFINITE = float("inf")
_HALF = "\ud800"
_ODD_LOGPROBS = [{"token": 5, "logprob": "x", "bytes": 7, "top_logprobs": [3, {"token": []}]}, "x"]
ODD: dict[str, tuple[Any, ...]] = {
    "chat": (
        _chat({"content": "a", "annotations": [{"type": "url_citation", "url_citation": {"url": "https://" + _HALF}}]},
              logprobs={"content": [{"token": _HALF, "logprob": -1}]}),
        *(_chat({"content": "a"}, logprobs=odd) for odd in ([], 5, {"content": 5}, {"content": _ODD_LOGPROBS})),
        *(_chat({"content": "a", "reasoning_details": [{"type": odd, "text": "hm"}]}) for odd in ([], {}, 5, "")),
        _chat({"content": "a", "reasoning_details": [{"text": "hm"}, {"type": "reasoning.text", "text": "hm"}]}),
        *({**_chat({"content": "a"}), "usage": {"prompt_tokens": odd}} for odd in (_INFINITE, 10**40, -1, "5", [])),
        _chat({"tool_calls": [{"id": _HALF, "function": {"name": _HALF, "arguments": f'{{"{_HALF}": 1}}'}}]}),
        {"error": {"message": _HALF, "code": _HALF, "type": _HALF}},
        "$deep300",
        ["$deep300"],
    ),
    "anthropic": (
        _claude({"type": "text", "text": "a", "citations": [
            {"type": "web_search_result_location", "url": _HALF, "title": _HALF}]},
            {"type": "server_tool_use", "id": "s", "name": "code_execution", "input": {"code": _HALF}},
            {"type": "code_execution_tool_result", "tool_use_id": "s", "content": {"stdout": _HALF}},
            {"type": "mcp_tool_use", "id": "m", "name": _HALF, "server_name": _HALF, "input": {}},
            {"type": "mcp_tool_result", "tool_use_id": "m", "content": _HALF}),
        *(_claude({"type": "text", "text": "a", "citations": [{"type": odd}]}) for odd in ([], {}, None)),
        *(_claude({"type": "text", "text": "a"}, input_tokens=odd) for odd in (_INFINITE, 10**40, [], "5")),
        _claude({"type": "tool_use", "id": _HALF, "name": "f", "input": {"a": "$deep300"}}),
        {"type": "error", "error": {"type": _HALF, "message": _HALF}},
        "$deep300",
    ),
    "gemini": (
        {"candidates": [{"content": {"parts": [{"text": "a"}]}, "finishReason": "STOP", "logprobsResult": {
            "chosenCandidates": [{"token": _HALF, "logProbability": -1}], "topCandidates": []},
            "citationMetadata": {"citationSources": [{"startIndex": 0, "endIndex": 1, "uri": "https://" + _HALF}]}}]},
        {"candidates": [{"content": {"parts": [
            {"executableCode": {"language": "PYTHON", "code": _HALF, "id": _HALF}},
            {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": _HALF, "id": _HALF}}]},
            "groundingMetadata": {"webSearchQueries": [_HALF], "groundingChunks": [{"web": {"uri": _HALF}}],
                                  "groundingSupports": [{"segment": {"endIndex": 1}, "groundingChunkIndices": [0]}]},
            "finishReason": "STOP"}]},
        {"candidates": [{"content": {"parts": [{"text": "a"}]}, "finishReason": "STOP"}],
         "usageMetadata": {"promptTokenCount": _INFINITE, "totalTokenCount": 10**40}},
        {"candidates": [{"content": {"parts": [{"functionCall": {"name": _HALF, "id": _HALF}}]},
                         "finishReason": _HALF}]},
        {"error": {"code": _HALF, "message": _HALF, "status": _HALF}},
        "$deep300",
        ["$deep300"],
    ),
    "responses": (
        *(_native({"type": "message", "id": "m", "role": role, "content": []}) for role in ([], {}, 5, "nobody", None)),
        *(_native({"type": "message", "id": "m", "role": "assistant", "content": odd})
          for odd in (5, {}, None, "a", [5], [[]], ["a"], [{"type": []}], [{"type": "x"}], [{"type": "output_text"}],
                      [{"type": "input_text", "text": "a"}, {"type": "encrypted_content", "encrypted_content": {}}])),
        *(_native({"type": kind, "id": "i", name: odd})
          for kind, name in (("function_call", "arguments"), ("reasoning", "summary"), ("shell_call", "action"),
                             ("code_interpreter_call", "outputs"),
                             ("compaction", "encrypted_content"), ("function_call_output", "output"), ("x", "id"),
                             ("agent_message", "content"), ("item_reference", "id"))
          for odd in ([], {}, 5, None, [[]], _HALF)),
        _native({"type": "reasoning", "id": _HALF, "summary": [], "encrypted_content": _HALF},
                {"type": "function_call", "id": "f", "call_id": "c", "name": {"x": 1}, "arguments": 10**40}),
        _native(created_at=_INFINITE, completed_at=10**40, usage={"input_tokens": _INFINITE}, service_tier=_HALF),
        _native(status=_HALF),
        _native(status="failed", error={"code": _HALF, "message": _HALF}),
        {"error": {"message": _HALF, "code": _HALF}},
        *({"type": kind, "output_index": 0, "item": {"type": "message", "id": "m", "x": f"$deep{depth}"}}
          for kind in ("response.output_item.added", "response.output_item.done") for depth in (243, 247, 251)),
        *({"type": "response.completed", "response": _native(x=f"$deep{depth}")} for depth in (243, 247, 251)),
        *(_native({"type": "x", "x": f"$deep{depth}"}) for depth in range(238, 256, 3)),
        "$deep300",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UPSTREAMS)
def test_odd_answers(name: str) -> None:
    """Each whole, as an event and as an error, over all three transports; continued everywhere."""

    async def play() -> None:
        async with Hearing(name) as hearing:
            for content in ODD[UPSTREAMS[name][0]]:
                for number in range(3):
                    for said in (
                        Seed(200, content, False),
                        Seed(200, [["", content]], True),
                        Seed(400, content, False),
                    ):
                        told = await hearing.hear(said, ASKS[1], number)
                        assert told.problem is None, (content, said.streams, number, told)
                        for other in UPSTREAMS:
                            again = await hearing.go_on(told, other)
                            assert again is None or again.problem is None, (content, other, again)

    run(play(), 60)


@pytest.mark.parametrize("name", UPSTREAMS)
def test_answers(name: str) -> None:
    check(broken_answers(name, ORDINARY_ANSWERS), refusals=False)


@pytest.mark.thorough
@pytest.mark.timeout(1_000)
@pytest.mark.parametrize("name", UPSTREAMS)
def test_many_requests(name: str) -> None:
    check(broken_requests(name, THOROUGH, random.random()), refusals=True)


@pytest.mark.thorough
@pytest.mark.timeout(1_000)
@pytest.mark.parametrize("name", UPSTREAMS)
def test_many_answers(name: str) -> None:
    check(broken_answers(name, THOROUGH, random.random()), refusals=False)
