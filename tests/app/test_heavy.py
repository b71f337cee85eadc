"""A client's JSON and the work on it: values are counted first, and what is large is worked on beside the loop."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import Any

import orjson
import pytest

from relay.app.bodies import read_json
from relay.app.heavy import LIGHT, Heavy, weight_of
from relay.app.lag import PERIOD_S, Lag
from relay.errors import RelayError
from relay.ids import current_request
from tests.app.support import relaying
from tests.app.test_door import ask
from tests.support import run, until


def _parsed(body: bytes, weight: int | None = None, max_values: int = 500_000) -> Any:
    return run(read_json(Heavy(), "", body, weight, max_values=max_values))[0]


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "body",
    [
        orjson.dumps({"tools": deep(240)}).replace(b"[1]", b"[" * 300 + b"]" * 300),
        b'{"a": ' + b"[" * 500 + b"]" * 500 + b"}",
        b"[" * 100_000,
        b'{"a": NaN',
        b"\xff",
        b"",
    ],
)
def test_bodies_that_cannot_be_passed_on_are_400(body: bytes) -> None:
    with pytest.raises(RelayError) as caught:
        _parsed(body)
    assert (caught.value.status, caught.value.code) == (400, "invalid_json")


def test_a_deep_body_that_can_be_written_is_read() -> None:
    assert _parsed(orjson.dumps(deep(200))) == deep(200)
    assert _parsed(b'{"a": "\\ud83d\\ude00 \\ud800"}') == {"a": "\U0001f600 \ufffd"}
    assert orjson.dumps(_parsed(b'{"a": "\\ud800", "b": 99999999999999999999999}'))


def padded(body: bytes) -> bytes:
    """The same in a text that is too large for the loop, and for the standard library."""
    return b'{"pad":"' + b"x" * 700_000 + b'",' + body[1:]


@pytest.mark.parametrize(
    "text",
    [
        r"\ud83d\ude00 \ud800",
        r"\\ud800 \\\ud800 \n\udc00\ud800",
        r"\uD83D\uDE00\uDBFFx\udfff",
        r"\ud83d\ud83d\ude00",
        r"\u0041\\\\u\ud8001",
    ],
)
def test_lone_surrogates_are_mended_in_large_bodies_as_in_small(text: str) -> None:
    """The standard library reads them, in one go of 40 ms a megabyte: large ones are mended before they are read."""
    body = f'{{"a": "{text}"}}'.encode()
    expected = json.loads(body)["a"].encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    assert _parsed(body)["a"] == _parsed(padded(body))["a"] == expected


@pytest.mark.parametrize("body", [b'{"a": NaN', b'{"a": "\xff"}', b'{"a": "\\ud800"', b'{"a": "\\udfg0"}'])
def test_large_bodies_that_are_no_json_are_400(body: bytes) -> None:
    with pytest.raises(RelayError) as caught:
        _parsed(padded(body))
    assert (caught.value.status, caught.value.code) == (400, "invalid_json")


def test_values_are_limited_before_they_are_read() -> None:
    body = b'{"model":"m","input":[' + b'"a,[b",' * 999 + b'""]}'
    assert _parsed(body, max_values=1_003)["input"][998] == "a,[b"
    with pytest.raises(RelayError) as caught:
        _parsed(body, max_values=1_002)
    assert (caught.value.status, caught.value.param) == (413, "input")
    assert caught.value.message == (
        "The request has 1003 JSON values; 'input' takes it over the limit of 1002 ([server] max_values)."
    )
    with pytest.raises(RelayError, match="which takes it over the limit of 5") as caught:
        _parsed(b"[1,2,3,4,5,6]", max_values=5)
    assert caught.value.param is None


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": [""] * 101}, "input"),
        ({"messages": [{"role": "user", "content": ""}] * 101}, "messages"),
        ({"input": ["", {"role": "user", "content": [{"type": "input_text", "text": ""}] * 101}]}, "input[1].content"),
    ],
)
def test_items_and_parts_are_limited(body: dict[str, Any], param: str) -> None:
    async def main() -> None:
        async with relaying(server={"max_items": 100}) as relay:
            answer = await ask(
                relay, "/v1/responses", "POST", orjson.dumps({"model": "demo", **body}), content_type="application/json"
            )
            error = orjson.loads(answer.body)["error"]
            assert (answer.status, error["param"]) == (400, param)
            assert "at most 100" in error["message"]
            assert "max_items" in error["message"]

    run(main())


def test_the_limit_of_values_over_http_names_what_takes_it() -> None:
    async def main() -> None:
        async with relaying(server={"max_values": 1_000}) as relay:
            body = orjson.dumps({"model": "demo", "input": "hi", "x": [0] * 1_000})
            answer = await ask(relay, "/v1/responses", "POST", body, content_type="application/json")
            assert (answer.status, orjson.loads(answer.body)["error"]["param"]) == (413, "x")

    run(main())


def test_light_work_runs_where_it_comes_and_heavy_work_beside() -> None:
    async def main() -> None:
        heavy, here = Heavy(), threading.get_ident()
        assert await heavy.run(LIGHT, "", threading.get_ident) == here
        current_request.set("req_1")
        assert await heavy.run(LIGHT + 1, "", lambda: (threading.get_ident() != here, current_request.get())) == (
            True,
            "req_1",
        )
        with pytest.raises(ZeroDivisionError):
            await heavy.run(LIGHT + 1, "", lambda: 1 // 0)
        heavy.close()
        Heavy().close()

    run(main())


def test_heavy_work_goes_by_the_owners_shares() -> None:
    async def main() -> None:
        heavy, go, order = Heavy(), threading.Event(), list[str]()

        def work(name: str) -> None:
            assert go.wait(10)
            order.append(name)

        tasks = [
            asyncio.create_task(heavy.run(LIGHT + 1, owner, lambda name=name: work(name)))  # type: ignore[misc]
            for owner, name in [("a", "a1"), ("a", "a2"), ("a", "a3"), ("b", "b1")]
        ]
        await until(lambda: heavy.waiting == 3)
        go.set()
        await asyncio.gather(*tasks)
        assert order == ["a1", "b1", "a2", "a3"]
        heavy.close()

    run(main())


def test_what_is_there_already_is_weighed() -> None:
    few = [{"type": "message", "content": [{}] * 3}]
    assert weight_of(few) <= LIGHT
    assert weight_of(few * 200) > LIGHT
    assert weight_of([{"type": "message", "content": [{}] * 1_000}]) > LIGHT


def test_the_longest_wait_is_told_once() -> None:
    async def main() -> None:
        async with relaying() as relay:

            async def waited() -> float:
                content = orjson.loads((await ask(relay, "/healthz?lag")).body)
                assert content["status"] == "ok"
                return float(content["longest_wait_ms"])

            await waited()
            end = time.perf_counter() + 3 * PERIOD_S
            while time.perf_counter() < end:  # nobody else runs
                pass
            assert await waited() >= 1900 * PERIOD_S
            assert await waited() < 1900 * PERIOD_S
            assert (await ask(relay, "/healthz")).body == b'{"status":"ok"}'

    run(main())


def test_a_sampler_that_never_ran_has_seen_nothing() -> None:
    lag = Lag()
    lag.stop()
    assert lag.take_s() == 0.0
