"""The ``google-genai`` SDK pointed straight at the demo upstream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jsonschema
import pytest
from google import genai
from google.genai import errors, types

from tests.demo.serving import Demo, serving
from tests.support import run

WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 2}},
    "required": ["city", "days"],
}
DECLARED = [
    {"name": "weather", "parametersJsonSchema": WEATHER},
    {"name": "time"},
]
TOOLS: list[Any] = [
    {"function_declarations": [{"name": "weather", "parameters_json_schema": WEATHER}, {"name": "time"}]}
]
MANUAL = types.AutomaticFunctionCallingConfig(disable=True)


@asynccontextmanager
async def client_of() -> AsyncIterator[tuple[Any, Demo]]:
    async with serving() as demo:
        client = genai.Client(api_key="none", http_options=types.HttpOptions(base_url=demo.origin))
        try:
            yield client.aio.models, demo
        finally:
            await client.aio.aclose()
            client.close()


def with_client(test: Any) -> None:
    async def body() -> None:
        async with client_of() as (models, demo):
            await test(models, demo)

    run(body())


async def ask(models: Any, stream: bool, contents: Any, model: str = "demo", **config: Any) -> tuple[Any, list[Any]]:
    """The last response, and all parts in order."""
    options = types.GenerateContentConfig(automatic_function_calling=MANUAL, **config)
    if not stream:
        answer = await models.generate_content(model=model, contents=contents, config=options)
        return answer, list((answer.candidates[0].content.parts or []) if answer.candidates else [])
    parts: list[Any] = []
    answer = None
    async for answer in await models.generate_content_stream(model=model, contents=contents, config=options):
        if answer.candidates:
            parts += answer.candidates[0].content.parts or []
    return answer, parts


def text_of(parts: list[Any], thought: bool = False) -> str:
    return "".join(part.text or "" for part in parts if bool(part.thought) is thought)


@pytest.mark.parametrize("stream", [False, True])
def test_echo_and_limits(stream: bool) -> None:
    async def test(models: Any, demo: Demo) -> None:
        answer, parts = await ask(models, stream, "Hello big world")
        assert text_of(parts) == "Hello big world"
        assert answer.candidates[0].finish_reason == types.FinishReason.STOP
        usage = answer.usage_metadata
        assert (usage.prompt_token_count, usage.candidates_token_count, usage.total_token_count) == (3, 3, 6)
        answer, parts = await ask(models, stream, "a b c", max_output_tokens=2)
        assert (text_of(parts), answer.candidates[0].finish_reason) == ("a b", types.FinishReason.MAX_TOKENS)
        answer, parts = await ask(models, stream, "a b c", stop_sequences=[" c"])
        assert text_of(parts) == "a b"

    with_client(test)


@pytest.mark.parametrize("stream", [False, True])
def test_thoughts_are_shown_when_asked(stream: bool) -> None:
    async def test(models: Any, demo: Demo) -> None:
        for shown in (True, False):
            thinking = types.ThinkingConfig(include_thoughts=shown, thinking_budget=1024)
            answer, parts = await ask(models, stream, "a", thinking_config=thinking)
            assert bool(text_of(parts, thought=True)) is shown
            assert text_of(parts) == "a"
            assert any(part.thought_signature for part in parts)
            usage = answer.usage_metadata
            assert usage.thoughts_token_count > 0
            total = usage.prompt_token_count + usage.candidates_token_count + usage.thoughts_token_count
            assert usage.total_token_count == total

    with_client(test)


@pytest.mark.parametrize("stream", [False, True])
def test_five_rounds_of_tools_with_signatures(stream: bool) -> None:
    async def test(models: Any, demo: Demo) -> None:
        model = "demo-steps-5-strict-parallel"
        contents: list[Any] = [types.UserContent("What is the weather?")]
        for _ in range(5):
            _, parts = await ask(models, stream, contents, model, tools=TOOLS)
            calls = [part for part in parts if part.function_call]
            assert [call.function_call.name for call in calls] == ["weather", "time"]
            assert [call.thought_signature is not None for call in calls] == [True, False]
            jsonschema.validate(calls[0].function_call.args, WEATHER)
            contents.append(types.ModelContent([part for part in parts if part.text or part.function_call]))
            contents.append(types.UserContent([response_to(call.function_call) for call in calls]))
        _, parts = await ask(models, stream, contents, model, tools=TOOLS)
        assert text_of(parts) == "The tool said: sunny; sunny"

        bare = [types.Part(function_call=part.function_call) for part in contents[1].parts]
        with pytest.raises(errors.ClientError, match="missing a thought_signature"):
            await ask(models, stream, [contents[0], types.ModelContent(bare), *contents[2:]], model, tools=TOOLS)
        bare[0].thought_signature = contents[3].parts[0].thought_signature
        with pytest.raises(errors.ClientError, match="out of place"):
            await ask(models, stream, [contents[0], types.ModelContent(bare), *contents[2:]], model, tools=TOOLS)
        bare[0].thought_signature = b"demo" + bytes(44)
        with pytest.raises(errors.ClientError, match="Corrupted thought signature"):
            await ask(models, stream, [contents[0], types.ModelContent(bare), *contents[2:]], model, tools=TOOLS)

    with_client(test)


def response_to(call: Any) -> Any:
    return types.Part(
        function_response=types.FunctionResponse(id=call.id, name=call.name, response={"output": "sunny"})
    )


@pytest.mark.parametrize("stream", [False, True])
def test_schema_choice_citations_and_refusals(stream: bool) -> None:
    async def test(models: Any, demo: Demo) -> None:
        _, parts = await ask(models, stream, "x", response_mime_type="application/json", response_json_schema=WEATHER)
        jsonschema.validate(json.loads(text_of(parts)), WEATHER)
        forced = types.ToolConfig(
            function_calling_config=types.FunctionCallingConfig(
                mode=types.FunctionCallingConfigMode.ANY, allowed_function_names=["time"]
            )
        )
        _, parts = await ask(models, stream, "x", tools=TOOLS, tool_config=forced)
        assert [part.function_call.name for part in parts if part.function_call] == ["time"]
        answer, parts = await ask(models, stream, "Grüße", model="demo-cite")
        support = answer.candidates[0].grounding_metadata.grounding_supports[0]
        assert support.segment.end_index == len("Grüße".encode())
        answer, parts = await ask(models, stream, "x", model="demo-refuse")
        assert answer.prompt_feedback.block_reason == types.BlockedReason.PROHIBITED_CONTENT
        assert parts == []

    with_client(test)


@pytest.mark.parametrize("stream", [False, True])
def test_continuation(stream: bool) -> None:
    async def test(models: Any, demo: Demo) -> None:
        by_hand = {"model": "demo-pause-2", "automatic_continuation": False}
        answer, parts = await ask(models, stream, "go", **by_hand)
        for _ in range(2):
            assert answer.candidates[0].finish_reason == "CONTINUATION"
            token = answer.candidates[0].continuation_token
            answer, parts = await ask(models, stream, "go", continuation_token=token, **by_hand)
        assert text_of(parts) == "go"
        answer, parts = await ask(models, stream, "go", model="demo-pause-2")  # the SDK goes on by itself
        assert text_of(parts) == "go"
        assert answer.candidates[0].finish_reason == types.FinishReason.STOP

    with_client(test)


def test_counting_models_and_errors() -> None:
    async def test(models: Any, demo: Demo) -> None:
        assert (await models.count_tokens(model="demo", contents="a b")).total_tokens == 2
        assert [model.name async for model in await models.list()][0] == "models/demo"  # noqa: RUF015
        with pytest.raises(errors.ClientError, match="RESOURCE_EXHAUSTED"):
            await ask(models, False, "x", model="demo-fail-429")
        with pytest.raises(errors.APIError, match="INTERNAL"):
            await ask(models, True, "a b c", model="demo-error-2")

    with_client(test)


CALL = {"functionCall": {"name": "weather", "args": {}}}
RESPONSE = {"functionResponse": {"name": "weather", "response": {"output": "x"}}}


def said(role: str, *parts: Any) -> dict[str, Any]:
    return {"role": role, "parts": list(parts)}


FAULTS: list[tuple[str, dict[str, Any], str]] = [
    ("no contents", {"contents": []}, "contents is not specified"),
    ("role", {"contents": [said("assistant", {"text": "x"})]}, "valid role"),
    ("no parts", {"contents": [said("user")]}, "must not be empty"),
    (
        "no response",
        {"contents": [said("user", {"text": "x"}), said("model", CALL)]},
        "number of function response parts",
    ),
    (
        "one response of two",
        {"contents": [said("user", {"text": "x"}), said("model", CALL, CALL), said("user", RESPONSE)]},
        "number of function response parts",
    ),
    ("no call", {"contents": [said("user", RESPONSE)]}, "number of function response parts"),
    ("unknown field", {"contents": [said("user", {"text": "x"})], "messages": []}, 'Unknown name "messages"'),
    (
        "unknown setting",
        {"contents": [said("user", {"text": "x"})], "generationConfig": {"max_tokens": 1}},
        "Unknown name",
    ),
    (
        "budget and level",
        {
            "contents": [said("user", {"text": "x"})],
            "generationConfig": {"thinkingConfig": {"thinkingBudget": 1, "thinkingLevel": "low"}},
        },
        "only one of thinking budget",
    ),
    (
        "name",
        {"contents": [said("user", {"text": "x"})], "tools": [{"functionDeclarations": [{"name": "1"}]}]},
        "Invalid function name",
    ),
    (
        "empty tools",
        {"contents": [said("user", {"text": "x"})], "tools": [{"functionDeclarations": []}]},
        "at least one",
    ),
    (
        "names without ANY",
        {
            "contents": [said("user", {"text": "x"})],
            "tools": [{"functionDeclarations": DECLARED}],
            "toolConfig": {"functionCallingConfig": {"mode": "AUTO", "allowedFunctionNames": ["time"]}},
        },
        "only be set when mode is ANY",
    ),
    (
        "schema without type",
        {"contents": [said("user", {"text": "x"})], "generationConfig": {"responseJsonSchema": WEATHER}},
        "only supported with response mime type",
    ),
]


@pytest.mark.parametrize(("body", "words"), [pytest.param(body, words, id=name) for name, body, words in FAULTS])
def test_refuses_what_google_refuses(body: dict[str, Any], words: str) -> None:
    from tests.demo.serving import post, raw

    async def test() -> None:
        async with serving() as demo:
            request = post("/v1beta/models/demo:generateContent", json.dumps(body).encode())
            answer = await asyncio.wait_for(raw(demo.port, request), 5)
            assert answer.startswith(b"HTTP/1.1 400")
            error = json.loads(answer.split(b"\r\n\r\n", 1)[1])["error"]
            assert error["status"] == "INVALID_ARGUMENT"
            assert words in error["message"]

    run(test())
