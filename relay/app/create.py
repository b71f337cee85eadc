"""``POST /v1/responses`` and its siblings: create, count, compact."""

from __future__ import annotations

from typing import Any

from relay.app.attachments import EventStream, JSONBody
from relay.app.exchange import Exchange
from relay.app.keeping import keeper
from relay.app.prepare import Prepared, prepare
from relay.app.replies import Header
from relay.app.services import Services
from relay.app.turn import Turn
from relay.responses.emitter import Emitter
from relay.responses.response import template
from relay.responses.sinks import Sink
from relay.responses.tools import CALL_TYPES, call_id_of


def new_emitter(services: Services, prepared: Prepared, sink: Sink) -> Emitter:
    """The emitter of a prepared turn, with a fresh response id."""
    request = prepared.plan.request
    response = template(request, services.new_id("resp"), services.now())
    emitter = Emitter(response, sink, services.new_id, services.now, show_summary=request.show_summary)
    emitter.call_ids.update(call_id_of(item) or "" for item in request.items if item.get("type") in CALL_TYPES)
    return emitter


async def create(exchange: Exchange) -> None:
    """Create a response: JSON, or events where the client asked for a stream."""
    services = exchange.services
    body = await exchange.body()
    prepared = await prepare(services, body, exchange.caller, trace=exchange.trace())
    turn: Turn | None = None

    def headers() -> list[Header]:
        return [*(turn.headers() if turn is not None else []), *exchange.own_headers()]

    shape: Any = EventStream if prepared.plan.request.stream else JSONBody
    attachment = shape(exchange.send, headers)
    emitter = new_emitter(services, prepared, attachment.sink)
    turn = Turn(services, prepared.plan, emitter, attachment, keeper(services, prepared, emitter))
    await exchange.run(turn)


async def input_tokens(exchange: Exchange) -> None:
    """Count the tokens of an input."""
    raise NotImplementedError


async def compact(exchange: Exchange) -> None:
    """Compact a window."""
    raise NotImplementedError
