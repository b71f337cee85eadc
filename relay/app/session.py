"""The WebSocket session of ``/v1/responses``: one task reads, each running response is a task of its own.

Source: responses-api.md §5; decisions 30-38. The reader never waits for a turn or a send, so that leaving is seen at
once and pings are answered while responses run; it waits for the reading of a message that is large. Between a
``response.create`` and its events lies HTTP's pipeline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, NamedTuple

from relay.app.access import log_answer, log_refusal
from relay.app.attachments import SocketMessages, WriteNow
from relay.app.bodies import read_json
from relay.app.create import new_emitter
from relay.app.guard import Guard, take_place
from relay.app.keeping import keeper
from relay.app.lanes import Lanes, lane_name
from relay.app.memory import LIMIT_BYTES as MEMORY_LIMIT_BYTES
from relay.app.memory import VALUE_BYTES, ConnectionMemory, Entry, View, held_bytes
from relay.app.paths import api_path
from relay.app.prepare import Prepared, prepare
from relay.app.replies import (
    JSON_TYPE,
    Message,
    Receive,
    Scope,
    Send,
    encoded,
    headers_of,
    request_id_of,
)
from relay.app.services import Services, log
from relay.app.turn import Turn
from relay.errors import RelayError
from relay.ids import current_request
from relay.responses.json import encoded as encode
from relay.wire.http1 import GUARD_HEADERS

AGE_LIMIT_S: Final = 3_600.0
REPLIES_LIMIT: Final = 64
"""Error messages that may wait for a client that does not read; one more closes the socket."""

_GOING_AWAY: Final = 1001
_POLICY: Final = 1008

# a turn that failed for one of these says nothing against its parent (decision 36)
_INNOCENT: Final = frozenset({"store_unavailable", "draining", "missing_parameter"})


class SocketLimits(NamedTuple):
    """What one socket may cost; times in seconds."""

    age_s: float = AGE_LIMIT_S
    memory_bytes: int = MEMORY_LIMIT_BYTES
    replies: int = REPLIES_LIMIT


class _Create:
    """A ``response.create`` that waits: its body, and the parent that was there when it came."""

    __slots__ = ("body", "lane", "pinned", "weight")

    def __init__(self, body: dict[str, Any], lane: str | None, pinned: Entry | None, weight: int) -> None:
        self.body = body
        self.lane = lane
        self.pinned = pinned
        self.weight = weight


class _LaneMessages(SocketMessages):
    """A lane's messages; ``settle`` is told how the turn ended before its client is.

    A client that has read the end may go on at once, from another lane too: what it names must be there then, and what
    its failure costs must be gone.
    """

    __slots__ = ("_settle",)

    def __init__(self, wire: Wire, lane: str | None, settle: Callable[[dict[str, Any] | RelayError], None]) -> None:
        super().__init__(wire.send, lane, batches=wire.batches, write_now=wire.write_now)
        self._settle = settle

    async def finish(self, response: dict[str, Any], body: bytes | None = None) -> None:
        """The last events; the socket stays open."""
        self._settle(response)
        await super().finish(response, body)

    async def refuse(self, error: RelayError) -> None:
        """The error envelope in place of events."""
        self._settle(error)
        await super().refuse(error)


class Wire:
    """The way to the client: one message, several in one write, or at once, as far as the server can (decision 34)."""

    __slots__ = ("_send", "asked", "batches", "write_now")

    def __init__(self, scope: Scope, send: Send) -> None:
        extensions = scope.get("extensions") or {}
        self._send = send
        self.asked: Scope = {"path": scope["path"], "client": scope.get("client")}
        """What lines of the log say of the handshake."""
        self.batches = "relay.send_batch" in extensions
        self.write_now: WriteNow | None = extensions.get("relay.write")

    async def send(self, message: Message) -> None:
        """ASGI's send; where the client has left, the task that sends is cancelled, as the session will be."""
        try:
            await self._send(message)
        except OSError:
            task = asyncio.current_task()
            if task is not None:
                task.cancel()
            await asyncio.sleep(0)

    async def say(self, content: dict[str, Any]) -> None:
        """One message."""
        await self.send({"type": "websocket.send", "text": encode(content).decode()})


