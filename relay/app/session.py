"""The WebSocket session of ``/v1/responses``: one task reads, each running response is a task of its own.

Source: responses-api.md §5; decisions 30-38. The reader never waits for a turn or a send, so that leaving is seen at
once and pings are answered while responses run. Between a ``response.create`` and its events lies HTTP's pipeline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

import orjson

from relay.app.attachments import SocketMessages
from relay.app.create import new_emitter
from relay.app.guard import Caller, Guard
from relay.app.keeping import keeper
from relay.app.lanes import Lanes, lane_name
from relay.app.memory import ConnectionMemory, Entry, View
from relay.app.prepare import Prepared, prepare
from relay.app.replies import JSON_TYPE, Message, Receive, Scope, Send, encoded, headers_of, parse_json
from relay.app.services import Services, log
from relay.app.turn import Turn
from relay.errors import RelayError

AGE_LIMIT_S: Final = 3_600.0
REPLIES_LIMIT: Final = 64
"""Error messages that may wait for a client that does not read."""

_GOING_AWAY: Final = 1001
_POLICY: Final = 1008

# kinds that blame a field: the parent was not used, so it stays (decision 36)
_FIELD_KINDS: Final = frozenset(
    {
        "invalid_type",
        "invalid_value",
        "missing_parameter",
        "unknown_parameter",
        "unsupported_parameter",
        "unsupported_value",
        "invalid_api_key",
        "websocket_queue_full",
        "model_not_found",
        "store_unavailable",
        "draining",
    }
)


class _Create:
    """A ``response.create`` that waits: its body, and the parent that was there when it came."""

    __slots__ = ("body", "lane", "pinned")

    def __init__(self, body: dict[str, Any], lane: str | None, pinned: Entry | None) -> None:
        self.body = body
        self.lane = lane
        self.pinned = pinned


async def serve(
    services: Services, guard: Guard, sessions: set[Session], scope: Scope, receive: Receive, send: Send
) -> None:
    """One websocket scope: the rules at the door, then a session."""
    message = await receive()
    if message["type"] != "websocket.connect":
        return
    headers = headers_of(scope)
    try:
        if scope["path"].rstrip("/") != "/v1/responses":
            raise RelayError("not_found", f"Unknown path: {scope['path'][:200]}")
        guard.allowed_origin(headers)
        guard.check_browser(headers, "GET")
        guard.caller(headers)
        if not services.settings.server.websocket:
            raise RelayError("upgrade_required", "WebSocket mode is switched off here; use HTTP.")
        if services.draining:
            raise RelayError("draining", "The relay is shutting down.")
    except RelayError as error:
        await _refuse(services, scope, send, error)
        return
    await send({"type": "websocket.accept"})
    batches = "relay.send_batch" in (scope.get("extensions") or {})
    session = Session(services, guard, headers, send, batches=batches)
    sessions.add(session)
    try:
        await session.run(receive)
    finally:
        sessions.discard(session)


async def _refuse(services: Services, scope: Scope, send: Send, error: RelayError) -> None:
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": _POLICY})
        return
    headers = [JSON_TYPE, (b"x-request-id", services.new_id("req").encode()), *encoded(error.response_headers())]
    if error.status == 426:
        headers.append((b"upgrade", b"websocket"))
    await send({"type": "websocket.http.response.start", "status": error.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": error.body()})


class Session:
    """One open connection."""

    __slots__ = (
        "_batches",
        "_closing",
        "_expired",
        "_guard",
        "_headers",
        "_lanes",
        "_memory",
        "_replies",
        "_send",
        "_services",
        "_tasks",
        "_timer",
    )

    def __init__(
        self, services: Services, guard: Guard, headers: dict[bytes, bytes], send: Send, *, batches: bool
    ) -> None:
        self._services = services
        self._guard = guard
        self._headers = headers
        self._send = send
        self._batches = batches
        self._lanes: Lanes[_Create] = Lanes(services.settings.server.max_body_bytes)
        self._memory = ConnectionMemory()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._replies = 0
        self._closing = False
        self._expired = False
        # one timer a socket: its age is looked at when nothing else happens (responses-api.md §5.10)
        self._timer = asyncio.get_running_loop().call_later(AGE_LIMIT_S, self._on_age)

    async def run(self, receive: Receive) -> None:
        """Read until the client leaves or the session closes."""
        try:
            while not self._closing:
                message = await receive()
                if message["type"] == "websocket.disconnect":
                    return
                self._on_message(message)
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

    # --- reading

    def _on_message(self, message: Message) -> None:
        text = message.get("text")
        try:
            if text is None:
                raise RelayError("invalid_value", "Send JSON objects as text messages.", code="invalid_message")
            data = text.encode("utf-8") if isinstance(text, str) else text
            content = parse_json(data)
            if not isinstance(content, dict) or not isinstance(content.get("type"), str):
                raise RelayError("invalid_type", "A message must be a JSON object with a string 'type'.", param="type")
            handler = _MESSAGES.get(content["type"])
            if handler is None:
                message_text = f"Unknown message type '{content['type'][:64]}'."
                raise RelayError("invalid_value", message_text, param="type", code="unknown_event_type")
            handler(self, content, len(data))
        except RelayError as error:
            self._reply(error.socket_envelope())

    def _on_create(self, content: dict[str, Any], size_bytes: int) -> None:
        lane = lane_name(content)
        try:
            if self._expired:
                raise _too_old()
            if self._services.draining:
                raise RelayError("draining", "The relay is shutting down.")
            parent = self._memory.get(content.get("previous_response_id"))
            create = _Create(content, lane, parent)
            self._lanes.add(lane, create, size_bytes)
            if parent is not None:
                self._memory.pin(parent)
        except RelayError as error:
            self._reply(error.socket_envelope(lane))
            return
        self._start_ready()

    def _on_steer(self, content: dict[str, Any], size_bytes: int) -> None:
        """Decision 37: always refused, with the input given back."""
        steer = {"previous_response_id": content.get("previous_response_id"), "input": content.get("input")}
        error = {
            "type": "invalid_request_error",
            "code": "steering_not_supported",
            "message": "Steering is not supported by this relay.",
        }
        self._reply({"type": "response.steer.failed", "sequence_number": 0, "steer": steer, "error": error})

    def _ignore(self, content: dict[str, Any], size_bytes: int) -> None:
        """``response.processed`` of some Codex versions expects no answer."""

    # --- running

    def _start_ready(self) -> None:
        while not self._closing and (queued := self._lanes.next()) is not None:
            self._spawn(self._run_create(queued.job))

    async def _run_create(self, create: _Create) -> None:
        view = View(self._memory, create.pinned)
        failure: RelayError | None = None
        try:
            failure = await self._turn(create, view)
        except RelayError as error:
            failure = self._services.redactor.error(error)
            await self._say(error.socket_envelope(create.lane))
        except Exception:
            log.exception("a WebSocket turn failed for a reason of our own")
            failure = RelayError("internal", "The relay had an internal error.")
            await self._say(failure.socket_envelope(create.lane))
        finally:
            if create.pinned is not None:
                self._memory.unpin(create.pinned)
            if failure is not None and view.hit is not None and _evicts(failure, view.hit, create.lane):
                self._memory.evict(view.hit)
            self._lanes.finished(create.lane)
            self._start_ready()
        if self._lanes.idle and (self._expired or self._services.draining):
            await self._end()

    async def _turn(self, create: _Create, view: View) -> RelayError | None:
        """Run one create; the failure that its client has been told of, if any."""
        services = self._services
        caller: Caller = self._guard.caller(self._headers)
        body = {name: value for name, value in create.body.items() if name not in _ENVELOPE}
        prepared = await prepare(services, body, caller, transport="websocket", memory=view)
        attachment = SocketMessages(self._send, create.lane, batches=self._batches)
        emitter = new_emitter(services, prepared, attachment.sink)
        if prepared.plan.request.params.get("generate") is False:
            response = emitter.conclude("completed")
            keep = keeper(services, prepared, emitter)
            if keep is not None and not prepared.upstream_state:
                await keep(response)
            emitter.terminal()
            await attachment.finish(response)
            self._remember(create, prepared, response)
            return None
        turn = Turn(services, prepared.plan, emitter, attachment, keeper(services, prepared, emitter))
        await turn.run()
        response = emitter.response
        if attachment.refused is not None:
            return attachment.refused
        if response["status"] == "failed":
            return RelayError("upstream_error", "The turn failed.")
        self._remember(create, prepared, response)
        return None

    def _remember(self, create: _Create, prepared: Prepared, response: dict[str, Any]) -> None:
        if prepared.window is not None and prepared.plan.request.n == 1:
            window = [*prepared.window, *(response.get("output") or [])]
            self._memory.remember(str(response["id"]), create.lane, window)

    # --- writing

    def _reply(self, content: dict[str, Any]) -> None:
        """Say something from the reader, which does not wait for it."""
        if self._replies >= REPLIES_LIMIT:
            self._spawn(self._close(_POLICY))
            return
        self._replies += 1
        self._spawn(self._say_reply(content))

    async def _say_reply(self, content: dict[str, Any]) -> None:
        try:
            await self._say(content)
        finally:
            self._replies -= 1

    async def _say(self, content: dict[str, Any]) -> None:
        await self._send({"type": "websocket.send", "text": orjson.dumps(content).decode()})

    # --- the end

    def _on_age(self) -> None:
        self._expired = True
        if self._lanes.idle:
            self._spawn(self._end())

    async def _end(self) -> None:
        if self._expired:
            await self._say(_too_old().socket_envelope())
        await self._close(_GOING_AWAY)

    async def _close(self, code: int) -> None:
        if not self._closing:
            self._closing = True
            await self._send({"type": "websocket.close", "code": code})

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """A task that is kept until it is done, and cancelled when the client leaves."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _evicts(failure: RelayError, parent: Entry, lane: str | None) -> bool:
    return parent.lane == lane and failure.kind not in _FIELD_KINDS


def _too_old() -> RelayError:
    message = "The 60-minute limit of this connection was reached. Create a new connection to continue."
    return RelayError("websocket_connection_limit_reached", message)


_ENVELOPE: Final = frozenset({"type", "stream_id", "stream", "stream_options"})

_MESSAGES: Final = {
    "response.create": Session._on_create,
    "response.steer": Session._on_steer,
    "response.processed": Session._ignore,
}
