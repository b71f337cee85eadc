"""The ``openai`` SDK pointed straight at the demo upstream: chat/completions and Responses."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jsonschema
import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from tests.demo.serving import Demo, serving
from tests.support import run

WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 2}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
CHAT_TOOL = {"type": "function", "function": {"name": "weather", "parameters": WEATHER}}
CHAT_OTHER = {"type": "function", "function": {"name": "time", "parameters": {"type": "object", "properties": {}}}}
TOOL = {"type": "function", "name": "weather", "parameters": WEATHER, "strict": True}
OTHER = {"type": "function", "name": "time", "parameters": {"type": "object", "properties": {}}, "strict": False}
EVENTS: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


class Recipe(BaseModel):
    title: str
    minutes: int
    steps: list[str]


@asynccontextmanager
async def client_of() -> AsyncIterator[tuple[openai.AsyncOpenAI, Demo]]:
    async with (
        serving() as demo,
        openai.AsyncOpenAI(base_url=demo.origin + "/v1", api_key="none", max_retries=0) as client,
    ):
        yield client, demo


def with_client(test: Any) -> None:
    async def body() -> None:
        async with client_of() as (client, demo):
            await test(client, demo)

    run(body())


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def test_chat_echoes_whole_and_streamed() -> None:
    async def test(client: openai.AsyncOpenAI, demo: Demo) -> None:
        whole = await client.chat.completions.create(model="demo", messages=user("Hello  big\nworld "))
        assert whole.choices[0].message.content == "Hello  big\nworld "
        assert whole.choices[0].finish_reason == "stop"
        assert whole.usage is not None
        assert (whole.usage.prompt_tokens, whole.usage.completion_tokens, whole.usage.total_tokens) == (3, 4, 7)
        stream = await client.chat.completions.create(
            model="demo", messages=user("Hello  big\nworld "), stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        text = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
        assert [one for one in text if one] == ["Hello", "  big", "\nworld", " "]
        assert chunks[-2].choices[0].finish_reason == "stop"
        assert chunks[-1].usage == whole.usage
        assert len(demo.app.requests) == 2
        assert demo.app.active == 0

    with_client(test)


@pytest.mark.parametrize("stream", [False, True])
def test_chat_tool_round_trip(stream: bool) -> None:
    async def test(client: openai.AsyncOpenAI, demo: Demo) -> None:
        async def ask(messages: list[Any]) -> Any:
            if not stream:
                return await client.chat.completions.create(
                    model="demo-parallel", messages=messages, tools=[CHAT_TOOL, CHAT_OTHER]
                )
            async with client.chat.completions.stream(
                model="demo-parallel", messages=messages, tools=[CHAT_TOOL, CHAT_OTHER]
            ) as events:
                return await events.get_final_completion()

        messages = user("What is the weather?")
        first = (await ask(messages)).choices[0]
        assert first.finish_reason == "tool_calls"
        calls = first.message.tool_calls
        assert [call.function.name for call in calls] == ["weather", "time"]
        assert len({call.id for call in calls}) == 2
        jsonschema.validate(json.loads(calls[0].function.arguments), WEATHER)
        messages.append(
            {"role": "assistant", "tool_calls": [call.model_dump(include={"id", "type", "function"}) for call in calls]}
        )
        for number, call in enumerate(calls):
            messages.append({"role": "tool", "tool_call_id": call.id, "content": f"result {number}"})
        second = (await ask(messages)).choices[0]
        assert second.finish_reason == "stop"
        assert second.message.content == "The tool said: result 0; result 1"

    with_client(test)


def test_chat_structured_output() -> None:
    async def test(client: openai.AsyncOpenAI, demo: Demo) -> None:
        parsed = await client.chat.completions.parse(model="demo", messages=user("a recipe"), response_format=Recipe)
        assert isinstance(parsed.choices[0].message.parsed, Recipe)

    with_client(test)


def test_chat_choice_limits_stops_reasoning_and_refusal() -> None:
    async def test(client: openai.AsyncOpenAI, demo: Demo) -> None:
        chat = client.chat.completions
        named = await chat.create(
            model="demo",
            messages=user("x"),
            tools=[CHAT_TOOL, CHAT_OTHER],  # type: ignore[list-item]
            tool_choice={"type": "function", "function": {"name": "time"}},
        )
        assert named.choices[0].message.tool_calls is not None
        assert named.choices[0].message.tool_calls[0].function.name == "time"  # type: ignore[union-attr]
        none = await chat.create(model="demo", messages=user("x"), tools=[CHAT_TOOL], tool_choice="none")  # type: ignore[list-item]
        assert none.choices[0].message.content == "x"
        cut = await chat.create(model="demo", messages=user("a b c d"), max_completion_tokens=2)
        assert (cut.choices[0].message.content, cut.choices[0].finish_reason) == ("a b", "length")
        stopped = await chat.create(model="demo", messages=user("a b c d"), stop=[" c"])
        assert (stopped.choices[0].message.content, stopped.choices[0].finish_reason) == ("a b", "stop")
        thought = await chat.create(model="demo", messages=user("a"), reasoning_effort="low")
        assert thought.choices[0].message.reasoning_content.startswith("The user wrote 1 words")  # type: ignore[attr-defined]
        assert thought.usage is not None
        assert thought.usage.completion_tokens_details is not None
        assert 0 < (thought.usage.completion_tokens_details.reasoning_tokens or 0) < thought.usage.completion_tokens
        refused = await chat.create(model="demo-refuse", messages=user("a"))
        assert refused.choices[0].message.refusal is not None
        cited = await chat.create(model="demo-cite", messages=user("abc"))
        assert cited.choices[0].message.annotations is not None
        assert cited.choices[0].message.annotations[0].url_citation.end_index == 3
        logged = await chat.create(model="demo", messages=user("a b"), logprobs=True)
        assert logged.choices[0].logprobs is not None
        assert [one.token for one in logged.choices[0].logprobs.content or ()] == ["a", " b"]

    with_client(test)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "reasoning_details"])
def test_chat_wants_its_reasoning_back(field: str, stream: bool) -> None:
    word = {"reasoning_content": "", "reasoning": "-vllm", "reasoning_details": "-details"}[field]

    async def test(client: openai.AsyncOpenAI, demo: Demo) -> None:
        asked: dict[str, Any] = {"model": f"demo-steps-3-strict-think{word}", "tools": [CHAT_TOOL]}
        messages: list[Any] = user("What is the weather?")
        for _ in range(3):
            message = await fold(client, stream, messages=messages, **asked)
            assert message[field]
            kept = {"role": "assistant", field: message[field], "tool_calls": message["tool_calls"]}
            messages += [kept, {"role": "tool", "tool_call_id": kept["tool_calls"][0]["id"], "content": "sunny"}]
        assert (await fold(client, stream, messages=messages, **asked))["content"] == "The tool said: sunny"
        bare = {key: value for key, value in messages[1].items() if key != field}
        with pytest.raises(openai.BadRequestError, match="must be passed back"):
            await fold(client, stream, messages=[messages[0], bare, *messages[2:]], **asked)
        bare[field] = messages[3][field]
        with pytest.raises(openai.BadRequestError, match="changed or out of place"):
            await fold(client, stream, messages=[messages[0], bare, *messages[2:]], **asked)

    with_client(test)


async def fold(client: openai.AsyncOpenAI, stream: bool, **body: Any) -> dict[str, Any]:
    """The message of a chat completion, streamed or not, with the fields that the SDK does not know."""
    if not stream:
        return (await client.chat.completions.create(**body)).choices[0].message.model_dump()
    message: dict[str, Any] = {"content": "", "tool_calls": []}
    async for chunk in await client.chat.completions.create(**body, stream=True):
        delta = chunk.choices[0].delta.model_dump(exclude_none=True)
        for key in ("content", "reasoning_content", "reasoning", "reasoning_details"):
            if key in delta:
                message[key] = message[key] + delta[key] if key in message else delta[key]
        for piece in delta.get("tool_calls", ()):
            if piece.get("id"):
                message["tool_calls"].append({"type": "function", "id": piece["id"], "function": piece["function"]})
            else:
                message["tool_calls"][piece["index"]]["function"]["arguments"] += piece["function"]["arguments"]
    return message


def test_chat_parallel_calls_that_share_an_index() -> None:
    async def test(client: openai.AsyncOpenAI, demo: Demo) -> None:
        stream = await client.chat.completions.create(
            model="demo-parallel-sameindex",
            messages=user("x"),
            tools=[CHAT_TOOL, CHAT_OTHER],
            stream=True,  # type: ignore[list-item]
        )
        pieces = [piece async for chunk in stream for piece in chunk.choices[0].delta.tool_calls or ()]
        assert {piece.index for piece in pieces} == {0}
        assert len({piece.id for piece in pieces if piece.id}) == 2

    with_client(test)


CHAT_FAULTS: list[tuple[str, dict[str, Any], str]] = [
    ("roles", {"messages": [{"role": "robot", "content": "x"}]}, "Invalid value: 'robot'"),
    ("no messages", {"messages": []}, "messages"),
    ("orphan result", {"messages": [*user("x"), {"role": "tool", "tool_call_id": "c", "content": ""}]}, "preceeding"),
    (
        "no result",
        {
            "messages": [
                *user("x"),
                {
                    "role": "assistant",
                    "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
                },
                *user("y"),
            ]
        },
        "did not have response messages: c",
    ),
    ("empty tools", {"messages": user("x"), "tools": []}, "empty array"),
    ("choice without tools", {"messages": user("x"), "tool_choice": "required"}, "only allowed when 'tools'"),
    (
        "unknown choice",
        {"messages": user("x"), "tools": [CHAT_TOOL], "tool_choice": {"type": "function", "function": {"name": "no"}}},
        "not among",
    ),
    ("json mode", {"messages": user("x"), "response_format": {"type": "json_object"}}, "must contain the word 'json'"),
]


@pytest.mark.parametrize(("body", "words"), [pytest.param(body, words, id=name) for name, body, words in CHAT_FAULTS])
def test_chat_refuses_what_openai_refuses(body: dict[str, Any], words: str) -> None:
    async def test(client: openai.AsyncOpenAI, demo: Demo) -> None:
        with pytest.raises(openai.BadRequestError, match=words):
            await client.chat.completions.create(model="demo", **body)

    with_client(test)


@pytest.mark.parametrize("stream", [False, True])
def test_responses_echoes(stream: bool) -> None:
    async def test(client: openai.AsyncOpenAI, demo: Demo) -> None:
        answer = await respond(client, stream, model="demo", input="Hello big world")
        assert answer.output_text == "Hello big world"
        assert answer.status == "completed"
        assert answer.usage is not None
        assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.total_tokens) == (3, 3, 6)

    with_client(test)


async def respond(client: openai.AsyncOpenAI, stream: bool, **body: Any) -> Response:
    """One response; streamed ones are checked event by event and folded by the SDK."""
    if not stream:
        answer = await client.responses.create(**body)
        Response.model_validate(answer.model_dump(warnings=False), strict=False)
        return answer
    numbers = []
    async with client.responses.stream(**body) as events:
        async for event in events:
            numbers.append(event.sequence_number)
        final = await events.get_final_response()
    assert numbers == list(range(len(numbers)))
    raw = await client.responses.with_raw_response.create(**body, stream=True)
    async for line in raw.http_response.aiter_lines():
        if line.startswith("data: "):
            EVENTS.validate_python(json.loads(line[6:]))
    return Response.model_validate(final.model_dump(warnings=False))


@pytest.mark.parametrize("stream", [False, True])
def test_responses_five_rounds_of_tools_with_sealed_reasoning(stream: bool) -> None:
    async def test(client: openai.AsyncOpenAI, demo: Demo) -> None:
        asked: dict[str, Any] = {
            "model": "demo-steps-5-strict-parallel",
            "tools": [TOOL, OTHER],
            "reasoning": {"effort": "low", "summary": "auto"},
        }
        items: list[Any] = user("What is the weather?")
        for _ in range(5):
            answer = await respond(client, stream, input=items, **asked)
            assert [item.type for item in answer.output] == ["reasoning", "function_call", "function_call"]
            jsonschema.validate(json.loads(answer.output[1].arguments), WEATHER)  # type: ignore[union-attr]
            items += [item.model_dump(exclude_none=True, exclude={"parsed_arguments"}) for item in answer.output]
            items += [
                {"type": "function_call_output", "call_id": item.call_id, "output": "sunny"}
                for item in answer.output
                if item.type == "function_call"
            ]
        answer = await respond(client, stream, input=items, **asked)
        assert answer.output_text == "The tool said: sunny; sunny"
        spoiled = json.loads(json.dumps(items))
        spoiled[1]["summary"][0]["text"] += "!"
        with pytest.raises(openai.BadRequestError, match="could not be verified"):
            await client.responses.create(input=spoiled, **asked)
        spoiled[1] = {**items[1], "encrypted_content": items[6]["encrypted_content"]}
        with pytest.raises(openai.BadRequestError, match=r"out of place|could not be verified"):
            await client.responses.create(input=spoiled, **asked)
        with pytest.raises(openai.BadRequestError, match="missing"):
            await client.responses.create(input=[items[0], *items[2:]], **asked)

    with_client(test)


@pytest.mark.parametrize("stream", [False, True])
def test_responses_custom_tools_refusals_citations_and_limits(stream: bool) -> None:
    async def test(client: openai.AsyncOpenAI, demo: Demo) -> None:
        custom = await respond(client, stream, model="demo", input="ls -l", tools=[{"type": "custom", "name": "shell"}])
        assert custom.output[0].type == "custom_tool_call"
        assert custom.output[0].input == "ls -l"
        refused = await respond(client, stream, model="demo-refuse", input="x")
        assert refused.output[0].content[0].type == "refusal"  # type: ignore[union-attr,index]
        cited = await respond(client, stream, model="demo-cite", input="abc")
        assert cited.output[0].content[0].annotations[0].end_index == 3  # type: ignore[union-attr,index]
        redacted = await respond(client, stream, model="demo-redacted", input="abc")
        assert redacted.output[0].type == "reasoning"
        assert redacted.output[0].summary == []
        assert redacted.output[0].encrypted_content
        cut = await client.responses.create(model="demo", input="a b c", max_output_tokens=2)
        assert cut.status == "incomplete"
        assert cut.incomplete_details is not None
        assert cut.incomplete_details.reason == "max_output_tokens"
        assert cut.output_text == "a b"

    with_client(test)


def test_responses_parse() -> None:
    async def test(client: openai.AsyncOpenAI, demo: Demo) -> None:
        parsed = await client.responses.parse(model="demo", input="a recipe", text_format=Recipe)
        assert isinstance(parsed.output_parsed, Recipe)

    with_client(test)


CALL = {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "call_1", "output": "x"}
RESPONSES_FAULTS: list[tuple[str, dict[str, Any], str]] = [
    ("call without output", {"input": [*user("x"), CALL]}, "No tool output found for function call call_1"),
    ("output without call", {"input": [*user("x"), OUTPUT]}, "No tool call found"),
    ("previous", {"input": "x", "previous_response_id": "resp_1"}, "not found"),
    ("id prefix", {"input": [{"type": "reasoning", "id": "msg_1", "summary": []}]}, "begins with 'rs'"),
    (
        "part of the wrong side",
        {"input": [{"role": "assistant", "content": [{"type": "input_text", "text": "x"}]}]},
        "'output_text' and 'refusal'",
    ),
    ("role", {"input": [{"role": "tool", "content": "x"}]}, "Supported values"),
    (
        "choice",
        {"input": "x", "tools": [TOOL], "tool_choice": {"type": "function", "name": "no"}},
        "not found in 'tools'",
    ),
]


@pytest.mark.parametrize(("body", "words"), [pytest.param(b, w, id=n) for n, b, w in RESPONSES_FAULTS])
def test_responses_refuses_what_openai_refuses(body: dict[str, Any], words: str) -> None:
    async def test(client: openai.AsyncOpenAI, demo: Demo) -> None:
        with pytest.raises(openai.BadRequestError, match=words):
            await client.responses.create(model="demo", **body)

    with_client(test)


def test_models_and_unknown_names() -> None:
    async def test(client: openai.AsyncOpenAI, demo: Demo) -> None:
        names = [model.id async for model in client.models.list()]
        assert names[0] == "demo"
        assert (await client.models.retrieve("demo")).id == "demo"
        with pytest.raises(openai.NotFoundError, match="no word 'nonsense'"):
            await client.responses.create(model="demo-nonsense", input="x")
        with pytest.raises(openai.RateLimitError):
            await client.responses.create(model="demo-fail-429", input="x")

    with_client(test)
