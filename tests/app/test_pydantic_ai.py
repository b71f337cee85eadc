"""pydantic-ai over the Responses API: runs without a prompt, tools, structured output, a conversation that goes on.

Source: pydantic-ai (``OpenAIResponsesModel``): ``agent.run()`` without a prompt sends instructions and an empty input.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import orjson
import pytest
from openai import AsyncOpenAI
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

from relay.providers.registry import PROVIDERS
from tests.app.support import Relay, relaying
from tests.support import run

DIALECTS = pytest.mark.parametrize("dialect", sorted(PROVIDERS))


TALKS = "demo-tokens-3"
"""A model that says something whatever was asked; the demo's others repeat the prompt."""


class City(BaseModel):
    """What is asked for."""

    name: str
    population: int


def asking(dialect: str, work: Callable[[OpenAIResponsesModel, Relay], Awaitable[None]], model: str = "demo") -> None:
    async def served() -> None:
        async with (
            relaying(dialect) as relay,
            AsyncOpenAI(base_url=relay.base_url, api_key="client", max_retries=0) as client,
        ):
            await work(OpenAIResponsesModel(model, provider=OpenAIProvider(openai_client=client)), relay)

    run(served())


@DIALECTS
def test_a_run_without_a_prompt(dialect: str) -> None:
    async def work(model: OpenAIResponsesModel, relay: Relay) -> None:
        agent = Agent(model, instructions="Say hello.")
        result = await agent.run()
        assert result.output
        assert result.usage.input_tokens > 0
        again = await agent.run(message_history=result.all_messages())
        assert again.output
        assert b"Say hello." in relay.demo.requests[-1].body

    asking(dialect, work, TALKS)


@DIALECTS
def test_a_streamed_run_without_a_prompt(dialect: str) -> None:
    async def work(model: OpenAIResponsesModel, relay: Relay) -> None:
        agent = Agent(model, instructions="Say hello.")
        async with agent.run_stream() as result:
            assert "".join([piece async for piece in result.stream_text(delta=True)])
        assert result.usage.output_tokens > 0

    asking(dialect, work, TALKS)


@DIALECTS
def test_a_tool_and_a_second_prompt(dialect: str) -> None:
    async def work(model: OpenAIResponsesModel, relay: Relay) -> None:
        agent = Agent(model, instructions="Use the tool.")

        @agent.tool_plain
        def weather(city: str) -> str:
            """The weather of a city."""
            return f"sunny in {city}"

        result = await agent.run("How is the weather?")
        assert "sunny in" in result.output
        again = await agent.run("And now?", message_history=result.all_messages())
        assert again.output
        assert orjson.loads(relay.demo.requests[-1].body)

    asking(dialect, work)


@DIALECTS
def test_structured_output(dialect: str) -> None:
    async def work(model: OpenAIResponsesModel, relay: Relay) -> None:
        result = await Agent(model, output_type=City).run("Name a city.")
        assert isinstance(result.output, City)

    asking(dialect, work)
