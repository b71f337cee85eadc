"""Codex-shaped sessions, scripted (responses-api.md §7.1): what its requests look like, and what it reads of answers.

The real CLI runs in ``test_node_clients`` where it is installed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest

from relay.providers.registry import PROVIDERS
from tests.app.asking import Asker
from tests.app.sockets import Socket, connected
from tests.app.support import Relay, relaying
from tests.app.test_session import upgrade
from tests.oracle import check_stream, parse_sse
from tests.server.support import Client
from tests.support import run

DIALECTS = pytest.mark.parametrize("dialect", sorted(PROVIDERS))
HEADERS = {
    "openai_beta": "responses_websockets=2026-02-06",
    "session_id": "019a-thread",
    "originator": "codex_cli_rs",
    "x_codex_turn_metadata": "{}",
    "x_client_request_id": "019a-thread",
    "version": "0.169.0",
}

EXEC = {
    "type": "function",
    "name": "exec_command",
    "description": "Runs a command.",
    "strict": False,
    "parameters": {
        "type": "object",
        "properties": {"cmd": {"type": "string"}, "yield_time_ms": {"type": "number"}},
        "required": ["cmd"],
        "additionalProperties": False,
    },
}
PATCH = {
    "type": "custom",
    "name": "apply_patch",
    "description": "Edits files.",
    "format": {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"},
}
SEARCH = {"type": "web_search", "external_web_access": False}
IMAGES = {"type": "image_generation", "output_format": "png"}
BODY = {
    "model": "demo",
    "instructions": "You are Codex.",
    "tools": [EXEC, PATCH, SEARCH, IMAGES],
    "tool_choice": "auto",
    "parallel_tool_calls": False,
    "reasoning": {"effort": "medium", "summary": "auto"},
    "store": False,
    "stream": True,
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": "019a-thread",
    "text": {"verbosity": "low"},
    "client_metadata": {"x-codex-installation-id": "1"},
}


def user(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


CONTEXT = [
    {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "<permissions>"}]},
    user("<environment_context>"),
]


class Read:
    """What Codex takes from a stream: items from ``output_item.done`` alone, and the end."""

    def __init__(self, events: list[dict[str, Any]]) -> None:
        self.items = [event["item"] for event in events if event["type"] == "response.output_item.done"]
        last = events[-1]
        assert last["type"] == "response.completed", last
        self.id = last["response"]["id"]
        usage = last["response"]["usage"]
        if usage is not None:
            assert {type(usage[name]) for name in ("input_tokens", "output_tokens", "total_tokens")} == {int}
        assert self.items == last["response"]["output"]
        for item in self.items:
            if item["type"] == "function_call":
                assert isinstance(item["name"], str)
                assert isinstance(item["arguments"], str)
                assert isinstance(item["call_id"], str)

    @property
    def text(self) -> str:
        """What the model said to the user."""
        parts = [part for item in self.items if item["type"] == "message" for part in item["content"]]
        return "".join(part["text"] for part in parts)

    @property
    def calls(self) -> list[dict[str, Any]]:
        return [item for item in self.items if item["type"].endswith("_call")]


def answer(call: dict[str, Any]) -> dict[str, Any]:
    """What Codex says a tool came to."""
    return {"type": f"{call['type']}_output", "call_id": call["call_id"], "output": "Process exited with code 0"}


def replayed(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Items as Codex sends them again over HTTP: without ``status``, reasoning without an id."""
    kept = [{name: value for name, value in item.items() if name != "status"} for item in items]
    return [{k: v for k, v in item.items() if not (item["type"] == "reasoning" and k == "id")} for item in kept]


def in_codex(body: Callable[[Asker, Relay], Awaitable[None]], dialect: str = "chat", **options: Any) -> None:
    async def served() -> None:
        async with relaying(dialect, **options) as relay:
            await body(Asker(relay), relay)

    run(served())


async def post(relay: Relay, items: list[dict[str, Any]], **fields: Any) -> Read:
    """One turn over HTTP, with the whole history."""
    client = await Client.connect(relay.port)
    headers = {**HEADERS, "host": "127.0.0.1", "content_type": "application/json", "accept": "text/event-stream"}
    answered = await client.request(
        "/v1/responses", "POST", orjson.dumps({**BODY, "input": items, **fields}), **headers
    )
    client.leave()
    assert answered.status == 200, answered.body
    events = parse_sse(answered.body)
    check_stream(events)
    return Read(events)


