"""The demo upstream as an ASGI application: routes, faults, pace and counters.

Source: ASGI 3 (http and lifespan scopes); issue 2 point 8. The wire formats are in the files beside this one; here is
what has to do with sockets: when a write happens, how a connection breaks, and that all stops when the client leaves.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any, Final, NamedTuple, Protocol

import orjson

from relay.demo import anthropic, chat, gemini, responses
from relay.demo.behaviour import AT_ONCE, Behaviour, UnknownWordError, behaviour_of
from relay.demo.models import LISTED, anthropic_models, gemini_models, openai_models
from relay.demo.script import Refusal, Reply, Turn, reply_to

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

HUMAN_PACE_PER_S: Final = 50.0
_MOST_BODY_BYTES: Final = 64 * 1024 * 1024
_KEPT_REQUESTS: Final = 100
_KEPT_BYTES: Final = 64 * 1024 * 1024
_HTML: Final = b"<!DOCTYPE html>\n<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>\n"
_GARBAGE: Final = b'data: {"this is": no JSON,,\n\n\x00\xff\xfe{{{\n\nevent: ?\n\n'
_JSON: Final = b"application/json"
_SSE: Final = b"text/event-stream; charset=utf-8"


class Dialect(Protocol):
    """One wire format: reads a request, writes a reply as a stream of (bytes, tokens in them) or as one body."""

    def read(self, body: dict[str, Any], target: Target) -> Turn:
        """Check the request as the vendor would. Raises: Refusal."""
        ...

    def stream(self, turn: Turn, reply: Reply) -> Iterator[tuple[bytes, int]]:
        """The events of a streamed answer; an item with a token in it is what pace and faults count."""
        ...

    def whole(self, turn: Turn, reply: Reply) -> dict[str, Any]:
        """The answer as one JSON body."""
        ...

    def refused(self, refusal: Refusal) -> dict[str, Any]:
        """The vendor's error body."""
        ...

    def stream_error(self, refusal: Refusal) -> bytes:
        """The vendor's error as it comes inside a stream."""
        ...


class Target(NamedTuple):
    """What a URL and its headers say beside the body."""

    model: str | None
    stream: bool | None
    headers: dict[bytes, bytes]
    query: str


class Seen(NamedTuple):
    """A request as it arrived."""

    method: str
    path: str
    headers: list[tuple[bytes, bytes]]
    body: bytes


_CHAT: Final[Dialect] = chat.Chat()
_RESPONSES: Final[Dialect] = responses.Responses()
_ANTHROPIC: Final[Dialect] = anthropic.Anthropic()
_GEMINI: Final[Dialect] = gemini.Gemini()

_GENERATE: Final[tuple[tuple[re.Pattern[str], Dialect], ...]] = (
    (re.compile(r".*/chat/completions$"), _CHAT),
    (re.compile(r".*/responses$"), _RESPONSES),
    (re.compile(r".*/messages$"), _ANTHROPIC),
    (re.compile(r".*/models/(?P<model>[^/:]+):(?P<verb>generateContent|streamGenerateContent)$"), _GEMINI),
)
_COUNT: Final[tuple[tuple[re.Pattern[str], Dialect, str], ...]] = (
    (re.compile(r".*/messages/count_tokens$"), _ANTHROPIC, "input_tokens"),
    (re.compile(r".*/models/(?P<model>[^/:]+):(?P<verb>countTokens)$"), _GEMINI, "totalTokens"),
    (re.compile(r".*/responses/input_tokens$"), _RESPONSES, "input_tokens"),
)
_FAILURES: Final[dict[int, str]] = {
    400: "The demo model finds this request malformed.",
    401: "Incorrect API key provided.",
    403: "The demo model is not for you.",
    404: "The model does not exist or you do not have access to it.",
    429: "Rate limit reached for the demo model.",
    503: "The demo model is overloaded.",
    529: "Overloaded",
}


