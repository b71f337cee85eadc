"""Upstreams that keep their responses themselves: ids pass, for their owners only (decision 21)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.app.asking import Asker
from tests.app.sockets import connected, text_of
from tests.app.stateful import Stateful, keeping_upstream
from tests.app.support import Relay
from tests.server.support import Client
from tests.support import run

KEYS = {"ann": "key-a", "bob": "key-b"}
EVERY = pytest.mark.parametrize("server", ["ours", "uvicorn"])


def with_upstream(
    body: Callable[[Asker, Relay, Stateful], Awaitable[None]], server: str = "ours", **options: Any
) -> None:
    async def served() -> None:
        async with keeping_upstream(foreign=server == "uvicorn", **options) as (relay, up):
            await body(Asker(relay, "key-a" if options.get("keys") else None), relay, up)

    run(served())


@EVERY
def test_ids_pass(server: str) -> None:
    async def talk(me: Asker, relay: Relay, up: Stateful) -> None:
        first = await me.create(input="One.")
        assert first["id"] == "resp_up_1"
        assert first["model"] == "demo"
        assert up.bodies[-1]["store"] is True if "store" in up.bodies[-1] else True
        second = await me.create(input="Two.", previous_response_id=first["id"])
        assert second["previous_response_id"] == first["id"]
        assert up.bodies[-1]["previous_response_id"] == first["id"]
        assert up.bodies[-1]["input"] == "Two."
        kept = await me.get(f"/responses/{first['id']}?include[]=reasoning.encrypted_content")
        assert kept["output"] == first["output"]
        assert up.asked[-1][:2] == ("GET", "/v1/responses/resp_up_1?include[]=reasoning.encrypted_content")
        assert up.asked[-1][3] == "Bearer up-key"
        assert (await me.get(f"/responses/{first['id']}/input_items?limit=3"))["object"] == "list"
        assert up.asked[-1][1] == "/v1/responses/resp_up_1/input_items?limit=3"
        status, cancelled = await me.ask("POST", f"/responses/{first['id']}/cancel")
        assert (status, cancelled["status"]) == (200, "cancelled")
        status, deleted = await me.ask("DELETE", f"/responses/{first['id']}")
        assert (status, deleted) == (200, {"id": first["id"], "object": "response.deleted", "deleted": True})
        assert first["id"] not in up.kept
        count = len(up.asked)
        assert (await me.refused("GET", f"/responses/{first['id']}"))["status"] == 404
        assert len(up.asked) == count  # the relay knows that it is gone

    with_upstream(talk, server)


@EVERY
def test_a_replay_streams(server: str) -> None:
    async def talk(me: Asker, relay: Relay, up: Stateful) -> None:
        first = await me.create(input="One.", background=False)
        client = await Client.connect(relay.port)
        answer = await client.request(f"/v1/responses/{first['id']}?stream=true&starting_after=0", host="127.0.0.1")
        client.leave()
        assert answer.status == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.body.count(b"event: response.completed") == 1
        assert up.asked[-1][1] == f"/v1/responses/{first['id']}?stream=true&starting_after=0"

    with_upstream(talk, server)


def test_a_background_response_is_its_owners() -> None:
    async def talk(me: Asker, relay: Relay, up: Stateful) -> None:
        queued = await me.create(input="One.", background=True)
        assert (queued["status"], queued["background"]) == ("queued", True)
        up.kept[queued["id"]]["status"] = "completed"
        assert (await me.get(f"/responses/{queued['id']}"))["status"] == "completed"
        assert (await Asker(relay, "key-b").refused("GET", f"/responses/{queued['id']}"))["status"] == 404

    with_upstream(talk, keys=KEYS)


@pytest.mark.parametrize("keys", [KEYS, None], ids=["keys", "one account behind"])
def test_nobody_reaches_what_another_made(keys: Any) -> None:
    """The upstream knows one account; the relay knows whose is whose."""

    async def talk(_: Asker, relay: Relay, up: Stateful) -> None:
        ann, bob = Asker(relay, "key-a"), Asker(relay, "key-b")
        made = await ann.create(input="One.")
        item = {"type": "item_reference", "id": made["output"][0]["id"]}
        before = len(up.asked)
        path = f"/responses/{made['id']}"
        for method, suffix in (("GET", ""), ("GET", "?stream=true"), ("DELETE", ""), ("GET", "/input_items")):
            assert (await bob.refused(method, path + suffix))["status"] == 404
        assert (await bob.refused("POST", path + "/cancel"))["status"] == 404
        for endpoint in ("/responses", "/responses/input_tokens", "/responses/compact"):
            body = {"model": "demo", "input": "Go on.", "previous_response_id": made["id"]}
            assert (await bob.refused("POST", endpoint, body))["code"] == "previous_response_not_found"
            assert (await bob.refused("POST", endpoint, {"model": "demo", "input": [item]}))["code"] == "item_not_found"
        async with connected(relay.port, key="key-b") as socket:
            error = await socket.refused(input="Go on.", previous_response_id=made["id"])
            assert error["code"] == "previous_response_not_found"
            assert (await socket.refused(input=[item]))["code"] == "item_not_found"
        assert len(up.asked) == before
        await ann.create(input=[item, {"role": "user", "content": "Go on."}])
        assert up.bodies[-1]["input"][0] == item
        await ann.create(input="Go on.", previous_response_id=made["id"])

    with_upstream(talk, keys=keys)


def test_where_the_client_brings_its_own_account_the_upstream_decides() -> None:
    async def talk(me: Asker, relay: Relay, up: Stateful) -> None:
        up.kept["resp_from_elsewhere"] = {"id": "resp_from_elsewhere"}
        ann = Asker(relay, "sk-ann")
        await ann.create(input="Go on.", previous_response_id="resp_from_elsewhere")
        assert up.asked[-1][3] == "Bearer sk-ann"
        error = await ann.not_created(input="Go on.", previous_response_id="resp_nowhere")
        assert error["code"] == "previous_response_not_found"
        # what was made here is still its owner's only
        made = await ann.create(input="One.")
        assert (await Asker(relay, "sk-bob").refused("GET", f"/responses/{made['id']}"))["status"] == 404

    with_upstream(talk, api_key=None)


def test_what_the_upstream_does_not_keep_is_not_remembered() -> None:
    async def talk(me: Asker, relay: Relay, up: Stateful) -> None:
        made = await me.create(input="One.", store=False)
        assert up.bodies[-1]["store"] is False
        assert (await me.refused("GET", f"/responses/{made['id']}"))["status"] == 404
        assert (await me.not_created(input="x", previous_response_id=made["id"]))[
            "code"
        ] == "previous_response_not_found"

    with_upstream(talk)


def test_what_the_upstream_has_lost_is_missing_here_too() -> None:
    async def talk(me: Asker, relay: Relay, up: Stateful) -> None:
        made = await me.create(input="One.")
        del up.kept[made["id"]]
        assert (await me.refused("GET", f"/responses/{made['id']}"))["status"] == 404
        assert (await me.refused("DELETE", f"/responses/{made['id']}"))["status"] == 404
        assert await relay.app.services.store.find_upstream(made["id"], "anonymous") is None

    with_upstream(talk)


@EVERY
@pytest.mark.parametrize("store", [True, False])
def test_a_socket_asks_its_own_memory_first(store: bool, server: str) -> None:
    """A hit is sent as full input without ``previous_response_id``; warm-ups are local."""

    async def talk(me: Asker, relay: Relay, up: Stateful) -> None:
        async with connected(relay.port) as socket:
            warm = await socket.completed(input="The code word is plum.", generate=False, store=store)
            assert warm["id"].startswith("resp_")
            assert not up.asked
            first = await socket.completed(input=[], previous_response_id=warm["id"], store=store)
            assert first["id"] == "resp_up_1"
            assert first["previous_response_id"] == warm["id"]
            second = await socket.completed(input="Two.", previous_response_id=first["id"], store=store)
            assert text_of(second) == "Answer 2."
            body = up.bodies[-1]
            assert "previous_response_id" not in body
            assert body["stream"] is True
            assert [item["role"] for item in body["input"]] == ["user", "assistant", "user"]
            assert body["input"][1] == first["output"][0]
        async with connected(relay.port) as socket:
            if store:
                await socket.completed(input="Three.", previous_response_id=first["id"])
                assert up.bodies[-1]["previous_response_id"] == first["id"]  # the upstream's own
                await socket.completed(input="Four.", previous_response_id=warm["id"])
                assert "previous_response_id" not in up.bodies[-1]  # the relay's own
                assert len(up.bodies[-1]["input"]) == 2
            else:
                error = await socket.refused(input="Three.", previous_response_id=first["id"])
                assert error["code"] == "previous_response_not_found"

    with_upstream(talk, server)


def test_compaction_and_counting_are_the_upstreams() -> None:
    async def talk(me: Asker, relay: Relay, up: Stateful) -> None:
        first = await me.create(input="One.")
        body = {"input": "Two.", "previous_response_id": first["id"], "prompt_cache_key": "k"}
        compaction = await me.post("/responses/compact", **body)
        assert compaction["output"][0]["encrypted_content"] == "theirs"
        method, path, asked, _ = up.asked[-1]
        assert (method, path) == ("POST", "/v1/responses/compact")
        assert asked == {
            "model": "demo",
            "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Two."}]}],
            "previous_response_id": first["id"],
            "prompt_cache_key": "k",
        }
        await me.create(input=[*compaction["output"], {"role": "user", "content": "Go on."}])
        assert up.bodies[-1]["input"][0] == compaction["output"][0]
        counted = await me.post("/responses/input_tokens", input="One.", previous_response_id=first["id"])
        assert counted == {"object": "response.input_tokens", "input_tokens": 77}
        assert up.asked[-1][2]["previous_response_id"] == first["id"]

    with_upstream(talk)


def test_calls_and_outputs_are_the_upstreams_to_pair() -> None:
    """Decision 52: where the upstream holds the state it decides."""

    async def talk(me: Asker, relay: Relay, up: Stateful) -> None:
        first = await me.create(input="One.")
        output = {"type": "function_call_output", "call_id": "call_there", "output": "x"}
        await me.create(input=[output], previous_response_id=first["id"])
        assert up.bodies[-1]["input"] == [output]
        await me.create(input=[output])
        assert up.bodies[-1]["input"] == [output]

    with_upstream(talk)