async def socket_turn(socket: Socket, items: list[dict[str, Any]], **fields: Any) -> Read:
    await socket.send({"type": "response.create", **BODY, "input": items, **fields})
    events = await socket.events()
    check_stream(events)
    return Read(events)


# ------------------------------------------------------------------------------------------------ HTTP


@DIALECTS
@pytest.mark.parametrize("tools", [[EXEC, PATCH, SEARCH, IMAGES], [PATCH, SEARCH]], ids=["exec", "apply_patch"])
def test_over_http_the_whole_history_is_sent_again(tools: list[Any], dialect: str) -> None:
    async def work(me: Asker, relay: Relay) -> None:
        items = [*CONTEXT, user("Fix the bug.")]
        first = await post(relay, items, tools=tools)
        (call,) = first.calls
        expected = "custom_tool_call" if tools[0] is PATCH else "function_call"
        assert (call["type"], call["name"]) == (expected, tools[0]["name"])
        assert first.items[0]["type"] == "reasoning"
        assert first.items[0].get("encrypted_content") or first.items[0]["content"]
        items += [*replayed(first.items), answer(call)]
        second = await post(relay, items, tools=tools)
        assert second.text
        items += [*replayed(second.items), user("Thanks.")]
        third = await post(relay, items, tools=tools)
        assert third.items
        assert relay.demo.active == 0

    in_codex(work, dialect)


@pytest.mark.parametrize("dialect", sorted(set(PROVIDERS) - {"responses"}))  # that one is told what Codex said
def test_lite_mode(dialect: str) -> None:
    """No instructions, no tools: both are items of the input."""

    async def work(me: Asker, relay: Relay) -> None:
        lite = {
            **BODY,
            "instructions": "",
            "parallel_tool_calls": False,
            "reasoning": {"effort": "medium", "context": "all_turns"},
        }
        del lite["tools"]
        items = [
            {"type": "additional_tools", "role": "developer", "tools": [EXEC, PATCH]},
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "You are Codex."}]},
            user("Fix the bug."),
        ]
        async with connected(relay.port, x_openai_internal_codex_responses_lite="true") as socket:
            await socket.send({"type": "response.create", **lite, "input": items})
            first = Read(await socket.events())
            (call,) = first.calls
            assert call["name"] == "exec_command"
            delta = {"previous_response_id": first.id, "input": [answer(call)]}
            await socket.send({"type": "response.create", **lite, **delta})
            assert Read(await socket.events()).text

    in_codex(work, dialect)


def test_a_server_without_websockets_answers_426_and_http_works() -> None:
    async def work(me: Asker, relay: Relay) -> None:
        status, error, headers = await upgrade(relay, **HEADERS)
        assert (status, error["code"], headers["upgrade"]) == (426, "upgrade_required", "websocket")
        assert (await post(relay, [*CONTEXT, user("Hello.")])).items

    in_codex(work, server={"websocket": False})


def test_errors_that_codex_tells_apart() -> None:
    """responses-api.md §7.1 and §6.5."""

    async def work(me: Asker, relay: Relay) -> None:
        async with connected(relay.port, **HEADERS) as socket:
            for model, status, code in (
                ("demo-fail-429", 429, "rate_limit_exceeded"),
                ("demo-fail-503", 503, "server_overloaded"),
                ("demo-fail-400", 400, "invalid_request_error"),
            ):
                await socket.send({"type": "response.create", **BODY, "model": model, "input": [user("x")]})
                last = (await socket.events())[-1]
                assert last["type"] == "error"
                assert last["status"] == status
                assert last["error"]["code"] == code
            await socket.send({"type": "response.create", **BODY, "previous_response_id": "resp_x", "input": []})
            last = (await socket.events())[-1]
            assert (last["status"], last["error"]["code"]) == (400, "previous_response_not_found")

    in_codex(work)


# ------------------------------------------------------------------------------------------------ WebSocket


