"""Nobody names what another owner has on a shared account (outliving.md 50 to 56).

The members are rule 53's table; that it is whole is shown in tests/responses/test_pointers.py.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import orjson
import pytest

from relay.config import PromptSettings
from relay.state.store import Objects, StoreError
from tests.app.asking import Asker
from tests.app.sockets import connected
from tests.app.stateful import Stateful, keeping_upstream
from tests.app.support import Relay, fronting
from tests.corpus import exchanges, needed
from tests.server.support import Client, serving
from tests.support import run

Json = dict[str, Any]
KEYS = {"ann": "key-a", "bob": "key-b"}
X = "xx_0123456789"
"""The id that is named."""

CODE = {"type": "code_interpreter_call", "id": "ci_1", "status": "completed", "code": "1", "outputs": None}
FOUND = {"type": "file_search_call", "id": "fs_1", "status": "completed", "queries": ["q"]}
SHELL = {"type": "shell_call", "call_id": "call_1", "action": {"commands": ["ls"]}, "status": "completed"}
MCP_CALL = {"type": "mcp_call", "id": "mcp_1", "server_label": "s", "name": "t", "arguments": "{}"}
APPROVAL = {"type": "mcp_approval_response", "approve": True}
AUTO = {"type": "auto", "memory_limit": "1g"}


def said(*content: Json) -> list[Json]:
    return [{"role": "user", "content": [{"type": "input_text", "text": "Hi."}, *content]}]


def asked(*tools: Json) -> Json:
    return {"input": "Hi.", "tools": list(tools)}


def returned(*parts: Json) -> list[Json]:
    call = {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}
    return [call, {"type": "function_call_output", "call_id": "call_1", "output": list(parts)}]


def brought(tool: Json) -> Json:
    return {"input": [{"type": "additional_tools", "role": "developer", "tools": [tool]}]}


class Member(NamedTuple):
    """A member that names X, and the path by which it is refused."""

    body: Json
    path: str


INTERPRETER = {"type": "code_interpreter", "container": X}
MEMBERS: Mapping[str, Member] = {
    "prompt": Member({"prompt": {"id": X}}, "prompt.id"),
    "variable": Member(
        {"prompt": {"id": "pmpt_known", "variables": {"doc": {"type": "input_file", "file_id": X}}}},
        "prompt.variables.doc.file_id",
    ),
    "comparison": Member(
        {"input": "Hi.", "prompt_cache_options": {"comparison_response_id": X}},
        "prompt_cache_options.comparison_response_id",
    ),
    "reasoning": Member({"input": [{"type": "reasoning", "id": X, "summary": []}]}, "input[0].id"),
    "reasoning, nulls": Member(
        {
            "input": [
                *said(),
                {"type": "reasoning", "id": X, "summary": [], "content": None, "encrypted_content": "", "status": None},
            ]
        },
        "input[1].id",
    ),
    "compaction": Member({"input": [{"type": "compaction", "id": X}]}, "input[0].id"),
    "image": Member({"input": [{"type": "image_generation_call", "id": X, "status": "completed"}]}, "input[0].id"),
    "bare": Member({"input": [{"type": "web_search_call", "id": X, "status": "completed"}]}, "input[0].id"),
    "bare and unknown": Member({"input": [{"type": "vendor_item", "id": X}]}, "input[0].id"),
    "approval": Member({"input": [{**APPROVAL, "approval_request_id": X}]}, "input[0].approval_request_id"),
    "approved": Member({"input": [{**MCP_CALL, "approval_request_id": X}]}, "input[0].approval_request_id"),
    "code": Member({"input": [{**CODE, "container_id": X}]}, "input[0].container_id"),
    "shell": Member(
        {"input": [{**SHELL, "environment": {"type": "container_reference", "container_id": X}}]},
        "input[0].environment.container_id",
    ),
    "found": Member({"input": [{**FOUND, "results": [{"text": "a"}, {"file_id": X}]}]}, "input[0].results[1].file_id"),
    "input_image": Member({"input": said({"type": "input_image", "file_id": X})}, "input[0].content[1].file_id"),
    "input_file": Member({"input": said({"type": "input_file", "file_id": X})}, "input[0].content[1].file_id"),
    "tool output": Member({"input": returned({"type": "input_file", "file_id": X})}, "input[1].output[0].file_id"),
    "screenshot": Member(
        {
            "input": [
                {
                    "type": "computer_call_output",
                    "call_id": "call_1",
                    "output": {"type": "computer_screenshot", "file_id": X},
                }
            ]
        },
        "input[0].output.file_id",
    ),
    "messages": Member(
        {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": X}}]}]},
        "input[0].content[0].file_id",
    ),
    "vector store": Member(
        asked({"type": "web_search"}, {"type": "file_search", "vector_store_ids": ["vs_known", X]}),
        "tools[1].vector_store_ids[1]",
    ),
    "container": Member(asked(INTERPRETER), "tools[0].container"),
    "container's file": Member(
        asked({"type": "code_interpreter", "container": {**AUTO, "file_ids": [X]}}), "tools[0].container.file_ids[0]"
    ),
    "shell's container": Member(
        asked({"type": "shell", "environment": {"type": "container_reference", "container_id": X}}),
        "tools[0].environment.container_id",
    ),
    "shell's file": Member(
        asked({"type": "shell", "environment": {"type": "container_auto", "file_ids": [X]}}),
        "tools[0].environment.file_ids[0]",
    ),
    "skill": Member(
        asked(
            {
                "type": "shell",
                "environment": {
                    "type": "container_auto",
                    "skills": [{"type": "inline"}, {"type": "skill_reference", "skill_id": X}],
                },
            }
        ),
        "tools[0].environment.skills[1].skill_id",
    ),
    "mask": Member(
        asked({"type": "image_generation", "input_image_mask": {"file_id": X}}), "tools[0].input_image_mask.file_id"
    ),
    "tunnel": Member(asked({"type": "mcp", "server_label": "s", "tunnel_id": X}), "tools[0].tunnel_id"),
    "tools brought": Member(brought(INTERPRETER), "input[0].tools[0].container"),
    "tools found": Member(
        {
            "input": [
                {
                    "type": "tool_search_output",
                    "call_id": None,
                    "execution": "server",
                    "tools": [{"type": "file_search", "vector_store_ids": [X]}],
                }
            ]
        },
        "input[0].tools[0].vector_store_ids[0]",
    ),
    "unknown parameter": Member({"input": "Hi.", "novelty": [{"file_id": X}]}, "novelty[0].file_id"),
}
HTTP_ONLY: Mapping[str, Member] = {
    "conversation": Member({"input": "Hi.", "conversation": X}, "conversation"),
    "conversation's id": Member({"input": "Hi.", "conversation": {"id": X}}, "conversation.id"),
}
EVERY = {**MEMBERS, **HTTP_ONLY}
NO_OBJECT = f"No object with id '{X}' here."
WORDS = {"comparison": f"Response with id '{X}' not found."}


def shared(body: Callable[[Relay, Stateful], Awaitable[None]], **options: Any) -> None:
    async def served() -> None:
        async with keeping_upstream(**{"keys": KEYS, "allow_ids": ("pmpt_known", "vs_known"), **options}) as (
            relay,
            up,
        ):
            await body(relay, up)

    run(served())


async def note(relay: Relay, owner: str, *ids: str) -> None:
    await relay.app.services.store.remember_upstream(Objects("up", ids or (X,)), owner)


async def refusals(relay: Relay, member: Member, *, sockets: bool) -> list[Json]:
    """What bob is told on each surface."""
    bob = Asker(relay, "key-b")
    body = {"model": "demo", **member.body}
    found = [
        await bob.refused("POST", path, {**body, **more})
        for path in ("/responses", "/responses/input_tokens", "/responses/compact")
        for more in ({}, {"stream": True}, {"store": False})
    ]
    if sockets:
        async with connected(relay.port, key="key-b") as socket:
            for more in ({}, {"store": True}, {"generate": False}):
                error = await socket.refused(**{**member.body, **more})
                error.pop("headers", None)
                found.append(error)
    return found


@pytest.mark.parametrize("state", ["upstream", "relay"])
@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("shares", [False, True], ids=["keys", "shared ids"])
def test_what_another_has_is_named_nowhere(name: str, state: str, shares: bool) -> None:
    if state == "relay" and name in {"prompt", "variable", *HTTP_ONLY}:
        return  # prompts are the relay's own there, conversations nobody's
    member = EVERY[name]

    async def talk(relay: Relay, up: Stateful) -> None:
        await note(relay, "ann")
        for error in await refusals(relay, member, sockets=name not in HTTP_ONLY):
            assert (error["status"], error["code"], error["param"]) == (404, "not_found", member.path)
            assert error["type"] == "invalid_request_error"
            assert error["message"] == WORDS.get(name, NO_OBJECT)
        assert not up.asked

    shared(talk, state=state, shared_ids=shares)


@pytest.mark.parametrize("name", EVERY)
def test_what_nobody_is_known_to_have_passes_where_that_is_said(name: str) -> None:
    body = {"model": "demo", **EVERY[name].body}

    async def refused(relay: Relay, up: Stateful) -> None:
        assert (await Asker(relay, "key-b").refused("POST", "/responses", body))["param"] == EVERY[name].path
        assert not up.asked

    async def passed(relay: Relay, up: Stateful) -> None:
        status, _ = await Asker(relay, "key-b").ask("POST", "/responses", body)
        assert status == 200
        assert X.encode() in up.text

    shared(refused)
    shared(passed, shared_ids=True)
    shared(passed, allow_ids=("pmpt_*", "vs_known", "xx_*6789"))
    shared(passed, keys=None)  # one person's relay
    shared(passed, keys=None, api_key=None)  # the client's own account: its upstream judges


@pytest.mark.parametrize("name", EVERY)
def test_ones_own_passes_as_it_was_sent(name: str) -> None:
    async def talk(relay: Relay, up: Stateful) -> None:
        await note(relay, "ann")
        await note(relay, "bob")
        for stream in (False, True):
            status, _ = await raw(relay, {"model": "demo", "stream": stream, **EVERY[name].body}, "key-b")
            assert status == 200
            sent = up.bodies[-1]
            for member, value in EVERY[name].body.items():
                if member not in ("messages", "input"):
                    assert sent[member] == value
            assert X in orjson.dumps(sent).decode()

    shared(talk)


def test_where_all_bring_their_own_account_nothing_is_looked_up() -> None:
    async def talk(relay: Relay, up: Stateful) -> None:
        async def whose(ids: Any, owner: str) -> Any:
            raise AssertionError

        relay.app.services.store.whose = whose  # type: ignore[method-assign]
        for member in EVERY.values():
            await Asker(relay, "sk-bob").create(**member.body)
        assert up.asked[-1][3] == "Bearer sk-bob"

    shared(talk, keys=None, api_key=None)


def test_a_reference_and_a_previous_response_keep_their_own_words() -> None:
    reference = Member({"input": [*said(), {"type": "item_reference", "id": X}]}, "input[1].id")
    previous = Member({"input": "Hi.", "previous_response_id": X}, "previous_response_id")

    async def talk(relay: Relay, up: Stateful) -> None:
        await note(relay, "ann")
        for error in await refusals(relay, reference, sockets=True):
            assert (error["status"], error["code"], error["param"]) == (404, "item_not_found", "input[1].id")
        for error in await refusals(relay, previous, sockets=True):
            assert (error["status"], error["code"]) == (400, "previous_response_not_found")
            assert error["message"] == f"Previous response with id '{X}' not found."
        assert not up.asked

    for shares in (False, True):
        shared(talk, shared_ids=shares)


def test_a_response_of_one_upstream_is_not_continued_at_another() -> None:
    async def talk(relay: Relay, up: Stateful) -> None:
        await relay.app.services.store.remember_upstream(Objects("elsewhere"), "bob", X)
        error = await Asker(relay, "key-b").not_created(input="Hi.", previous_response_id=X)
        assert error["code"] == "previous_response_not_found"
        assert not up.asked

    shared(talk)


def test_a_response_that_the_relay_keeps_for_another_is_not_named_either() -> None:
    async def talk(relay: Relay, up: Stateful) -> None:
        async with connected(relay.port, key="key-a") as socket:
            warm = await socket.completed(input="Hi.", generate=False, store=True)
        bob = Asker(relay, "key-b")
        assert (await bob.not_created(previous_response_id=warm["id"]))["code"] == "previous_response_not_found"
        options = {"comparison_response_id": warm["id"]}
        assert (await bob.not_created(input="Hi.", prompt_cache_options=options))["code"] == "not_found"
        await Asker(relay, "key-a").create(input="Hi.", prompt_cache_options=options)

    shared(talk, shared_ids=True)


# --- what an answer makes known

ANSWER = [
    {**CODE, "id": "ci_a", "container_id": "cntr_a"},
    {**SHELL, "id": "sh_a", "environment": {"type": "container_reference", "container_id": "cntr_b"}},
    {**FOUND, "id": "fs_a", "results": [{"file_id": "file-a", "text": "t"}]},
    {
        "type": "message",
        "id": "msg_a",
        "status": "completed",
        "role": "assistant",
        "content": [
            {
                "type": "output_text",
                "text": "Done.",
                "annotations": [
                    {
                        "type": "container_file_citation",
                        "container_id": "cntr_c",
                        "file_id": "cfile_a",
                        "filename": "a",
                        "start_index": 0,
                        "end_index": 1,
                    },
                    {"type": "file_citation", "file_id": "file-b", "index": 0, "filename": "b"},
                ],
            }
        ],
    },
    {"type": "mcp_approval_request", "id": "mcpr_a", "server_label": "s", "name": "t", "arguments": "{}"},
]
OBJECTS = {"cntr_a", "cntr_b", "cntr_c", "file-a", "file-b", "cfile_a"}
ITEMS = {"ci_a", "sh_a", "fs_a", "msg_a", "mcpr_a"}


@pytest.mark.parametrize("state", ["upstream", "relay"])
@pytest.mark.parametrize("store", [True, False])
@pytest.mark.parametrize("how", ["json", "stream", "socket"])
def test_an_answer_makes_known_whose_its_objects_are(state: str, store: bool, how: str) -> None:
    async def talk(relay: Relay, up: Stateful) -> None:
        up.output = ANSWER
        if how == "socket":
            async with connected(relay.port, key="key-a") as socket:
                await socket.completed(input="Hi.", store=store)
        else:
            body = {"model": "demo", "input": "Hi.", "store": store, "stream": how == "stream"}
            assert (await raw(relay, body))[0] == 200
        known = await relay.app.services.store.whose(OBJECTS | ITEMS | {"resp_up_1"}, "ann")
        expected = OBJECTS | (ITEMS if store else set())
        if store and state == "upstream":
            expected = expected | {"resp_up_1"}
        assert known == dict.fromkeys(expected, "up")
        assert set((await relay.app.services.store.whose(expected, "bob")).values()) == {None}
        await Asker(relay, "key-a").create(input="Hi.", tools=[{"type": "code_interpreter", "container": "cntr_a"}])
        error = await Asker(relay, "key-b").not_created(
            input="Hi.", tools=[{"type": "code_interpreter", "container": "cntr_a"}]
        )
        assert (error["status"], error["param"]) == (404, "tools[0].container")

    shared(talk, state=state)


async def raw(relay: Relay, body: Json, key: str = "key-a") -> tuple[int, bytes]:
    client = await Client.connect(relay.port)
    headers = {"host": "127.0.0.1", "content_type": "application/json", "authorization": f"Bearer {key}"}
    answer = await client.request("/v1/responses", "POST", orjson.dumps(body), **headers)
    client.leave()
    return answer.status, answer.body


def test_what_ran_in_the_background_is_known_when_it_was_asked_for() -> None:
    async def talk(relay: Relay, up: Stateful) -> None:
        ann = Asker(relay, "key-a")
        queued = await ann.create(input="Hi.", background=True)
        assert await relay.app.services.store.whose(OBJECTS, "ann") == {}
        up.kept[queued["id"]].update(status="completed", output=ANSWER)
        await ann.get(f"/responses/{queued['id']}")
        assert await relay.app.services.store.whose(OBJECTS | ITEMS, "ann") == dict.fromkeys(OBJECTS | ITEMS, "up")

    shared(talk)


def test_who_leaves_comes_back_to_what_has_run() -> None:
    """The client has seen the container's id, and names it in its next request."""
    item = {**CODE, "id": "ci_a", "container_id": "cntr_a"}
    response = {"id": "resp_1", "object": "response", "status": "in_progress", "output": [], "created_at": 1}
    events: list[Json] = [
        {"type": "response.created", "response": response},
        {"type": "response.output_item.added", "output_index": 0, "item": {**item, "status": "in_progress"}},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
    ]

    async def stalling(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        for number, event in enumerate(events):
            data = orjson.dumps({**event, "sequence_number": number})
            await send({"type": "http.response.body", "body": b"data: " + data + b"\n\n", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass

    async def main() -> None:
        async with (
            serving(stalling, lifespan=False) as server,
            fronting("responses", f"http://127.0.0.1:{server.port}/v1", api_key="up-key", state="upstream") as relay,
        ):
            client = await Client.connect(relay.port)
            body = orjson.dumps({"model": "demo", "input": "Hi.", "stream": True})
            lines = ["POST /v1/responses HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
            lines += ["Authorization: Bearer key-a", f"Content-Length: {len(body)}", "", ""]
            client.write("\r\n".join(lines).encode() + body)
            async with asyncio.timeout(10):
                await client.reader.readuntil(b"response.output_item.done")
            client.leave()
            store, ann = relay.app.services.store, hashlib.sha256(b"key-a").hexdigest()
            async with asyncio.timeout(10):
                while await store.whose(["cntr_a", "ci_a"], ann) != {"cntr_a": "up"}:
                    await asyncio.sleep(0)

    run(main())


def test_an_operators_own_object_stays_everybodys() -> None:
    """A file of the operator's vector store is met by ann first, and is not hers."""

    async def talk(relay: Relay, up: Stateful) -> None:
        up.output = ANSWER
        await Asker(relay, "key-a").create(input="Hi.")
        up.output = []
        for name in ("file-a", "file-b"):
            part = {"type": "input_file", "file_id": name}
            status, _ = await Asker(relay, "key-b").ask("POST", "/responses", {"model": "demo", "input": said(part)})
            assert status == (200 if name == "file-a" else 404)

    shared(talk, allow_ids=("file-a", "file-*"))


def test_an_input_item_makes_nobody_an_owner() -> None:
    """Bob says ann's id of an item that brings its own content, which is kept, and then nothing but the id."""

    async def talk(relay: Relay, up: Stateful) -> None:
        await note(relay, "ann", "rs_ann")
        thought = {"type": "reasoning", "id": "rs_ann", "summary": [{"type": "summary_text", "text": "x"}]}
        bob = Asker(relay, "key-b")
        made = await bob.create(input=[thought, *said()])
        async with connected(relay.port, key="key-b") as socket:
            await socket.completed(input=[thought, *said()], generate=False, store=True)
        bare = {"type": "reasoning", "id": "rs_ann", "summary": []}
        assert (await bob.not_created(input=[bare]))["param"] == "input[0].id"
        assert (await bob.not_created(input=[bare], previous_response_id=made["id"]))["param"] == "input[0].id"
        assert b"rs_ann" not in up.text

    for state in ("upstream", "relay"):
        shared(talk, state=state)


@pytest.mark.parametrize(("method", "suffix"), [("GET", ""), ("GET", "?stream=true"), ("GET", "/input_items"),
    ("DELETE", ""), ("POST", "/cancel")])  # fmt: skip
def test_paths_reach_ones_own_responses_only(method: str, suffix: str) -> None:
    async def talk(relay: Relay, up: Stateful) -> None:
        up.output = ANSWER
        made = await Asker(relay, "key-a").create(input="Hi.")
        count = len(up.asked)
        for key in ("key-a", "key-b"):
            for id in sorted(OBJECTS | ITEMS | {"resp_unknown"}):  # objects, but no responses
                error = await Asker(relay, key).refused(method, f"/responses/{id}{suffix}")
                assert (error["status"], error["code"], error["param"]) == (404, "not_found", "response_id")
        error = await Asker(relay, "key-b").refused(method, f"/responses/{made['id']}{suffix}")
        assert (error["status"], error["code"], error["param"]) == (404, "not_found", "response_id")
        assert len(up.asked) == count
        assert set((await relay.app.services.store.whose(OBJECTS, "ann")).values()) == {"up"}

    for shares in (False, True):
        shared(talk, shared_ids=shares)


# --- items that bring their own content


def stands_for(id: str, owner: str) -> str:
    """Rule 54: the prefix and 24 hex digits of SHA-256 (owner, id)."""
    return id[: id.index("_") + 1] + hashlib.sha256(f"{owner}\0{id}".encode()).hexdigest()[:24]


HISTORY: list[Json] = [
    {"type": "message", "role": "user", "id": "msg_0", "content": [{"type": "input_text", "text": "Hi."}]},
    {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "sealed"},
    {"type": "reasoning", "id": "rs_2", "summary": [{"type": "summary_text", "text": "Thus."}]},
    {
        "type": "message",
        "role": "assistant",
        "id": "msg_3",
        "status": "completed",
        "content": [{"type": "output_text", "text": "Yes.", "annotations": [{"type": "file_path", "file_id": "f"}]}],
    },
    {"type": "function_call", "id": "fc_4", "call_id": "call_4", "name": "f", "arguments": '{"file_id": "mine"}'},
    {"type": "function_call_output", "id": "fco_5", "call_id": "call_4", "output": "ok"},
    {"type": "mcp_approval_request", "id": "mcpr_6", "server_label": "s", "name": "t", "arguments": "{}"},
    {"type": "mcp_approval_response", "id": "mcpa_7", "approval_request_id": "mcpr_6", "approve": True},
    {**MCP_CALL, "id": "mcp_8", "approval_request_id": "mcpr_6", "output": "o"},
    {"type": "web_search_call", "id": "ws_9", "status": "completed", "action": {"type": "search", "query": "q"}},
]


def history(ids: Callable[[str], str | None]) -> list[Json]:
    """``HISTORY`` as it must be sent: ``ids`` of those items that are not sealed; None leaves it out."""
    result = []
    for item in HISTORY:
        sent = dict(item)
        if not item.get("encrypted_content"):
            del sent["id"]
            new = ids(item["id"])
            if new is not None:
                sent["id"] = new
        if "approval_request_id" in item:
            sent["approval_request_id"] = ids("mcpr_6")
        result.append(sent)
    return result


OPTIONAL = {"msg_0", "fc_4", "fco_5", "mcpa_7"}
"""Where openai-python has the id of an input item optional, or where a message has none."""


@pytest.mark.parametrize("state", ["upstream", "relay"])
def test_an_id_that_is_not_mine_does_not_refuse_what_comes_whole(state: str) -> None:
    async def talk(relay: Relay, up: Stateful) -> None:
        bob = Asker(relay, "key-b")
        await note(relay, "ann", "msg_0", "rs_2", "msg_3", "mcpr_6")
        foreign = history(lambda id: None if id in OPTIONAL else stands_for(id, "bob"))
        for _ in range(2):
            await bob.create(input=[*HISTORY, *said()], store=False)
            assert up.bodies[-1]["input"][:-1] == foreign
        await bob.create(input=[*HISTORY, *said(), *said()], store=False)
        assert up.bodies[-1]["input"][: len(foreign)] == foreign  # decision 25
        await note(relay, "bob", *(item["id"] for item in HISTORY))
        await bob.create(input=[*HISTORY, *said()], store=False)
        assert up.bodies[-1]["input"][:-1] == HISTORY

    shared(talk, state=state)


def test_one_persons_ids_pass_as_they_are() -> None:
    async def talk(relay: Relay, up: Stateful) -> None:
        await Asker(relay).create(input=HISTORY)
        assert up.bodies[-1]["input"] == HISTORY

    shared(talk, keys=None)


def test_a_socket_goes_on_without_what_was_kept_nowhere() -> None:
    """A bare item of an unstored answer: nobody could look it up, and the client did not send it."""

    async def talk(relay: Relay, up: Stateful) -> None:
        async with connected(relay.port, key="key-a") as socket:
            up.output = [{"type": "reasoning", "id": "rs_a", "summary": []}, ANSWER[3]]
            first = await socket.completed(input="Hi.", store=False)
            up.output = []
            second = await socket.completed(input="Go on.", previous_response_id=first["id"], store=False)
            assert [item["type"] for item in up.bodies[-1]["input"]] == ["message"] * 3
            assert any("kept nowhere" in one["reason"] for one in second["x_relay_warnings"])

    for state in ("upstream", "relay"):
        shared(talk, state=state)


def test_a_container_of_a_turn_before_is_refused_by_the_member_that_brings_it() -> None:
    async def talk(relay: Relay, up: Stateful) -> None:
        store = relay.app.services.store
        item = {**CODE, "container_id": "cntr_lost"}
        response = {"id": "resp_here", "object": "response", "status": "completed", "output": [item]}
        await store.commit(response, [], "bob")
        error = await Asker(relay, "key-b").not_created(input="Go on.", previous_response_id="resp_here")
        assert (error["code"], error["param"]) == ("not_found", "previous_response_id")
        assert error["message"] == "No object with id 'cntr_lost' here."

    shared(talk, state="relay")


@needed
def test_what_clients_were_recorded_to_ask_passes_with_keys() -> None:
    """None of them names what it has not been told of, but for the ids of items that come whole."""

    async def talk(relay: Relay, up: Stateful) -> None:
        asked = [one.request for one in exchanges("openai-responses") if isinstance(one.request, dict)]
        assert len(asked) > 50
        for body in asked:
            for store in (True, False):
                status, said = await raw(relay, {**body, "stream": False, "store": store})
                assert status == 200, said

    shared(talk, allow_ids=())


# --- references


def test_a_short_request_does_not_name_a_long_one() -> None:
    """An item is put in the place of each reference to it."""

    async def talk(relay: Relay, up: Stateful) -> None:
        bob = Asker(relay, "key-b")
        long = {"type": "message", "id": "msg_long", "role": "user", "content": "x" * (1 << 20)}
        await bob.create(input=[long])
        reference = {"type": "item_reference", "id": "msg_long"}
        await bob.create(input=[reference] * 3)
        assert len(up.bodies[-1]["input"]) == 3
        count = len(up.asked)
        error = await bob.not_created(input=[reference] * 40)
        assert (error["status"], error["code"], error["param"]) == (400, "context_length_exceeded", "input")
        async with connected(relay.port, key="key-b") as socket:
            first = await socket.completed(input=[long])
            count = len(up.asked)
            await socket.completed(input=[reference], previous_response_id=first["id"])
            assert (await socket.refused(input=[reference] * 40))["code"] == "context_length_exceeded"
        assert len(up.asked) == count + 1

    shared(talk, state="relay")


# --- the store


def test_a_bad_store_refuses_what_it_cannot_judge() -> None:
    async def talk(relay: Relay, up: Stateful) -> None:
        async def whose(ids: Any, owner: str) -> Any:
            raise StoreError("The disk of the response store fails.")

        relay.app.services.store.whose = whose  # type: ignore[method-assign]
        bob = Asker(relay, "key-b")
        error = await bob.not_created(**MEMBERS["container"].body)
        assert (error["status"], error["code"], error["type"]) == (503, "store_unavailable", "server_error")
        assert error["message"] == "The response store is not available now; try again later."
        assert error["param"] == "tools[0].container"
        assert not up.asked
        await bob.create(input=HISTORY, store=False)
        assert up.bodies[-1]["input"] == history(lambda id: None if id in OPTIONAL else stands_for(id, "bob"))

    shared(talk)


def test_one_read_a_request_and_none_without_such_ids() -> None:
    async def talk(relay: Relay, up: Stateful) -> None:
        store, reads = relay.app.services.store, []
        whose = store.whose

        async def counted(ids: Any, owner: str) -> Any:
            reads.append(set(ids))
            return await whose(ids, owner)

        store.whose = counted  # type: ignore[method-assign]
        bob = Asker(relay, "key-b")
        await bob.create(input=said({"type": "input_image", "image_url": "data:,"}), tools=[{"type": "web_search"}])
        assert not reads
        await note(relay, "bob", "cntr_1", "file_1")
        items = [*HISTORY, {**CODE, "container_id": "cntr_1"}, *said({"type": "input_file", "file_id": "file_1"})]
        await bob.create(input=items, tools=[{"type": "code_interpreter", "container": "cntr_1"}])
        assert len(reads) == 1
        assert {"cntr_1", "file_1", "msg_3", "ci_1"} <= reads[0]

    shared(talk)


def test_ids_that_could_not_be_noted_are_said() -> None:
    async def talk(relay: Relay, up: Stateful) -> None:
        async def remember(*arguments: Any) -> None:
            raise StoreError("The disk of the response store is full.")

        relay.app.services.store.remember_upstream = remember  # type: ignore[method-assign]
        up.output = ANSWER
        made = await Asker(relay, "key-a").create(input="Hi.", store=False)
        assert [one["param"] for one in made["x_relay_warnings"]] == ["store"]
        up.output = []
        assert "x_relay_warnings" not in await Asker(relay, "key-a").create(input="Hi.", store=False)

    shared(talk)


# --- the operator's own


def test_the_operators_prompts_may_name_his_files() -> None:
    async def talk(relay: Relay, up: Stateful) -> None:
        part = {"type": "input_file", "file_id": "file_op"}
        message = {"role": "developer", "content": [part, {"type": "input_text", "text": "{{doc}}"}]}
        relay.app.services.settings.prompts["brief"] = PromptSettings("brief", messages=(message,))  # type: ignore[index]
        bob = Asker(relay, "key-b")
        await bob.create(input="Hi.", prompt={"id": "brief", "variables": {"doc": "text"}})
        assert up.bodies[-1]["input"][0]["content"][0]["file_id"] == "file_op"
        variables = {"doc": {"type": "input_file", "file_id": "file_ann"}}
        error = await bob.not_created(input="Hi.", prompt={"id": "brief", "variables": variables})
        assert (error["status"], error["param"]) == (404, "prompt.variables.doc.file_id")

    for state in ("upstream", "relay"):
        shared(talk, state=state)


# --- Anthropic


def test_a_container_at_anthropic_is_its_owners() -> None:
    """``container`` is used again by its id: docs.anthropic.com, "Code execution tool", "Container reuse"."""
    seen: list[Json] = []
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": [
            {"type": "server_tool_use", "id": "srvtoolu_1", "name": "code_execution", "input": {"code": "1"}},
            {
                "type": "code_execution_tool_result",
                "tool_use_id": "srvtoolu_1",
                "content": {"type": "code_execution_result", "stdout": "1", "stderr": "", "return_code": 0},
            },
            {"type": "text", "text": "One."},
        ],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 1, "output_tokens": 1},
        "container": {"id": "container_a", "expires_at": "2027-01-01T00:00:00Z"},
    }

    async def anthropic(scope: Any, receive: Any, send: Any) -> None:
        seen.append(orjson.loads((await receive())["body"]))
        body = orjson.dumps(message)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def main() -> None:
        async with (
            serving(anthropic, lifespan=False) as server,
            fronting("anthropic", f"http://127.0.0.1:{server.port}", api_key="up-key", shared_ids=False) as relay,
        ):
            ann, bob = Asker(relay, "key-a"), Asker(relay, "key-b")
            tool = {"type": "code_interpreter", "container": {"type": "auto"}}
            for store in (True, False):
                made = await ann.create(input="Hi.", tools=[tool], store=store)
                assert made["output"][0]["container_id"] == "container_a"
            again = {"type": "code_interpreter", "container": "container_a"}
            await ann.create(input="Hi.", tools=[again])
            assert seen[-1]["container"] == "container_a"
            count = len(seen)
            for body in (asked(again), brought(again)):
                error = await bob.not_created(**body)
                assert (error["status"], error["code"]) == (404, "not_found")
                assert error["message"] == "No object with id 'container_a' here."
                assert error["param"].endswith("tools[0].container")
            assert len(seen) == count
            # what never reaches it names nothing there
            await bob.create(input=[{**CODE, "container_id": "cntr_x"}, *HISTORY, *said()])

    run(main())
