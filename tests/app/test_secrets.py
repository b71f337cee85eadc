"""Keys stay where decision 28 allows them, also where an upstream repeats all it was sent, in every way to fail.

Each canary is a word that no pattern of known keys fits. After every scenario of every dialect it is not in an answer,
not in its headers, not in a log record of any logger at DEBUG, not in the store's files; in the captured upstream
requests it is only in the header that is its place.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import websockets

from relay.app import create_app
from relay.config import ServerSettings, Settings, StoreSettings, UpstreamSettings
from relay.providers.registry import PROVIDERS
from relay.state import open_store
from tests.app.support import PATHS, post
from tests.app.upstreams import first, token
from tests.server.support import Client, serving
from tests.support import run, until

RELAY_KEY = "canary-of-the-relay-5d1f"
UPSTREAM_KEY = "canary-of-the-upstream-9b2e"
HEADER = "canary-in-a-header-77c0"
CLIENT_KEY = "canary-of-the-client-e4a8"
CANARIES = (RELAY_KEY, UPSTREAM_KEY, HEADER, CLIENT_KEY)

AUTH = {"chat": "authorization", "responses": "authorization", "anthropic": "x-api-key", "gemini": "x-goog-api-key"}
STATUSES = (301, 400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 529)


def _head(status: int, content_type: str, *more: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"content-type: {content_type}", "connection: close", *more]
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")


def _json(content: Any, status: int = 200, *more: str) -> bytes:
    return _head(status, "application/json", *more) + orjson.dumps(content)


def _stream(data: bytes) -> bytes:
    return _head(200, "text/event-stream") + data


def _error(dialect: str, said: str, status: int = 500, code: str | None = None) -> dict[str, Any]:
    """The vendor's error body."""
    made: dict[str, dict[str, Any]] = {
        "chat": {"error": {"message": said, "type": said[:40], "param": said[:60], "code": code or said}},
        "responses": {"error": {"message": said, "type": "x", "param": said, "code": code or said}},
        "anthropic": {"type": "error", "error": {"type": code or "api_error", "message": said}, "request_id": said},
        "gemini": {"error": {"code": status, "message": said, "status": code or "INTERNAL"}},
    }
    return made[dialect]


def _error_event(dialect: str, said: str, code: str | None = None) -> bytes:
    body = _error(dialect, said, code=code)
    if dialect == "responses":
        body = {"type": "error", **body["error"]}
    name = b"event: error\n" if dialect in ("anthropic", "responses") else b""
    return name + b"data: " + orjson.dumps(body) + b"\n\n"


def _failed(said: str) -> bytes:
    response = {"id": "resp_up", "object": "response", "status": "failed", "error": {"code": "x", "message": said}}
    return b"data: " + orjson.dumps({"type": "response.failed", "response": response, "sequence_number": 9}) + b"\n\n"


def _finish(dialect: str, said: str) -> bytes:
    made: dict[str, dict[str, Any]] = {
        "chat": {"choices": [{"index": 0, "delta": {}, "finish_reason": said}]},
        "responses": {"type": "response.done", "response": {"id": "resp_up", "status": said, "output": []}},
        "anthropic": {"type": "message_delta", "delta": {"stop_reason": said}, "usage": {"output_tokens": 1}},
        "gemini": {"candidates": [{"content": {"role": "model", "parts": []}, "finishReason": said, "index": 0}]},
    }
    before = b'data: {"type":"content_block_stop","index":0}\n\n' if dialect == "anthropic" else b""
    after = b'event: message_stop\ndata: {"type":"message_stop"}\n\n' if dialect == "anthropic" else b""
    return before + b"data: " + orjson.dumps(made[dialect]) + b"\n\n" + after