@DIALECTS
def test_a_session_over_one_socket(dialect: str) -> None:
    """Warm-up, an empty delta, tools with deltas, a second user turn, and the same again in full."""

    async def work(me: Asker, relay: Relay) -> None:
        async with connected(relay.port, **HEADERS) as socket:
            items = [*CONTEXT, user("Fix the bug.")]
            warm = await socket_turn(socket, items, generate=False)
            assert warm.items == []
            assert not relay.demo.requests
            first = await socket_turn(socket, [], previous_response_id=warm.id)
            (call,) = first.calls
            second = await socket_turn(socket, [answer(call)], previous_response_id=first.id)
            assert second.text
            third = await socket_turn(socket, [user("And now?")], previous_response_id=second.id)
            assert third.calls
            # not extendable: the full input, and no previous id
            full = [*items, *first.items, answer(call), *second.items, user("Else?")]
            fourth = await socket_turn(socket, full)
            assert fourth.calls
            sent = [orjson.loads(seen.body) for seen in relay.demo.requests]
            assert len(sent) == 4

    in_codex(work, dialect)


def test_a_delta_and_the_whole_history_are_the_same_to_the_upstream() -> None:
    """Whoever continues over the socket gets the same prompt cache as whoever sends everything again."""

    async def work(me: Asker, relay: Relay) -> None:
        items = [*CONTEXT, user("Fix the bug.")]
        async with connected(relay.port, **HEADERS) as socket:
            warm = await socket_turn(socket, items, generate=False)
            first = await socket_turn(socket, [], previous_response_id=warm.id)
            (call,) = first.calls
            await socket_turn(socket, [answer(call)], previous_response_id=first.id)
        await post(relay, [*items, *replayed(first.items), answer(call)])
        over_socket, over_http = (orjson.loads(seen.body)["messages"] for seen in list(relay.demo.requests)[-2:])
        assert over_socket == over_http

    in_codex(work)


@DIALECTS
def test_compaction_over_its_own_endpoint(dialect: str) -> None:
    async def work(me: Asker, relay: Relay) -> None:
        async with connected(relay.port, **HEADERS) as socket:
            items = [*CONTEXT, user("Fix the bug.")]
            first = await socket_turn(socket, items)
            (call,) = first.calls
            history = [*items, *first.items, answer(call)]
            body = {name: BODY[name] for name in ("model", "instructions", "tools", "parallel_tool_calls", "reasoning")}
            compacted = await me.post("/responses/compact", **body, input=history)
            assert compacted["output"][-1]["type"] == "compaction"
            begun = await socket_turn(socket, [*compacted["output"], user("Go on.")])
            assert begun.calls
            again = await socket_turn(socket, [answer(begun.calls[0])], previous_response_id=begun.id)
            assert again.text

    in_codex(work, dialect)


@DIALECTS
def test_compaction_inside_a_turn(dialect: str) -> None:
    """``compaction_trigger``: newer versions compact over the socket (responses-api.md §5.11)."""

    async def work(me: Asker, relay: Relay) -> None:
        async with connected(relay.port, **HEADERS) as socket:
            first = await socket_turn(socket, [*CONTEXT, user("Fix the bug.")])
            (call,) = first.calls
            delta = [answer(call), {"type": "compaction_trigger"}]
            compacted = await socket_turn(socket, delta, previous_response_id=first.id)
            assert [item["type"] for item in compacted.items] == ["compaction"]
            begun = await socket_turn(socket, [*CONTEXT, user("Fix the bug."), *compacted.items, user("Go on.")])
            assert begun.calls

    in_codex(work, dialect)


def test_a_new_socket_needs_the_whole_history() -> None:
    async def work(me: Asker, relay: Relay) -> None:
        async with connected(relay.port, **HEADERS) as socket:
            first = await socket_turn(socket, [*CONTEXT, user("Fix the bug.")])
        async with connected(relay.port, **HEADERS) as socket:
            delta = {"previous_response_id": first.id, "input": [answer(first.calls[0])]}
            await socket.send({"type": "response.create", **BODY, **delta})
            assert (await socket.events())[-1]["error"]["code"] == "previous_response_not_found"
            full = [*CONTEXT, user("Fix the bug."), *first.items, answer(first.calls[0])]
            assert (await socket_turn(socket, full)).text

    in_codex(work)


def test_a_large_frame_with_pictures() -> None:
    async def work(me: Asker, relay: Relay) -> None:
        async with connected(relay.port, **HEADERS) as socket:
            picture = {"type": "input_image", "image_url": "data:image/png;base64," + "A" * (12 << 20)}
            item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Look."}, picture]}
            assert (await socket_turn(socket, [item], tools=[])).items

    in_codex(work)