async def serve(
    services: Services,
    guard: Guard,
    sessions: set[Session],
    scope: Scope,
    receive: Receive,
    send: Send,
    limits: SocketLimits,
) -> None:
    """One websocket scope: the rules at the door, then a session."""
    message = await receive()
    if message["type"] != "websocket.connect":
        return
    headers = headers_of(scope)
    request_id = request_id_of(headers, services.new_id)
    current_request.set(request_id.decode())
    try:
        if api_path(scope["path"]) != "/responses":
            raise RelayError("not_found", f"Unknown path: {scope['path'][:200]}")
        guard.allowed_origin(headers)
        guard.check_browser(headers, "GET")
        owner = guard.caller(headers).owner
        take_place(scope)
        if not services.settings.server.websocket:
            raise RelayError("upgrade_required", "WebSocket mode is switched off here; use HTTP.")
        if services.draining:
            raise _draining()
    except RelayError as error:
        services.redactor.error(error)
        log_refusal(scope, error)
        await _refuse(scope, send, error, request_id)
        return
    await send({"type": "websocket.accept", "headers": [(b"x-request-id", request_id)]})
    log_answer(scope, 101)
    session = Session(services, guard, headers, Wire(scope, send), limits, owner)
    sessions.add(session)
    try:
        await session.run(receive)
    finally:
        sessions.discard(session)


