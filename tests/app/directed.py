"""The demo upstream under direction: its checks and its wire formats, and a script that says what the model does.

``play(turn)`` gets the request as the demo read it, and returns what the model says: ``Say``, ``Do`` and ``Hush``.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import orjson
from jsonschema import Draft202012Validator, SchemaError

from relay.app import create_app
from relay.config import ServerSettings, Settings, StoreSettings, UpstreamSettings
from relay.demo import create_app as create_demo
from relay.demo.anthropic import Anthropic
from relay.demo.application import Dialect, Target
from relay.demo.chat import Chat
from relay.demo.script import Call, Part, Refusal, Reply, Turn, make_call_id, pieces, words
from relay.state import open_store
from tests.app.support import PATHS, Relay
from tests.server.support import serving


class Say(NamedTuple):
    """A text."""

    text: str


class Do(NamedTuple):
    """A call of a tool, by the name that the upstream knows."""

    name: str
    arguments: dict[str, Any]


class Hush(NamedTuple):
    """Silence after the first token of what follows."""

    seconds: float


Play = Callable[[Turn], Sequence[Say | Do | Hush]]

DIALECTS: dict[str, Dialect] = {"chat": Chat(), "anthropic": Anthropic()}


KEYS = {"chat": re.compile(".*", re.DOTALL), "anthropic": re.compile("[a-zA-Z0-9_.-]{1,64}")}
"""What a property may be called (the words of api.anthropic.com's error: "Property keys should match pattern")."""


def _check(name: str, schema: Any, keys: re.Pattern[str]) -> None:
    """Refuse a tool's schema as the vendors do. Source: their errors, as the cases of ``schema-*`` have them."""
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise Refusal(f"{name}: JSON schema is invalid. It must match JSON Schema draft 2020-12. {error}") from None
    if schema.keys() & {"anyOf", "oneOf", "allOf"}:
        raise Refusal(f"{name}: input_schema does not support oneOf, allOf, or anyOf at the top level")
    for key in _property_names(schema):
        if not keys.fullmatch(key):
            raise Refusal(f"{name}: Property keys should match pattern '{keys.pattern}'")


def _property_names(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("properties"), dict):
            yield from node["properties"]
        for value in node.values():
            yield from _property_names(value)
    elif isinstance(node, list):
        for value in node:
            yield from _property_names(value)


class Director:
    """An ASGI application; ``turns`` are the requests as they were read, ``refused`` what the vendor would refuse."""

    def __init__(self, dialect: str, play: Play) -> None:
        self._dialect = DIALECTS[dialect]
        self._play = play
        self._keys = KEYS[dialect]
        self.turns: list[Turn] = []
        self.refused: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI 3, requests only."""
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if scope["method"] == "GET":
            await self._json(send, 200, {"object": "list", "data": []})
            return
        try:
            turn = self._dialect.read(orjson.loads(body), Target(None, None, dict(scope["headers"]), ""))
            for tool in turn.tools:
                _check(tool.name, tool.schema, self._keys)
        except Refusal as refusal:
            self.refused.append(refusal.message)
            await self._json(send, refusal.status, self._dialect.refused(refusal))
            return
        self.turns.append(turn)
        await self._stream(send, turn, list(self._play(turn)))

    async def _stream(self, send: Any, turn: Turn, said: list[Say | Do | Hush]) -> None:
        hush = sum(one.seconds for one in said if isinstance(one, Hush))
        head = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        for data, tokens in self._dialect.stream(turn, _reply(turn, said)):
            await send({"type": "http.response.body", "body": data, "more_body": True})
            if tokens and hush:
                await asyncio.sleep(hush)
                hush = 0
        await send({"type": "http.response.body", "body": b""})

    async def _json(self, send: Any, status: int, value: Any) -> None:
        head = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": orjson.dumps(value)})


def _reply(turn: Turn, said: list[Say | Do | Hush]) -> Reply:
    prefix, parts = turn.talk.prefix(), []
    for number, one in enumerate(said):
        if isinstance(one, Say):
            parts.append(Part("text", words(one.text)))
        elif isinstance(one, Do):
            call = Call(make_call_id(turn.call_prefix, None, prefix, number), one.name, False, None)
            parts.append(Part("call", pieces(orjson.dumps(one.arguments).decode()), call))
    finish = "calls" if any(isinstance(one, Do) for one in said) else "stop"
    made = sum(len(part.tokens) for part in parts)
    return Reply(tuple(parts), finish, None, max(1, turn.talk.words), 0, made, None)


@asynccontextmanager
async def directed(dialect: str, play: Play, **services: Any) -> AsyncIterator[tuple[Relay, Director]]:
    """A relay in front of a directed upstream."""
    director = Director(dialect, play)
    async with serving(director, lifespan=False) as stage:
        url = f"http://127.0.0.1:{stage.port}{PATHS[dialect]}"
        one = UpstreamSettings("demo", dialect, url, api_key="upstream-canary", models=("*",))
        configured = Settings(server=ServerSettings(port=0), upstreams=(one,), store=StoreSettings(kind="memory"))
        app = create_app(configured, store=open_store("memory", None), **services)
        async with serving(app, on_drain=app.on_drain, on_deadline=app.on_deadline) as running:
            yield Relay(running.port, app, create_demo(), stage.port, running), director
