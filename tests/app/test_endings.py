"""How a turn ends: at the upstream's own end at once, else so long after the reason for the end (decision 44).

The clock is moved, never waited for; upstream and client are sockets.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from tests.app.clocks import Clock
from tests.app.sockets import connected
from tests.app.support import PATHS, Relay, fronting, post
from tests.app.upstreams import HEAD, chunk
from tests.providers.speech import CHAT, SPEECHES, Speech, data
from tests.server.support import Client
from tests.support import run, until
from tests.upstream.scripted import Peer, Server
from tests.upstream.scripted import serving as scripted

Json = dict[str, Any]
EVERY = pytest.mark.parametrize("dialect", SPEECHES)
TRANSPORTS = pytest.mark.parametrize("transport", ["json", "sse", "ws"])

LAST = b"0\r\n\r\n"
"""The last chunk: the body's clean end."""


class Stage:
    """One relay before one upstream; ``begin`` asks, ``say`` answers piece by piece, ``end`` is what the client got."""

    relay: Relay
    server: Server

    def __init__(self, speech: Speech | None) -> None:
        self.clock = Clock()
        self.speech = speech or CHAT
        self.requests = 0

    async def answer(self, peer: Peer) -> None:
        """The upstream: a head for each request; the test says the rest."""
        while True:
            await peer.request()
            await peer.send(HEAD)
            self.requests += 1

    async def asked(self, count: int = 1) -> None:
        """``count`` requests have come in all."""
        await until(lambda: self.requests == count)

    @property
    def peer(self) -> Peer:
        return self.server.peers[-1]

    def begin(self, transport: str = "sse", **fields: Any) -> asyncio.Task[Json]:
        """The terminal event or the HTTP error, as ``{"type": …, "response": …}`` or ``{"type": "error", …}``."""
        return asyncio.create_task(ASK[transport](self.relay.port, fields))

    async def say(self, *pieces: bytes) -> None:
        """What the upstream writes, each piece a chunk of its own."""
        await self.peer.send(b"".join(map(chunk, pieces)))


async def _http(port: int, body: Json) -> tuple[int, bytes]:
    client = await Client.connect(port)
    client.write(post({"model": "m", "input": "hi", "store": False, **body}))
    answer = await client.answer()
    client.leave()
    return answer.status, answer.body


async def _json(port: int, fields: Json) -> Json:
    status, body = await _http(port, fields)
    content: Json = orjson.loads(body)
    if status != 200:
        return {"type": "error", "status": status, **content}
    return {"type": f"response.{content['status']}", "response": content}


async def _sse(port: int, fields: Json) -> Json:
    status, body = await _http(port, {"stream": True, **fields})
    if status != 200:
        return {"type": "error", "status": status, **orjson.loads(body)}
    last: Json = orjson.loads(body.split(b"\n\n")[-3].split(b"data: ")[1])
    return last


async def _ws(port: int, fields: Json) -> Json:
    async with connected(port) as socket:
        await socket.create(input="hi", **fields)
        return (await socket.events())[-1]


ASK: dict[str, Callable[[int, Json], Any]] = {"json": _json, "sse": _sse, "ws": _ws}


@asynccontextmanager
async def stage(dialect: str) -> AsyncIterator[Stage]:
    one = Stage(SPEECHES.get(dialect))
    async with scripted(one.answer) as one.server:
        url = f"http://127.0.0.1:{one.server.origin.port}{PATHS[dialect]}"
        async with fronting(dialect, url, services={"clock": one.clock}, api_key="k") as one.relay:
            yield one


def text_of(end: Json) -> str:
    items = end["response"]["output"]
    return "".join(part.get("text", "") for item in items for part in item.get("content") or [])


@EVERY
@TRANSPORTS
def test_silence_after_the_reason_is_an_end_after_two_seconds(dialect: str, transport: str) -> None:
    async def silent() -> None:
        async with stage(dialect) as one:
            task = one.begin(transport)
            await one.asked()
            speech = one.speech
            await one.say(speech.begin or b": ping\n\n", speech.text("Hi"), speech.text(" there"))
            await one.say(speech.reason(speech.stop))
            await until(lambda: one.clock.timers)
            assert one.clock.left_s == [2.0]
            one.clock.pass_by(1.9)
            assert not task.done()
            one.clock.pass_by(0.1)
            end = await task
            assert (end["type"], text_of(end)) == ("response.completed", "Hi there")
            await one.peer.left()  # its connection is closed, not kept
            assert not one.clock.timers

    run(silent())


