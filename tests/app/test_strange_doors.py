"""What real clients and pages ask in ways of their own, and that every answer can be found in the log."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
import websockets

from relay.app.models import _body
from relay.cli.logs import RequestFilter, TextFormatter
from relay.server import http as server_http
from tests.app.support import post, relaying
from tests.app.test_door import BODY, JSON, ask, error, one
from tests.server.support import PARSERS, Client
from tests.support import run, until

KEYED: dict[str, Any] = {"settings": {"keys": {"team": "the-relays-own-secret"}}}
BASES = ["/v1", "", "/openai/v1", "/openai"]


# --- the paths of clients that were told another base


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/responses", "POST", 200),
        ("/responses/", "POST", 200),
        ("/responses?api-version=preview", "POST", 200),
        ("/responses/input_tokens", "POST", 200),
        ("/responses/resp_x", "GET", 404),
        ("/responses/resp_x", "DELETE", 404),
        ("/responses/resp_x/cancel", "POST", 404),
        ("/responses/resp_x/input_items", "GET", 404),
        ("/models", "GET", 200),
        ("/models/demo/demo", "GET", 200),
        ("/responses", "PUT", 405),
    ],
)
def test_every_path_is_there_under_every_base(base: str, path: str, method: str, status: int) -> None:
    answer = one(base + path, method, BODY if method == "POST" else None, **JSON)
    assert answer.status == status
    if status == 404:
        assert "resp_x" in error(answer)["message"]


@pytest.mark.parametrize("path", ["/v2/responses", "/openai/v2/models", "/v1/openai/responses", "/v1/healthz", "/v1"])
def test_other_bases_are_unknown(path: str) -> None:
    assert error(one(path, "POST", BODY, **JSON))["message"] == f"Unknown path: {path}"


@pytest.mark.parametrize("base", BASES)
def test_the_socket_is_there_under_every_base(base: str) -> None:
    async def talk() -> None:
        async with relaying(**KEYED) as relay:
            headers = {"api-key": "the-relays-own-secret"}
            url = f"ws://127.0.0.1:{relay.port}{base}/responses?api-version=preview"
            async with websockets.connect(url, additional_headers=headers, proxy=None) as socket:
                await socket.send(orjson.dumps({"type": "response.create", "model": "demo", "input": "hi"}).decode())
                assert orjson.loads(await socket.recv())["type"] == "response.created"

    run(talk())


# --- Azure's header


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"api_key": "the-relays-own-secret"}, 200),
        ({"api_key": "another"}, 401),
        ({"authorization": "Bearer the-relays-own-secret", "api_key": "another"}, 200),
        ({"authorization": "Bearer another", "api_key": "the-relays-own-secret"}, 401),
        ({"authorization": "Basic x", "api_key": "the-relays-own-secret"}, 200),
        ({"api_key": ""}, 401),
    ],
)
def test_the_api_key_header_counts_as_the_bearer(headers: dict[str, str], status: int) -> None:
    assert one("/openai/responses", "POST", BODY, options=KEYED, **JSON, **headers).status == status


def test_an_api_key_belongs_to_the_upstream_where_a_bearer_would() -> None:
    async def knock() -> None:
        async with relaying(upstream={"api_key": None}) as relay:
            await ask(relay, "/openai/v1/responses", "POST", BODY, **JSON, api_key="mine")
            sent = dict(relay.demo.requests[-1].headers)
            assert sent[b"authorization"] == b"Bearer mine"
            assert b"api-key" not in sent

    run(knock())


# --- bodies that are not there


@pytest.mark.parametrize("http", PARSERS)
@pytest.mark.parametrize("fields", [b"", b"Content-Length: 0\r\n", b"Content-Type: application/json\r\n"])
@pytest.mark.parametrize("suffix", [b"/cancel", b""])
def test_cancelling_and_deleting_need_neither_body_nor_type(suffix: bytes, fields: bytes, http: str) -> None:
    async def refuse() -> None:
        async with relaying(http=http) as relay:
            made = orjson.loads((await ask(relay, "/v1/responses", "POST", BODY, **JSON)).body)["id"].encode()
            method = b"POST" if suffix else b"DELETE"
            client = await Client.connect(relay.port)
            for identifier, status in ((made, 400 if suffix else 200), (b"resp_none", 404)):
                client.write(
                    b"%b /v1/responses/%b%b HTTP/1.1\r\nHost: localhost\r\n%b\r\n"
                    % (method, identifier, suffix, fields)
                )
                answer = await client.answer()
                assert answer.status == status
                if status == 400:
                    assert error(answer)["message"] == "Cannot cancel a synchronous response."
            client.leave()

    run(refuse())


@pytest.mark.parametrize(
    ("path", "content_type", "status"),
    [
        ("/v1/responses/resp_x/cancel", "text/plain", 415),
        ("/v1/responses/resp_x/cancel", "application/x-www-form-urlencoded", 415),
        ("/v1/responses", "", 415),
        ("/v1/responses/compact", "", 415),
    ],
)
def test_what_a_form_can_send_is_still_refused(path: str, content_type: str, status: int) -> None:
    headers = {"content_type": content_type} if content_type else {}
    assert one(path, "POST", BODY, **headers).status == status


# --- pages


@pytest.mark.parametrize(
    ("site", "origin", "status"),
    [
        ("cross-site", None, 403),
        ("cross-site", "https://app.example", 200),
        ("same-origin", None, 200),
        ("none", None, 200),
    ],
)
@pytest.mark.parametrize("keyed", [False, True])
def test_a_get_of_another_site_is_refused_without_keys(site: str, origin: str | None, status: int, keyed: bool) -> None:
    options = {"server": {"allowed_origins": ("https://app.example",)}, **(KEYED if keyed else {})}
    headers = {"sec_fetch_site": site, **({"origin": origin} if origin else {}), "api_key": "the-relays-own-secret"}
    assert one("/v1/models", options=options, **headers).status == (200 if keyed else status)


@pytest.mark.parametrize("http", PARSERS)
@pytest.mark.parametrize(
    "request_",
    [b"GET /healthz", b"GET /v1/models", b"GET /nowhere", b"PUT /v1/models", b"BREW /", b"GET /v1/models\r\nA : b"],
)
def test_no_answer_can_be_run_or_embedded_by_a_page(request_: bytes, http: str) -> None:
    async def look() -> None:
        async with relaying(http=http) as relay:
            client = await Client.connect(relay.port)
            line, _, field = request_.partition(b"\r\n")
            client.write(line + b" HTTP/1.1\r\nHost: localhost\r\n" + (field + b"\r\n" if field else b"") + b"\r\n")
            headers = (await client.answer()).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cross-origin-resource-policy"] == "same-origin"
            client.leave()

    run(look())


def test_a_stream_and_a_refused_socket_say_it_too() -> None:
    async def look() -> None:
        async with relaying(server={"websocket": False}) as relay:
            client = await Client.connect(relay.port)
            client.write(post({"model": "demo", "input": "hi", "stream": True}))
            assert (await client.answer()).headers["x-content-type-options"] == "nosniff"
            with pytest.raises(websockets.InvalidStatus) as refused:
                await websockets.connect(f"ws://127.0.0.1:{relay.port}/v1/responses", proxy=None)
            assert refused.value.response.headers["cross-origin-resource-policy"] == "same-origin"
            client.leave()

    run(look())


def test_a_page_reads_when_to_come_back() -> None:
    """WHATWG Fetch §3.3.5: names that are listed, or all where ``*`` stands and no credentials were sent."""
    options = {"server": {"allowed_origins": ("https://app.example",)}}
    answer = one("/v1/models", options=options, origin="https://app.example")
    exposed = answer.headers["access-control-expose-headers"].split(", ")
    assert {"retry-after", "retry-after-ms", "x-request-id", "x-relay-warnings"} <= set(exposed)
    assert {"x-ratelimit-remaining-tokens", "x-ratelimit-reset-requests", "*"} <= set(exposed)
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    ("allowed", "origin", "status"),
    [
        (("null",), "null", 200),
        (("null",), "https://app.example", 403),
        (("*",), "null", 200),
        (("*",), "https://any.example", 200),
        (("https://app.example", "null"), "https://app.example", 200),
    ],
)
def test_any_page_and_pages_without_an_origin(allowed: tuple[str, ...], origin: str, status: int) -> None:
    options = {"server": {"allowed_origins": allowed}, **KEYED}
    answer = one("/v1/models", options=options, origin=origin, api_key="the-relays-own-secret")
    assert answer.status == status
    assert answer.headers.get("access-control-allow-origin") == (origin if status == 200 else None)


# --- Codex's catalogue


def test_models_have_what_codex_cannot_do_without() -> None:
    """The members of ``ModelInfo`` without a default, openai/codex 0.9x to 0.171 (protocol/src/openai_models.rs)."""
    models = orjson.loads(one("/v1/models?client_version=0.171.0").body)["models"]
    assert models
    for place, model in enumerate(models):
        needed = {name: type(model[name]) for name in ("slug", "display_name", "base_instructions", "priority")}
        assert needed == {"slug": str, "display_name": str, "base_instructions": str, "priority": int}
        assert model["priority"] == place
        assert model["shell_type"] in ("default", "local", "unified_exec", "disabled", "shell_command")
        assert model["visibility"] in ("list", "hide", "none")
        assert model["truncation_policy"]["mode"] in ("bytes", "tokens")
        assert model["supported_reasoning_levels"] == model["experimental_supported_tools"] == []
        flags = (
            "supported_in_api",
            "supports_reasoning_summaries",
            "support_verbosity",
            "supports_parallel_tool_calls",
        )
        assert all(isinstance(model[name], bool) for name in flags)


def test_a_long_list_is_written_in_slices() -> None:
    data = [{"id": f"up/m-{number}", "object": "model", "created": 1, "owned_by": "up"} for number in range(1_000)]

    async def count() -> int:
        turns = 0
        writing = asyncio.ensure_future(_body(data))
        while not writing.done():
            turns += 1
            await asyncio.sleep(0)
        content = orjson.loads(writing.result())
        assert content["data"] == data
        assert [model["priority"] for model in content["models"]] == list(range(1_000))
        assert orjson.loads(await _body([])) == {"object": "list", "data": [], "models": []}
        return turns

    assert run(count()) >= 4


# --- the log


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """The log's lines, as the command writes them."""
    found: list[str] = []
    formatter = TextFormatter({"the-relays-own-secret"})

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(formatter.format(record))

    handler, logger = Keeping(), logging.getLogger("relay")
    handler.addFilter(RequestFilter())
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield found
    logger.removeHandler(handler)
    logger.setLevel(before)


