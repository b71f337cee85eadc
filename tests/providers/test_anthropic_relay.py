"""The relay in front of an Anthropic upstream that checks every signature, driven by openai-python.

The demo upstream's `-strict` models refuse a history in which a signature that they issued is missing, changed or out
of place; the relay may not repair that here, so each turn must be one upstream call.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from openai import AsyncOpenAI, InternalServerError

from tests.app.support import Relay, relaying
from tests.support import run

TOOLS: Any = [
    {
        "type": "function",
        "name": "look.up",
        "parameters": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
    },
    {"type": "function", "name": "count", "parameters": None},
]
MODELS = (
    "demo-think-strict-steps-5",
    "demo-redacted-strict-steps-5",
    "demo-think-strict-parallel-steps-5",
    "claude-opus-4-5-demo-think-strict-steps-5",
    "claude-sonnet-4-6-demo-think-strict-steps-5",
)


def whole(items: list[Any]) -> list[Any]:
    """Full replay: every item as it came."""
    return items


def without_reasoning(items: list[Any]) -> list[Any]:
    """What many clients do."""
    return [item for item in items if item["type"] != "reasoning"]


async def loop(relay: Relay, model: str, keep: Callable[[list[Any]], list[Any]], **options: Any) -> list[Any]:
    """A tool loop to its end; the items of all turns."""
    items: list[Any] = [{"role": "user", "content": "look it up"}]
    turns = 0
    async with AsyncOpenAI(base_url=relay.base_url, api_key="client", max_retries=0) as client:
        while True:
            response = await client.responses.create(
                model=model, input=items, tools=TOOLS, reasoning={"effort": "high"}, store=False, **options
            )
            turns += 1
            output = [item.to_dict() for item in response.output]
            assert response.status == "completed"
            assert any(item["type"] == "reasoning" and item["encrypted_content"] for item in output)
            items += keep(output)
            calls = [item for item in output if item["type"] == "function_call"]
            if not calls:
                assert turns == len(relay.demo.requests) == 6
                return items
            for call in calls:
                items.append({"type": "function_call_output", "call_id": call["call_id"], "output": f"found {turns}"})


@pytest.mark.parametrize("keep", [whole, without_reasoning])
@pytest.mark.parametrize("model", MODELS)
def test_a_tool_loop_over_five_turns_keeps_every_signature(model: str, keep: Any) -> None:
    async def scenario() -> None:
        async with relaying("anthropic") as relay:
            items = await loop(relay, model, keep)
            assert {item["name"] for item in items if item.get("type") == "function_call"} <= {"look.up", "count"}

    run(scenario())


def test_the_stored_window_keeps_every_signature() -> None:
    async def scenario() -> None:
        async with relaying("anthropic") as relay, AsyncOpenAI(base_url=relay.base_url, api_key="client") as client:
            given: Any = "look it up"
            previous = None
            for turn in range(6):
                response = await client.responses.create(
                    model=MODELS[0], input=given, tools=TOOLS, previous_response_id=previous
                )
                calls = [item for item in response.output if item.type == "function_call"]
                assert bool(calls) == (turn < 5)
                previous = response.id
                given = [{"type": "function_call_output", "call_id": c.call_id, "output": "found"} for c in calls]

    run(scenario())


def test_a_lost_signature_is_our_own_fault() -> None:
    """The control: the thinking is gone already, so that the repair would send the same again: it is not tried."""

    async def scenario() -> None:
        async with (
            relaying("anthropic") as relay,
            AsyncOpenAI(base_url=relay.base_url, api_key="client", max_retries=0) as client,
        ):
            items: list[Any] = [{"role": "user", "content": "look it up"}]
            first = await client.responses.create(model=MODELS[0], input=items, tools=TOOLS)
            call = next(item.to_dict() for item in first.output if item.type == "function_call")
            call["name"] = "count"  # another call: the side cache has nothing for it
            items += [call, {"type": "function_call_output", "call_id": call["call_id"], "output": "found"}]
            with pytest.raises(InternalServerError) as caught:
                await client.responses.create(model=MODELS[0], input=items, tools=TOOLS)
            assert caught.value.code == "translation_error"
            assert len(relay.demo.requests) == 2

    run(scenario())


def test_a_changed_conversation_is_repaired_by_leaving_its_thinking_out() -> None:
    """The seal is bound to the conversation before it: another first message, and the thought is not accepted."""

    async def scenario() -> None:
        async with (
            relaying("anthropic") as relay,
            AsyncOpenAI(base_url=relay.base_url, api_key="client", max_retries=0) as client,
        ):
            first = await client.responses.create(model="demo-think-strict", input="one thing")
            changed: Any = [
                {"role": "user", "content": "another thing"},
                *(item.to_dict() for item in first.output),
                {"role": "user", "content": "and now"},
            ]
            second = await client.responses.create(model="demo-think-strict", input=changed)
            assert second.status == "completed"
            warnings = (second.model_extra or {})["x_relay_warnings"]
            assert [warning["param"] for warning in warnings] == ["input"]
            assert len(relay.demo.requests) == 3

    run(scenario())


def test_case_29_a_pause_goes_on_inside_one_response() -> None:
    async def scenario() -> None:
        async with relaying("anthropic") as relay, AsyncOpenAI(base_url=relay.base_url, api_key="client") as client:
            stream = await client.responses.create(model="demo-pause-3", input="what is new", stream=True)
            events = [event async for event in stream]
            assert [event.sequence_number for event in events] == list(range(len(events)))
            assert len([event for event in events if event.type == "response.completed"]) == 1
            final: Any = events[-1]
            assert [item.type for item in final.response.output if item.type != "reasoning"] == [
                *["web_search_call"] * 3,
                "message",
            ]
            assert final.response.output_text == "what is new"
            assert len(relay.demo.requests) == 4
            bodies = [json.loads(seen.body) for seen in relay.demo.requests]
            for one, following in itertools.pairwise(bodies):
                assert following["messages"][: len(one["messages"]) - 1] == one["messages"][:-1]
            assert [len(body["messages"]) for body in bodies] == [1, 2, 2, 2]
            assert [len(body["messages"][-1]["content"]) for body in bodies] == [1, 2, 4, 6]

    run(scenario())


def test_a_model_that_cannot_be_forced_is_asked_in_words() -> None:
    async def scenario() -> None:
        async with (
            relaying("anthropic") as relay,
            AsyncOpenAI(base_url=relay.base_url, api_key="client", max_retries=0) as client,
        ):
            response = await client.responses.create(
                model="claude-opus-4-6-demo-noforce", input="go", tools=TOOLS, tool_choice="required"
            )
            assert [item.type for item in response.output] == ["function_call"]
            assert len(relay.demo.requests) == 2

    run(scenario())


@pytest.mark.parametrize("model", ["demo", "claude-opus-4-1-demo", "claude-opus-4-5-demo-think"])
def test_a_schema_reaches_the_model_natively_as_a_tool_or_in_words(model: str) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    form: Any = {"format": {"type": "json_schema", "name": "place", "schema": schema}}

    async def scenario() -> None:
        async with relaying("anthropic") as relay, AsyncOpenAI(base_url=relay.base_url, api_key="client") as client:
            response = await client.responses.create(model=model, input="where", text=form)
            assert response.status == "completed"
            assert set(json.loads(response.output_text)) == {"city"}
            assert response.text.format.schema_ == schema  # type: ignore[union-attr]

    run(scenario())


def test_an_upstream_without_system_messages_gets_operator_notes() -> None:
    items: Any = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "three"},
        {"role": "developer", "content": "be brief"},
    ]

    async def scenario() -> None:
        async with relaying("anthropic") as relay, AsyncOpenAI(base_url=relay.base_url, api_key="client") as client:
            response = await client.responses.create(model="demo", input=items)
            assert response.status == "completed"
            first, second = (json.loads(seen.body)["messages"] for seen in relay.demo.requests)
            assert [message["role"] for message in first] == ["user", "assistant", "user", "system"]
            assert [message["role"] for message in second] == ["user", "assistant", "user"]

    run(scenario())


def test_configured_headers_replace_the_version_and_join_the_betas() -> None:
    headers = (("Anthropic-Version", "2026-10-21"), ("anthropic-beta", "context-1m-2025-08-07"))

    async def scenario() -> None:
        async with (
            relaying("anthropic", upstream={"headers": headers}) as relay,
            AsyncOpenAI(base_url=relay.base_url, api_key="client") as client,
        ):
            await client.responses.create(model="demo", input="hi", truncation="auto")
            await client.responses.input_tokens.count(model="demo", input="hi")
            for seen in relay.demo.requests:
                sent = [(name, value) for name, value in seen.headers if name.startswith(b"anthropic-")]
                assert (b"anthropic-version", b"2026-10-21") in sent
                assert len(sent) == 2
            betas = dict(relay.demo.requests[0].headers)[b"anthropic-beta"]
            assert betas == b"context-1m-2025-08-07,thinking-binding-controls-2026-08-01"

    run(scenario())


def test_tokens_are_counted_by_the_upstream() -> None:
    async def scenario() -> None:
        async with relaying("anthropic") as relay, AsyncOpenAI(base_url=relay.base_url, api_key="client") as client:
            counted = await client.responses.input_tokens.count(model="demo", input="one two three")
            assert counted.input_tokens == 3
            assert relay.demo.requests[-1].path == "/v1/messages/count_tokens"

    run(scenario())
