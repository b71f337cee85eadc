"""The bytes of bodies that are being received have a bound in all, and owners have shares of it."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.app.receiving import Receiving
from relay.errors import RelayError
from tests.app.support import post, relaying
from tests.server.support import Client
from tests.support import run, until


def test_everything_is_taken_within_the_limit_and_the_largest_is_refused_beyond() -> None:
    account = Receiving(100)
    account.take("a", 60)
    account.take("b", 40)
    with pytest.raises(RelayError) as refused:
        account.take("a", 1)
    assert (refused.value.status, refused.value.code, refused.value.retry_after_s) == (503, "server_overloaded", 1)
    account.take("b", 10)  # its share is 50
    with pytest.raises(RelayError):
        account.take("b", 1)
    account.let_go("a", 60)
    account.take("b", 50)
    assert account.total_bytes == 100


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.integers(1, 40)), max_size=80))
def test_all_hold_at_most_twice_the_limit_and_the_account_is_right(pieces: list[tuple[str, int]]) -> None:
    account, held = Receiving(100), dict.fromkeys("abcde", 0)
    for owner, count in pieces:
        try:
            account.take(owner, count)
        except RelayError:
            continue
        held[owner] += count
        assert account.total_bytes == sum(held.values()) <= 200
    for owner, count in held.items():
        account.let_go(owner, count)
    assert account.total_bytes == 0
    account.take("a", 100)


async def _begun(port: int, body: bytes, sent: int) -> Client:
    """A request of which ``sent`` bytes of the body have gone out."""
    client = await Client.connect(port)
    whole = post(orjson.loads(body), "Connection: close")
    client.write(whole[: len(whole) - len(body) + sent])
    return client


def test_an_upload_too_many_is_refused_and_one_that_ends_makes_room() -> None:
    async def main() -> None:
        async with relaying(server={"max_body_bytes": 1_000_000}) as relay:
            receiving: Any = relay.app.services.receiving
            body = orjson.dumps({"model": "demo", "input": "x" * 900_000})
            clients = [await _begun(relay.port, body, 890_000) for _ in range(8)]
            await until(lambda: receiving.total_bytes == 8 * 890_000)
            late = await _begun(relay.port, body, 890_000)
            answer = await asyncio.wait_for(late.reader.read(), 5)
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: 1" in answer.lower()
            assert b"server_overloaded" in answer
            for client in clients:
                client.writer.transport.abort()
            await until(lambda: receiving.total_bytes == 0)
            client = await Client.connect(relay.port)
            client.write(post({"model": "demo", "input": "x" * 900_000}, "Connection: close"))
            assert (await asyncio.wait_for(client.reader.read(), 5)).startswith(b"HTTP/1.1 200 ")
            assert receiving.total_bytes == 0

    run(main())