def lines_of(lines: list[str], request_id: str) -> list[str]:
    return [line for line in lines if re.search(rf"\brequest_id={re.escape(request_id)}(?!\S)", line)]


REFUSED = [
    (b"GET /nowhere", b"", b"", 404),
    (b"PUT /v1/responses", b"", b"", 405),
    (b"POST /v1/responses", b"Content-Type: application/json", b"{", 400),
    (
        b"POST /v1/responses",
        b"Content-Type: application/json",
        b'{"model": "demo", "input": "a", "previous_response_id": "r\\r\\nx"}',
        400,
    ),
    (b"POST /v1/responses", b"Content-Type: application/json", b'{"model": "demo", "input": "a", "n": 99}', 400),
    (b"POST /v1/responses", b"Content-Type: application/json", b'{"model": "demo-fail-429", "input": "a"}', 429),
    (b"POST /v1/responses", b"Content-Type: application/json\r\nContent-Encoding: gzip", b"{}", 415),
    (b"POST /v1/responses", b"Content-Type: application/json\r\nAuthorization: Bearer wrong-key-of-mine", b"{}", 401),
    (b"POST /v1/responses", b"Origin: https://evil.example", b"", 403),
    (b"GET /v1/responses/resp_x", b"", b"", 404),
    (b"GET /v1/models", b"X-Request-Id: mine-1", b"", 200),
    (b"BREW /v1/models", b"", b"", 405),
    (b"GET /v1/models", b"A : b", b"", 400),
    (b"POST /v1/responses", b"Content-Length: 99999999999", None, 413),  # type: ignore[list-item]
]