@EVERY
@TRANSPORTS
def test_the_reason_before_any_output_leaves_ten_seconds(dialect: str, transport: str) -> None:
    async def silent() -> None:
        async with stage(dialect) as one:
            task = one.begin(transport)
            await one.asked()
            await one.say(one.speech.begin or b": ping\n\n", one.speech.reason(one.speech.stop))
            await until(lambda: one.clock.timers)
            assert one.clock.left_s == [10.0]
            one.clock.pass_by(10)
            end = await task
            assert (end["type"], end["response"]["output"]) == ("response.completed", [])

    run(silent())


@EVERY
def test_pings_do_not_put_the_end_off(dialect: str) -> None:
    async def pinged() -> None:
        async with stage(dialect) as one:
            task = one.begin()
            await one.asked()
            speech = one.speech
            await one.say(speech.begin or b": ping\n\n", speech.text("Hi"), speech.reason(speech.stop))
            await until(lambda: one.clock.timers)
            for _ in range(4):
                one.clock.pass_by(0.4)
                await one.say(speech.again)
            await until(lambda: one.peer.writer.transport.get_write_buffer_size() == 0)
            one.clock.pass_by(0.4)
            assert (await task)["type"] == "response.completed"
            assert one.clock.begun == 1

    run(pinged())


@EVERY
@pytest.mark.parametrize("how", ["the last chunk", "no last chunk", "a reset", "no chunk", "a half event"])
@TRANSPORTS
def test_however_the_body_ends_after_the_reason_it_is_the_end(dialect: str, how: str, transport: str) -> None:
    async def cut() -> None:
        async with stage(dialect) as one:
            task = one.begin(transport)
            await one.asked()
            speech = one.speech
            await one.say(speech.begin or b": ping\n\n", speech.text("Hi"), speech.reason(speech.stop))
            await until(lambda: one.clock.timers)
            await _end_with(one, how)
            end = await task
            assert (end["type"], text_of(end)) == ("response.completed", "Hi")
            assert not one.clock.timers

    run(cut())


async def _end_with(one: Stage, how: str) -> None:
    if how == "the last chunk":
        await one.peer.send(LAST)
    elif how == "a reset":
        one.peer.reset()
    elif how == "no chunk":
        await one.peer.send(b"that is no chunk\r\n")
    else:
        if how == "a half event":
            await one.peer.send(chunk(one.speech.reason(one.speech.limit)[:-8]))
        one.peer.writer.close()


@EVERY
@pytest.mark.parametrize("how", ["no last chunk", "a reset", "no chunk"])
@pytest.mark.parametrize("before", ["no reason", "a reason taken back"])
def test_a_cut_before_the_reason_is_a_failure(dialect: str, how: str, before: str) -> None:
    async def cut() -> None:
        async with stage(dialect) as one:
            task = one.begin()
            await one.asked()
            speech = one.speech
            await one.say(speech.begin or b": ping\n\n")
            if before == "a reason taken back":
                await one.say(speech.reason(speech.stop))
                await until(lambda: one.clock.timers)
            await one.say(speech.text("Hi"))
            if before == "a reason taken back":
                await until(lambda: not one.clock.timers)
            await _end_with(one, how)
            assert (await task)["type"] == "response.failed"

    run(cut())


def test_hasty_reasons_wait_for_what_follows() -> None:
    """STOP in every chunk, text after pauses (BerriAI/litellm#2195)."""

    async def hasty() -> None:
        async with stage("gemini") as one:
            task = one.begin()
            await one.asked()
            for number, piece in enumerate(["", "Hel", "lo", "!"]):
                await one.say(one.speech.reason("STOP", piece))
                await until(lambda count=number + 1: one.clock.begun == count)  # type: ignore[misc]
                one.clock.pass_by(9.9)
                assert not task.done()
            one.clock.pass_by(0.1)
            end = await task
            assert (end["type"], text_of(end)) == ("response.completed", "Hello!")

    run(hasty())


