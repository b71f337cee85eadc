"""With one upstream write at a time, each delta reaches the client before the next upstream write (design.md §2)."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
import websockets

from relay.providers.registry import PROVIDERS
from tests.app.support import PATHS, fronting, post
from tests.app.upstreams import HEAD, chunk, first, token, upstream
from tests.server.support import PARSERS, Client
from tests.support import run, until

TOKENS = 8


@pytest.mark.parametrize("server", [*PARSERS, "uvicorn"])
@pytest.mark.parametrize("sink", ["SSE", "WebSocket"])
@pytest.mark.parametrize("dialect", sorted(PROVIDERS))
def test_each_token_arrives_before_the_next_is_written(dialect: str, sink: str, server: str) -> None:
    async def follow() -> None:
        async with upstream() as one:
            foreign = server == "uvicorn"
            url = f"http://127.0.0.1:{one.port}{PATHS[dialect]}"
            async with fronting(dialect, url, http="auto" if foreign else server, foreign=foreign) as relay:
                reader, close = await (_sse if sink == "SSE" else _socket)(relay.port)
                await asyncio.wait_for(one.asked.wait(), 5)
                one.write(HEAD + chunk(first(dialect)) if first(dialect) else HEAD)
                for number in range(TOKENS):
                    one.write(chunk(token(dialect, f"token{number} ", number)))
                    # nothing else is written until this token has come out
                    async with asyncio.timeout(5):
                        while (await reader()).get("delta") != f"token{number} ":
                            pass
                await close()

    run(follow())


async def _sse(port: int) -> Any:
    client = await Client.connect(port)
    client.write(post({"model": "m", "input": "hi", "stream": True}))

    async def event() -> dict[str, Any]:
        while True:
            line = await client.reader.readline()
            if line.startswith(b"data: {"):
                content: dict[str, Any] = orjson.loads(line[6:])
                return content

    async def close() -> None:
        client.reset()

    return event, close


async def _socket(port: int) -> Any:
    socket = await websockets.connect(f"ws://127.0.0.1:{port}/v1/responses", proxy=None)
    await socket.send(orjson.dumps({"type": "response.create", "model": "m", "input": "hi"}).decode())

    async def event() -> dict[str, Any]:
        content: dict[str, Any] = orjson.loads(await socket.recv())
        return content

    return event, socket.close


def test_one_client_write_per_upstream_read() -> None:
    """However many events an upstream read holds, they leave in one ASGI send."""

    async def count() -> None:
        sends: list[int] = []
        async with upstream() as one, fronting("chat", f"http://127.0.0.1:{one.port}/v1") as relay:
            assert relay.server is not None
            client = await Client.connect(relay.port)
            inner = relay.app.services.turns
            client.write(post({"model": "m", "input": "hi", "stream": True}))
            await one.asked.wait()
            (turn,) = inner
            send = turn.attachment._send  # type: ignore[attr-defined]

            async def counted(message: dict[str, Any]) -> None:
                sends.append(len(message.get("body", b"")))
                await send(message)

            turn.attachment._send = counted  # type: ignore[attr-defined]
            many = b"".join(token("chat", "x ", number) for number in range(64))
            one.write(HEAD + chunk(first("chat") + many))
            text = await client.reader.readuntil(b'"sequence_number":67}')
            assert text.count(b"event: response.output_text.delta") == 64
            assert len(sends) == 2  # the head, and all events in one body
            assert text.count(b"\r\n") <= 12  # one chunk on the wire: its size line and the head's lines

    run(count())


_WHOLE: dict[str, list[tuple[str | None, dict[str, Any] | bytes]]] = {
    "chat": [(None, {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}), (None, b"[DONE]")],
    "anthropic": [
        ("content_block_stop", {"type": "content_block_stop", "index": 0}),
        ("message_delta", {"type": "message_delta", "delta": {"stop_reason": "pause_turn"}, "usage": {}}),
        ("message_stop", {"type": "message_stop"}),
    ],
}


@pytest.mark.parametrize(("dialect", "answers"), [("chat", 2), ("anthropic", 1)], ids=["n answers", "pause_turn"])
def test_an_answer_in_one_read_does_not_wait_for_the_next_call(dialect: str, answers: int) -> None:
    """The end of an upstream's answer is not the end of the response: what it said is shown meanwhile."""

    async def follow() -> None:
        async with (
            upstream() as one,
            fronting(dialect, f"http://127.0.0.1:{one.port}{PATHS[dialect]}") as relay,
        ):
            client = await Client.connect(relay.port)
            client.write(post({"model": "m", "input": "hi", "stream": True, "n": answers}))
            await until(lambda: one.connections == answers)
            await one.asked.wait()
            end = b"".join(
                (f"event: {name}\n".encode() if name else b"")
                + b"data: %b\n\n" % (data if isinstance(data, bytes) else orjson.dumps(data))
                for name, data in _WHOLE[dialect]
            )
            one.write(HEAD + chunk(first(dialect) + token(dialect, "shown", 0) + end) + b"0\r\n\r\n")
            async with asyncio.timeout(5):
                text = await client.reader.readuntil(b'"delta":"shown"')
            assert b"response.output_item.added" in text
            client.reset()

    run(follow())