@pytest.mark.parametrize("http", PARSERS)
@pytest.mark.parametrize(("line", "fields", "body", "status"), REFUSED)
def test_every_answer_is_one_line_with_its_id(
    line: bytes, fields: bytes, body: bytes | None, status: int, http: str, lines: list[str]
) -> None:
    async def knock() -> None:
        async with relaying(http=http, **KEYED) as relay:
            client = await Client.connect(relay.port)
            key = b"" if b"Authorization" in fields else b"api-key: the-relays-own-secret\r\n"
            length = b"" if body is None else b"Content-Length: %d\r\n" % len(body)
            head = line + b" HTTP/1.1\r\nHost: localhost\r\n" + key + length + (fields + b"\r\n" if fields else b"")
            client.write(head + b"\r\n" + (body or b""))
            answer = await client.answer()
            assert answer.status == status
            found = lines_of(lines, answer.headers["x-request-id"])
            assert [one for one in found if "relay.access" in one] == found[-1:]
            if b"fail" not in (body or b""):
                assert len(found) == 1
                assert f"status={status}" in found[0]
                assert "client=127.0.0.1" in found[0]
                if status >= 400:
                    assert f"code={error(answer)['code']}" in found[0]
                    assert error(answer)["message"].replace("\r\n", "\\r\\n") in found[0]
            assert "the-relays-own-secret" not in "\n".join(lines)
            assert "wrong-key-of-mine" not in "\n".join(lines)
            client.leave()

    run(knock())


