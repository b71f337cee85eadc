"""Windows made shorter or filled in: compaction, truncation, prompt templates (responses-api.md §1.8, §5.11)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.app.compaction import PROMPT, compaction_fields, estimated_tokens, expand_compactions, threshold
from relay.app.truncation import without_oldest_turns
from relay.config import PromptSettings
from relay.errors import RelayError
from relay.providers.registry import PROVIDERS
from tests.app.asking import Asker, said, seen
from tests.app.sockets import connected, text_of
from tests.app.support import Relay, fronting, relaying
from tests.oracle import check_response, check_stream
from tests.server.support import serving
from tests.support import run

DIALECTS = pytest.mark.parametrize("dialect", sorted(PROVIDERS))
TRIGGER = {"type": "compaction_trigger"}


def asking(body: Callable[[Asker, Relay], Awaitable[None]], dialect: str = "chat", **options: Any) -> None:
    async def served() -> None:
        async with relaying(dialect, **options) as relay:
            await body(Asker(relay), relay)

    run(served())


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


SUMMARY = (
    "Summary of the conversation so far, written by the assistant:\n\n" + PROMPT
)  # the demo echoes what it is told

# ------------------------------------------------------------------------------------------------ compaction


@DIALECTS
def test_a_compacted_window_is_a_window(dialect: str) -> None:
    async def talk(me: Asker, relay: Relay) -> None:
        items = [{"role": "developer", "content": "Be kind."}, user("I am Alice."), assistant("Hello!"), user("Paris.")]
        compaction = await me.post("/responses/compact", input=items)
        *kept, last = compaction["output"]
        assert [(item["role"], item["content"][0]["text"]) for item in kept] == [
            ("developer", "Be kind."),
            ("user", "I am Alice."),
            ("user", "Paris."),
        ]
        assert all(item["id"].startswith("msg_") and item["status"] == "completed" for item in kept)
        assert last["type"] == "compaction"
        assert last["id"].startswith("cmp_")
        assert last["encrypted_content"].startswith("relay1.")
        assert compaction["usage"]["input_tokens"] > 0
        response = await me.create(input=[*compaction["output"], user("Go on.")])
        assert text_of(response) == "Go on."
        again = await me.post("/responses/compact", input=[*compaction["output"], assistant("Ok."), user("More.")])
        assert [item["type"] for item in again["output"]] == ["message"] * 4 + ["compaction"]

    asking(talk, dialect)


def test_what_the_model_reads_after_a_compaction() -> None:
    async def talk(me: Asker, relay: Relay) -> None:
        compaction = await me.post("/responses/compact", input=[user("I am Alice."), assistant("Hello!")])
        assert said(relay) == ["I am Alice.", "Hello!", PROMPT]
        await me.create(input=[*compaction["output"], user("Go on.")])
        assert "\n".join(said(relay)).replace("\n\n", "\n") == f"I am Alice.\n{SUMMARY}\nGo on.".replace("\n\n", "\n")
        # what is still there before a compaction is what it sums up
        await me.create(input=[user("I am Alice."), assistant("Hello!"), compaction["output"][-1], user("Go on.")])
        assert not any(message["role"] == "assistant" for message in seen(relay)["messages"])

    asking(talk)


def test_any_replica_reads_a_compaction_back() -> None:
    async def talk(me: Asker, relay: Relay) -> None:
        output = (await me.post("/responses/compact", input=[user("I am Alice.")]))["output"]
        async with relaying("anthropic") as other:
            assert text_of(await Asker(other).create(input=[*output, user("Go on.")])) == "Go on."
            assert PROMPT in orjson.dumps(seen(other)).decode()

    asking(talk)


def test_a_chain_is_compacted_over_http_and_a_new_one_begins_on_a_socket() -> None:
    async def talk(me: Asker, relay: Relay) -> None:
        first = await me.create(input="I am Alice.")
        body = {"input": "I live in Paris.", "previous_response_id": first["id"], "instructions": "Be brief."}
        compaction = await me.post("/responses/compact", **body)
        assert said(relay) == ["Be brief.", "I am Alice.", "I am Alice.", "I live in Paris.", PROMPT]
        assert [item["type"] for item in compaction["output"]] == ["message", "message", "compaction"]
        async with connected(relay.port) as socket:
            begun = await socket.completed(input=[*compaction["output"], user("Go on.")], tools=[])
            again = await socket.completed(input="And on.", previous_response_id=begun["id"])
            assert text_of(again) == "And on."
            assert PROMPT in "".join(said(relay))
        # nothing was stored for it
        assert (await me.refused("GET", f"/responses/{compaction['id']}"))["status"] == 404

    asking(talk)


@pytest.mark.parametrize("store", [True, False])
def test_a_trigger_compacts_inside_a_chain(store: bool) -> None:
    async def talk(me: Asker, relay: Relay) -> None:
        async with connected(relay.port) as socket:
            first = await socket.completed(input="I am Alice.", store=store)
            items = [user("I live in Paris."), TRIGGER]
            await socket.create(input=items, previous_response_id=first["id"], store=store)
            events = await socket.events()
            check_stream(events)
            assert "response.compaction.compacting" in [event["type"] for event in events]
            compacted = events[-1]["response"]
            assert [item["type"] for item in compacted["output"]] == ["compaction"]
            last = await socket.completed(input="Go on.", previous_response_id=compacted["id"], store=store)
            assert text_of(last) == "Go on."
            whole = "\n".join(said(relay))
            assert whole.count("I am Alice.") == 1  # the assistant's echo is folded into the summary
            assert PROMPT in whole
        if store:
            await me.create(input="Over HTTP.", previous_response_id=compacted["id"])
            assert PROMPT in "\n".join(said(relay))
            page = await me.get(f"/responses/{compacted['id']}/input_items")
            assert all(item["type"] == "message" for item in page["data"])

    asking(talk)


def test_a_trigger_is_the_last_item() -> None:
    async def talk(me: Asker, relay: Relay) -> None:
        error = await me.not_created(input=[user("One."), TRIGGER, user("Two.")])
        assert (error["status"], error["param"]) == (400, "input[1]")
        response = await me.create(input=[user("One."), TRIGGER])
        check_response(response)
        assert [item["type"] for item in response["output"]] == ["compaction"]
        assert response["usage"]["output_tokens"] > 0

    asking(talk)


def test_a_threshold_compacts_once_and_then_there_is_room() -> None:
    async def talk(me: Asker, relay: Relay) -> None:
        fields = {"context_management": [{"type": "compaction", "compact_threshold": 1_000}]}
        call = {"type": "function_call", "call_id": "call_1", "name": "read", "arguments": "{}"}
        output = {"type": "function_call_output", "call_id": "call_1", "output": "word " * 2_000}
        small = await me.create(input="I am Alice.", **fields)
        assert [item["type"] for item in small["output"]] == ["message"]
        items = [call, output, user("What was it?")]
        large = await me.create(input=items, previous_response_id=small["id"], **fields)
        assert [item["type"] for item in large["output"]] == ["compaction", "message"]
        assert "word word" not in "".join(str(text) for text in said(relay))
        assert text_of(large)
        then = await me.create(input="Go on.", previous_response_id=large["id"], **fields)
        assert [item["type"] for item in then["output"]] == ["message"]
        assert PROMPT in "\n".join(said(relay))
        without = await me.create(input=items, previous_response_id=small["id"])
        assert [item["type"] for item in without["output"]] == ["message"]

    asking(talk)


def test_a_summary_that_fails_is_the_turns_failure() -> None:
    async def talk(me: Asker, relay: Relay) -> None:
        error = await me.refused("POST", "/responses/compact", {"model": "demo-fail-429", "input": "x"})
        assert (error["status"], error["code"]) == (429, "rate_limit_exceeded")
        error = await me.refused("POST", "/responses/compact", {"model": "demo-tokens-0", "input": "x"})
        assert error["status"] == 502
        async with connected(relay.port) as socket:
            last = await socket.turn(input=[user("x"), TRIGGER], model="demo-fail-429")
            assert last["type"] == "response.failed"  # the compaction item was open
            assert last["response"]["error"]["code"] == "rate_limit_exceeded"

    asking(talk)


def test_a_foreign_compaction_is_refused_by_name() -> None:
    async def talk(me: Asker, relay: Relay) -> None:
        for content in ("gAAAA-not-ours", compaction_fields("m", "x")["encrypted_content"][:-4]):
            error = await me.not_created(input=[user("x"), {"type": "compaction", "encrypted_content": content}])
            assert (error["status"], error["param"]) == (400, "input[1].encrypted_content")
        error = await me.not_created(input="x", context_management=[{}, {"type": "compaction", "compact_threshold": 0}])
        assert error["param"] == "context_management[1].compact_threshold"

    asking(talk)


def test_thresholds() -> None:
    assert threshold(None) is None
    assert threshold([{"type": "compaction"}]) is None
    assert threshold([{"type": "other", "compact_threshold": 5}]) is None
    assert threshold([{"type": "compaction", "compact_threshold": 5}]) == 5
    for wrong in (0, -1, "5", True, 1.5):
        with pytest.raises(RelayError, match="positive integer"):
            threshold([{"type": "compaction", "compact_threshold": wrong}])


def test_estimates_leave_out_media_and_what_is_opaque() -> None:
    words = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "word " * 100}]}
    assert 110 <= estimated_tokens(words) <= 150
    image = {"type": "input_image", "image_url": "data:image/png;base64," + "A" * 100_000}
    opaque = {"type": "reasoning", "summary": [], "encrypted_content": "A" * 100_000}
    assert estimated_tokens([words, image, opaque]) <= estimated_tokens(words) + 40
    assert estimated_tokens(["é\ud800" * 100, None, 5, True]) > 0


def test_what_a_later_compaction_sums_up_is_gone() -> None:
    def message(role: str, text: str) -> dict[str, Any]:
        return {"type": "message", "role": role, "content": [{"type": "input_text", "text": text}]}

    first, second = compaction_fields("m", "first"), compaction_fields("m", "second")
    items = [message("user", "a"), first, message("assistant", "b"), message("user", "c"), second, message("user", "d")]
    expanded = expand_compactions(items)
    assert [item["content"][0]["text"] for item in expanded] == [
        "a",
        "c",
        "Summary of the conversation so far, written by the assistant:\n\nsecond",
        "d",
    ]


# ------------------------------------------------------------------------------------------------ truncation


class Narrow:
    """A chat upstream that takes ``room`` messages and refuses more as OpenAI does."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.asked: list[list[dict[str, Any]]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while (message := await receive()).get("more_body"):
            body += message["body"]
        messages = orjson.loads(body + message["body"])["messages"]
        self.asked.append(messages)
        if len(messages) > self.room:
            error = {
                "message": "This model's maximum context length is 8 tokens.",
                "type": "invalid_request_error",
                "param": "messages",
                "code": "context_length_exceeded",
            }
            await self._answer(send, 400, b"application/json", orjson.dumps({"error": error}))
            return
        event = {"choices": [{"index": 0, "delta": {"content": "Yes."}, "finish_reason": "stop"}]}
        await self._answer(send, 200, b"text/event-stream", b"data: " + orjson.dumps(event) + b"\n\ndata: [DONE]\n\n")

    async def _answer(self, send: Any, status: int, kind: bytes, body: bytes) -> None:
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]})
        await send({"type": "http.response.body", "body": body})


