"""What an upstream cannot be told, on every way in: HTTP, chains, lanes, warm-ups, compaction (decisions 52 and 56)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest

from relay.app.compaction import expand_compactions
from relay.config import ServerSettings
from relay.responses.items import normalise
from tests.app.asking import Asker
from tests.app.sockets import Socket, connected
from tests.app.support import Relay, post, relaying
from tests.server.support import Client
from tests.support import run

Json = dict[str, Any]
DIALECTS = pytest.mark.parametrize("dialect", ["chat", "anthropic", "gemini"])
EVERY = pytest.mark.parametrize("dialect", ["chat", "anthropic", "gemini", "responses"])
TOOL = {"type": "function", "name": "get_weather", "parameters": {"type": "object", "properties": {}}}
NOTE = {"type": "acme:note", "id": "x_1"}
SYSTEM = {"role": "developer", "content": "You are an agent."}


def asking(body: Callable[[Asker, Relay], Awaitable[None]], dialect: str, **options: Any) -> None:
    async def served() -> None:
        async with relaying(dialect, **options) as relay:
            await body(Asker(relay), relay)

    run(served())


def on_socket(body: Callable[[Socket, Relay], Awaitable[None]], dialect: str, **options: Any) -> None:
    async def served() -> None:
        async with relaying(dialect, **options) as relay, connected(relay.port) as socket:
            await body(socket, relay)

    run(served())


def warned(response: Json) -> list[str]:
    return [warning["param"] for warning in response.get("x_relay_warnings", [])]


def call_of(response: Json) -> Json:
    found: Json = next(item for item in response["output"] if item["type"] == "function_call")
    return found


@DIALECTS
def test_a_call_left_open_in_a_chain(dialect: str) -> None:
    async def talk(me: Asker, relay: Relay) -> None:
        first = await me.create(input="Weather in Paris?", tools=[TOOL])
        call = call_of(first)
        second = await me.create(input="Never mind.", previous_response_id=first["id"])
        assert second["status"] == "completed"
        assert "input" in warned(second)
        assert call["call_id"].encode() not in relay.demo.requests[-1].body
        # what is stored stays whole: the output may come late
        output = {"type": "function_call_output", "call_id": call["call_id"], "output": "sunny-9"}
        third = await me.create(input=[output, NOTE], previous_response_id=second["id"])
        assert b"sunny-9" in relay.demo.requests[-1].body
        assert [name for name in warned(third) if name != "input"] == ["input[1].type"]
        items = await me.get(f"/responses/{third['id']}/input_items?order=asc")
        assert "acme:note" in [item["type"] for item in items["data"]]

    asking(talk, dialect)


@DIALECTS
def test_a_call_left_open_in_a_lane(dialect: str) -> None:
    async def talk(socket: Socket, relay: Relay) -> None:
        first = await socket.completed(input="Weather in Paris?", tools=[TOOL], stream_id="a", store=False)
        call = call_of(first)
        second = await socket.completed(input="On.", previous_response_id=first["id"], stream_id="a", store=False)
        assert "input" in warned(second)
        assert call["call_id"].encode() not in relay.demo.requests[-1].body
        output = {"type": "function_call_output", "call_id": call["call_id"], "output": "sunny-9"}
        third = {"input": [output], "previous_response_id": second["id"], "stream_id": "a", "store": False}
        await socket.completed(**third)
        assert b"sunny-9" in relay.demo.requests[-1].body

    on_socket(talk, dialect)


@DIALECTS
@pytest.mark.parametrize("path", ["/responses/compact", "/responses/input_tokens"])
def test_a_window_that_is_not_answered(dialect: str, path: str) -> None:
    async def talk(me: Asker, relay: Relay) -> None:
        call = {"type": "function_call", "call_id": "call_gone", "name": "f", "arguments": "{}"}
        agent = {"type": "agent_message", "author": "/root", "content": [{"type": "input_text", "text": "list files"}]}
        answer = await me.post(path, input=[agent, NOTE, call, {"role": "user", "content": "go"}])
        sent = [seen.body for seen in relay.demo.requests if b"list files" in seen.body]
        assert not any(b"call_gone" in body or b"acme" in body for body in sent)
        if path.endswith("compact"):
            assert sent
            # what agents said survives as what users said does
            assert [item["type"] for item in answer["output"]] == ["agent_message", "message", "compaction"]

    asking(talk, dialect)


def test_an_output_whose_call_was_summed_up() -> None:
    async def talk(me: Asker, relay: Relay) -> None:
        call = {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}
        compaction = (await me.post("/responses/compact", input="hi"))["output"][-1]
        output = {"type": "function_call_output", "call_id": "call_1", "output": "late"}
        items = [{"role": "user", "content": "go"}, call, compaction, output, {"role": "user", "content": "on"}]
        assert len(expand_compactions(normalise(items))) == 4
        response = await me.create(input=items)
        assert warned(response) == ["input[3]"]
        assert b"late" not in relay.demo.requests[-1].body

    asking(talk, "chat")


@EVERY
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("items", [[], "", " ", [SYSTEM], [{"role": "user", "content": ""}]])
def test_a_warm_up_may_say_nothing(dialect: str, strict: bool, items: Any) -> None:
    async def talk(socket: Socket, relay: Relay) -> None:
        warm = await socket.completed(input=items, generate=False, store=False)
        assert "x_relay_warnings" not in warm
        assert not relay.demo.requests
        await socket.completed(input="Hi.", previous_response_id=warm["id"], store=False)

    on_socket(talk, dialect, settings={"server": ServerSettings(port=0, strict=strict)})


@DIALECTS
@pytest.mark.parametrize(
    "body",
    [
        {"instructions": "Say hello."},
        {"instructions": "Say hello.", "input": []},
        {"instructions": "Say hello.", "input": None},
        {"input": ""},
        {"input": []},
        {"input": [SYSTEM]},
        {"messages": [{"role": "system", "content": "Say hello."}]},
        {"input": [{"role": "user", "content": ""}]},  # pydantic-ai without a prompt
    ],
)
def test_nobody_need_say_anything(dialect: str, body: Json) -> None:
    async def talk(me: Asker, relay: Relay) -> None:
        response = await me.create(**body)
        assert response["status"] == "completed"
        assert (warned(response) == ["input"]) or dialect == "chat"
        sent = orjson.loads(relay.demo.requests[-1].body)
        assert sent["contents" if dialect == "gemini" else "messages"]

    asking(talk, dialect)


@DIALECTS
def test_a_request_without_anything_is_refused(dialect: str) -> None:
    async def talk(me: Asker, relay: Relay) -> None:
        error = await me.not_created()
        assert (error["status"], error["param"], error["code"]) == (400, "input", "missing_required_parameter")
        first = await me.create(input="One.")
        await me.create(previous_response_id=first["id"])

    asking(talk, dialect)


@EVERY
def test_function_calls_say_that_nothing_in_them_is_sealed(dialect: str) -> None:
    """Codex reads what one agent asks another only then (https://github.com/openai/codex/issues/36376)."""

    async def talk(me: Asker, relay: Relay) -> None:
        call = call_of(await me.create(input="Weather in Paris?", tools=[TOOL]))
        assert call.get("encrypted_function_args") == (None if dialect == "responses" else [])

    asking(talk, dialect)


@pytest.mark.parametrize("kind", ["acme\r\nx-evil: 1", "a\x00b", "ä,ö\u2028", "x" * 5000])
def test_a_name_of_a_type_ends_no_header(kind: str) -> None:
    async def talk() -> None:
        async with relaying("chat") as relay:
            client = await Client.connect(relay.port)
            client.write(post({"model": "demo", "input": ["hi", {"type": kind}]}))
            answer = await client.answer()
            assert answer.status == 200
            assert "x-evil" not in answer.headers
            assert answer.headers["x-relay-warnings"].startswith("input[1].type:")

    run(talk())