@TRANSPORTS
def test_usage_and_errors_may_come_late(transport: str) -> None:
    async def late(error: bool) -> Json:
        async with stage("chat") as one:
            task = one.begin(transport)
            await one.asked()
            await one.say(CHAT.begin, CHAT.text("Hi"), CHAT.reason("stop"))
            await until(lambda: one.clock.timers)
            one.clock.pass_by(1)
            usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
            await one.say(CHAT.error if error else data({"choices": [], "usage": usage}))
            if not error:
                await one.say(b"data: [DONE]\n\n")
            return await task

    end = run(late(error=False))
    assert (end["type"], end["response"]["usage"]["total_tokens"]) == ("response.completed", 12)
    failed = run(late(error=True))
    assert failed["type"] == ("error" if transport == "json" else "response.failed")


def test_a_pause_that_goes_silent_is_asked_on() -> None:
    async def paused() -> None:
        async with stage("anthropic") as one:
            task = one.begin()
            await one.asked()
            speech = one.speech
            await one.say(speech.begin, speech.text("Hi"), speech.reason("pause_turn"))
            await until(lambda: one.clock.timers)
            one.clock.pass_by(2)
            await one.asked(2)
            await one.say(
                speech.begin, speech.text(" there"), speech.reason(speech.stop), data({"type": "message_stop"})
            )
            end = await task
            assert (end["type"], text_of(end)) == ("response.completed", "Hi there")

    run(paused())


def test_of_answers_side_by_side_each_waits_by_itself() -> None:
    async def both() -> None:
        async with stage("chat") as one:
            task = one.begin(n=2)
            await one.asked(2)
            first, second = one.server.peers
            for peer in (first, second):
                await peer.send(chunk(CHAT.begin + CHAT.text("Hi") + CHAT.reason("stop")))
            await until(lambda: len(one.clock.timers) == 2)
            await first.send(chunk(b"data: [DONE]\n\n"))
            await until(lambda: len(one.clock.timers) == 1)
            assert not task.done()
            one.clock.pass_by(2)
            end = await task
            assert (end["type"], text_of(end)) == ("response.completed", "HiHi")

    run(both())


@EVERY
@TRANSPORTS
def test_an_answer_that_ends_by_itself_waits_for_nothing(dialect: str, transport: str) -> None:
    """And its connection is kept: no timer is even begun where the end comes with the reason."""
    marks = {"chat": b"data: [DONE]\n\n", "anthropic": data({"type": "message_stop"}), "gemini": b""}

    async def prompt() -> None:
        async with stage(dialect) as one:
            speech = one.speech
            for number in (1, 2):
                task = one.begin(transport)
                await one.asked(number)
                whole = speech.begin + speech.text("Hi") + speech.reason(speech.stop) + marks[dialect]
                await one.peer.send(chunk(whole) + LAST)
                assert (await task)["type"] == "response.completed"
            assert one.server.accepted == 1
            assert one.clock.begun == (2 if dialect == "gemini" else 0)
            assert not one.clock.timers

    run(prompt())


@pytest.mark.parametrize("late", [True, False], ids=["the reason comes", "none comes"])
@TRANSPORTS
def test_a_native_failure_without_details_waits_for_its_reason(late: bool, transport: str) -> None:
    """Azure says why in the frame behind it (earendil-works/pi#7983): decision 46."""

    async def failing() -> Json:
        async with stage("responses") as one:
            task = one.begin(transport)
            await one.asked()
            await one.say(data({"type": "response.failed", "response": {"status": "failed", "error": None}}))
            await until(lambda: one.clock.timers)
            assert one.clock.left_s == [1.0]
            assert not task.done()
            if late:
                error = {"code": "rate_limit_exceeded", "message": "Slow down"}
                await one.say(data({"type": "error", "error": error}))
            else:
                one.clock.pass_by(1)
            return await task

    end = run(failing())
    assert (end["type"], end["status"]) == ("error", 429 if late else 500)
