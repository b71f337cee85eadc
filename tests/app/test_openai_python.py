"""The real openai-python client through the relay: create, stream helper, tools, parse, reasoning, errors (issue 2)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from pydantic import BaseModel

from relay.providers.registry import PROVIDERS
from tests.app.support import Relay, relaying
from tests.support import run

EVERY = pytest.mark.parametrize("dialect", sorted(PROVIDERS))

WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather at a place.",
    "parameters": {
        "type": "object",
        "properties": {"location": {"type": "string"}},
        "required": ["location"],
        "additionalProperties": False,
    },
    "strict": True,
}


@asynccontextmanager
async def client(dialect: str, **options: Any) -> AsyncIterator[tuple[AsyncOpenAI, Relay]]:
    async with (
        relaying(dialect, **options) as relay,
        AsyncOpenAI(base_url=relay.base_url, api_key="client-key", max_retries=0) as sdk,
    ):
        yield sdk, relay


@EVERY
def test_create(dialect: str) -> None:
    async def create() -> None:
        async with client(dialect) as (sdk, _):
            response = await sdk.responses.create(model="demo", input="Say exactly this, please.")
            assert response.status == "completed"
            assert response.output_text == "Say exactly this, please."
            assert response.model == "demo"
            assert response.id.startswith("resp_")
            assert response.usage is not None
            assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens > 0

    run(create())


@EVERY
def test_the_stream_helper_accumulates_what_create_answers(dialect: str) -> None:
    async def stream() -> None:
        async with client(dialect) as (sdk, _):
            deltas = []
            async with sdk.responses.stream(model="demo", input="One two three four five.") as events:
                async for event in events:
                    if event.type == "response.output_text.delta":
                        deltas.append(event.delta)
                final = await events.get_final_response()
            assert "".join(deltas) == final.output_text == "One two three four five."
            whole = await sdk.responses.create(model="demo", input="One two three four five.")
            assert whole.output_text == final.output_text
            assert whole.usage == final.usage

    run(stream())


@EVERY
def test_a_conversation_with_tools(dialect: str) -> None:
    """The main job of issue 2: a streamed tool call, its output, the answer."""

    async def converse() -> None:
        async with client(dialect) as (sdk, _):
            items: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
            async with sdk.responses.stream(model="demo", input=items, tools=[WEATHER]) as events:  # type: ignore[list-item]
                first = await events.get_final_response()
            (call,) = [item for item in first.output if item.type == "function_call"]
            assert call.name == "get_weather"
            assert "location" in call.arguments
            items += [item.model_dump(exclude_none=True, exclude={"parsed_arguments"}) for item in first.output]
            items.append({"type": "function_call_output", "call_id": call.call_id, "output": "18 degrees, sunny"})
            async with sdk.responses.stream(model="demo", input=items, tools=[WEATHER]) as events:  # type: ignore[list-item]
                second = await events.get_final_response()
            assert "18 degrees, sunny" in second.output_text
            assert second.status == "completed"

    run(converse())


@EVERY
def test_parallel_calls(dialect: str) -> None:
    async def call() -> None:
        async with client(dialect) as (sdk, _):
            response = await sdk.responses.create(
                model="demo-parallel",
                input="Compare Paris and Rome.",
                tools=[WEATHER, {**WEATHER, "name": "get_time"}],  # type: ignore[list-item]
            )
            calls = [item for item in response.output if item.type == "function_call"]
            assert len(calls) >= 2
            assert len({one.call_id for one in calls}) == len(calls)
            answers: list[Any] = [
                {"role": "user", "content": "Compare Paris and Rome."},
                *[item.model_dump(exclude_none=True) for item in response.output],
                *[
                    {"type": "function_call_output", "call_id": one.call_id, "output": f"answer {number}"}
                    for number, one in enumerate(reversed(calls))
                ],
            ]
            final = await sdk.responses.create(model="demo-parallel", input=answers, tools=[WEATHER])  # type: ignore[list-item]
            assert final.output_text

    run(call())


class Place(BaseModel):
    name: str
    population: int


@EVERY
def test_parse_with_pydantic(dialect: str) -> None:
    async def parse() -> None:
        async with client(dialect) as (sdk, _):
            response = await sdk.responses.parse(model="demo", input="Tell me of Paris.", text_format=Place)
            assert isinstance(response.output_parsed, Place)
            async with sdk.responses.stream(model="demo", input="Tell me of Paris.", text_format=Place) as events:
                final = await events.get_final_response()
            assert isinstance(final.output_parsed, Place)

    run(parse())


@EVERY
def test_reasoning(dialect: str) -> None:
    async def reason() -> None:
        async with client(dialect) as (sdk, _):
            response = await sdk.responses.create(
                model="demo", input="Think hard.", reasoning={"effort": "high", "summary": "auto"}
            )
            kinds = [item.type for item in response.output]
            # the signature of Gemini's text follows it in an item of its own (translation.md §2.6)
            assert kinds == ["reasoning", "message", *(["reasoning"] if dialect == "gemini" else [])]
            reasoning = response.output[0]
            assert reasoning.type == "reasoning"
            assert reasoning.summary or reasoning.content
            assert response.usage is not None
            assert response.usage.output_tokens_details.reasoning_tokens > 0
            follow_up = await sdk.responses.create(
                model="demo",
                input=[  # type: ignore[arg-type]
                    {"role": "user", "content": "Think hard."},
                    *[item.model_dump(exclude_none=True) for item in response.output],
                    {"role": "user", "content": "Thanks."},
                ],
            )
            assert follow_up.output_text == "Thanks."

    run(reason())


@EVERY
def test_raw_headers(dialect: str) -> None:
    async def ask() -> None:
        async with client(dialect) as (sdk, _):
            raw = await sdk.responses.with_raw_response.create(
                model="demo", input="Hi.", extra_headers={"x-request-id": "req_mine"}
            )
            assert raw.headers["x-request-id"] == "req_mine"
            assert raw.headers["content-type"] == "application/json"
            other = await sdk.responses.with_raw_response.create(model="demo", input="Hi.", extra_body={"seed": 5})
            assert other.headers["x-request-id"].startswith("req_")
            parsed = other.parse()
            warned = "x-relay-warnings" in other.headers
            assert warned == bool(getattr(parsed, "x_relay_warnings", None))

    run(ask())


ERRORS = [
    ("demo-fail-400", openai.BadRequestError, 400),
    ("demo-fail-401", openai.InternalServerError, 502),  # the relay's own key: never the client's 401
    ("demo-fail-404", openai.NotFoundError, 404),
    ("demo-fail-429", openai.RateLimitError, 429),
    ("demo-fail-500", openai.InternalServerError, 500),
    ("demo-fail-503", openai.InternalServerError, 503),
    ("demo-html", openai.InternalServerError, 502),
    ("demo-garbage", openai.InternalServerError, 502),
    ("demo-empty", openai.InternalServerError, 502),
    ("demo-cut", openai.InternalServerError, 502),
    ("demo-overload200", openai.InternalServerError, 503),
]


@EVERY
@pytest.mark.parametrize(("model", "error", "status"), ERRORS)
@pytest.mark.parametrize("stream", [False, True], ids=["JSON", "SSE"])
def test_errors_before_the_first_event(stream: bool, model: str, error: type, status: int, dialect: str) -> None:
    async def ask() -> None:
        async with client(dialect) as (sdk, _):
            with pytest.raises(error) as caught:
                await sdk.responses.create(model=model, input="hi", stream=stream)
            failure = caught.value
            assert isinstance(failure, openai.APIStatusError)
            assert failure.status_code == status, failure
            assert isinstance(failure.body, dict)
            assert set(failure.body) == {"message", "type", "param", "code"}
            assert "Traceback" not in str(failure)

    run(ask())


@EVERY
@pytest.mark.parametrize("model", ["demo-cut-3", "demo-error-3"])
def test_failures_inside_the_stream(model: str, dialect: str) -> None:
    async def ask() -> None:
        async with client(dialect) as (sdk, _):
            types, text, failed = [], [], None
            # a pace, so that the tokens leave before the failure comes
            async for event in await sdk.responses.create(
                model=model + "-pace-200", input="one two three four five six", stream=True
            ):
                types.append(event.type)
                if event.type == "response.output_text.delta":
                    text.append(event.delta)
                if event.type == "response.failed":
                    failed = event.response
            assert types[-1] == "response.failed"
            assert types.count("response.failed") == 1
            assert "error" not in types
            assert failed is not None
            assert failed.error is not None
            assert failed.output_text == "".join(text)
            with pytest.raises(openai.APIStatusError):
                await sdk.responses.create(model=model, input="one two three four five six")

    run(ask())


@EVERY
def test_max_output_tokens(dialect: str) -> None:
    async def ask() -> None:
        async with client(dialect) as (sdk, _):
            response = await sdk.responses.create(model="demo-tokens-100", input="count", max_output_tokens=16)
            assert response.status == "incomplete"
            assert response.incomplete_details is not None
            assert response.incomplete_details.reason == "max_output_tokens"

    run(ask())


@EVERY
def test_refusals(dialect: str) -> None:
    async def ask() -> None:
        async with client(dialect) as (sdk, _):
            response = await sdk.responses.create(model="demo-refuse", input="something bad")
            assert response.status in ("completed", "incomplete")
            assert response.output_text == "" or response.status == "completed"

    run(ask())


def test_retries_by_status() -> None:
    """The SDK repeats 429 and 5xx, and nothing else."""

    async def count(model: str) -> int:
        async with (
            relaying("chat") as relay,
            AsyncOpenAI(base_url=relay.base_url, api_key="k", max_retries=1) as sdk,
        ):
            with pytest.raises(openai.APIStatusError):
                await sdk.responses.create(model=model, input="hi")
            return len(relay.demo.requests)

    assert run(count("demo-fail-400")) == 1
    assert run(count("demo-fail-500")) == 2


def test_n_answers() -> None:
    async def ask() -> None:
        async with client("chat") as (sdk, relay):
            response = await sdk.responses.create(model="demo", input="hi there", extra_body={"n": 3})
            assert [item.content[0].text for item in response.output if item.type == "message"] == ["hi there"] * 3  # type: ignore[union-attr]
            assert len(relay.demo.requests) == 3
            with pytest.raises(openai.BadRequestError, match="cannot be continued"):
                await sdk.responses.create(model="demo", input="more", previous_response_id=response.id)

    run(ask())


def test_n_answers_fail_together() -> None:
    async def ask() -> None:
        async with client("chat") as (sdk, relay):
            with pytest.raises(openai.APIStatusError):
                await sdk.responses.create(model="demo-fail-500", input="hi", extra_body={"n": 3})
            await asyncio.sleep(0)
            assert not relay.app.services.turns

    run(ask())


def test_messages_in_place_of_input() -> None:
    async def ask() -> None:
        async with client("chat") as (sdk, _):
            body = {"model": "demo", "messages": [{"role": "user", "content": "hi there"}], "max_tokens": 50}
            answer: Any = await sdk.post("/responses", body=body, cast_to=dict[str, Any])
            assert answer["output"][0]["content"][0]["text"] == "hi there"
            assert answer["max_output_tokens"] == 50

    run(ask())
