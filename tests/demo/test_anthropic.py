"""The ``anthropic`` SDK pointed straight at the demo upstream."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import jsonschema
import pytest

from tests.demo.serving import Demo, serving
from tests.support import run

WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 2}},
    "required": ["city", "days"],
}
TOOLS: list[Any] = [
    {"name": "weather", "input_schema": WEATHER},
    {"name": "time", "input_schema": {"type": "object", "properties": {}}},
]
THINKING: dict[str, Any] = {"type": "enabled", "budget_tokens": 1024}


@asynccontextmanager
async def client_of() -> AsyncIterator[tuple[anthropic.AsyncAnthropic, Demo]]:
    async with (
        serving() as demo,
        anthropic.AsyncAnthropic(base_url=demo.origin, api_key="none", max_retries=0) as client,
    ):
        yield client, demo


def with_client(test: Any) -> None:
    async def body() -> None:
        async with client_of() as (client, demo):
            await test(client, demo)

    run(body())


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


async def ask(client: anthropic.AsyncAnthropic, stream: bool, **body: Any) -> anthropic.types.Message:
    body = {"model": "demo", "max_tokens": 4096, **body}
    if not stream:
        return await client.messages.create(**body)
    async with client.messages.stream(**body) as events:
        return await events.get_final_message()


def blocks(message: anthropic.types.Message) -> list[Any]:
    return [block.model_dump(exclude_none=True, include=KEPT.get(block.type)) for block in message.content]


KEPT: dict[str, set[str]] = {"tool_use": {"type", "id", "name", "input"}, "text": {"type", "text"}}


@pytest.mark.parametrize("stream", [False, True])
def test_echo_limits_and_stop_sequences(stream: bool) -> None:
    async def test(client: anthropic.AsyncAnthropic, demo: Demo) -> None:
        echo = await ask(client, stream, messages=[user("Hello big world")])
        assert echo.content[0].text == "Hello big world"  # type: ignore[union-attr]
        assert echo.stop_reason == "end_turn"
        assert (echo.usage.input_tokens, echo.usage.output_tokens) == (3, 3)
        cut = await ask(client, stream, messages=[user("a b c")], max_tokens=2)
        assert (cut.content[0].text, cut.stop_reason) == ("a b", "max_tokens")  # type: ignore[union-attr]
        stopped = await ask(client, stream, messages=[user("a b c")], stop_sequences=[" c"])
        assert (stopped.content[0].text, stopped.stop_sequence) == ("a b", " c")  # type: ignore[union-attr]

    with_client(test)


@pytest.mark.parametrize("model", ["demo-steps-5-strict-parallel", "demo-redacted-steps-5-strict"])
@pytest.mark.parametrize("stream", [False, True])
def test_five_rounds_of_tools_with_signed_thinking(stream: bool, model: str) -> None:
    async def test(client: anthropic.AsyncAnthropic, demo: Demo) -> None:
        kind = "redacted_thinking" if "redacted" in model else "thinking"
        body: dict[str, Any] = {"model": model, "tools": TOOLS, "thinking": THINKING}
        messages = [user("What is the weather?")]
        for _ in range(5):
            answer = await ask(client, stream, messages=messages, **body)
            assert answer.stop_reason == "tool_use"
            assert answer.content[0].type == kind
            calls = [block for block in answer.content if block.type == "tool_use"]
            assert [call.name for call in calls] == ["weather", "time"][: len(calls)]
            jsonschema.validate(calls[0].input, WEATHER)
            messages.append({"role": "assistant", "content": blocks(answer)})
            messages.append(
                user([{"type": "tool_result", "tool_use_id": call.id, "content": "sunny"} for call in calls])
            )
        answer = await ask(client, stream, messages=messages, **body)
        assert answer.content[-1].text.startswith("The tool said: sunny")  # type: ignore[union-attr]
        assert answer.usage.output_tokens_details is not None
        assert 0 < answer.usage.output_tokens_details.thinking_tokens < answer.usage.output_tokens

        first = messages[1]["content"]
        changed = [*messages[3]["content"][:1], *first[1:]]  # the block of another turn
        with pytest.raises(anthropic.BadRequestError, match=r"Invalid `(signature|data)`"):
            await ask(
                client, stream, messages=[messages[0], {"role": "assistant", "content": changed}, *messages[2:]], **body
            )
        key = "data" if "redacted" in model else "thinking"
        changed = [{**first[0], key: first[0][key][:-1] + "!"}, *first[1:]]
        with pytest.raises(anthropic.BadRequestError, match=r"Invalid `(signature|data)`"):
            await ask(
                client,
                stream,
                messages=[messages[0], {"role": "assistant", "content": changed}, *messages[2:]],
                **body,
            )
        with pytest.raises(anthropic.BadRequestError, match="missing"):
            await ask(
                client,
                stream,
                messages=[messages[0], {"role": "assistant", "content": first[1:]}, *messages[2:]],
                **body,
            )
        with pytest.raises(anthropic.BadRequestError, match=r"Invalid `(signature|data)`"):
            await ask(client, stream, messages=[user("Something else"), *messages[1:]], **body)  # another prefix

    with_client(test)


@pytest.mark.parametrize("stream", [False, True])
def test_omitted_thinking_has_a_signature_and_no_text(stream: bool) -> None:
    async def test(client: anthropic.AsyncAnthropic, demo: Demo) -> None:
        thinking = {"type": "adaptive", "display": "omitted"}
        answer = await ask(client, stream, messages=[user("hi")], thinking=thinking)
        assert answer.content[0].type == "thinking"
        assert answer.content[0].thinking == ""
        assert answer.content[0].signature

    with_client(test)


@pytest.mark.parametrize("stream", [False, True])
def test_pause_turn_goes_on_where_it_stopped(stream: bool) -> None:
    async def test(client: anthropic.AsyncAnthropic, demo: Demo) -> None:
        messages: list[Any] = [user("find it")]
        content: list[Any] = []
        for _ in range(2):
            answer = await ask(client, stream, model="demo-pause-2", messages=messages)
            assert answer.stop_reason == "pause_turn"
            content += blocks(answer)
            messages = [user("find it"), {"role": "assistant", "content": content}]
        answer = await ask(client, stream, model="demo-pause-2", messages=messages)
        assert answer.stop_reason == "end_turn"
        assert answer.content[0].text == "find it"  # type: ignore[union-attr]

    with_client(test)


@pytest.mark.parametrize("stream", [False, True])
def test_citations_refusals_and_structured_output(stream: bool) -> None:
    async def test(client: anthropic.AsyncAnthropic, demo: Demo) -> None:
        cited = await ask(client, stream, model="demo-cite", messages=[user("x")])
        assert [block.type for block in cited.content] == ["server_tool_use", "web_search_tool_result", "text"]
        assert cited.content[2].citations[0].url == "https://example.com/demo"  # type: ignore[union-attr,index]
        refused = await ask(client, stream, model="demo-refuse", messages=[user("x")])
        assert refused.stop_reason == "refusal"
        assert refused.content == []
        schema = {**WEATHER, "additionalProperties": False}
        config = {"format": {"type": "json_schema", "schema": schema}}
        made = await ask(client, stream, messages=[user("x")], output_config=config)
        jsonschema.validate(json.loads(made.content[0].text), schema)  # type: ignore[union-attr]
        named = await ask(
            client, stream, messages=[user("x")], tools=TOOLS, tool_choice={"type": "tool", "name": "time"}
        )
        assert [block.name for block in named.content] == ["time"]  # type: ignore[union-attr]

    with_client(test)


def test_counting_models_and_errors() -> None:
    async def test(client: anthropic.AsyncAnthropic, demo: Demo) -> None:
        counted = await client.messages.count_tokens(model="demo", messages=[{"role": "user", "content": "a b"}])
        assert counted.input_tokens == 2
        assert [model.id async for model in client.models.list()][0] == "demo"  # noqa: RUF015
        with pytest.raises(anthropic.InternalServerError, match="Overloaded"):
            await ask(client, False, model="demo-fail-529", messages=[user("x")])
        with pytest.raises(anthropic.APIStatusError) as caught:
            await ask(client, True, model="demo-overload200", messages=[user("x")])
        assert "overloaded_error" in str(caught.value)
        with pytest.raises(anthropic.APIStatusError, match="api_error"):
            await ask(client, True, model="demo-error-2", messages=[user("a b c")])

    with_client(test)


USE = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "x"}
FAULTS: list[tuple[str, dict[str, Any], str]] = [
    ("no limit", {"extra_body": {"max_tokens": None}, "messages": [user("x")]}, "max_tokens: Field required"),
    ("role", {"messages": [{"role": "system", "content": "x"}]}, "should be 'user' or 'assistant'"),
    ("no result", {"messages": [user("x"), {"role": "assistant", "content": [USE]}, user("y")]}, "were found without"),
    (
        "no result at the end",
        {"messages": [user("x"), {"role": "assistant", "content": [USE]}]},
        "found without|prefill",
    ),
    ("no call", {"messages": [user([RESULT])]}, "unexpected `tool_use_id`"),
    (
        "text before result",
        {
            "messages": [
                user("x"),
                {"role": "assistant", "content": [USE]},
                user([{"type": "text", "text": "x"}, RESULT]),
            ]
        },
        "must come first",
    ),
    ("empty text", {"messages": [user([{"type": "text", "text": ""}])]}, "non-empty"),
    ("prefill", {"messages": [user("x"), {"role": "assistant", "content": "y"}]}, "prefill"),
    ("assistant first", {"messages": [{"role": "assistant", "content": "y"}, user("x")]}, "first message"),
    (
        "forced while thinking",
        {"messages": [user("x")], "tools": TOOLS, "tool_choice": {"type": "any"}, "thinking": THINKING},
        "forces tool use",
    ),
    (
        "forced",
        {"model": "demo-noforce", "messages": [user("x")], "tools": TOOLS, "tool_choice": {"type": "any"}},
        "not supported",
    ),
    ("choice without tools", {"messages": [user("x")], "tool_choice": {"type": "auto"}}, "while providing tools"),
    ("budget", {"messages": [user("x")], "thinking": {"type": "enabled", "budget_tokens": 5}}, "1024"),
    ("budget above limit", {"max_tokens": 1024, "messages": [user("x")], "thinking": THINKING}, "must be greater"),
    ("twice", {"messages": [user("x")], "tools": [*TOOLS, TOOLS[0]]}, "must be unique"),
    (
        "open schema",
        {"messages": [user("x")], "output_config": {"format": {"type": "json_schema", "schema": WEATHER}}},
        "additionalProperties",
    ),
    ("unknown field", {"messages": [user("x")], "extra_body": {"presence_penalty": 1}}, "Extra inputs"),
]


@pytest.mark.parametrize(("body", "words"), [pytest.param(body, words, id=name) for name, body, words in FAULTS])
def test_refuses_what_anthropic_refuses(body: dict[str, Any], words: str) -> None:
    async def test(client: anthropic.AsyncAnthropic, demo: Demo) -> None:
        with pytest.raises(anthropic.BadRequestError, match=words):
            await ask(client, False, **body)

    with_client(test)


def test_neighbours_of_one_role_are_one_message() -> None:
    async def test(client: anthropic.AsyncAnthropic, demo: Demo) -> None:
        answer = await ask(client, False, messages=[user("a"), user("b")])
        assert answer.content[0].text == "b"  # type: ignore[union-attr]

    with_client(test)
