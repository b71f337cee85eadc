"""In silence a committed stream shows a sign of life that clients count (decision 59).

Codex resets its idle timer on events only (openai/codex#31539, Menci/Floway#498). Time is told to the turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from relay.app.turn import Turn
from tests import oracle
from tests.app.sockets import connected
from tests.app.support import PATHS, Relay, fronting, post
from tests.app.upstreams import HEAD, Upstream, chunk, first, token, upstream
from tests.providers.speech import CHAT, SPEECHES, data
from tests.server.support import Client
from tests.support import run, until

Event = dict[str, Any]

PINGS = {
    "chat": b": OPENROUTER PROCESSING\n\n",
    "anthropic": data({"type": "ping"}, "ping"),
    "gemini": b": ping\n\n",
    "responses": data({"type": "keepalive", "sequence_number": 5}, "keepalive"),
}


def ending(dialect: str) -> bytes:
    if dialect == "responses":
        return data({"type": "response.completed", "response": {"status": "completed"}, "sequence_number": 9})
    stop = data({"type": "content_block_stop", "index": 0}) if dialect == "anthropic" else b""
    marks = {"chat": b"data: [DONE]\n\n", "anthropic": data({"type": "message_stop"}), "gemini": b""}
    return stop + SPEECHES[dialect].reason(SPEECHES[dialect].stop) + marks[dialect]


class Listener:
    """A client that reads events one by one, on either transport."""

    def __init__(self, read: Any) -> None:
        self._read = read
        self.events: list[Event] = []

    async def event(self) -> Event:
        async with asyncio.timeout(5):
            self.events.append(await self._read())
        return self.events[-1]

    async def until(self, kind: str) -> Event:
        while (found := await self.event())["type"] != kind:
            pass
        return found


@asynccontextmanager
async def listening(relay: Relay, transport: str) -> AsyncIterator[Listener]:
    if transport == "ws":
        async with connected(relay.port) as socket:
            await socket.create(input="hi")
            yield Listener(socket.event)
        return
    client = await Client.connect(relay.port)
    client.write(post({"model": "m", "input": "hi", "stream": True}))

    async def read() -> Event:
        while True:
            line = await client.reader.readline()
            assert line
            if line.startswith(b"data: {"):
                content: Event = orjson.loads(line[6:])
                return content

    yield Listener(read)
    client.leave()


@asynccontextmanager
async def talking(
    dialect: str, transport: str = "sse", **fields: Any
) -> AsyncIterator[tuple[Upstream, Listener, Turn]]:
    """An answer that has begun: one token of it has come through."""
    async with upstream() as one:
        url = f"http://127.0.0.1:{one.port}{PATHS[dialect]}"
        async with fronting(dialect, url, api_key="k") as relay, listening(relay, transport) as client:
            await asyncio.wait_for(one.asked.wait(), 5)
            one.write(HEAD + chunk(b": on it\n\n" + first(dialect) + token(dialect, "Hi", 0)))
            assert (await client.until("response.output_text.delta"))["delta"] == "Hi"
            (turn,) = relay.app.services.turns
            yield one, client, turn


EVERY = pytest.mark.parametrize("dialect", PATHS)
BOTH = pytest.mark.parametrize("transport", ["sse", "ws"])


@EVERY
@BOTH
def test_silence_is_broken_by_one_more_in_progress_every_15_seconds(dialect: str, transport: str) -> None:
    async def silent() -> None:
        async with talking(dialect, transport) as (one, client, turn):
            now = asyncio.get_running_loop().time()
            assert not turn.silent_since(now)
            for count in (1, 2):
                assert not turn.silent_since(now + 14.9)
                assert turn.silent_since(now + 15.1)
                await turn.break_silence()
                alive = await client.event()
                begun = client.events[1]
                assert begun["type"] == alive["type"] == "response.in_progress"
                assert {**alive, "sequence_number": 1} == begun
                assert (alive["response"]["output"], alive["response"]["usage"]) == ([], None)
                assert alive["sequence_number"] == len(client.events) - 1
                assert not turn.silent_since(asyncio.get_running_loop().time() + 14), count
                now = asyncio.get_running_loop().time()
            for number in range(1, 6):
                one.write(chunk(token(dialect, f" {number}", number)))
                await client.until("response.output_text.delta")
            one.write(
                chunk(token(dialect, " six", 6) + token(dialect, " seven", 7)) + chunk(ending(dialect)) + b"0\r\n\r\n"
            )
            last = await client.until("response.completed")
            assert last["response"]["output"][0]["content"][0]["text"] == "Hi 1 2 3 4 5 six seven"
            assert [event["sequence_number"] for event in client.events] == list(range(len(client.events)))
            others = [event for at, event in enumerate(client.events) if at == 1 or event["type"] != begun["type"]]
            oracle.check_stream([{**event, "sequence_number": number} for number, event in enumerate(others)])
            await until(lambda: not turn.services.turns)

    run(silent())


@EVERY
@BOTH
def test_an_upstreams_pings_are_silence(dialect: str, transport: str) -> None:
    async def pinged() -> None:
        async with talking(dialect, transport) as (one, client, turn):
            now = asyncio.get_running_loop().time()
            assert not turn.silent_since(now)
            for seconds in (5, 10, 14):
                one.write(chunk(PINGS[dialect] * 2))
                await asyncio.sleep(0.01)
                assert not turn.silent_since(now + seconds)
            assert turn.silent_since(now + 15)
            # and what is output is none
            one.write(chunk(token(dialect, " there", 1)))
            await client.until("response.output_text.delta")
            assert not turn.silent_since(now + 15)
            assert not turn.silent_since(now + 29)
            assert turn.silent_since(now + 30)

    run(pinged())


def test_nothing_is_said_before_the_first_event_nor_after_the_last_nor_to_a_stalled_client() -> None:
    async def quiet() -> None:
        async with talking("chat") as (one, client, turn):
            now = asyncio.get_running_loop().time()
            assert not turn.silent_since(now)
            turn._sending = True  # it waits for a client that takes nothing
            assert not turn.silent_since(now + 100)
            turn._sending = False
            assert not turn.silent_since(now + 114)
            assert turn.silent_since(now + 115)
            one.write(chunk(CHAT.reason("stop") + b"data: [DONE]\n\n") + b"0\r\n\r\n")
            await client.until("response.completed")
            assert not turn.silent_since(now + 1000)
            await turn.break_silence()  # looked at before the end, run after it
            assert client.events[-1]["type"] == "response.completed"

    run(quiet())


def test_a_json_client_waits() -> None:
    async def waits() -> None:
        async with upstream() as one, fronting("chat", f"http://127.0.0.1:{one.port}/v1") as relay:
            client = await Client.connect(relay.port)
            client.write(post({"model": "m", "input": "hi"}))
            await asyncio.wait_for(one.asked.wait(), 5)
            (turn,) = relay.app.services.turns
            assert not turn.silent_since(turn.started_at + 1000)
            client.leave()

    run(waits())


def test_a_tier_that_came_later_is_not_in_it() -> None:
    """It equals the first."""

    async def tiered() -> None:
        async with talking("chat") as (one, client, turn):
            one.write(chunk(data({"service_tier": "flex", "choices": [{"index": 0, "delta": {"content": "!"}}]})))
            await client.until("response.output_text.delta")
            await turn.break_silence()
            alive = await client.event()
            assert {**alive, "sequence_number": 1} == client.events[1]

    run(tiered())


def test_what_an_upstream_runs_by_itself_keeps_every_number() -> None:
    """Its events can be asked for again by their numbers: a comment is all that is put in (decision 59)."""

    def numbered(kind: str, number: int, status: str = "", **fields: Any) -> bytes:
        response = {"id": "resp_up", "object": "response", "status": status, "output": []}
        more = {**fields, "response": response} if status else fields
        return data({"type": kind, **more, "sequence_number": number}, kind)

    async def kept() -> None:
        async with upstream() as one:
            url = f"http://127.0.0.1:{one.port}/v1"
            async with fronting("responses", url, api_key="k", state="upstream") as relay:
                client = await Client.connect(relay.port)
                client.write(post({"model": "m", "input": "hi", "stream": True, "background": True}))
                await asyncio.wait_for(one.asked.wait(), 5)
                (turn,) = relay.app.services.turns
                opening = numbered("response.created", 0, "queued") + numbered("response.queued", 1, "queued")
                one.write(HEAD + chunk(opening))
                await until(lambda: turn._ready())
                await turn.break_silence()  # committed by the clock, with what has come
                one.write(chunk(numbered("keepalive", 2) + numbered("response.in_progress", 3, "in_progress")))
                one.write(chunk(numbered("keepalive", 4)))
                await client.reader.readuntil(b'"sequence_number": 4}\n\n')
                await turn.break_silence()
                await client.reader.readuntil(b": keep-alive\n\n")
                item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "in_progress", "content": []}
                one.write(chunk(numbered("response.output_item.added", 5, output_index=0, item=item)))
                done = {**item, "status": "completed"}
                one.write(chunk(numbered("response.output_item.done", 11, output_index=0, item=done)))
                one.write(chunk(numbered("response.completed", 12, "completed")) + b"0\r\n\r\n")
                rest = await client.reader.readuntil(b"[DONE]\n\n")
                events = [orjson.loads(line[6:]) for line in rest.split(b"\n") if line.startswith(b"data: {")]
                assert [(event["type"], event["sequence_number"]) for event in events] == [
                    ("response.output_item.added", 5),
                    ("response.output_item.done", 11),
                    ("response.completed", 12),
                ]

    run(kept())