def narrowly(room: int, body: Callable[[Asker, Narrow], Awaitable[None]]) -> None:
    async def served() -> None:
        narrow = Narrow(room)
        async with (
            serving(narrow, lifespan=False) as server,
            fronting("chat", f"http://127.0.0.1:{server.port}/v1") as relay,
        ):
            await body(Asker(relay), narrow)

    run(served())


def test_truncation_leaves_out_whole_turns_until_it_fits() -> None:
    async def talk(me: Asker, narrow: Narrow) -> None:
        items: list[dict[str, Any]] = [{"role": "developer", "content": "Be kind."}]
        for number in range(8):
            items += [
                user(f"Turn {number}."),
                {"type": "function_call", "call_id": f"call_{number}", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": f"call_{number}", "output": "x"},
            ]
        items.append(user("The end."))
        response = await me.create(input=items, truncation="auto")
        assert response["truncation"] == "auto"
        assert text_of(response) == "Yes."
        sizes = [len(messages) for messages in narrow.asked]
        assert sizes == sorted(sizes, reverse=True)
        last = narrow.asked[-1]
        assert "Be kind." in str(last[0]["content"])
        assert last[-1]["content"] == "The end."
        calls = {call["id"] for message in last for call in message.get("tool_calls") or []}
        assert {message["tool_call_id"] for message in last if message["role"] == "tool"} == calls
        assert [entry["param"] for entry in response["x_relay_warnings"]] == ["truncation"] * (len(sizes) - 1)
        # what was left out is left out of the call, not of the chain
        page = await me.get(f"/responses/{response['id']}/input_items?order=asc&limit=100")
        assert len(page["data"]) == len(items)

    narrowly(6, talk)


def test_without_truncation_too_long_is_too_long() -> None:
    async def talk(me: Asker, narrow: Narrow) -> None:
        items = [user("One."), assistant("Two."), user("Three."), assistant("Four."), user("Five.")]
        for fields in ({}, {"truncation": "disabled"}):
            error = await me.not_created(input=items, **fields)
            assert (error["status"], error["code"]) == (400, "context_length_exceeded")
        assert len(narrow.asked) == 2
        error = await me.not_created(
            input=[user("One."), user("Two."), user("Three."), user("Four.")], truncation="auto"
        )
        assert error["code"] == "context_length_exceeded"  # one turn is never cut
        assert len(narrow.asked) == 3

    narrowly(3, talk)


ITEMS = st.lists(st.sampled_from(["user", "assistant", "developer", "call", "output"]), max_size=30)


@given(ITEMS)
def test_a_cut_window_is_shorter_and_well_formed(kinds: list[str]) -> None:
    items: list[dict[str, Any]] = []
    open_calls: list[str] = []
    for number, kind in enumerate(kinds):
        if kind == "call":
            open_calls.append(f"call_{number}")
            items.append({"type": "function_call", "call_id": f"call_{number}", "name": "f", "arguments": ""})
        elif kind == "output":
            if open_calls:
                items.append({"type": "function_call_output", "call_id": open_calls.pop(0), "output": ""})
        else:
            items.append({"type": "message", "role": kind, "content": []})
    cut = without_oldest_turns(items)
    if cut is None:
        return
    assert len(cut) < len(items)
    rest = iter(items)
    assert all(any(item is other for other in rest) for item in cut)  # in order, nothing new
    calls = {item["call_id"] for item in cut if item["type"] == "function_call"}
    assert {item["call_id"] for item in cut if item["type"] == "function_call_output"} <= calls
    developers = [item for item in items if item.get("role") == "developer"]
    assert [item for item in cut if item.get("role") == "developer"] == developers
    assert any(item.get("role") == "user" for item in cut)


# ------------------------------------------------------------------------------------------------ prompts

PROMPTS = {
    "prompts": {
        "greet": PromptSettings(
            "greet", "2", text="Greet {{ name }} in {{language}}.", variables={"language": "French"}
        ),
        "chat": PromptSettings(
            "chat",
            "1",
            messages=(
                {"role": "developer", "content": "Speak {{language}}."},
                {"role": "user", "content": [{"type": "input_text", "text": "Look at {{picture}} please."}]},
            ),
            variables={"language": "French"},
        ),
    }
}


def test_a_template_is_filled_in_and_comes_first() -> None:
    async def talk(me: Asker, relay: Relay) -> None:
        for version in ({}, {"version": "2"}):
            prompt = {"id": "greet", "variables": {"name": "Alice"}, **version}
            response = await me.create(input="Hello.", prompt=prompt)
            assert said(relay) == ["Greet Alice in French.", "Hello."]
            assert response["prompt"] == prompt
        await me.create(prompt={"id": "greet", "variables": {"name": "{{language}}", "language": "German"}}, input="x")
        assert said(relay)[0] == "Greet {{language}} in German."  # what is filled in is not looked at again
        part = {"type": "input_text", "text": "Bob"}
        await me.create(prompt={"id": "greet", "variables": {"name": part}}, input="x")
        assert said(relay)[0] == "Greet Bob in French."

    asking(talk, settings=PROMPTS)


def test_a_template_may_be_all_there_is_and_hold_a_picture() -> None:
    async def talk(me: Asker, relay: Relay) -> None:
        picture = {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}
        await me.create(prompt={"id": "chat", "variables": {"picture": picture}})
        developer, message = seen(relay)["messages"]
        assert developer["content"] == "Speak French."
        assert [part["type"] for part in message["content"]] == ["text", "image_url", "text"]
        assert message["content"][0]["text"] == "Look at "

    asking(talk, settings=PROMPTS)


def test_a_template_is_not_inherited() -> None:
    async def talk(me: Asker, relay: Relay) -> None:
        prompt = {"id": "greet", "variables": {"name": "Alice"}}
        first = await me.create(input="Hello.", prompt=prompt)
        second = await me.create(input="Again.", previous_response_id=first["id"])
        assert said(relay) == ["Hello.", "Hello.", "Again."]
        await me.create(input="Once more.", previous_response_id=second["id"], prompt=prompt)
        assert said(relay) == ["Greet Alice in French.", "Hello.", "Hello.", "Again.", "Again.", "Once more."]
        page = await me.get(f"/responses/{first['id']}/input_items")
        assert len(page["data"]) == 1

    asking(talk, settings=PROMPTS)


@pytest.mark.parametrize(
    ("prompt", "status", "param"),
    [
        ({"id": "nobody"}, 404, "prompt.id"),
        ({}, 404, "prompt.id"),
        ({"id": 5}, 404, "prompt.id"),
        ({"id": "greet", "version": "1", "variables": {"name": "x"}}, 404, "prompt.version"),
        ({"id": "greet"}, 400, "prompt.variables.name"),
        ({"id": "greet", "variables": {"name": 5}}, 400, "prompt.variables.name"),
        ({"id": "greet", "variables": {"name": {"type": "message"}}}, 400, "prompt.variables.name"),
        ({"id": "greet", "variables": ["x"]}, 400, "prompt.variables"),
    ],
)
def test_what_is_no_template(prompt: Any, status: int, param: str) -> None:
    async def talk(me: Asker, relay: Relay) -> None:
        error = await me.not_created(input="Hello.", prompt=prompt)
        assert (error["status"], error["param"]) == (status, param)
        assert not relay.demo.requests

    asking(talk, settings=PROMPTS)