def answers(dialect: str, said: str) -> dict[str, bytes]:
    """What an upstream answers to what it was told, by scenario; ``said`` holds all that it was told."""
    opening = first(dialect) + token(dialect, "Hi", 0)
    codes = {"chat": "rate_limit_exceeded", "responses": "rate_limit_exceeded", "anthropic": "overloaded_error"}
    code = codes.get(dialect, "RESOURCE_EXHAUSTED")
    page = f"<html><body>{said}</body></html>".encode()
    made = {
        "success": _stream(opening + _finish(dialect, FINISHED[dialect])),
        "page": _head(200, "text/html") + page,
        "bad-gateway": _head(502, "text/html") + page,
        "words": _head(400, "text/plain") + said.encode(),
        "error-at-once": _stream(_error_event(dialect, said)),
        "error-later": _stream(opening + _error_event(dialect, said)),
        "error-with-code": _stream(opening + _error_event(dialect, said, code)),
        "error-as-json": _json(_error(dialect, said)),
        "failed": _stream(opening + _failed(said)),
        "nonsense": _stream(b"data: {" + said.encode() + b"\n\n"),
        "nonsense-later": _stream(opening + b"data: [" + said.encode() + b"\n\n"),
        "stray": _stream(said.encode() + b"\n\n"),
        "reason": _stream(opening + _finish(dialect, said[:60])),
        "reason-short": _stream(opening + _finish(dialect, _only(said))),
        "cut": _stream(opening)[:-5],
        "no-answer": b"",
        "no-http": said.encode() + b"\r\n\r\n",
        "bad-header": b"HTTP/1.1 200 OK\r\n" + _only(said).encode() + b"\r\n\r\n",
        "bad-length": b"HTTP/1.1 200 OK\r\ncontent-length: " + _only(said).encode() + b"\r\n\r\n",
        "bad-coding": _head(200, "text/event-stream", f"content-encoding: {_only(said)}") + opening,
        "odd-type": _head(200, _only(said)) + said.encode(),
        "request-id": _json(_error(dialect, said), 400, f"x-request-id: {_only(said)}", f"request-id: {_only(said)}"),
        "retry": _json(_error(dialect, said), 429, f"retry-after: {_only(said)}", f"x-should-retry: {_only(said)}"),
        "redirect": _head(302, "text/plain", f"location: http://127.0.0.1/?key={_only(said)}"),
    }
    for status in STATUSES:
        made[f"status-{status}"] = _json(_error(dialect, said, status), status)
    return made


def _only(said: str) -> str:
    """The first key in what was said: where there is no room for more."""
    found = re.search(r"canary-[\w-]+", said)
    return found[0] if found else "none"


FINISHED = {"chat": "stop", "responses": "completed", "anthropic": "end_turn", "gemini": "STOP"}
SCENARIOS = tuple(answers("chat", "x"))


