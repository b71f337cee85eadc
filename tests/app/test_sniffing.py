"""Bytes before labels: whatever an upstream calls its body, its first bytes say what it is (decision 50).

Seen in the world: openclaw/openclaw#96497 (SSE labelled as JSON), Wei-Shaw/sub2api#2826 (as plain text).
"""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from tests.app.support import PATHS, fronting, post
from tests.app.upstreams import chunk, first, token
from tests.providers.speech import SPEECHES
from tests.providers.test_waits import BODIES
from tests.server.support import Answer, Client
from tests.support import run
from tests.upstream.scripted import Peer
from tests.upstream.scripted import serving as scripted

LABELS = ["text/event-stream", "application/json; charset=utf-8", "text/plain", None, "application/octet-stream"]
BEFORE = [b"", b"\xef\xbb\xbf", b"\n\r\n \n"]

RESPONSE = {
    "id": "resp_up",
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "output": [
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Hi", "annotations": []}],
        }
    ],
}


def stream_of(dialect: str) -> bytes:
    if dialect == "responses":
        event = b"data: " + orjson.dumps({"type": "response.completed", "response": {"status": "completed"}})
        return first(dialect) + token(dialect, "Hi", 0) + event + b"\n\n"
    speech = SPEECHES[dialect]
    end = b'data: {"type": "message_stop"}\n\n' if dialect == "anthropic" else b""
    return speech.begin + speech.text("Hi") + speech.reason(speech.stop) + end


def body_of(dialect: str) -> bytes:
    reasons = {"chat": "stop", "anthropic": "end_turn", "gemini": "STOP"}
    return orjson.dumps(RESPONSE if dialect == "responses" else BODIES[dialect](reasons[dialect], 2))


async def asked(
    dialect: str,
    body: bytes,
    label: str | None,
    *,
    stream: bool,
    step: int = 0,
    end: bytes = b"0\r\n\r\n",
    status: int = 200,
) -> Answer:
    """The relay's answer where the upstream's body comes in writes of ``step`` bytes (0: one)."""

    async def script(peer: Peer) -> None:
        await peer.request()
        kind = f"content-type: {label}\r\n" if label else ""
        await peer.send(f"HTTP/1.1 {status} OK\r\n{kind}transfer-encoding: chunked\r\n\r\n".encode())
        for at in range(0, len(body), step or 100_000):
            await peer.send(chunk(body[at : at + (step or 100_000)]))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        await peer.send(end)
        peer.writer.close()

    async with scripted(script) as server:
        url = f"http://127.0.0.1:{server.origin.port}{PATHS[dialect]}"
        async with fronting(dialect, url, api_key="k") as relay:
            client = await Client.connect(relay.port)
            client.write(post({"model": "m", "input": "hi", "store": False, "stream": stream}))
            answer = await client.answer()
            client.leave()
            return answer


def final(answer: Answer, *, stream: bool) -> dict[str, Any]:
    content = answer.body.split(b"data: ")[-2] if stream else answer.body
    made = orjson.loads(content.strip())
    response: dict[str, Any] = made["response"] if stream else made
    return response


def text_of(response: dict[str, Any]) -> str:
    return "".join(part["text"] for item in response["output"] for part in item["content"])


@pytest.mark.parametrize("dialect", PATHS)
@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("stream", [True, False], ids=["sse", "json"])
@pytest.mark.parametrize("form", [stream_of, body_of], ids=["events", "body"])
def test_every_form_under_every_label(dialect: str, label: str | None, stream: bool, form: Any) -> None:
    answer = run(asked(dialect, form(dialect), label, stream=stream))
    assert answer.status == 200
    response = final(answer, stream=stream)
    assert (response["status"], text_of(response)) == ("completed", "Hi")


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("form", [stream_of, body_of], ids=["events", "body"])
@pytest.mark.parametrize("step", [0, 1, 2])
def test_marks_blanks_and_cuts_change_nothing(before: bytes, form: Any, step: int) -> None:
    answer = run(asked("chat", before + form("chat"), "text/plain", stream=True, step=step))
    assert text_of(final(answer, stream=True)) == "Hi"


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize(
    ("dialect", "body"),
    [
        ("chat", b'{"error": {"message": "no such model", "code": 404}}'),
        ("chat", b'[{"error": {"message": "no such model", "code": 404}}]'),
        ("chat", b'data: {"error": {"message": "no such model", "code": 404}}\n\n'),
        ("anthropic", b'{"type": "error", "error": {"type": "not_found_error", "message": "no such model"}}'),
        ("gemini", b'{"error": {"code": 404, "status": "NOT_FOUND", "message": "no such model"}}'),
        ("gemini", b'[{"error": {"code": 404, "status": "NOT_FOUND", "message": "no such model"}}]'),
        ("responses", b'{"error": {"code": "model_not_found", "message": "no such model"}}'),
    ],
)
def test_an_error_inside_a_success_keeps_its_meaning(label: str | None, dialect: str, body: bytes) -> None:
    answer = run(asked(dialect, body, label, stream=True))
    assert answer.status == 404


@pytest.mark.parametrize("label", LABELS)
def test_an_array_of_events(label: str | None) -> None:
    """``streamGenerateContent`` without ``alt=sse``."""
    parts = [BODIES["gemini"](None, 1), BODIES["gemini"]("STOP", 2)]
    answer = run(asked("gemini", orjson.dumps(parts), label, stream=True))
    assert text_of(final(answer, stream=True)) == "HiHi"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "body", [b"", b"<html><body>data: x</body></html>", b'"data: x"', b"null", b"dat", b"{", b"\n\n"]
)
@pytest.mark.parametrize("label", LABELS)
def test_what_is_neither_is_a_bad_response(body: bytes, label: str | None, stream: bool) -> None:
    answer = run(asked("chat", body, label, stream=stream))
    assert (answer.status, orjson.loads(answer.body)["error"]["code"]) == (502, "upstream_bad_response")


@pytest.mark.parametrize("end", [b"", b"no chunk\r\n"])
def test_a_body_that_came_whole_before_its_end_was_cut(end: bytes) -> None:
    """Decision 44: without a reason too."""
    answer = run(asked("chat", orjson.dumps(BODIES["chat"](None, 2)), "application/json", stream=False, end=end))
    assert text_of(final(answer, stream=False)) == "Hi"
    answer = run(asked("chat", body_of("chat")[:-1], "application/json", stream=False, end=end))
    assert answer.status == 502


def test_any_success_is_one() -> None:
    answer = run(asked("chat", stream_of("chat"), None, stream=True, status=201))
    assert text_of(final(answer, stream=True)) == "Hi"
