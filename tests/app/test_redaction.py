"""Secrets in what was cut, in short ones' few places, and in whole answers (issue 10 point 7)."""

from __future__ import annotations

import logging
from typing import Any

import orjson
import pytest

from relay.app.redaction import HIDDEN, Redactor
from relay.cli.logs import TextFormatter
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
    ],
)
def test_a_short_key_is_hidden_only_where_it_is_one(text: str, expected: str) -> None:
    assert Redactor(["test"]).text(text) == expected


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
