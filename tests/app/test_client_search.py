"""A search for tools that the client runs, through the relay: called, answered, and what it found called in turn.

Source: decision 53; hosted-tools.md H57, H59.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.app.asking import Asker, seen
from tests.app.sockets import connected
from tests.app.support import relaying
from tests.support import run

Json = dict[str, Any]
DIALECTS = pytest.mark.parametrize("dialect", ["chat", "anthropic", "gemini"])
SEARCH = {"type": "tool_search", "execution": "client", "description": "Finds tools"}
WEATHER = {
    "type": "namespace",
    "name": "sky",
    "description": "Weather",
    "tools": [{"type": "function", "name": "get_weather", "description": "Tells the weather", "defer_loading": True}],
}


MODEL = {"chat": "demo", "anthropic": "claude-haiku-5-5", "gemini": "demo"}
"""A model that can be forced to call a tool."""


def of(response: Json, kind: str) -> Json:
    found: Json = next(item for item in response["output"] if item["type"] == kind)
    return found


def found(call: Json, *tools: Json) -> Json:
    members = {"call_id": call["call_id"], "execution": "client", "status": "completed"}
    return {"type": "tool_search_output", **members, "tools": list(tools)}


@DIALECTS
@pytest.mark.parametrize("store", [True, False])
def test_what_a_search_found_can_be_called(dialect: str, store: bool) -> None:
    async def talk() -> None:
        async with relaying(dialect) as relay:
            me = Asker(relay)
            given: Json = {"model": MODEL[dialect], "tools": [SEARCH], "store": store}
            go: list[Any] = [{"role": "user", "content": "Weather in Paris?"}]
            first = await me.create(input=go, tool_choice="required", **given)
            call = of(first, "tool_search_call")
            assert (call["execution"], call["status"]) == ("client", "completed")
            assert isinstance(call["arguments"], dict)
            answer = found(call, WEATHER)
            ways: Json = (
                {"input": [answer], "previous_response_id": first["id"]}
                if store
                else {"input": [*go, *first["output"], answer]}
            )
            chosen = {"type": "function", "name": "get_weather", "namespace": "sky"}
            second = await me.create(**ways, tool_choice=chosen, **given)
            assert "sky__get_weather: Tells the weather" in str(seen(relay))
            called = of(second, "function_call")
            assert (called["name"], called["namespace"]) == ("get_weather", "sky")

    run(talk())


@DIALECTS
def test_a_search_on_a_socket(dialect: str) -> None:
    async def talk() -> None:
        async with relaying(dialect) as relay, connected(relay.port) as socket:
            given: Json = {"model": MODEL[dialect], "tools": [SEARCH]}
            await socket.create(input="Weather in Paris?", tool_choice="required", **given)
            events = await socket.events()
            first = events[-1]["response"]
            call = of(first, "tool_search_call")
            (added,) = [
                one["item"]
                for one in events
                if one["type"] == "response.output_item.added" and one["item"]["type"] == "tool_search_call"
            ]
            assert (added["call_id"], added["arguments"]) == (call["call_id"], {})
            await socket.completed(input=[found(call)], previous_response_id=first["id"], **given)
            assert "No tools found." in str(seen(relay))

    run(talk())
