"""``Answer.push``: arrivals are consumed in the socket's own callback; nothing is lost between push and read."""

from __future__ import annotations

import asyncio

import pytest

from relay.errors import RelayError
from relay.upstream import Client, Timeouts, parse_url
from tests.app.upstreams import HEAD, chunk, upstream
from tests.support import run, until


async def opened(port: int, client: Client, timeouts: Timeouts | None = None) -> object:
    origin, target = parse_url(f"http://127.0.0.1:{port}/")
    return await client.request(origin, "POST", target, [], b"{}", timeouts or Timeouts())


def test_push_and_read_take_turns() -> None:
    async def follow() -> None:
        client = Client()
        async with upstream() as one:
            asking = asyncio.create_task(opened(one.port, client))
            await one.asked.wait()
            one.write(HEAD + chunk(b"a"))
            answer = await asking
            assert await answer.read() == b"a"  # type: ignore[attr-defined]
            got: list[bytes] = []

            def consume(data: bytes) -> bool:
                got.append(data)
                return len(got) < 3

            pushing = asyncio.create_task(answer.push(consume))  # type: ignore[attr-defined]
            await asyncio.sleep(0)
            for number, text in enumerate((b"b", b"c", b"d")):
                one.write(chunk(text))
                await until(lambda number=number: len(got) == number + 1)
            await pushing
            assert got == [b"b", b"c", b"d"]
            one.write(chunk(b"e"))
            await until(lambda: answer._pieces)  # type: ignore[attr-defined]
            await answer.push(consume)  # type: ignore[attr-defined]  # what waits is for read
            assert await answer.read() == b"e"  # type: ignore[attr-defined]
            pushing = asyncio.create_task(answer.push(lambda data: not got.append(data)))  # type: ignore[attr-defined]
            await asyncio.sleep(0)
            one.write(chunk(b"f") + b"0\r\n\r\n")
            await pushing
            assert got[-1] == b"f"
            assert await answer.read() == b""  # type: ignore[attr-defined]
            answer.close()  # type: ignore[attr-defined]
        await client.aclose()

    run(follow())


@pytest.mark.parametrize("how", ["cut", "silence", "consumer", "cancel"])
def test_failures_are_raised_where_push_is_awaited(how: str) -> None:
    async def fail() -> None:
        client = Client()
        async with upstream() as one:
            asking = asyncio.create_task(opened(one.port, client, Timeouts(5, 5, 0.05)))
            await one.asked.wait()
            one.write(HEAD + chunk(b"a"))
            answer = await asking
            await answer.read()  # type: ignore[attr-defined]

            def consume(data: bytes) -> bool:
                raise RelayError("output_too_large", "over the bound")

            pushing = asyncio.create_task(answer.push(consume))  # type: ignore[attr-defined]
            await asyncio.sleep(0)
            if how == "cut":
                assert one.writer is not None
                one.writer.transport.abort()
            elif how == "consumer":
                one.write(chunk(b"b"))
            elif how == "cancel":
                pushing.cancel()
            if how == "cancel":
                with pytest.raises(asyncio.CancelledError):
                    await pushing
            elif how == "consumer":
                with pytest.raises(RelayError, match="over the bound"):
                    await pushing
            else:
                await pushing  # what went wrong is for read to say
                with pytest.raises(RelayError):
                    await answer.read()  # type: ignore[attr-defined]
            answer.close()  # type: ignore[attr-defined]
        await client.aclose()

    run(fail())


def test_an_inflated_body_is_read_and_not_pushed() -> None:
    async def follow() -> None:
        client = Client()
        async with upstream() as one:
            asking = asyncio.create_task(opened(one.port, client))
            await one.asked.wait()
            one.write(HEAD.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n"))
            answer = await asking
            await answer.push(lambda data: True)  # type: ignore[attr-defined]
            answer.close()  # type: ignore[attr-defined]
        await client.aclose()

    run(follow())
