"""Upstreams that refuse: what is tried once more, what the client is told (decisions 46, 60; translation.md §5)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, NamedTuple

import orjson
import pytest

from tests.app.support import DIALECTS, fronting, post
from tests.server.support import Client
from tests.support import run

NOW = 1_795_780_800  # 2026-11-27T12:00:00Z
OPENED = {
    "id": "resp_up",
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "model": "m",
    "output": [
        {
            "id": "msg_up",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "ok", "annotations": []}],
        }
    ],
    "usage": None,
}
UNSEALED = {"message": "The encrypted content gAAA...her could not be verified.", "type": "invalid_request_error"}
CODED = {"error": {**UNSEALED, "param": None, "code": "invalid_encrypted_content"}}


class Says(NamedTuple):
    """One answer of the upstream."""

    body: Any
    status: int = 200
    headers: tuple[str, ...] = ()
    events: bool = False

    def wire(self) -> bytes:
        content = self.body if isinstance(self.body, bytes) else orjson.dumps(self.body)
        if self.events:
            content = b"data: " + content + b"\n\n"
        kind = "text/event-stream" if self.events else "application/json"
        lines = [f"HTTP/1.1 {self.status} X", f"content-type: {kind}", f"content-length: {len(content)}", *self.headers]
        return "\r\n".join([*lines, "connection: close", "", ""]).encode() + content


class Told(NamedTuple):
    """What the client got, and the bodies that the upstream got."""

    status: int
    headers: dict[str, str]
    body: Any
    asked: list[dict[str, Any]]


def _parsed(body: bytes) -> Any:
    """The JSON of an answer; of a stream the last Response."""
    if not body.startswith(b"event:"):
        return orjson.loads(body)
    datas = [line[6:] for line in body.split(b"\n") if line.startswith(b"data: {")]
    return orjson.loads(datas[-1])["response"]


def ask(
    answers: Sequence[Says],
    request: dict[str, Any],
    *,
    dialect: str = "responses",
    path: str = "/v1/responses",
    key: str | None = None,
    **upstream: Any,
) -> Told:
    """Ask a relay whose upstream gives these answers, the last again and again."""
    asked: list[dict[str, Any]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        asked.append(orjson.loads(await reader.readexactly(length)))
        writer.write(answers[min(len(asked), len(answers)) - 1].wire())
        await writer.drain()
        writer.close()

    async def go() -> Told:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        bearer = [f"Authorization: Bearer {key}"] if key is not None else []
        base = f"http://127.0.0.1:{port}" + ("" if dialect in ("anthropic", "gemini") else "/v1")
        try:
            async with fronting(dialect, base, services={"now": lambda: NOW}, **upstream) as relay:
                client = await Client.connect(relay.port)
                asking = post({"model": "m", "input": "hi", **request}, *bearer)
                client.write(asking.replace(b"/v1/responses", path.encode(), 1))
                answer = await client.answer()
                return Told(answer.status, answer.headers, _parsed(answer.body), asked)
        finally:
            server.close()

    return run(go())


# --- sealed reasoning (decision 60)

GO = {"role": "user", "content": "go"}
SEALED = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAAAother"}
SAID = {"type": "message", "id": "msg_1", "role": "assistant", "content": [{"type": "output_text", "text": "hi"}]}
FOLDED = {"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAAAAfolded"}
REFUSALS = {
    "with its code": Says(CODED, 400),
    "by its words": Says({"error": {**UNSEALED, "code": None}}, 400),
    "inside a 200": Says({"type": "error", **CODED}, events=True),
    "as a failed response": Says(
        {"type": "response.failed", "response": {**OPENED, "status": "failed", "output": [], **CODED}}, events=True
    ),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("state", ["relay", "upstream"])
@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_what_cannot_be_opened_is_left_out_once(refusal: Says, state: str, stream: bool) -> None:
    items = [GO, SEALED, SAID, GO]
    told = ask([refusal, Says(OPENED)], {"input": items, "stream": stream}, state=state)
    assert told.status == 200
    assert told.body["output"][0]["content"][0]["text"] == "ok"
    (entry,) = told.body["input_transformations"]
    assert (entry["id"], entry["action"]) == ("rs_1", "removed")
    first, second = told.asked
    assert [item.get("id") for item in first["input"]] == [None, "rs_1", "msg_1", None]
    assert [item.get("id") for item in second["input"]] == [None, None, None]


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
@pytest.mark.parametrize(("items", "times"), [([GO, SEALED, SAID, GO], 2), ([GO, FOLDED, GO], 1), ([GO], 1)])
def test_a_refusal_that_nothing_helps_stands(items: list[Any], times: int, refusal: Says) -> None:
    told = ask([refusal], {"input": items}, state="upstream" if FOLDED in items else "relay")
    assert (told.status, told.body["error"]["message"]) == (400, UNSEALED["message"])
    assert len(told.asked) == times


# --- truncation (decision 46: a throttle is never an overflow)

TALK = [
    {"role": "user", "content": "first"},
    {"role": "assistant", "content": "one"},
    {"role": "user", "content": "second"},
]
TOO_LONG = {
    "error": {"message": "This model's maximum context length is 4096 tokens.", "type": "invalid_request_error"}
}
TOO_MUCH = {"error": {"message": "Too many tokens, please wait before trying again.", "type": "ThrottlingException"}}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(("refusal", "times", "status"), [(TOO_LONG, 2, 400), (TOO_MUCH, 1, 429)])
def test_only_an_overflow_drops_history(refusal: Any, times: int, status: int, dialect: str) -> None:
    told = ask([Says(refusal, 400)], {"input": TALK, "truncation": "auto"}, dialect=dialect)
    assert (told.status, len(told.asked)) == (status, times)


# --- when to come back, and whose limits they are

LIMITS = ("x-ratelimit-limit-requests: 60", "X-RateLimit-Remaining-Requests: 0", "x-ratelimit-reset-requests: 1s")
BUSY = {"error": {"message": "busy"}}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_date_becomes_seconds(dialect: str) -> None:
    date = format_datetime(datetime.fromtimestamp(NOW + 90, UTC), usegmt=True)
    told = ask([Says(BUSY, 429, (f"Retry-After: {date}",))], {}, dialect=dialect)
    assert (told.status, told.headers["retry-after"]) == (429, "90")


@pytest.mark.parametrize("status", [200, 429])
def test_limits_reach_whose_key_it_is(status: int) -> None:
    answers = [Says(OPENED if status == 200 else BUSY, status, LIMITS)]
    theirs = ask(answers, {}, key="the-clients-own-key")
    assert theirs.status == status
    named = {name: value for name, value in theirs.headers.items() if name.startswith("x-ratelimit-")}
    assert named == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "1s",
    }
    ours = ask(answers, {}, api_key="the-relays-key", key="somebodys-key")
    assert ours.status == status
    assert not [name for name in ours.headers if name.startswith("x-ratelimit-")]


INSIDE = {"error": {"message": "busy", "code": 429, "type": "rate_limit_error"}}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("body", "header", "told"),
    [
        (INSIDE, "Retry-After: 9", "9"),
        (INSIDE, "Retry-After: soon", None),
        ({"error": {**INSIDE["error"], "retry_after": 3}}, "Retry-After: 9", "3"),
        ({"error": {"message": "Insufficient balance"}}, "Retry-After: 9", None),
    ],
)
def test_an_error_inside_a_200_comes_back_when_its_headers_say(
    body: Any, header: str, told: str | None, dialect: str
) -> None:
    found = ask([Says(body, 200, (header,))], {}, dialect=dialect)
    assert found.status in (429, 503)
    assert found.headers.get("retry-after") == told


def test_anthropics_limits_are_told_in_the_apis_words() -> None:
    headers = ("anthropic-ratelimit-tokens-remaining: 0", "anthropic-ratelimit-tokens-reset: 2026-11-27T12:06:00Z")
    told = ask([Says(BUSY, 429, headers)], {}, dialect="anthropic", key="the-clients-own-key")
    assert told.headers["x-ratelimit-reset-tokens"] == "6m0s"
    assert told.headers["retry-after"] == "360"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_empty_balance_is_told_to_whom_it_concerns(dialect: str) -> None:
    answers = [Says({"error": {"message": "insufficient balance (1008)", "type": "api_error"}}, 500)]
    theirs = ask(answers, {}, dialect=dialect, key="the-clients-own-key")
    assert (theirs.status, theirs.body["error"]["code"]) == (429, "insufficient_quota")
    ours = ask(answers, {}, dialect=dialect, api_key="the-relays-key")
    assert (ours.status, ours.body["error"]["code"]) == (503, "upstream_billing")


# --- counting

COUNT = "/v1/responses/input_tokens"


@pytest.mark.parametrize("dialect", ["anthropic", "gemini", "responses"])
@pytest.mark.parametrize(
    "answer",
    [
        Says(b"", 405),
        Says(b"<html>501</html>", 501),
        Says({"error": {"message": "Not found"}}, 404),
        Says({"detail": "Not Found"}, 404),
        Says(b"404 page not found", 404),
        Says({"note": "no number"}, 200),
    ],
)
def test_tokens_are_estimated_where_the_server_cannot_count(answer: Says, dialect: str) -> None:
    told = ask(
        [answer], {"input": "x" * 40}, dialect=dialect, path=COUNT, quirks="openai" if dialect == "responses" else None
    )
    assert told.status == 200
    assert 8 <= told.body["input_tokens"] <= 30
    assert told.body["x_relay_warnings"][0]["param"] == "input_tokens"
    assert told.headers["x-relay-warnings"].startswith("input_tokens:")


@pytest.mark.parametrize("dialect", ["anthropic", "gemini"])
@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (Says({"error": {"message": "The model `m` does not exist."}}, 404), 404),
        (Says({"error": {"message": "busy"}}, 429), 429),
        (Says({"error": {"message": "bad input"}}, 400), 400),
    ],
)
def test_other_refusals_to_count_are_told(answer: Says, status: int, dialect: str) -> None:
    assert ask([answer], {}, dialect=dialect, path=COUNT).status == status


# --- a wrong base_url


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("stream", [False, True])
def test_a_page_in_place_of_an_answer_points_to_base_url(stream: bool, dialect: str) -> None:
    page = b"<!doctype html><html><body>Welcome</body></html>"
    told = ask([Says(page)], {"stream": stream}, dialect=dialect)
    assert (told.status, told.body["error"]["code"]) == (502, "upstream_bad_response")
    assert "base_url" in told.body["error"]["message"]
    for status in (404, 405):
        told = ask([Says(page, status)], {"stream": stream}, dialect=dialect)
        assert (told.status, told.body["error"]["code"]) == (502, "upstream_misconfigured")
        assert "base_url" in told.body["error"]["message"]
