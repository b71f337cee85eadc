"""What an upstream that keeps responses gets as the client sent it, and what it never gets."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from relay.app.compaction import compaction_fields
from tests.app.support import fronting, post
from tests.server.support import Client
from tests.support import run

ANSWER = {
    "id": "resp_up",
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "model": "m",
    "output": [],
    "usage": None,
}


def heard(body: dict[str, Any], **upstream: Any) -> tuple[int, dict[str, Any]]:
    """The relay's status, and the body that the upstream got (empty if none)."""
    seen: dict[str, Any] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        seen.update(orjson.loads(await reader.readexactly(length)))
        content = orjson.dumps(ANSWER)
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            % (len(content), content)
        )
        await writer.drain()
        writer.close()

    async def ask() -> int:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            async with fronting(
                "responses", f"http://127.0.0.1:{port}/v1", **{"state": "upstream", **upstream}
            ) as relay:
                client = await Client.connect(relay.port)
                client.write(post(body))
                return (await client.answer()).status
        finally:
            server.close()

    return run(ask()), seen


def test_a_prompt_of_the_upstreams_own_passes() -> None:
    prompt = {"id": "pmpt_1", "version": "2", "variables": {"a": "b"}}
    status, body = heard({"model": "m", "prompt": prompt})
    assert status == 200
    assert body["prompt"] == prompt


def test_a_prompt_that_nobody_has_is_not_found() -> None:
    status, body = heard({"model": "m", "input": "hi", "prompt": {"id": "pmpt_1"}}, state="relay")
    assert (status, body) == (404, {})


def test_without_prompt_an_input_is_needed() -> None:
    assert heard({"model": "m"}) == (400, {})


@pytest.mark.parametrize("ours", [True, False])
def test_a_compaction_passes_unless_a_relay_made_it(ours: bool) -> None:
    item = compaction_fields("m", "the story so far") if ours else {"type": "compaction", "encrypted_content": "gAAA"}
    said = [{"role": "user", "content": "old"}, item, {"role": "user", "content": "go on"}]
    status, body = heard({"model": "m", "input": said})
    assert status == 200
    if ours:
        texts = [part["text"] for one in body["input"] for part in one["content"]]
        assert texts[0] == "old"
        assert texts[1].endswith("the story so far")
        assert texts[2] == "go on"
    else:
        assert body["input"][1]["encrypted_content"] == "gAAA"