class Parrot:
    """An upstream that repeats its requests' headers in its answers; the scenario is the model's name."""

    def __init__(self, dialect: str) -> None:
        self.dialect = dialect
        self.port = 0
        self.seen: list[tuple[bytes, bytes]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            opening = await reader.readexactly(1)
            if opening == b"\x16":  # TLS, which this is not
                writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                return
            head = opening + await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            body = await reader.readexactly(int(length[1])) if length else b""
            self.seen.append((head, body))
            found = re.search(rb'"model":"([\w-]+)"|/models/([\w-]+):', body if b'"model":' in body else head)
            said = " ".join(line.partition(": ")[2] for line in head.decode("latin-1").split("\r\n")[1:-2])
            if found is not None:
                scenario = (found[1] or found[2]).decode()
                writer.write(answers(self.dialect, f"You sent {said}.")[scenario])
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def parroting(dialect: str) -> AsyncIterator[Parrot]:
    parrot = Parrot(dialect)
    server = await asyncio.start_server(parrot.serve, "127.0.0.1", 0)
    parrot.port = server.sockets[0].getsockname()[1]
    try:
        yield parrot
    finally:
        server.close()


async def all_answers(port: int, models: list[str], key: str) -> list[tuple[str, bytes]]:
    """Everything that a client is told: JSON, SSE and WebSocket, one after the other."""
    told: list[tuple[str, bytes]] = []
    for model in models:
        for stream in (False, True):
            client = await Client.connect(port)
            client.write(post({"model": model, "input": "hi", "stream": stream}, f"Authorization: Bearer {key}"))
            answer = await client.answer()
            assert answer.whole
            told.append((f"{model} {stream}", answer.head + answer.body))
            client.leave()
    headers = {"Authorization": f"Bearer {key}"}
    async with websockets.connect(f"ws://127.0.0.1:{port}/v1/responses", proxy=None, additional_headers=headers) as ws:
        for model in models:
            await ws.send(orjson.dumps({"type": "response.create", "model": model, "input": "hi"}).decode())
            while True:
                text = await ws.recv()
                data = text if isinstance(text, bytes) else text.encode()
                told.append((f"{model} WebSocket", data))
                kind = orjson.loads(data)["type"]
                if kind in ("error", "response.completed", "response.incomplete", "response.failed"):
                    break
    return told


def records(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Every log record as far as anybody could write it."""
    formatter = logging.Formatter()
    ours = (record for record in caplog.records if not record.name.startswith("websockets"))  # the test's own client
    return [f"{formatter.format(record)} {record.args!r} {record.__dict__!r}" for record in ours]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


MODES = ("both have keys", "only the relay has keys", "the client brings the key")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dialect", sorted(PROVIDERS))
def test_canaries(dialect: str, mode: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    key = CLIENT_KEY if mode == MODES[2] else RELAY_KEY
    sent = {MODES[0]: UPSTREAM_KEY, MODES[1]: None, MODES[2]: CLIENT_KEY}[mode]

    async def knock() -> tuple[list[tuple[str, bytes]], list[tuple[bytes, bytes]]]:
        async with parroting(dialect) as parrot:
            options: dict[str, Any] = {
                "api_key": UPSTREAM_KEY if mode == MODES[0] else None,
                "headers": (("x-extra", HEADER),),
                "connect_timeout_s": 2.0,
            }
            good = UpstreamSettings(
                "up", dialect, f"http://127.0.0.1:{parrot.port}{PATHS[dialect]}", models=("*",), **options
            )
            others = {
                "tls": f"https://127.0.0.1:{parrot.port}/v1",
                "nobody": "http://127.0.0.1:1/v1",
                "nowhere": "http://no-such-host.invalid/v1",
                "socket": f"unix:{tmp_path}/nothing.sock",
            }
            bad = tuple(UpstreamSettings(name, dialect, url, **options) for name, url in others.items())
            settings = Settings(
                server=ServerSettings(port=0),
                keys={} if mode == MODES[2] else {"me": RELAY_KEY},
                upstreams=(good, *bad),
                store=StoreSettings(kind="sqlite", path=str(tmp_path / "relay.sqlite")),
            )
            app = create_app(settings, store=open_store("sqlite", tmp_path / "relay.sqlite"))
            async with serving(app, on_drain=app.on_drain, on_deadline=app.on_deadline) as server:
                told = await all_answers(server.port, [*SCENARIOS, *(f"{name}/x" for name in others)], key)
                client = await Client.connect(server.port)
                for target in ("/v1/models", "/v1/responses/resp_x", "/v1/nothing"):
                    answer = await client.request(target, host="127.0.0.1", authorization=f"Bearer {key}")
                    told.append((target, answer.head + answer.body))
                if settings.keys:
                    wrong = await client.request("/v1/models", host="127.0.0.1", authorization=f"Bearer {key}-wrong")
                    assert wrong.status == 401
                    told.append(("wrong key", wrong.head + wrong.body))
                await until(lambda: not app.services.turns)
            return told, parrot.seen

    told, seen = run(knock(), 60)
    endings = b"".join(data for _, data in told)
    assert b"response.failed" in endings
    assert b'"status":"completed"' in endings
    for canary in CANARIES:
        assert not [where for where, data in told if canary.encode() in data]
        assert not [line for line in records(caplog) if canary in line]
        assert not [name for name, data in files(tmp_path).items() if canary.encode() in data]
    assert len(seen) > len(SCENARIOS)
    for head, body in seen:
        place = f"\r\n{AUTH[dialect]}: ".encode()
        bearer = b"Bearer " if AUTH[dialect] == "authorization" else b""
        if sent is None:
            assert place not in head
        else:
            assert head.count(place + bearer + sent.encode() + b"\r\n") == 1
        rest = head.replace(place + bearer + (sent or "-").encode(), b"").replace(
            b"\r\nx-extra: " + HEADER.encode(), b""
        )
        assert not [canary for canary in CANARIES if canary.encode() in rest + body]


def test_the_scenarios_can_tell() -> None:
    """Without the relay in between, the parrot does repeat the key in nearly all of its answers."""
    for dialect in PROVIDERS:
        said = answers(dialect, f"You sent {RELAY_KEY}.")
        silent = {name for name, data in said.items() if RELAY_KEY.encode() not in data}
        assert silent == {"success", "cut", "no-answer"}


def test_settings_do_not_show_keys() -> None:
    one = UpstreamSettings(
        "up", "chat", "http://h/v1", UPSTREAM_KEY, headers=(("x", HEADER),), extra_body={"k": HEADER}
    )
    settings = Settings(keys={"me": RELAY_KEY}, upstreams=(one,))
    app = create_app(settings, store=open_store("memory", None))
    shown = f"{settings!r} {settings} {one!r} {app.services!r} {app.services.upstreams!r} {vars(app)!r}"
    assert not [canary for canary in CANARIES if canary in shown]


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("dialect", sorted(PROVIDERS))
def test_the_output_of_a_real_relay(dialect: str, form: str, tmp_path: Path) -> None:
    """``relay serve`` at log level debug: stdout, stderr and its data."""
    (tmp_path / "key").write_text(UPSTREAM_KEY + "\n")

    async def serve() -> tuple[bytes, list[tuple[str, bytes]]]:
        async with parroting(dialect) as parrot:
            path = tmp_path / "relay.toml"
            path.write_text(
                f'[server]\nport = 0\nlog_level = "debug"\nlog_format = "{form}"\n[keys]\nme = "env:ME"\n'
                f'[upstreams.up]\ndialect = "{dialect}"\nbase_url = "http://127.0.0.1:{parrot.port}{PATHS[dialect]}"\n'
                f'api_key = "file:key"\nheaders = {{ x-extra = "env:EXTRA" }}\nmodels = ["*"]\n'
                f'[upstreams.tls]\ndialect = "{dialect}"\nbase_url = "https://127.0.0.1:{parrot.port}/v1"\n'
                f'api_key = "file:key"\n[store]\npath = "relay.sqlite"\n'
            )
            environment = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-W", "error", "-m", "relay", "serve", "--config", str(path)),
                env={**environment, "ME": RELAY_KEY, "EXTRA": HEADER, "XDG_DATA_HOME": str(tmp_path)},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            assert process.stdout is not None
            printed = b""
            try:
                while not (found := re.search(rb"listens on http://127\.0\.0\.1:(\d+)", printed)):
                    line = await process.stdout.readline()
                    assert line, printed
                    printed += line
                told = await all_answers(int(found[1]), [*SCENARIOS, "tls/x"], RELAY_KEY)
                process.send_signal(signal.SIGTERM)
                printed += await process.stdout.read()
                assert await process.wait() == 0
            finally:
                if process.returncode is None:
                    process.kill()
            return printed, told

    printed, told = run(serve(), 60)
    assert printed.count(b"resp_") > len(SCENARIOS)  # the access log is there
    assert b"Traceback" not in printed
    (tmp_path / "key").unlink()
    for canary in CANARIES:
        assert canary.encode() not in printed
        assert not [where for where, data in told if canary.encode() in data]
        assert not [name for name, data in files(tmp_path).items() if canary.encode() in data]
