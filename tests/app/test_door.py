"""The door: paths, methods, keys, browsers, bodies (responses-api.md §1, §6; decisions 15, 16, 28-30, 43)."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from relay.config import ServerSettings, Settings, StoreSettings, UpstreamSettings
from relay.state.memory import MemoryStore
from tests.app.support import Relay, post, relaying
from tests.oracle import check_error_body
from tests.server.support import Answer, Client
from tests.support import run, until

JSON = {"content_type": "application/json"}


async def ask(
    relay: Relay, target: str, method: str = "GET", body: Any = None, host: str = "127.0.0.1", **headers: str
) -> Answer:
    client = await Client.connect(relay.port)
    content = body if isinstance(body, bytes) else orjson.dumps(body) if body is not None else b""
    answer = await client.request(target, method, content, host=host, **headers)
    client.leave()
    return answer


def one(
    target: str, method: str = "GET", body: Any = None, *, options: dict[str, Any] | None = None, **headers: str
) -> Answer:
    """One request to a fresh relay."""

    async def asked() -> Answer:
        async with relaying(**(options or {})) as relay:
            return await ask(relay, target, method, body, **headers)

    return run(asked())


def error(answer: Answer) -> dict[str, Any]:
    content = orjson.loads(answer.body)
    check_error_body(content)
    inner: dict[str, Any] = content["error"]
    return inner


# --- paths and methods


@pytest.mark.parametrize(
    ("target", "method", "status", "code"),
    [
        ("/", "GET", 404, "not_found"),
        ("/v1/chat/completions", "POST", 404, "not_found"),
        ("/v1/responses", "GET", 405, "method_not_allowed"),
        ("/v1/responses", "PUT", 405, "method_not_allowed"),
        ("/v1/responses/resp_x", "POST", 405, "method_not_allowed"),
        ("/v1/responses/resp_x", "GET", 404, "not_found"),
        ("/v1/responses/resp_x", "DELETE", 404, "not_found"),
        ("/v1/responses/resp_x/input_items", "GET", 404, "not_found"),
        ("/v1/responses/resp_x/cancel", "POST", 404, "not_found"),
        ("/v1/conversations", "POST", 404, "unsupported_endpoint"),
        ("/v1/conversations/conv_1/items", "GET", 404, "unsupported_endpoint"),
        ("/v1/models", "DELETE", 405, "method_not_allowed"),
    ],
)
def test_unknown_paths_and_methods_get_the_envelope(target: str, method: str, status: int, code: str) -> None:
    answer = one(target, method, **JSON)
    assert answer.status == status
    assert error(answer)["code"] == code
    assert answer.headers["x-request-id"].startswith("req_")
    if status == 405:
        assert answer.headers["allow"]


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_probes_need_no_key_and_no_host(path: str) -> None:
    options = {"settings": {"keys": {"me": "secret-key"}}}
    assert one(path, options=options, host="anything.example").status == 200
    assert one(path, "HEAD", options=options).status == 200


@pytest.mark.parametrize("hook", ["on_unready", "on_drain"])
def test_readiness_goes_off_when_stopping(hook: str) -> None:
    async def drain() -> None:
        async with relaying() as relay:
            getattr(relay.app, hook)()
            answer = await ask(relay, "/readyz")
            assert (answer.status, answer.body) == (503, b'{"status":"draining"}')
            assert (await ask(relay, "/healthz")).status == 200

    run(drain())


class DamagedStore(MemoryStore):
    ready = False  # type: ignore[assignment]
    healthy = False  # type: ignore[assignment]


class FullStore(MemoryStore):
    healthy = False  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("store", "status", "body"),
    [(DamagedStore, 503, {"status": "store_unavailable"}), (FullStore, 200, {"status": "ok", "store": "unavailable"})],
)
def test_readiness_says_what_the_store_is(store: type[MemoryStore], status: int, body: dict[str, str]) -> None:
    """Off while the file itself is at fault; a full disk costs no more than what decision 41 says."""

    async def asked() -> None:
        async with relaying(store=store()) as relay:
            answer = await ask(relay, "/readyz")
            assert (answer.status, orjson.loads(answer.body)) == (status, body)

    run(asked())


def test_models_are_listed_under_both_names() -> None:
    async def models() -> None:
        options: dict[str, Any] = {"settings": {"models": {"fast": ("demo/demo",)}}}
        async with relaying(**options) as relay:
            content = orjson.loads((await ask(relay, "/v1/models")).body)
            assert [model["slug"] for model in content["models"]] == [model["id"] for model in content["data"]]
            names = [model["id"] for model in content["data"]]
            assert names[0] == "fast"
            assert any(name.startswith("demo/") for name in names)
            asked = len(relay.demo.requests)
            await ask(relay, "/v1/models")
            assert len(relay.demo.requests) == asked  # cached
            model = orjson.loads((await ask(relay, "/v1/models/demo/demo")).body)
            assert model["id"] == "demo/demo"
            assert model["object"] == "model"

    run(models())


# --- keys


def test_keys_are_checked_and_never_forwarded() -> None:
    async def knock() -> None:
        options: dict[str, Any] = {"settings": {"keys": {"me": "secret-key"}}, "upstream": {"api_key": None}}
        async with relaying(**options) as relay:
            body = {"model": "demo", "input": "hi"}
            for wrong in ({}, {"authorization": "Bearer nope"}, {"authorization": "Basic secret-key"}):
                answer = await ask(relay, "/v1/responses", "POST", body, **JSON, **wrong)
                assert answer.status == 401
                assert error(answer)["code"] == "invalid_api_key"
            answer = await ask(relay, "/v1/responses", "POST", body, **JSON, authorization="Bearer secret-key")
            assert answer.status == 200
            assert not any(name == b"authorization" for name, _ in relay.demo.requests[-1].headers)

    run(knock())


def test_without_keys_the_bearer_belongs_to_the_upstream() -> None:
    async def knock() -> None:
        async with relaying(upstream={"api_key": None}) as relay:
            body = {"model": "demo", "input": "hi"}
            await ask(relay, "/v1/responses", "POST", body, **JSON, authorization="Bearer mine")
            assert dict(relay.demo.requests[-1].headers)[b"authorization"] == b"Bearer mine"
        async with relaying(upstream={"api_key": "its-own"}) as relay:
            await ask(relay, "/v1/responses", "POST", body, **JSON, authorization="Bearer mine")
            assert dict(relay.demo.requests[-1].headers)[b"authorization"] == b"Bearer its-own"

    run(knock())


@pytest.mark.parametrize(
    ("own", "status", "code"), [("key", 502, "upstream_authentication_error"), (None, 401, "invalid_api_key")]
)
def test_whose_key_was_refused_decides_what_the_client_sees(own: str | None, status: int, code: str) -> None:
    answer = one(
        "/v1/responses",
        "POST",
        {"model": "demo-fail-401", "input": "hi"},
        options={"upstream": {"api_key": own}},
        **JSON,
        authorization="Bearer mine",
    )
    assert (answer.status, error(answer)["code"]) == (status, code)


# --- browsers


BODY = {"model": "demo", "input": "hi"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "localhost:8000"}, 200),
        ({"host": "[::1]:8000"}, 200),
        ({"host": "127.1.2.3"}, 200),
        ({"host": "evil.example"}, 403),
        ({"host": "relay.internal"}, 200),
        ({"host": "localhost.evil.example"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "https://app.example"}, 200),
        ({"content_type": "text/plain"}, 415),
        ({"content_type": "application/x-www-form-urlencoded"}, 415),
        ({"content_type": "application/json; charset=utf-8"}, 200),
    ],
)
def test_a_web_page_cannot_spend_the_keys_of_a_loopback_relay(headers: dict[str, str], status: int) -> None:
    server = {"allowed_origins": ("https://app.example",), "allowed_hosts": ("relay.internal",)}
    answer = one("/v1/responses", "POST", BODY, options={"server": server}, **{**JSON, **headers})
    assert answer.status == status
    if status == 200 and "origin" in headers:
        assert answer.headers["access-control-allow-origin"] == "https://app.example"


def test_an_allowed_page_may_ask_first() -> None:
    options = {"server": {"allowed_origins": ("https://app.example",)}, "settings": {"keys": {"me": "k"}}}
    answer = one("/v1/responses", "OPTIONS", options=options, origin="https://app.example")
    assert answer.status == 200
    assert answer.headers["access-control-allow-methods"] == "POST"
    assert one("/v1/responses", "OPTIONS", options=options, origin="https://evil.example").status == 403


def test_with_keys_any_host_and_type_will_do() -> None:
    options = {"settings": {"keys": {"me": "k"}}}
    headers = {"host": "any.example", "content_type": "text/plain", "authorization": "Bearer k"}
    assert one("/v1/responses", "POST", BODY, options=options, **headers).status == 200


# --- bodies


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"{", {}, 400, "invalid_json"),
        (b"[]", {}, 400, "invalid_type"),
        (b'{"input": "hi"}', {}, 400, "missing_required_parameter"),
        (b'{"model": "demo"}', {}, 400, "missing_required_parameter"),
        (b'{"model": "demo", "input": "x", "background": true}', {}, 400, "unsupported_parameter"),
        (b'{"model": "demo", "input": "x", "conversation": "c"}', {}, 400, "unsupported_parameter"),
        (b'{"model": "demo", "input": "x", "generate": false}', {}, 400, "invalid_value"),
        (b'{"model": "demo", "input": "x", "stream_id": "a"}', {}, 400, "invalid_value"),
        (b'{"model": "demo", "input": "x", "previous_response_id": "resp_x"}', {}, 400, "previous_response_not_found"),
        (b'{"model": "demo", "input": [{"id": "msg_1"}]}', {}, 404, "item_not_found"),
        (b"{}", {"content_encoding": "gzip"}, 415, "unsupported_media_type"),
    ],
)
def test_bad_bodies(body: bytes, headers: dict[str, str], status: int, code: str) -> None:
    answer = one("/v1/responses", "POST", body, **JSON, **headers)
    assert (answer.status, error(answer)["code"]) == (status, code)


def test_a_body_over_the_limit() -> None:
    answer = one("/v1/responses", "POST", b"x" * 2000, options={"server": {"max_body_bytes": 1000}}, **JSON)
    assert (answer.status, error(answer)["code"]) == (413, "request_too_large")


def test_lone_surrogates_are_mended() -> None:
    body = b'{"model": "demo", "input": "a\\ud83d b"}'
    content = orjson.loads(one("/v1/responses", "POST", body, **JSON).body)
    assert content["output"][0]["content"][0]["text"] == "a\ufffd b"


def test_unknown_models_name_what_there_is() -> None:
    options = {"upstream": {"models": ("demo*",)}, "settings": {"models": {"fast": ("demo/demo",)}}}

    async def two() -> Answer:
        other = UpstreamSettings("other", "chat", "http://127.0.0.1:9/v1", models=("other-*",))
        async with relaying(**options) as relay:
            mine = relay.app.services.settings.upstreams[0]
            settings = Settings(
                server=ServerSettings(port=0),
                upstreams=(mine, other),
                models={"fast": ("demo/demo",)},
                store=StoreSettings(kind="memory"),
            )
            async with relaying(settings={"upstreams": settings.upstreams, "models": settings.models}) as second:
                return await ask(second, "/v1/responses", "POST", {"model": "nope", "input": "hi"}, **JSON)

    answer = run(two())
    assert (answer.status, error(answer)["code"]) == (404, "model_not_found")
    assert "fast" in error(answer)["message"]
    assert "other-*" in error(answer)["message"]


def test_strict_mode_turns_warnings_into_errors() -> None:
    body = {"model": "demo", "input": "hi", "tools": [{"type": "web_search"}]}
    assert one("/v1/responses", "POST", body, **JSON).headers["x-relay-warnings"].startswith("tools[0]:")
    answer = one("/v1/responses", "POST", body, options={"server": {"strict": True}}, **JSON)
    assert answer.status == 400
    assert error(answer)["param"] == "tools[0]"


def test_default_model() -> None:
    answer = one("/v1/responses", "POST", {"input": "hi"}, options={"server": {"default_model": "demo"}}, **JSON)
    assert orjson.loads(answer.body)["model"] == "demo"


def test_trace_headers_pass_through_and_upstream_ids_come_back() -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    async def traced() -> None:
        async with relaying() as relay:
            await ask(relay, "/v1/responses", "POST", BODY, **JSON, traceparent=trace)
            assert dict(relay.demo.requests[-1].headers)[b"traceparent"] == trace.encode()

    run(traced())


# --- time


def test_a_silent_upstream_is_committed_after_ten_seconds_and_then_kept_alive() -> None:
    """Decisions 3 and 59, with the clock moved instead of waited for."""

    async def wait() -> None:
        async with relaying() as relay:
            client = await Client.connect(relay.port)
            client.write(post({"model": "demo-stall", "input": "hi", "stream": True}))
            services = relay.app.services
            await until(lambda: services.turns and relay.demo.active)
            (turn,) = services.turns
            assert not turn.silent_since(turn.started_at + 9.9)
            assert turn.silent_since(turn.started_at + 10.1)
            await turn.break_silence()
            assert b"event: response.in_progress" in await client.reader.readuntil(b"response.in_progress\n")
            now = turn.started_at
            assert not turn.silent_since(now + 14)
            assert turn.silent_since(now + 16)
            await turn.break_silence()
            assert b"event: response.in_progress" in await client.reader.readuntil(b'"sequence_number":2}\n\n')
            # a failure from now on is an event
            await relay.app.on_deadline()
            rest = await client.reader.readuntil(b"[DONE]\n\n")
            assert b"event: response.failed" in rest
            client.leave()

    run(wait())


def test_at_the_deadline_a_json_client_gets_an_http_error() -> None:
    async def stop() -> None:
        async with relaying() as relay:
            client = await Client.connect(relay.port)
            client.write(post({"model": "demo-stall", "input": "hi"}))
            await until(lambda: relay.app.services.turns)
            await relay.app.on_deadline()
            answer = await client.answer()
            assert (answer.status, error(answer)["code"]) == (503, "server_overloaded")

    run(stop())