def test_turns_and_probes(lines: list[str]) -> None:
    async def knock() -> None:
        async with relaying() as relay:
            made = await ask(relay, "/v1/responses", "POST", BODY, **JSON)
            (line,) = lines_of(lines, made.headers["x-request-id"])
            assert orjson.loads(made.body)["id"] in line
            await ask(relay, "/v1/responses", "POST", BODY, **JSON)  # over the pooled connection that the first opened
            assert len(lines_of(lines, made.headers["x-request-id"])) == 1
            probe = await ask(relay, "/healthz")
            assert " debug relay.access: " in lines_of(lines, probe.headers["x-request-id"])[0]

    run(knock())


def test_what_is_said_on_a_socket_has_the_handshakes_id(lines: list[str]) -> None:
    async def talk() -> None:
        async with relaying() as relay:
            async with websockets.connect(f"ws://127.0.0.1:{relay.port}/v1/responses", proxy=None) as socket:
                assert socket.response is not None
                identifier = socket.response.headers["x-request-id"]
                await socket.send("{")
                assert orjson.loads(await socket.recv())["status"] == 400
                unknown = {"model": "demo", "input": "a", "previous_response_id": "resp_x"}
                await socket.send(orjson.dumps({"type": "response.create", **unknown}).decode())
                assert orjson.loads(await socket.recv())["status"] == 400
                await socket.send('{"type": "response.create", "model": "demo", "input": "hi"}')
                while orjson.loads(await socket.recv())["type"] != "response.completed":
                    pass
                await until(lambda: len(lines_of(lines, identifier)) == 4)
                told = lines_of(lines, identifier)
                assert ["status=101" in told[0], "code=invalid_json" in told[1]] == [True, True]
                assert ["code=previous_response_not_found" in told[2], "end=completed" in told[3]] == [True, True]
            with pytest.raises(websockets.InvalidStatus) as refused:
                await websockets.connect(f"ws://127.0.0.1:{relay.port}/v1/nowhere", proxy=None)
            identifier = refused.value.response.headers["x-request-id"]
            (line,) = lines_of(lines, identifier)
            assert "status=404" in line

    run(talk())


def test_a_handshake_that_the_server_refuses_is_one_line(lines: list[str]) -> None:
    async def knock() -> None:
        async with relaying() as relay:
            client = await Client.connect(relay.port)
            head = "GET /v1/responses HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
            client.write((head + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short\r\n\r\n").encode())
            answer = await client.answer()
            assert answer.status == 400
            (line,) = lines_of(lines, answer.headers["x-request-id"])
            assert "WebSocket /v1/responses refused with 400" in line
            client.leave()

    run(knock())


# --- strangers


@pytest.mark.parametrize("http", PARSERS)
def test_strangers_leave_room_for_those_with_a_key(http: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue 10 point 4, with the key that the guard knows; each connection from an address of its own."""
    numbers = iter(range(1_000))
    monkeypatch.setattr(server_http, "stranger_address", lambda settings, peer: f"10.0.0.{next(numbers)}")

    async def knock() -> None:
        async with relaying(http=http, server={"max_connections": 4}, **KEYED) as relay:
            begun = [await Client.connect(relay.port) for _ in range(4)]
            for client in begun:
                client.write(b"GET /v1/models HTTP/1.1\r\nHost: a\r\n")
            assert relay.server is not None
            door = relay.server._context.door
            await until(lambda: door.taken == 4 and not any(door._rows))
            assert (await ask(relay, "/healthz")).status == 200
            refused = await ask(relay, "/v1/models", api_key="the-relays-own-secret")
            assert (refused.status, refused.headers["retry-after"]) == (503, "1")
            assert error(refused)["code"] == "server_overloaded"
            assert (await ask(relay, "/v1/models", api_key="wrong")).status == 401
            begun[0].write(b"\r\n")
            assert (await begun[0].answer()).status == 401  # a stranger still, and idle now
            url = f"ws://127.0.0.1:{relay.port}/v1/responses"
            headers = {"api-key": "the-relays-own-secret"}
            async with websockets.connect(url, additional_headers=headers, proxy=None) as socket:
                assert await begun[0].ended() == b""
                assert (await ask(relay, "/v1/models", api_key="the-relays-own-secret")).status == 503
                await socket.send("{")
                assert orjson.loads(await socket.recv())["status"] == 400

    run(knock())
