"""What is remembered over HTTP: chains, owners, retrieval, deletion, pages (responses-api.md §1.3-1.6, §3.9-3.10)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from relay.providers.registry import PROVIDERS
from tests.app.asking import Asker, said
from tests.app.sockets import connected, missing_id, text_of
from tests.app.support import Relay, relaying
from tests.oracle import check_response
from tests.support import run

DIALECTS = pytest.mark.parametrize("dialect", sorted(PROVIDERS))
KEYS = {"keys": {"ann": "key-a", "bob": "key-b"}}
TOOL = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]},
}


def asking(body: Callable[[Asker, Relay], Awaitable[None]], dialect: str = "chat", **options: Any) -> None:
    async def served() -> None:
        async with relaying(dialect, **options) as relay:
            await body(Asker(relay), relay)

    run(served())


# ------------------------------------------------------------------------------------------------ chains


@DIALECTS
def test_a_chain_with_tools_keeps_its_reasoning(dialect: str) -> None:
    """``demo-strict`` refuses a history in which a signature that it issued is missing, changed or out of place."""

    async def talk(me: Asker, relay: Relay) -> None:
        fields = {"model": "demo-think-strict", "tools": [TOOL], "reasoning": {"effort": "high"}}
        first = await me.create(input="What is the weather in Paris?", **fields)
        (call,) = [item for item in first["output"] if item["type"] == "function_call"]
        output = {"type": "function_call_output", "call_id": call["call_id"], "output": "18 degrees"}
        second = await me.create(input=[output], previous_response_id=first["id"], **fields)
        assert "18 degrees" in text_of(second)
        third = await me.create(input="Thanks.", previous_response_id=second["id"], **fields)
        assert third["status"] == "completed"
        kept = await me.get(f"/responses/{third['id']}/input_items?order=asc&limit=100")
        kinds = [item["type"] for item in kept["data"]]
        assert kinds.count("reasoning") == sum(
            item["type"] == "reasoning" for response in (first, second) for item in response["output"]
        )
        reasoning = [item for item in kept["data"] if item["type"] == "reasoning"]
        assert reasoning[0] == first["output"][0]
        assert reasoning[0]["encrypted_content"]

    # of chat servers only some want their reasoning back, which their row says
    asking(talk, dialect, upstream={"quirks": "deepseek"} if dialect == "chat" else None)


def test_a_long_chain_is_whole_and_in_order() -> None:
    async def talk(me: Asker, relay: Relay) -> None:
        previous: dict[str, Any] = {}
        for number in range(40):
            response = await me.create(input=f"Turn {number}.", **previous)
            previous = {"previous_response_id": response["id"]}
        assert said(relay) == [text for number in range(40) for text in (f"Turn {number}.",) * 2][:-1]

    asking(talk)


def test_a_chain_forks_and_goes_on_from_any_point() -> None:
    async def talk(me: Asker, relay: Relay) -> None:
        root = await me.create(input="Root.")
        left = await me.create(input="Left.", previous_response_id=root["id"])
        await me.create(input="Right.", previous_response_id=root["id"])
        assert said(relay) == ["Root.", "Root.", "Right."]
        await me.create(input="Further left.", previous_response_id=left["id"])
        assert said(relay) == ["Root.", "Root.", "Left.", "Left.", "Further left."]

    asking(talk)


def test_instructions_and_tools_are_not_inherited() -> None:
    async def talk(me: Asker, relay: Relay) -> None:
        first = await me.create(input="One.", instructions="Be brief.", tools=[TOOL], tool_choice="none")
        second = await me.create(input="Two.", previous_response_id=first["id"])
        assert second["instructions"] is None
        assert second["tools"] == []
        assert said(relay) == ["One.", "One.", "Two."]

    asking(talk)


def test_what_cannot_be_continued() -> None:
    async def talk(me: Asker, relay: Relay) -> None:
        unknown = missing_id()
        error = await me.not_created(input="Go on.", previous_response_id=unknown)
        assert error == {
            "status": 400,
            "code": "previous_response_not_found",
            "type": "invalid_request_error",
            "param": "previous_response_id",
            "message": f"Previous response with id '{unknown}' not found.",
        }
        not_stored = await me.create(input="One.", store=False)
        assert not_stored["store"] is False
        error = await me.not_created(input="Go on.", previous_response_id=not_stored["id"])
        assert error["code"] == "previous_response_not_found"
        several = await me.create(input="One.", n=2)
        error = await me.not_created(input="Go on.", previous_response_id=several["id"])
        assert (error["status"], error["param"]) == (400, "previous_response_id")
        assert len(relay.demo.requests) == 3
        orphan = {"type": "function_call_output", "call_id": "call_missing", "output": "x"}
        stored = await me.create(input="One.")
        error = await me.not_created(input=[orphan], previous_response_id=stored["id"])
        assert (error["status"], error["param"]) == (400, "input")
        assert error["message"] == "No tool call found for function call output with call_id call_missing."
        await me.create(input="Two.", previous_response_id=stored["id"])

    asking(talk)


def test_incomplete_is_continued_and_failed_is_not() -> None:
    async def talk(me: Asker, relay: Relay) -> None:
        cut = await me.create(input="One two three four.", max_output_tokens=2)
        assert cut["status"] == "incomplete"
        await me.create(input="Go on.", previous_response_id=cut["id"])
        assert said(relay) == ["One two three four.", "One two", "Go on."]
        failed = await stream_failed(relay)
        kept = await me.get(f"/responses/{failed}")
        assert kept["status"] == "failed"
        assert kept["error"]["code"] == "server_error"
        check_response(kept)
        error = await me.not_created(input="Go on.", previous_response_id=failed)
        assert error["code"] == "previous_response_not_found"

    asking(talk)


async def stream_failed(relay: Relay) -> str:
    """A stored response that failed in the middle; its id."""
    async with connected(relay.port) as socket:
        last = await socket.turn(input="One two three.", model="demo-error-2", store=True)
        assert last["type"] == "response.failed"
        return str(last["response"]["id"])


def test_an_unanswered_call_is_left_out_until_it_is_answered() -> None:
    async def talk(me: Asker, relay: Relay) -> None:
        first = await me.create(input="Weather in Paris?", tools=[TOOL])
        call = next(item for item in first["output"] if item["type"] == "function_call")
        second = await me.create(input="Never mind.", previous_response_id=first["id"])
        (warning,) = second["x_relay_warnings"]
        assert warning["param"] == "input"
        assert call["call_id"] in warning["reason"]
        assert call["call_id"] not in str(relay.demo.requests[-1].body)
        output = {"type": "function_call_output", "call_id": call["call_id"], "output": "sunny"}
        third = await me.create(input=[output], previous_response_id=second["id"])
        assert "x_relay_warnings" not in third
        assert call["call_id"] in str(relay.demo.requests[-1].body)

    asking(talk)


# ------------------------------------------------------------------------------------------------ references


def test_item_references() -> None:
    async def talk(me: Asker, relay: Relay) -> None:
        first = await me.create(input=[{"role": "user", "content": "Remember plum.", "id": "msg_mine"}])
        (message,) = first["output"]
        for reference in ({"type": "item_reference", "id": message["id"]}, {"id": message["id"]}):
            items = [{"id": "msg_mine"}, reference, {"role": "user", "content": "Go on."}]
            await me.create(input=items)
            assert said(relay) == ["Remember plum.", "Remember plum.", "Go on."]
        error = await me.not_created(input=[{"type": "item_reference", "id": "msg_nobody"}])
        assert (error["status"], error["code"], error["param"]) == (404, "item_not_found", "input[0].id")
        not_stored = await me.create(input="Secret.", store=False)
        error = await me.not_created(input=[{"id": not_stored["output"][0]["id"]}])
        assert error["status"] == 404
        assert "not persisted when 'store' is false" in error["message"]

    asking(talk)


# ------------------------------------------------------------------------------------------------ owners


def test_nobody_reaches_what_another_made() -> None:
    """Every surface: retrieve, delete, input_items, cancel, continue, refer, count, compact; HTTP and WebSocket."""

    async def talk(_: Asker, relay: Relay) -> None:
        ann, bob = Asker(relay, "key-a"), Asker(relay, "key-b")
        made = await ann.create(input="The code word is plum.")
        path, item = f"/responses/{made['id']}", {"type": "item_reference", "id": made["output"][0]["id"]}
        for method, suffix in (("GET", ""), ("DELETE", ""), ("GET", "/input_items"), ("POST", "/cancel")):
            error = await bob.refused(method, path + suffix)
            assert (error["status"], error["code"]) == (404, "not_found")
            assert made["id"] in error["message"]
        for endpoint in ("/responses", "/responses/input_tokens", "/responses/compact"):
            body = {"model": "demo", "input": "Go on.", "previous_response_id": made["id"]}
            error = await bob.refused("POST", endpoint, body)
            assert (error["status"], error["code"]) == (400, "previous_response_not_found")
            error = await bob.refused("POST", endpoint, {"model": "demo", "input": [item]})
            assert (error["status"], error["code"]) == (404, "item_not_found")
        async with connected(relay.port, key="key-b") as socket:
            error = await socket.refused(input="Go on.", previous_response_id=made["id"])
            assert error["code"] == "previous_response_not_found"
            assert (await socket.refused(input=[item]))["code"] == "item_not_found"
        async with connected(relay.port, key="key-a") as socket:
            await socket.completed(input="Go on.", previous_response_id=made["id"])
            await socket.completed(input=[item, {"role": "user", "content": "Go on."}])
        assert (await ann.get(path))["id"] == made["id"]
        assert len([one for one in relay.demo.requests if b"plum" in one.body]) == 3

    asking(talk, settings=KEYS)


def test_without_keys_the_bearer_is_the_owner() -> None:
    async def talk(nobody: Asker, relay: Relay) -> None:
        ann, bob = Asker(relay, "sk-a"), Asker(relay, "sk-b")
        for maker in (nobody, ann, bob):
            made = await maker.create(input="Mine.")
            for other in (nobody, ann, bob):
                status, _ = await other.ask("GET", f"/responses/{made['id']}")
                assert status == (200 if other is maker else 404)

    asking(talk)


# ------------------------------------------------------------------------------------------------ retrieve, delete


@DIALECTS
def test_what_is_retrieved_is_what_was_answered(dialect: str) -> None:
    async def talk(me: Asker, relay: Relay) -> None:
        made = await me.create(input="Hello.", metadata={"a": "b"}, temperature=0.5)
        assert made["store"] is True
        assert await me.get(f"/responses/{made['id']}") == made
        async with connected(relay.port) as socket:
            said = await socket.completed(input="Hello.", store=True)
        assert await me.get(f"/responses/{said['id']}") == said

    asking(talk, dialect)


def test_what_cannot_be_retrieved() -> None:
    async def talk(me: Asker, relay: Relay) -> None:
        error = await me.refused("GET", "/responses/resp_missing")
        assert error["message"] == "Response with id 'resp_missing' not found."
        assert (error["status"], error["type"]) == (404, "invalid_request_error")
        not_stored = await me.create(input="Hello.", store=False)
        assert (await me.refused("GET", f"/responses/{not_stored['id']}"))["status"] == 404
        made = await me.create(input="Hello.")
        error = await me.refused("GET", f"/responses/{made['id']}?stream=true")
        assert (error["status"], error["param"]) == (400, "stream")
        await me.get(f"/responses/{made['id']}?stream=false&include[]=reasoning.encrypted_content")
        async with connected(relay.port) as socket:
            await socket.create(input="Hello.", model="demo-stall-2", store=True)
            created = await socket.event()
            running = created["response"]["id"]
            assert (await me.refused("GET", f"/responses/{running}"))["status"] == 404

    asking(talk)


def test_deletion() -> None:
    async def talk(me: Asker, relay: Relay) -> None:
        first = await me.create(input="One.")
        second = await me.create(input="Two.", previous_response_id=first["id"])
        status, body = await me.ask("DELETE", f"/responses/{first['id']}")
        assert (status, body) == (200, {"id": first["id"], "object": "response.deleted", "deleted": True})
        assert (await me.refused("GET", f"/responses/{first['id']}"))["status"] == 404
        assert (await me.refused("DELETE", f"/responses/{first['id']}"))["status"] == 404
        error = await me.not_created(input="Three.", previous_response_id=first["id"])
        assert error["code"] == "previous_response_not_found"
        # what continues it can be read, and not continued
        assert (await me.get(f"/responses/{second['id']}"))["id"] == second["id"]
        error = await me.not_created(input="Three.", previous_response_id=second["id"])
        assert error["code"] == "previous_response_not_found"
        assert (await me.refused("GET", f"/responses/{second['id']}/input_items"))["status"] == 404

    asking(talk)


def test_cancelling_what_is_not_in_the_background() -> None:
    async def talk(me: Asker, relay: Relay) -> None:
        made = await me.create(input="Hello.")
        error = await me.refused("POST", f"/responses/{made['id']}/cancel")
        assert (error["status"], error["type"]) == (400, "invalid_request_error")
        assert error["message"] == "Cannot cancel a synchronous response."
        assert (await me.refused("POST", "/responses/resp_missing/cancel"))["status"] == 404

    asking(talk)


# ------------------------------------------------------------------------------------------------ input_items


def test_input_items_in_pages() -> None:
    async def talk(me: Asker, relay: Relay) -> None:
        first = await me.create(input=[{"role": "user", "content": f"Part {number}."} for number in range(30)])
        second = await me.create(input="And now?", previous_response_id=first["id"])
        base = f"/responses/{second['id']}/input_items"
        whole = await me.get(f"{base}?order=asc&limit=100")
        texts = [item["content"][0]["text"] for item in whole["data"]]
        assert texts == [*(f"Part {number}." for number in range(30)), text_of(first), "And now?"]
        assert whole["object"] == "list"
        assert whole["has_more"] is False
        assert (whole["first_id"], whole["last_id"]) == (whole["data"][0]["id"], whole["data"][-1]["id"])
        assert len({item["id"] for item in whole["data"]}) == 32
        assert all(item["id"].startswith("msg_") and item["status"] == "completed" for item in whole["data"])
        assert whole["data"][30] == first["output"][0]
        page = await me.get(base)
        assert page["data"] == whole["data"][::-1][:20]
        assert page["has_more"] is True
        rest = await me.get(f"{base}?after={page['last_id']}")
        assert rest["data"] == whole["data"][::-1][20:]
        assert rest["has_more"] is False
        walked: list[Any] = []
        query = "order=asc&limit=7"
        while True:
            page = await me.get(f"{base}?{query}")
            walked += page["data"]
            if not page["has_more"]:
                break
            query = f"order=asc&limit=7&after={page['last_id']}"
        assert walked == whole["data"]
        beyond = await me.get(f"{base}?order=asc&after={whole['last_id']}")
        assert (beyond["data"], beyond["has_more"], beyond["first_id"]) == ([], False, None)

    asking(talk)


def test_an_exact_page_has_no_more() -> None:
    async def talk(me: Asker, relay: Relay) -> None:
        made = await me.create(input=[{"role": "user", "content": "x"}] * 3)
        page = await me.get(f"/responses/{made['id']}/input_items?limit=3")
        assert (len(page["data"]), page["has_more"]) == (3, False)
        page = await me.get(f"/responses/{made['id']}/input_items?limit=2")
        assert (len(page["data"]), page["has_more"]) == (2, True)

    asking(talk)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=-1", "limit"),
        ("limit=x", "limit"),
        ("limit=", "limit"),
        ("limit=" + "9" * 5_000, "limit"),
        ("limit=1.5", "limit"),
        ("order=up", "order"),
        ("order=", "order"),
        ("after=msg_nobody", "after"),
    ],
    ids=lambda value: value[:12],
)
def test_wrong_pages(query: str, param: str) -> None:
    async def talk(me: Asker, relay: Relay) -> None:
        made = await me.create(input="Hello.")
        error = await me.refused("GET", f"/responses/{made['id']}/input_items?{query}")
        assert (error["status"], error["code"], error["param"]) == (400, "invalid_value", param)

    asking(talk)


def test_ids_that_clients_give_are_kept() -> None:
    async def talk(me: Asker, relay: Relay) -> None:
        items = [
            {"type": "message", "role": "user", "content": "Weather?", "id": "msg_mine", "status": None},
            {"type": "function_call", "id": "fc_mine", "call_id": "call_1", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "call_1", "output": "18"},
        ]
        made = await me.create(input=items)
        page = await me.get(f"/responses/{made['id']}/input_items?order=asc")
        assert [item["id"] for item in page["data"][:2]] == ["msg_mine", "fc_mine"]
        assert page["data"][2]["id"].startswith("fco_")
        assert [item["status"] for item in page["data"]] == ["completed"] * 3

    asking(talk)


# ------------------------------------------------------------------------------------------------ counting


NATIVE = {"anthropic", "gemini"}


@DIALECTS
def test_counting(dialect: str) -> None:
    async def talk(me: Asker, relay: Relay) -> None:
        text = "one two three four five"
        counted = await me.post("/responses/input_tokens", input=text, instructions="Be brief.")
        assert counted["object"] == "response.input_tokens"
        assert 3 <= counted["input_tokens"] <= 20
        if dialect in NATIVE:
            used = await me.create(input=text, instructions="Be brief.")
            assert counted == {
                "object": "response.input_tokens",
                "input_tokens": used["usage"]["input_tokens"],
            }
        else:
            assert [entry["param"] for entry in counted["x_relay_warnings"]] == ["input_tokens"]
        stored = await me.create(input="word " * 200)
        chained = await me.post("/responses/input_tokens", input="go on", previous_response_id=stored["id"])
        assert chained["input_tokens"] > 200
        error = await me.refused("POST", "/responses/input_tokens", {"input": "x"})
        assert error["param"] == "model"
        error = await me.refused(
            "POST", "/responses/input_tokens", {"model": "demo", "input": "x", "previous_response_id": "resp_x"}
        )
        assert error["code"] == "previous_response_not_found"

    asking(talk, dialect)