async def _refuse(scope: Scope, send: Send, error: RelayError, request_id: bytes) -> None:
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": _POLICY})
        return
    headers = [JSON_TYPE, (b"x-request-id", request_id), *GUARD_HEADERS, *encoded(error.response_headers())]
    if error.status == 426:
        headers.append((b"upgrade", b"websocket"))
    await send({"type": "websocket.http.response.start", "status": error.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": encode(error.envelope())})


class Session:
    """One open connection."""

    __slots__ = (
        "_closing",
        "_ending",
        "_expired",
        "_guard",
        "_headers",
        "_lanes",
        "_limits",
        "_memory",
        "_owner",
        "_replies",
        "_services",
        "_tasks",
        "_timer",
        "_wire",
    )

    def __init__(
        self,
        services: Services,
        guard: Guard,
        headers: dict[bytes, bytes],
        wire: Wire,
        limits: SocketLimits,
        owner: str,
    ) -> None:
        self._services = services
        self._guard = guard
        self._headers = {name: headers[name] for name in _KEPT_HEADERS if name in headers}
        self._wire = wire
        self._limits = limits
        self._owner = owner
        self._lanes: Lanes[_Create] = Lanes(services.settings.server.max_body_bytes)
        self._memory = ConnectionMemory(limits.memory_bytes, self._lanes.busy)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._replies = 0
        self._closing = False
        """A Close was sent, or the client has left."""
        self._expired = False
        """The connection is too old for more."""
        self._ending = False
        """The drain's deadline has passed."""
        # one timer a socket: its age is looked at when nothing else happens (responses-api.md §5.10)
        self._timer = asyncio.get_running_loop().call_later(limits.age_s, self._on_age)

    async def run(self, receive: Receive) -> None:
        """Read until the client leaves or the session closes."""
        if self._services.draining:  # since the door was open
            self.on_drain()
        try:
            while not self._closing:
                message = await receive()
                if message["type"] == "websocket.disconnect":
                    return
                await self._on_message(message)
                if self._replies:  # what came in one packet with this: the replies get their turn between
                    await asyncio.sleep(0)
        finally:
            self._timer.cancel()
            self._closing = True
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)

    def on_drain(self) -> None:
        """Close with 1001 now if idle, else when the last turn has ended (decision 38)."""
        if self._lanes.idle:
            self._spawn(self._close(_GOING_AWAY))

    def on_deadline(self) -> None:
        """What waits will not run any more; what runs is being ended (decision 38)."""
        self._ending = True
        for queued in self._lanes.drain():
            self._refuse_create(queued.job, _draining())

    # --- reading

    async def _on_message(self, message: Message) -> None:
        """Read one message; one that is large is waited for, so that they are taken in order."""
        text = message.get("text")
        try:
            if text is None:
                raise RelayError("invalid_value", "Send JSON objects as text messages.", code="invalid_message")
            data = text.encode("utf-8") if isinstance(text, str) else text
            content, weight = await read_json(
                self._services.heavy, self._owner, data, max_values=self._services.settings.server.max_values
            )
            if not isinstance(content, dict) or not isinstance(content.get("type"), str):
                raise RelayError("invalid_type", "A message must be a JSON object with a string 'type'.", param="type")
            handler = _MESSAGES.get(content["type"])
            if handler is None:
                message_text = f"Unknown message type '{content['type'][:64]}'."
                raise RelayError("invalid_value", message_text, param="type", code="unknown_event_type")
            handler(self, content, len(data) + VALUE_BYTES * weight, weight)
        except RelayError as error:
            self._reply(self._refusal(error))

    def _on_create(self, content: dict[str, Any], size_bytes: int, weight: int) -> None:
        lane = lane_name(content)
        try:
            if self._expired:
                raise _too_old()
            if self._services.draining:
                raise _draining()
            parent = self._memory.get(content.get("previous_response_id"))
            create = _Create(content, lane, parent, weight)
            self._lanes.add(lane, create, size_bytes)
            if parent is not None:
                self._memory.pin(parent)
        except RelayError as error:
            self._reply(self._refusal(error, lane))
            return
        self._start_ready()

    def _on_steer(self, content: dict[str, Any], size_bytes: int, weight: int) -> None:
        """Decision 37: always refused, with the input given back."""
        steer = {"previous_response_id": content.get("previous_response_id"), "input": content.get("input")}
        error = {
            "type": "invalid_request_error",
            "code": "steering_not_supported",
            "message": "Steering is not supported by this relay.",
        }
        self._reply({"type": "response.steer.failed", "sequence_number": 0, "steer": steer, "error": error})

    def _ignore(self, content: dict[str, Any], size_bytes: int, weight: int) -> None:
        """``response.processed`` of some Codex versions expects no answer."""

    # --- running

    def _start_ready(self) -> None:
        while not self._closing and (queued := self._lanes.next()) is not None:
            self._spawn(self._run_create(queued.job))

    async def _run_create(self, create: _Create) -> None:
        view = View(self._memory, create.pinned)
        try:
            await self._answer(create, view)
        except RelayError as error:
            self._on_failure(create, view, error)
            await self._wire.say(self._refusal(error, create.lane))
        except Exception:
            log.exception("a WebSocket turn failed for a reason of our own")
            failure = RelayError("internal", "The relay had an internal error.")
            self._on_failure(create, view, failure)
            await self._wire.say(failure.socket_envelope(create.lane))
        finally:
            self._lanes.finished(create.lane)
            self._start_ready()
        if self._lanes.idle and (self._expired or self._services.draining):
            await self._end()

    async def _answer(self, create: _Create, view: View) -> None:
        """Run one create. Raises: RelayError where nothing was said yet."""
        services = self._services
        body = {name: value for name, value in create.body.items() if name not in _ENVELOPE}
        body["stream"] = True
        try:
            caller = self._guard.caller(self._headers)
            trace = tuple(
                (name.decode(), self._headers[name].decode("latin-1")) for name in _TRACE & self._headers.keys()
            )
            prepared = await prepare(
                services, body, caller, transport="websocket", memory=view, trace=trace, weight=create.weight
            )
        finally:
            self._unpin(create)
        if self._ending:
            raise _draining()

        def settle(outcome: dict[str, Any] | RelayError) -> None:
            if isinstance(outcome, RelayError):
                self._on_failure(create, view, outcome)
            elif outcome["status"] == "failed":
                self._on_failure(create, view, None)
            else:
                self._remember(create, prepared, outcome)

        attachment = _LaneMessages(self._wire, create.lane, settle)
        emitter = new_emitter(services, prepared, attachment.sink)
        keep = keeper(services, prepared, emitter)
        if not _warms_up(create.body):
            await Turn(services, prepared.plan, emitter, attachment, keep).run()
            return
        # a warm-up is local: nobody generates (decision 37)
        response = emitter.conclude("completed")
        kept = keep(response) if keep is not None else None
        if kept is not None:
            await attachment.flush()
            await kept()
        emitter.terminal()
        await attachment.finish(response)

    def _remember(self, create: _Create, prepared: Prepared, response: dict[str, Any]) -> None:
        if prepared.window is not None and prepared.plan.request.n == 1:
            output = response.get("output") or []
            size_bytes = prepared.window_bytes + held_bytes(output)
            self._memory.remember(str(response["id"]), create.lane, [*prepared.window, *output], size_bytes)

    def _on_failure(self, create: _Create, view: View, error: RelayError | None) -> None:
        """A continuation in its parent's own lane failed: the parent goes (decision 36)."""
        parent = view.hit
        if parent is None or parent.lane != create.lane or _warms_up(create.body):
            return
        if error is None or _tells_against_parent(error):
            self._memory.evict(parent)

    def _unpin(self, create: _Create) -> None:
        if create.pinned is not None:
            self._memory.unpin(create.pinned)
            create.pinned = None

    def _refuse_create(self, create: _Create, error: RelayError) -> None:
        self._unpin(create)
        self._reply(self._refusal(error, create.lane))

    # --- writing

    def _refusal(self, error: RelayError, lane: str | None = None) -> dict[str, Any]:
        """The envelope of what never became a turn; the log says it too."""
        self._services.redactor.error(error)
        log_refusal(self._wire.asked, error)
        return error.socket_envelope(lane)

    def _reply(self, content: dict[str, Any]) -> None:
        """Say something from the reader, which does not wait for it."""
        if self._replies >= self._limits.replies:
            self._spawn(self._close(_POLICY))
            return
        self._replies += 1
        self._spawn(self._say_reply(content))

    async def _say_reply(self, content: dict[str, Any]) -> None:
        try:
            await self._wire.say(content)
        finally:
            self._replies -= 1

    # --- the end

    def _on_age(self) -> None:
        self._expired = True
        if self._lanes.idle:
            self._spawn(self._end())

    async def _end(self) -> None:
        if self._expired and not self._closing:
            await self._wire.say(_too_old().socket_envelope())
        await self._close(_GOING_AWAY)

    async def _close(self, code: int) -> None:
        if not self._closing:
            self._closing = True
            await self._wire.send({"type": "websocket.close", "code": code})

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """A task that is kept until it is done, and cancelled when the client leaves."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _tells_against_parent(error: RelayError) -> bool:
    """Not an invalid field, not a key that is not known, nothing of the relay's own (decision 36)."""
    about_the_window = error.param is None or error.param == "input"
    return about_the_window and error.status != 401 and error.kind not in _INNOCENT


def _warms_up(body: dict[str, Any]) -> bool:
    return body.get("generate") is False


def _draining() -> RelayError:
    return RelayError("draining", "The relay is shutting down.")


def _too_old() -> RelayError:
    message = "The 60-minute limit of this connection was reached. Create a new connection to continue."
    return RelayError("websocket_connection_limit_reached", message)


_TRACE: Final = frozenset({b"traceparent", b"tracestate"})
_KEPT_HEADERS: Final = (b"authorization", b"api-key", *_TRACE)
_ENVELOPE: Final = frozenset({"type", "stream_id", "stream", "stream_options"})

_MESSAGES: Final = {
    "response.create": Session._on_create,
    "response.steer": Session._on_steer,
    "response.processed": Session._ignore,
}