class DemoApp:
    """The application; ``active``, ``cancelled``, ``writes`` and ``requests`` are for tests.

    ``tokens_per_s`` is the pace of models that name none; 0 is as fast as the client reads.
    """

    def __init__(self, *, tokens_per_s: float = HUMAN_PACE_PER_S) -> None:
        self.tokens_per_s = tokens_per_s
        self.active = 0
        self.cancelled = 0
        self.writes = 0
        self.requests: deque[Seen] = deque(maxlen=_KEPT_REQUESTS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI 3."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            raise RuntimeError(f"the demo upstream does not speak {scope['type']}")

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.active += 1
        task = asyncio.current_task()
        assert task is not None
        watcher = None
        left = False

        async def watch() -> None:
            # A task of its own: ASGI does not cancel on disconnect, and a stalled answer must end with its client.
            nonlocal left
            while (await receive())["type"] != "http.disconnect":
                pass
            left = True
            task.cancel()

        try:
            body = await _body_of(receive)
            if body is None:
                self.cancelled += 1
                return
            self._remember(scope, body)
            watcher = asyncio.create_task(watch())
            await _Answer(self, send).run(scope, body)
        except asyncio.CancelledError:
            self.cancelled += 1
            if not left:
                raise
            task.uncancel()
        finally:
            self.active -= 1
            if watcher is not None:
                watcher.cancel()

    def _remember(self, scope: Scope, body: bytes) -> None:
        path = scope["path"]
        if scope.get("query_string"):
            path += "?" + scope["query_string"].decode("latin-1")
        self.requests.append(Seen(scope["method"], path, list(scope["headers"]), body))
        while len(self.requests) > 1 and sum(len(seen.body) for seen in self.requests) > _KEPT_BYTES:
            self.requests.popleft()


def create_app(*, tokens_per_s: float = HUMAN_PACE_PER_S) -> DemoApp:
    """A fresh application with counters of its own."""
    return DemoApp(tokens_per_s=tokens_per_s)


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await send({"type": "lifespan.shutdown.complete"})
            return


async def _body_of(receive: Receive) -> bytes | None:
    """The request's body; None if the client left before its end."""
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        piece = message.get("body", b"")
        size += len(piece)
        if size <= _MOST_BODY_BYTES:
            pieces.append(piece)
        if not message.get("more_body"):
            return b"".join(pieces)


class _Answer:
    """One answer on its way out."""

    def __init__(self, app: DemoApp, send: Send) -> None:
        self._app = app
        self._send = send
        self._trickle = False

    async def run(self, scope: Scope, body: bytes) -> None:
        method, path = scope["method"], scope["path"]
        headers = dict(scope["headers"])
        if method == "GET":
            await self._models(path, headers)
            return
        for pattern, dialect in _GENERATE:
            if found := pattern.match(path):
                await self._generate(dialect, _target(found, headers, scope), body)
                return
        for pattern, dialect, key in _COUNT:
            if found := pattern.match(path):
                await self._count(dialect, _target(found, headers, scope), body, key)
                return
        await self._refuse(_dialect_of(path, headers), Refusal(f"Unknown request URL: {method} {path}", status=404))

    async def _models(self, path: str, headers: dict[bytes, bytes]) -> None:
        dialect = _dialect_of(path, headers)
        _, found, name = path.partition("/models")
        if not found:
            await self._refuse(dialect, Refusal(f"Unknown request URL: GET {path}", status=404))
            return
        shape = next(shape for one, shape in _MODELS if one is dialect)
        if name.strip("/"):
            await self._json(200, shape((name.strip("/"),), False))
        else:
            await self._json(200, shape(LISTED, True))

    async def _count(self, dialect: Dialect, target: Target, raw: bytes, key: str) -> None:
        try:
            body = _parsed(raw)
            if dialect is _ANTHROPIC:
                body.setdefault("max_tokens", 1)
            turn = _read(dialect, body.get("generateContentRequest", body), target)
        except Refusal as refusal:
            await self._refuse(dialect, refusal)
            return
        await self._json(200, {key: reply_to(turn).input_tokens})

    async def _generate(self, dialect: Dialect, target: Target, raw: bytes) -> None:
        try:
            body = _parsed(raw)
            model = str(target.model or body.get("model") or "demo")
            behaviour = _behaviour(model)
            if behaviour.stall_headers:
                await asyncio.Event().wait()
            if behaviour.fail is not None:
                raise _failure(behaviour.fail)
            turn = _read(dialect, body, target)
        except Refusal as refusal:
            await self._refuse(dialect, refusal)
            return
        self._trickle = behaviour.trickle
        listed = dialect is _GEMINI and "alt=sse" not in target.query  # Gemini's stream without SSE is a JSON list
        stream = turn.stream and not behaviour.json and not listed
        reply = reply_to(turn)
        if behaviour.html or behaviour.garbage or behaviour.empty:
            kind = b"text/html; charset=utf-8" if behaviour.html else _SSE if stream else _JSON
            broken = _HTML if behaviour.html else _GARBAGE if behaviour.garbage else b""
            await self._start(200, kind, None if stream else len(broken))
            await self._write(broken, more=False)
        elif stream:
            await self._stream(dialect, turn, reply)
        else:
            await self._whole(dialect, turn, reply)

    async def _whole(self, dialect: Dialect, turn: Turn, reply: Reply) -> None:
        behaviour = turn.behaviour
        if behaviour.overload200:
            await self._json(200, dialect.refused(_failure(529)))
            return
        if behaviour.error is not None:
            await self._refuse(dialect, _failure(500))
            return
        if behaviour.stall is not None:
            await self._start(200, _JSON, None)
            await self._write(b"")
            await asyncio.Event().wait()
        pace = self._pace(behaviour)
        if pace > 0:
            await asyncio.sleep(reply.output_tokens / pace)
        answer = dialect.whole(turn, reply)
        data = orjson.dumps([answer] if turn.stream and dialect is _GEMINI else answer)
        await self._start(200, _JSON, len(data))
        if behaviour.cut is not None:
            await self._write(data[: len(data) // 2])
            return  # unfinished: the server can only close the connection
        await self._write(data, more=False)

    async def _stream(self, dialect: Dialect, turn: Turn, reply: Reply) -> None:
        """Head, tokens at their pace, tail; a fault comes after as many tokens as the model's name says."""
        behaviour = turn.behaviour
        fault_at = _fault_at(behaviour, reply.output_tokens)
        await self._start(200, _SSE, None)
        if fault_at == AT_ONCE:
            await self._write(b"")
            await self._fault(dialect, behaviour)
            return
        pace = self._pace(behaviour)
        batch = max(1, behaviour.batch)
        clock = asyncio.get_running_loop().time
        due = clock()
        sent = held_tokens = 0
        held: list[bytes] = []
        for data, tokens in dialect.stream(turn, reply):
            if behaviour.crlf:
                data = data.replace(b"\n", b"\r\n")
            if tokens and behaviour.ping:
                held.append(b": ping\n\n")
            held.append(data)
            held_tokens += tokens
            sent += tokens
            if fault_at is not None and sent >= fault_at and (tokens or sent == 0):
                await self._write(b"".join(held))
                await self._fault(dialect, behaviour)
                return
            if held_tokens >= batch or (tokens == 0 and sent == 0):  # hot: bench/ one token a write
                await self._write(b"".join(held))
                held.clear()
                if pace > 0 and held_tokens:
                    due += held_tokens / pace
                    await asyncio.sleep(max(0.0, due - clock()))
                else:
                    await asyncio.sleep(0)
                held_tokens = 0
        await self._write(b"".join(held), more=False)

    async def _fault(self, dialect: Dialect, behaviour: Behaviour) -> None:
        if behaviour.stall is not None:
            await asyncio.Event().wait()
        if behaviour.cut is None:
            refusal = _failure(529 if behaviour.overload200 else 500)
            await self._write(dialect.stream_error(refusal), more=False)
        # A cut: returning with the body unfinished leaves the server no choice but to close the connection.

    def _pace(self, behaviour: Behaviour) -> float:
        return self._app.tokens_per_s if behaviour.pace is None else behaviour.pace

    async def _refuse(self, dialect: Dialect, refusal: Refusal) -> None:
        headers = [(b"retry-after", b"1")] if refusal.status in (429, 503, 529) else []
        await self._json(refusal.status, dialect.refused(refusal), headers)

    async def _json(self, status: int, value: Any, headers: list[tuple[bytes, bytes]] | None = None) -> None:
        data = orjson.dumps(value)
        await self._start(status, _JSON, len(data), headers or [])
        await self._write(data, more=False)

    async def _start(
        self, status: int, kind: bytes, length: int | None, headers: list[tuple[bytes, bytes]] | None = None
    ) -> None:
        request_id = chat.new_id("req_").encode()
        fields = [(b"content-type", kind), (b"x-request-id", request_id), (b"request-id", request_id)]
        if length is not None:
            fields.append((b"content-length", str(length).encode()))
        else:
            fields.append((b"cache-control", b"no-cache"))
        await self._send({"type": "http.response.start", "status": status, "headers": fields + (headers or [])})

    async def _write(self, data: bytes, more: bool = True) -> None:
        send = self._send
        if self._trickle:
            for at in range(len(data)):
                await send({"type": "http.response.body", "body": data[at : at + 1], "more_body": True})
                await asyncio.sleep(0)
            data = b""
            if more:
                return
        self._app.writes += 1
        await send({"type": "http.response.body", "body": data, "more_body": more})


def _target(found: re.Match[str], headers: dict[bytes, bytes], scope: Scope) -> Target:
    parts = found.groupdict()
    verb = parts.get("verb")
    stream = None if verb is None else verb == "streamGenerateContent"
    return Target(parts.get("model"), stream, headers, scope.get("query_string", b"").decode("latin-1"))


def _dialect_of(path: str, headers: dict[bytes, bytes]) -> Dialect:
    if b"anthropic-version" in headers or path.endswith("/messages"):
        return _ANTHROPIC
    return _GEMINI if "/v1beta" in path or b"x-goog-api-key" in headers else _CHAT


def _parsed(raw: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise Refusal(f"We could not parse the JSON body of your request: {error}") from None
    if not isinstance(body, dict):
        raise Refusal("The body of the request must be a JSON object.")
    return body


def _read(dialect: Dialect, body: dict[str, Any], target: Target) -> Turn:
    """The checked request; one whose members have types that the checks do not expect is refused as well."""
    try:
        return dialect.read(body, target)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise Refusal(f"The demo upstream cannot read this request: {error!r}") from error


def _behaviour(model: str) -> Behaviour:
    try:
        return behaviour_of(model)
    except UnknownWordError as error:
        message = f"The model `{model}` does not exist: the demo knows no word '{error}'."
        raise Refusal(message, status=404, code="model_not_found") from None


def _failure(status: int) -> Refusal:
    status = min(max(status, 200), 599)
    code = "model_not_found" if status == 404 else None
    return Refusal(_FAILURES.get(status, "The demo model failed, as its name says."), status=status, code=code)


def _fault_at(behaviour: Behaviour, total: int) -> int | None:
    """After how many tokens something goes wrong; None: nothing does."""
    if behaviour.overload200:
        return AT_ONCE
    asked = [at for at in (behaviour.stall, behaviour.cut, behaviour.error) if at is not None]
    return min(asked[0], total) if asked else None


_MODELS: Final = ((_CHAT, openai_models), (_ANTHROPIC, anthropic_models), (_GEMINI, gemini_models))
