"""openai-agents over both of its transports: tools, a handoff, streaming, server-side chains, a failure."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import agents
import pytest
from agents import Agent, ModelSettings, RunConfig, Runner, SQLiteSession, function_tool
from agents.models.openai_provider import OpenAIProvider
from openai import AsyncOpenAI

from relay.providers.registry import PROVIDERS
from tests.app.support import Relay, relaying
from tests.support import run

DIALECTS = pytest.mark.parametrize("dialect", sorted(PROVIDERS))
TRANSPORTS = pytest.mark.parametrize("transport", ["http", "websocket"])

agents.set_tracing_disabled(True)


@asynccontextmanager
async def configured(transport: str, dialect: str = "chat", **options: Any) -> AsyncIterator[tuple[RunConfig, Relay]]:
    async with (
        relaying(dialect, **options) as relay,
        AsyncOpenAI(base_url=relay.base_url, api_key="client-key", max_retries=0) as sdk,
    ):
        provider = OpenAIProvider(
            openai_client=sdk, use_responses=True, use_responses_websocket=transport == "websocket"
        )
        yield RunConfig(model_provider=provider, tracing_disabled=True), relay
        await provider.aclose()


def run_agents(
    transport: str, dialect: str, body: Callable[[RunConfig, Relay], Awaitable[None]], **options: Any
) -> None:
    async def served() -> None:
        async with configured(transport, dialect, **options) as (config, relay):
            await body(config, relay)
            assert {record.transport for record in RECORDS} == {transport}

    run(served())


RECORDS: list[Any] = []
"""What the relay counted."""


@pytest.fixture(autouse=True)
def fresh_records() -> None:
    RECORDS.clear()


def agent(calls: list[str], **options: Any) -> Agent[Any]:
    @function_tool
    def get_weather(location: str) -> str:
        """The weather at a place."""
        calls.append(location)
        return "18 degrees and sunny"

    return Agent(name="Weather", instructions="You know the weather.", model="demo", tools=[get_weather], **options)


@TRANSPORTS
@DIALECTS
def test_a_tool_is_run_and_its_result_answered(dialect: str, transport: str) -> None:
    async def work(config: RunConfig, relay: Relay) -> None:
        calls: list[str] = []
        result = await Runner.run(agent(calls), "What is the weather in Paris?", run_config=config)
        assert len(calls) == 1
        assert "18 degrees and sunny" in result.final_output
        assert len(relay.demo.requests) == 2

    run_agents(transport, dialect, work, on_record=RECORDS.append)


@TRANSPORTS
@DIALECTS
def test_a_handoff(dialect: str, transport: str) -> None:
    async def work(config: RunConfig, relay: Relay) -> None:
        calls: list[str] = []
        expert = agent(calls)
        expert.model = "demo-steps-2"
        triage = Agent(name="Triage", instructions="Hand off.", model="demo-steps-2", handoffs=[expert])
        result = await Runner.run(triage, "What is the weather in Paris?", run_config=config)
        assert result.last_agent.name == "Weather"
        assert len(calls) == 1
        assert "18 degrees and sunny" in result.final_output
        assert len(relay.demo.requests) == 3

    run_agents(transport, dialect, work, on_record=RECORDS.append)


@TRANSPORTS
@DIALECTS
def test_streaming_with_parallel_tools_and_reasoning(dialect: str, transport: str) -> None:
    async def work(config: RunConfig, relay: Relay) -> None:
        calls: list[str] = []
        settings = ModelSettings(reasoning={"effort": "high", "summary": "auto"}, store=False)  # type: ignore[arg-type]
        one = agent(calls, model_settings=settings)
        one.model = "demo-parallel"
        result = Runner.run_streamed(one, "Compare Paris and Rome.", run_config=config)
        deltas = []
        async for event in result.stream_events():
            if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
                deltas.append(event.data.delta)
        assert len(calls) == 2
        assert result.final_output
        assert result.final_output in "".join(deltas)

    run_agents(transport, dialect, work, on_record=RECORDS.append)


@TRANSPORTS
@pytest.mark.parametrize("store", [True, False])
def test_chains_that_the_server_keeps(store: bool, transport: str) -> None:
    """``auto_previous_response_id``: each call of the model sends only what is new."""
    if transport == "http" and not store:
        pytest.skip("over HTTP only what is stored can be continued")

    async def work(config: RunConfig, relay: Relay) -> None:
        calls: list[str] = []
        one = agent(calls, model_settings=ModelSettings(store=store))
        first = await Runner.run(
            one, "What is the weather in Paris?", run_config=config, auto_previous_response_id=True
        )
        assert "18 degrees" in first.final_output
        second = await Runner.run(one, "Thanks.", run_config=config, previous_response_id=first.last_response_id)
        assert second.final_output
        assert b"What is the weather in Paris?" in relay.demo.requests[-1].body

    run_agents(transport, "chat", work, on_record=RECORDS.append)


@TRANSPORTS
def test_sessions_on_the_clients_side(transport: str) -> None:
    async def work(config: RunConfig, relay: Relay) -> None:
        calls: list[str] = []
        with contextlib.closing(SQLiteSession("talk")) as session:
            await Runner.run(agent(calls), "Weather in Paris?", run_config=config, session=session)
            await Runner.run(agent(calls), "And in Rome?", run_config=config, session=session)
        assert len(calls) == 2
        assert b"18 degrees and sunny" in relay.demo.requests[2].body

    run_agents(transport, "chat", work, on_record=RECORDS.append)


@TRANSPORTS
def test_a_failure_is_raised(transport: str) -> None:
    async def work(config: RunConfig, relay: Relay) -> None:
        one = Agent(name="Weather", model="demo-error-2")
        with pytest.raises(Exception, match=r".+"):
            await Runner.run(one, "One two three four.", run_config=config)
        fine = await Runner.run(Agent(name="Weather", model="demo"), "One two.", run_config=config)
        assert fine.final_output == "One two."

    run_agents(transport, "chat", work, on_record=RECORDS.append)
