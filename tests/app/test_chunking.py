"""The same bytes give the same answer, however the network cut them (decision 47): status and events, on sockets."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.app.sockets import connected
from tests.app.support import PATHS, Relay, fronting, post
from tests.app.upstreams import HEAD, chunk
from tests.providers.speech import SPEECHES, data
from tests.server.support import Client
from tests.support import run
from tests.upstream.scripted import Peer
from tests.upstream.scripted import serving as scripted

GOLDENS = sorted((Path(__file__).parent.parent / "golden").glob("*/*.in"))
DIALECTS = {"openai": "responses"}
"""Folder of goldens -> dialect, where they differ."""

ALL = ("sse", "ws", "json")

Told = tuple[int, Any]


class Playing:
    """One relay before an upstream that answers every request with ``pieces``, each in a write of its own."""

    relay: Relay

    def __init__(self) -> None:
        self.pieces: Iterable[bytes] = ()
        self.ids = itertools.count()

    def new_id(self, prefix: str) -> str:
        return f"{prefix}_{next(self.ids):024x}"

    async def answer(self, peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(HEAD)
            for piece in self.pieces:
                await peer.send(chunk(piece))
                for _ in range(3):  # the relay reads it before the next is written
                    await asyncio.sleep(0)
            await peer.send(b"0\r\n\r\n")

    async def told(self, transport: str, pieces: Iterable[bytes]) -> Told:
        """What the client gets: the status and the body, or the messages."""
        self.pieces = [piece for piece in pieces if piece]
        self.ids = itertools.count()
        body = {"model": "m", "input": "hi", "store": False, "stream": transport == "sse"}
        if transport == "ws":
            async with connected(self.relay.port) as socket:
                await socket.create(input="hi", reasoning={"summary": "auto"})
                return 101, await socket.events()
        client = await Client.connect(self.relay.port)
        client.write(post({**body, "reasoning": {"summary": "auto"}}))
        answer = await client.answer()
        client.leave()
        return answer.status, answer.body


@asynccontextmanager
async def playing(dialect: str) -> AsyncIterator[Playing]:
    one = Playing()
    async with scripted(one.answer) as server:
        url = f"http://127.0.0.1:{server.origin.port}{PATHS[dialect]}"
        services = {"new_id": one.new_id, "now": lambda: 1_700_000_000}
        async with fronting(dialect, url, services=services, api_key="k") as one.relay:
            yield one


def cut(body: bytes, places: Iterable[int]) -> list[bytes]:
    places = sorted(place % (len(body) + 1) for place in places)
    return [body[start:end] for start, end in zip([0, *places], [*places, len(body)], strict=True)]


@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: f"{path.parent.name}-{path.stem}")
@given(
    places=st.lists(st.integers(0, 100_000), min_size=1, max_size=12), transport=st.sampled_from(["sse", "ws", "json"])
)
@settings(max_examples=12)
def test_goldens_in_random_cuts(path: Path, places: list[int], transport: str) -> None:
    body = path.read_bytes()

    async def play() -> tuple[Told, Told]:
        async with playing(DIALECTS.get(path.parent.name, path.parent.name)) as one:
            return await one.told(transport, [body]), await one.told(transport, cut(body, places))

    whole, in_pieces = run(play())
    assert whole == in_pieces


NATIVE = [
    data({"type": "response.created", "response": {"id": "resp_up", "object": "response", "status": "in_progress"}}),
    data(
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {"type": "message", "id": "msg_1", "role": "assistant", "status": "in_progress", "content": []},
        }
    ),
    data({"type": "error", "error": {"code": "server_error", "message": "boom"}}),
]

STREAMS = {
    # name: dialect, the events, the status at a client that streams
    "a ping and an error": ("chat", [b": ping\n\n", SPEECHES["chat"].error], 500),
    **{
        f"{dialect}: an error alone": (dialect, [b": ping\n\n", speech.error], 500)
        for dialect, speech in SPEECHES.items()
    },
    **{
        f"{dialect}: a beginning and an error": (dialect, [speech.begin, speech.error], 200 if speech.begin else 500)
        for dialect, speech in SPEECHES.items()
    },
    **{
        f"{dialect}: text and an error": (dialect, [speech.begin, speech.text("Hi"), speech.error], 200)
        for dialect, speech in SPEECHES.items()
    },
    **{
        f"{dialect}: text and nonsense": (dialect, [speech.begin, speech.text("Hi"), b"data: {\n\n"], 200)
        for dialect, speech in SPEECHES.items()
    },
    **{
        f"{dialect}: nonsense": (dialect, [b"data: {\n\n", speech.text("Hi")], 502)
        for dialect, speech in SPEECHES.items()
    },
    **{
        f"{dialect}: text and an unknown reason": (
            dialect,
            [speech.begin, speech.text("Hi"), speech.reason("exploded"), data({"type": "message_stop"})],
            200,
        )
        for dialect, speech in SPEECHES.items()
    },
    **{
        f"{dialect}: text and no reason": (dialect, [speech.begin, speech.text("Hi")], 200)
        for dialect, speech in SPEECHES.items()
    },
    "reasoning and an error": (
        "chat",
        [data({"choices": [{"index": 0, "delta": {"reasoning_content": "hm"}}]}), SPEECHES["chat"].error],
        200,
    ),
    "native: opened and an error": ("responses", [NATIVE[0], NATIVE[2]], 500),
    "native: an item and an error": ("responses", NATIVE, 200),
    "native: opened and no more": ("responses", NATIVE[:1], 502),
    "native: an item and no more": ("responses", NATIVE[:2], 200),
}


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("transport", ALL)
def test_an_error_is_a_status_only_where_nothing_was_said_before_it(name: str, transport: str) -> None:
    dialect, events, status = STREAMS[name]
    body = b"".join(events)

    async def play() -> list[Told]:
        async with playing(dialect) as one:
            feedings = [[body], events, [body[at : at + 1] for at in range(len(body))]]
            return [await one.told(transport, pieces) for pieces in feedings]

    told = run(play())
    assert told[0] == told[1] == told[2]
    seen, said = told[0]
    if transport == "json":
        assert seen in (status, 500, 502)
        assert orjson.loads(said)["error"]["message"]
    elif transport == "sse":
        assert seen == status
        assert (b"event: response.failed" in said) == (status == 200)
    else:
        last = said[-1]
        assert last["type"] == ("response.failed" if status == 200 else "error")
        assert last.get("status", 200) == status
