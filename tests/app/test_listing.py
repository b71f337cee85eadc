"""Asking upstreams for their models, over real sockets: the vendors' list shapes, and what is said when it fails."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from relay.app.listing import model_ids, probe, unsupported
from relay.app.services import Upstream
from relay.config import Settings, UpstreamSettings
from relay.errors import RelayError
from relay.providers.registry import PROVIDERS
from relay.upstream import Client, Timeouts, parse_base_url
from tests.support import run

OPENAI = {"object": "list", "data": [{"id": "gpt-5", "object": "model"}, {"id": "o3-pro"}]}
ANTHROPIC = {"data": [{"type": "model", "id": "claude-opus-5", "display_name": "Claude"}], "has_more": False}
GEMINI = {"models": [{"name": "models/gemini-3-pro", "displayName": "Gemini"}]}


async def asked(
    dialect: str, base_path: str, body: bytes, status: int = 200, bearer: str | None = None, **more: Any
) -> tuple[bytes, tuple[str, ...]]:
    """The request head that the upstream saw, and the ids."""
    heads: list[bytes] = []

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % (status, len(body)) + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(on_connection, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings = UpstreamSettings("one", dialect, f"http://127.0.0.1:{port}{base_path}", **more)
    client = Client()
    try:
        # The provider has no part in it.
        upstream = Upstream(settings, PROVIDERS["chat"], *parse_base_url(settings.base_url), Timeouts(), client)
        ids = await model_ids(upstream, bearer)
    finally:
        await client.aclose()
        server.close()
        await server.wait_closed()
    return heads[0], ids


@pytest.mark.parametrize(
    ("dialect", "base_path", "document", "line", "ids"),
    [
        ("chat", "/v1", OPENAI, b"GET /v1/models HTTP/1.1", ("gpt-5", "o3-pro")),
        ("responses", "/openai/v1", OPENAI, b"GET /openai/v1/models HTTP/1.1", ("gpt-5", "o3-pro")),
        ("anthropic", "", ANTHROPIC, b"GET /v1/models?limit=1000 HTTP/1.1", ("claude-opus-5",)),
        ("anthropic", "/v1", ANTHROPIC, b"GET /v1/models?limit=1000 HTTP/1.1", ("claude-opus-5",)),
        ("anthropic", "/anthropic", ANTHROPIC, b"GET /anthropic/v1/models?limit=1000 HTTP/1.1", ("claude-opus-5",)),
        ("gemini", "", GEMINI, b"GET /v1beta/models?pageSize=1000 HTTP/1.1", ("gemini-3-pro",)),
        ("gemini", "/v1alpha", GEMINI, b"GET /v1alpha/models?pageSize=1000 HTTP/1.1", ("gemini-3-pro",)),
        ("chat", "/v1", [{"id": "bare"}], b"GET /v1/models HTTP/1.1", ("bare",)),
        ("chat", "/v1", {"object": "list", "data": None}, b"GET /v1/models HTTP/1.1", ()),
    ],
)
def test_the_vendors_lists(dialect: str, base_path: str, document: Any, line: bytes, ids: tuple[str, ...]) -> None:
    head, found = run(asked(dialect, base_path, orjson.dumps(document), api_key="sk-1"))
    assert head.split(b"\r\n")[0] == line
    assert found == ids
    assert b"sk-1" not in head.split(b"\r\n")[0]


@pytest.mark.parametrize(
    ("dialect", "header"),
    [
        ("chat", b"authorization: Bearer sk-1"),
        ("responses", b"authorization: Bearer sk-1"),
        ("anthropic", b"x-api-key: sk-1"),
        ("gemini", b"x-goog-api-key: sk-1"),
    ],
)
def test_the_key_goes_into_its_header(dialect: str, header: bytes) -> None:
    head, _ = run(asked(dialect, "", orjson.dumps(OPENAI), api_key="sk-1", headers=(("x-title", "relay"),)))
    lines = head.split(b"\r\n")
    assert header in lines
    assert b"x-title: relay" in lines
    assert (b"anthropic-version: 2023-06-01" in lines) == (dialect == "anthropic")
    assert head.count(b"sk-1") == 1


def test_the_upstreams_own_key_stands_before_the_clients() -> None:
    body = orjson.dumps(OPENAI)
    assert b"\r\nauthorization: Bearer own\r\n" in run(asked("chat", "", body, bearer="client", api_key="own"))[0]
    assert b"\r\nauthorization: Bearer client\r\n" in run(asked("chat", "", body, bearer="client"))[0]
    assert b"authorization" not in run(asked("chat", "", body))[0]
    azure = run(asked("responses", "", body, bearer="client", api_key="own", auth_header="api-key"))[0]
    assert b"\r\napi-key: own\r\n" in azure
    assert b"client" not in azure


@pytest.mark.parametrize(
    ("status", "body", "key", "message"),
    [
        (401, b"{}", "sk-1", "It refused the key (401)."),
        (403, b"{}", "sk-1", "It refused the key (403)."),
        (401, b"{}", None, "It wants a key (401), and api_key is not set."),
        (404, b"{}", None, "It has no /v1/models (404); check base_url and dialect."),
        (500, b"<html>", None, "It answered /v1/models with status 500."),
        (302, b"", None, "It answered /v1/models with status 302."),
        (200, b"<html>", None, "Its list of models is not JSON; check base_url."),
        (200, b'{"hello": 1}', None, "Its list of models has a form that is not known; check dialect."),
        (200, b'"x"', None, "Its list of models has a form that is not known; check dialect."),
        (
            200,
            b"[" + b" " * (16 << 20) + b"]",
            None,
            "The upstream answered badly: it is larger than 16,777,216 bytes.",
        ),
    ],
)
def test_failures_in_plain_words(status: int, body: bytes, key: str | None, message: str) -> None:
    with pytest.raises(RelayError) as caught:
        run(asked("chat", "/v1", body, status, api_key=key))
    assert caught.value.message == message


def test_an_upstream_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.app.listing._LIMIT_S", 0.05)

    async def silent() -> list[tuple[str, ...] | RelayError]:
        async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await reader.read(1000):
                pass
            left.set()
            writer.close()

        left = asyncio.Event()
        server = await asyncio.start_server(on_connection, "127.0.0.1", 0)
        try:
            port = server.sockets[0].getsockname()[1]
            answers = await probe(Settings(upstreams=(UpstreamSettings("one", "chat", f"http://127.0.0.1:{port}"),)))
            await left.wait()
            return answers
        finally:
            server.close()

    (answer,) = run(silent())
    assert isinstance(answer, RelayError)
    assert answer.kind == "upstream_timeout"


def test_one_dead_upstream_leaves_the_others_alone() -> None:
    async def both() -> list[tuple[str, ...] | RelayError]:
        async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            body = orjson.dumps(OPENAI)
            writer.write(b"HTTP/1.1 200 X\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
            writer.close()

        server = await asyncio.start_server(on_connection, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        dead = await asyncio.start_server(on_connection, "127.0.0.1", 0)
        dead_port = dead.sockets[0].getsockname()[1]
        dead.close()
        try:
            upstreams = (
                UpstreamSettings("dead", "chat", f"http://127.0.0.1:{dead_port}"),
                UpstreamSettings("well", "chat", f"http://127.0.0.1:{port}"),
                UpstreamSettings("aws", "chat", "https://bedrock-runtime.us-east-1.amazonaws.com"),
            )
            return await probe(Settings(upstreams=upstreams))
        finally:
            server.close()

    dead, well, aws = run(both())
    assert isinstance(dead, RelayError)
    assert dead.message == "The upstream could not be reached: it refused the connection."
    assert well == ("gpt-5", "o3-pro")
    assert isinstance(aws, RelayError)
    assert "SigV4" in aws.message
    assert "not supported" in aws.message


@pytest.mark.parametrize(
    ("dialect", "base_url", "key", "supported"),
    [
        ("anthropic", "https://bedrock-runtime.us-east-1.amazonaws.com", "k", False),
        ("chat", "https://bedrock-runtime.us-east-1.amazonaws.com/openai/v1", None, False),
        ("chat", "https://bedrock-runtime.us-east-1.amazonaws.com/openai/v1", "k", True),
        ("anthropic", "https://bedrock-mantle.us-east-1.api.aws/anthropic", "k", True),
        ("gemini", "https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/l", None, False),
        ("gemini", "https://aiplatform.googleapis.com/v1/projects/p/locations/l", "token", True),
        ("gemini", "https://generativelanguage.googleapis.com", None, True),
        ("chat", "unix:/run/vllm.sock", None, True),
    ],
)
def test_addresses_that_need_signing(dialect: str, base_url: str, key: str | None, supported: bool) -> None:
    assert (unsupported(UpstreamSettings("one", dialect, base_url, api_key=key)) is None) is supported
