"""Secrets in what was cut, in short ones' few places, and in whole answers (issue 10 point 7)."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.app import create_app
from relay.app.redaction import HIDDEN, Redactor
from relay.cli.logs import TextFormatter
from relay.config import Settings, UpstreamSettings
from relay.state import open_store
from tests.app.scripted import Answer, Socket, asked, scripted
from tests.app.support import fronting
from tests.app.test_door import JSON, ask, error
from tests.server.support import serving
from tests.support import run

KEY = "sk-canary-0123456789abcdef-Very+Long/Key=="


@pytest.mark.parametrize("room", range(len(KEY) + 1))
def test_a_text_that_was_cut_inside_a_key_shows_nothing_of_it(room: int) -> None:
    text = "x" * 500 + KEY[:room]
    told = Redactor([KEY]).text(text)
    if room < 4:  # "sk-" tells nothing
        assert told == text
    else:
        assert told == "x" * 500 + HIDDEN
    for form in (TextFormatter([KEY]),):
        line = form.format(logging.makeLogRecord({"msg": text, "name": "n", "levelname": "INFO"}))
        assert KEY[:4] not in line or room < 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"key '{KEY[:15]}' is wrong", f"key '{HIDDEN}' is wrong"),
        (f"key {KEY.upper()}.", f"key {HIDDEN}."),
        (f"{KEY}{KEY} and {KEY[:9]}", f"{HIDDEN}{HIDDEN} and {HIDDEN}"),
        ("a short text that ends in sk-c", "a short text that ends in sk-c"),
        ("nothing here", "nothing here"),
    ],
)
def test_beginnings_of_a_key_are_hidden_wherever_they_stand(text: str, expected: str) -> None:
    assert Redactor([KEY]).text(text) == expected
    assert Redactor([]).text(text, KEY) == expected


def test_the_longer_of_two_keys_is_hidden_whole() -> None:
    assert Redactor([KEY, KEY + "-more"]).text(f"{KEY}-more!") == f"{HIDDEN}!"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the test failed", "the test failed"),
        ("Authorization: Bearer test", f"Authorization: Bearer {HIDDEN}"),
        ("x-api-key: test, model: test", f"x-api-key: {HIDDEN}, model: test"),
        ('{"api-key": "test", "input": "test"}', f'{{"api-key": "{HIDDEN}", "input": "test"}}'),
        ("authorization='test'", f"authorization='{HIDDEN}'"),
        ("bearer testing", "bearer testing"),
        ("X-Tenant: test; tenant: test", f"X-Tenant: {HIDDEN}; tenant: test"),
        ('{"x-tenant":"test"}', f'{{"x-tenant":"{HIDDEN}"}}'),
    ],
)
def test_a_short_key_is_hidden_only_where_it_is_one(text: str, expected: str) -> None:
    assert Redactor(["test"], headers=["x-tenant"]).text(text) == expected


def test_the_log_knows_the_same_headers() -> None:
    line = TextFormatter(["test"], ["x-tenant"]).format(logging.makeLogRecord({"msg": "X-Tenant: test, test"}))
    assert line.endswith("X-Tenant: [secret], test")


def test_the_headers_of_upstreams_are_where_secrets_stand() -> None:
    one = UpstreamSettings("up", "chat", "http://h/v1", api_key="abc", auth_header="X-Auth", headers=(("x-a", "xyz"),))
    services = create_app(Settings(upstreams=(one,)), store=open_store("memory", None)).services
    assert services.redactor.text("x-auth: abc, X-A: xyz, abc xyz") == f"x-auth: {HIDDEN}, X-A: {HIDDEN}, abc xyz"


def test_an_answer_keeps_its_length() -> None:
    body = orjson.dumps({"text": f"your key is {KEY}, test", "n": 1})
    told = Redactor([KEY, "test"]).data(body)
    assert orjson.loads(told) == {"text": f"your key is {'*' * len(KEY)}, test", "n": 1}


class Echo:
    """A native upstream that repeats in everything what it was sent."""

    def __init__(self, status: int) -> None:
        self.status = status

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        key = dict(scope["headers"])[b"authorization"].decode()
        if self.status == 200:
            part = {"type": "output_text", "text": f"You sent {key}.", "annotations": []}
            message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
            body: Any = {"id": "resp_1", "object": "response", "status": "completed", "model": "m", "output": [message]}
        else:
            body = {"error": {"message": "y" * (2_000 - len(key) + 15) + key, "type": "invalid_request_error"}}
        data = orjson.dumps(body)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(data))]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": data})


@pytest.mark.parametrize("state", ["relay", "upstream"])
@pytest.mark.parametrize("status", [200, 400])
def test_an_upstream_that_repeats_the_relays_key(status: int, state: str, caplog: pytest.LogCaptureFixture) -> None:
    async def knock() -> None:
        async with serving(Echo(status), lifespan=False) as up:
            url = f"http://127.0.0.1:{up.port}/v1"
            async with fronting("responses", url, api_key=KEY, state=state) as relay:
                made = await ask(relay, "/v1/responses", "POST", {"model": "m", "input": "hi"}, **JSON)
                assert made.status == status
                answers = [made]
                if status == 200:
                    identifier = orjson.loads(made.body)["id"]
                    assert orjson.loads(made.body)["output"][0]["content"][0]["text"].startswith("You sent Bearer **")
                    answers.append(await ask(relay, f"/v1/responses/{identifier}"))
                    answers.append(await ask(relay, f"/v1/responses/{identifier}/input_items"))
                    assert answers[1].status == 200
                else:
                    assert error(made)["message"].startswith("yyy")
                for answer in answers:
                    assert KEY[:8].encode() not in answer.body
            assert KEY[:8] not in caplog.text

    with caplog.at_level(logging.DEBUG):
        run(knock())


@given(
    text=st.lists(st.sampled_from([KEY, KEY[:9], KEY[5:], "canary!!", "x", "canary"]), max_size=8).map("".join),
    cuts=st.lists(st.integers(0, 200), max_size=8),
)
def test_pieces_say_what_the_whole_says(text: str, cuts: list[int]) -> None:
    data = text.encode()
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    redactor = Redactor([KEY, "canary!!"])
    hiding = redactor.stream()
    pieces = [data[start:end] for start, end in itertools.pairwise(places)]
    assert b"".join([*(hiding.feed(piece) for piece in pieces if piece), hiding.feed(b"")]) == redactor.data(data)


def test_nothing_is_held_back_that_begins_no_key() -> None:
    hiding = Redactor([KEY]).stream()
    assert hiding.feed(b"data: x\n\n") == b"data: x\n\n"
    assert hiding.feed(b"data: " + KEY[:3].encode()) == b"data: "
    assert hiding.feed(b"x") == KEY[:3].encode() + b"x"
    assert Redactor([]).stream().feed(b"sk-") == b"sk-"


NATIVE = [
    {
        "type": "response.created",
        "response": {"id": "r", "status": "in_progress", "output": [], "sent": f"Bearer {KEY}"},
    },
    {
        "type": "response.completed",
        "response": {
            "id": "r",
            "status": "completed",
            "sent": {"authorization": KEY},
            "output": [{"type": "x", "id": "x", "said": KEY}],
        },
    },
]


def _native(name: str, method: str, target: str, body: bytes) -> Answer:
    if b'"stream":true' not in body:
        return Answer([orjson.dumps(NATIVE[1]["response"])], "application/json")
    return Answer([b"data: " + orjson.dumps(event) + b"\n\n" for event in NATIVE], "text/event-stream")


@pytest.mark.parametrize("whose", ["relay", "client"])
@pytest.mark.parametrize("transport", ["json", "sse", "ws"])
def test_no_key_is_kept_nor_shown_by_the_response_of_a_native_upstream(
    transport: str, whose: str, tmp_path: Path
) -> None:
    """The events that show the Response, the rows that keep it."""
    path = tmp_path / "relay.sqlite"

    async def knock() -> bytes:
        options = {"api_key": KEY if whose == "relay" else None, "models": ("*",)}
        app = scripted({"up": ("responses", options)}, _native, store=open_store("sqlite", path))
        headers = [(b"authorization", b"Bearer " + KEY.encode())] if whose == "client" else []
        body: dict[str, Any] = {"model": "m", "input": "hi", "stream": transport == "sse"}
        if transport == "ws":
            socket = await Socket(app, headers).ready()
            message = orjson.dumps({**body, "type": "response.create"})
            told = b"".join(await socket.told(message, lambda text: b'"response.completed"' in text))
            await socket.close()
        else:
            told = (await asked(app, "/v1/responses", orjson.dumps(body), headers))[2]
        await app.aclose()
        return told

    told = run(knock())
    assert b"*" * len(KEY) in told
    last = told[told.rindex(b'"output":[') :] if transport != "json" else told
    assert KEY.encode() not in last
    if whose == "relay":
        assert told.count(KEY.encode()) == (0 if transport == "json" else 2)  # an item goes by as it came
    kept = b"".join(one.read_bytes() for one in tmp_path.iterdir())
    assert b'"said":"****' in kept
    assert KEY.encode() not in kept
