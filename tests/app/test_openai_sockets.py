"""openai-python over its own WebSocket: ``responses.connect()`` and the lanes of ``ResponsesWebSocketSession``."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI
from openai.lib.responses_websocket import (
    AsyncResponsesWebSocketSession,
    ResponsesWebSocketAccumulator,
    ResponsesWebSocketError,
    ResponsesWebSocketLimits,
)
from openai.resources.responses.responses import AsyncResponsesConnection
from openai.types.responses import ResponseErrorEvent

from relay.providers.registry import PROVIDERS
from tests.app.support import Relay, relaying
from tests.app.test_openai_python import WEATHER, Place
from tests.support import run

EVERY = pytest.mark.parametrize("dialect", sorted(PROVIDERS))
SERVERS = pytest.mark.parametrize("server", ["ours", "uvicorn"])
LIMITS = ResponsesWebSocketLimits(
    max_lanes=20,
    max_events_per_lane=1_000,
    max_events=10_000,
    max_bytes_per_lane=1 << 24,
    max_bytes=1 << 26,
    max_response_bytes=None,
)


@asynccontextmanager
async def connected(dialect: str = "chat", **options: Any) -> AsyncIterator[tuple[AsyncResponsesConnection, Relay]]:
    async with (
        relaying(dialect, **options) as relay,
        AsyncOpenAI(base_url=relay.base_url, api_key="client-key", max_retries=0) as sdk,
        sdk.responses.connect() as connection,
    ):
        yield connection, relay


async def finished(connection: AsyncResponsesConnection) -> Any:
    """The terminal event of the turn that runs."""
    async for event in connection:
        if event.type in ("response.completed", "response.failed", "response.incomplete", "error"):
            return event
    raise AssertionError("the connection was closed")


@EVERY
def test_a_conversation_with_tools(dialect: str) -> None:
    async def talk() -> None:
        async with connected(dialect) as (connection, _):
            tools: Any = [WEATHER]
            await connection.response.create(model="demo", input="Weather in Paris?", tools=tools, store=False)
            accumulator = ResponsesWebSocketAccumulator()
            async for event in connection:
                accumulator.add_event(event)
                if event.type == "response.completed":
                    break
            first = accumulator.get_final_response()
            (call,) = [item for item in first.output if item.type == "function_call"]
            assert json.loads(call.arguments)["location"]
            spelled = [output.arguments for output in accumulator.snapshot().output if output.type == "function_call"]
            assert spelled == [call.arguments]
            output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "18 degrees"}
            await connection.response.create(
                model="demo", input=[output], tools=tools, store=False, previous_response_id=first.id
            )
            second = await finished(connection)
            assert "18 degrees" in second.response.output_text
            await connection.response.create(
                model="demo", input="Thanks.", store=False, previous_response_id=second.response.id
            )
            assert (await finished(connection)).response.output_text == "Thanks."

    run(talk())


@EVERY
def test_structured_output_and_reasoning(dialect: str) -> None:
    async def talk() -> None:
        async with connected(dialect) as (connection, _):
            schema = {**Place.model_json_schema(), "additionalProperties": False}
            text: Any = {"format": {"type": "json_schema", "name": "place", "strict": True, "schema": schema}}
            await connection.response.create(
                model="demo", input="Tell me of Paris.", text=text, reasoning={"effort": "high", "summary": "auto"}
            )
            response = (await finished(connection)).response
            assert isinstance(Place.model_validate_json(response.output_text), Place)
            assert response.output[0].type == "reasoning"

    run(talk())


@SERVERS
def test_lanes(server: str) -> None:
    async def talk() -> None:
        async with (
            connected(foreign=server == "uvicorn") as (connection, _),
            AsyncResponsesWebSocketSession(connection, limits=LIMITS) as session,
        ):
            lanes = [session.default, *(session.lane(f"lane.{number}") for number in range(12))]

            async def converse(number: int, lane: Any) -> None:
                previous: dict[str, Any] = {}
                for turn in range(3):
                    text = f"lane {number} turn {turn}"
                    create = {"type": "response.create", "model": "demo", "input": text, "store": False, **previous}
                    await lane.send(create)
                    response = await lane.get_final_response()
                    assert response.output_text == text
                    previous = {"previous_response_id": response.id}

            await asyncio.gather(*(converse(number, lane) for number, lane in enumerate(lanes)))
            fork = session.lane("fork")
            await lanes[1].send({"type": "response.create", "model": "demo", "input": "root", "store": False})
            root = await lanes[1].get_final_response()
            body = {"type": "response.create", "model": "demo", "input": "leaf", "store": False}
            await fork.send({**body, "previous_response_id": root.id})  # type: ignore[typeddict-item]
            assert (await fork.get_final_response()).previous_response_id == root.id
            await fork.send({**body, "previous_response_id": "resp_nobody"})  # type: ignore[typeddict-item]
            with pytest.raises(ResponsesWebSocketError) as refused:
                await fork.get_final_response()
            error: Any = refused.value.event
            assert error.error.code == "previous_response_not_found"
            assert error.stream_id == "fork"

    run(talk())


def test_warm_up_and_steering() -> None:
    async def talk() -> None:
        async with connected() as (connection, _):
            await connection.response.create(model="demo", input="The code word is plum.", generate=False)
            warm = (await finished(connection)).response
            assert warm.output == []
            await connection.response.create(model="demo", input=[], previous_response_id=warm.id)
            assert (await finished(connection)).response.output_text == "The code word is plum."
            await connection.response.steer(previous_response_id=warm.id, input="Left.")
            event = await connection.recv()
            assert event.type == "response.steer.failed"
            assert event.error.code == "steering_not_supported"

    run(talk())


def test_an_error_is_an_event_and_the_connection_stays() -> None:
    async def talk() -> None:
        async with connected() as (connection, _):
            await connection.response.create(model="demo-fail-429", input="x")
            error: Any = await finished(connection)
            assert isinstance(error, ResponseErrorEvent) or error.error.code == "rate_limit_exceeded"
            await connection.response.create(model="demo", input="x")
            assert (await finished(connection)).type == "response.completed"

    run(talk())


@SERVERS
def test_it_reconnects_when_the_server_goes_away(server: str) -> None:
    """The SDK comes back by itself after 1001, our code for a drain (responses-api.md §5.10)."""

    async def talk() -> None:
        async with relaying(foreign=server == "uvicorn") as relay:
            seen: list[Any] = []
            async with AsyncOpenAI(base_url=relay.base_url, api_key="k", max_retries=0) as sdk:

                def on_reconnecting(event: Any) -> None:
                    seen.append(event)

                manager = sdk.responses.connect(on_reconnecting=on_reconnecting, initial_delay=0.01, max_delay=0.01)
                async with manager as connection:
                    (session,) = relay.app.sessions
                    session.on_drain()
                    events = asyncio.create_task(finished(connection))
                    while not seen:
                        await asyncio.sleep(0.005)
                    while not relay.app.sessions or session in relay.app.sessions:
                        await asyncio.sleep(0.005)
                    await connection.response.create(model="demo", input="Back again.")
                    assert (await events).response.output_text == "Back again."

    run(talk())


def test_the_synchronous_client() -> None:
    async def talk() -> None:
        async with relaying() as relay:

            def converse() -> str:
                with (
                    OpenAI(base_url=relay.base_url, api_key="k", max_retries=0) as sdk,
                    sdk.responses.connect() as connection,
                ):
                    connection.response.create(model="demo", input="Hello there.", store=False)
                    for event in connection:
                        if event.type == "response.completed":
                            return str(event.response.output_text)
                raise AssertionError("the connection was closed")

            assert await asyncio.to_thread(converse) == "Hello there."

    run(talk())
