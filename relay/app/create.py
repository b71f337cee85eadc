"""``POST /v1/responses`` and its siblings: create, count, compact."""

from __future__ import annotations

from typing import Any, Final

from relay.app.attachments import EventStream, JSONBody
from relay.app.compaction import compaction_fields, estimated_tokens, kept_messages
from relay.app.exchange import Exchange
from relay.app.guard import Caller
from relay.app.keeping import keeper, with_ids
from relay.app.prepare import Prepared, prepare
from relay.app.reading import BODY_LIMIT_BYTES
from relay.app.refusals import refusal
from relay.app.replies import Header, encoded
from relay.app.services import Services, Upstream
from relay.app.turn import Turn, summarise, warnings_header
from relay.errors import RelayError
from relay.providers.base import UpstreamRequest
from relay.providers.failures import cannot_count
from relay.responses.emitter import Emitter, usage_of
from relay.responses.json import encoded as encoded_json
from relay.responses.json import loads
from relay.responses.response import template
from relay.responses.sinks import Sink
from relay.upstream import Answer


def new_emitter(services: Services, prepared: Prepared, sink: Sink) -> Emitter:
    """The emitter of a prepared turn, with a fresh response id."""
    request = prepared.plan.request
    response = template(request, services.new_id("resp"), services.now())
    hide = services.redactor.answer if prepared.plan.upstream.provider.native else None
    emitter = Emitter(response, sink, services.new_id, services.now, show_summary=request.show_summary, hide=hide)
    emitter.call_ids.update(prepared.call_ids)
    return emitter


async def create(exchange: Exchange) -> None:
    """Create a response: JSON, or events where the client asked for a stream."""
    services = exchange.services
    body = await exchange.body()
    prepared = await prepare(services, body, exchange.caller, trace=exchange.trace(), weight=exchange.weight)
    turn: Turn | None = None

    def headers() -> list[Header]:
        return [*(turn.headers() if turn is not None else []), *exchange.own_headers()]

    shape: Any = EventStream if prepared.plan.request.stream else JSONBody
    attachment = shape(exchange.send, headers, exchange.write_now)
    emitter = new_emitter(services, prepared, attachment.sink)
    turn = Turn(services, prepared.plan, emitter, attachment, keeper(services, prepared, emitter))
    exchange.recorded = True
    exchange.whole = not prepared.plan.request.stream
    try:
        await exchange.run(turn)
    finally:
        turn = None  # ``headers`` holds it, and it the attachment that holds them: without the circle all go at once


async def input_tokens(exchange: Exchange) -> None:
    """Count the tokens of an input: by the upstream where it can, else a guess that says so (``x_relay_warnings``)."""
    prepared = await _prepare_input(exchange)
    plan = prepared.plan
    counter = plan.upstream.provider.count(plan.spoken, plan.target, plan.media)
    tokens = None
    if counter is not None:
        told, body, client_key = await _ask(plan.upstream, plan.caller, counter.request)
        if not cannot_count(told.status, body):
            content = _content(plan.upstream, told, body, exchange.services.now(), client_key=client_key)
            tokens = counter.tokens(content) if isinstance(content, dict) else None
    answer: dict[str, Any] = {"object": "response.input_tokens", "input_tokens": tokens}
    headers: list[Header] = []
    if tokens is None:
        params = plan.spoken.params
        answer["input_tokens"] = estimated_tokens([plan.spoken.items, params.get("instructions"), params.get("tools")])
        warning = ("input_tokens", "estimated from the length of the input")
        answer["x_relay_warnings"] = [{"param": warning[0], "reason": warning[1]}]
        headers = encoded([("x-relay-warnings", warnings_header([warning]))])
    await exchange.json(200, answer, headers)


async def compact(exchange: Exchange) -> None:
    """Compact a window: by the upstream where it can, else by a summary that the model writes."""
    services = exchange.services
    prepared = await _prepare_input(exchange)
    plan = prepared.plan
    if plan.target.holds_state:
        spoken = plan.spoken
        body = {name: spoken.body[name] for name in _COMPACTED if spoken.body.get(name) is not None}
        body["model"] = plan.target.model
        if spoken.resolved:
            body.pop("previous_response_id", None)
        if spoken.resolved or "input" in body:
            body["input"] = spoken.items
        request = UpstreamRequest("/responses/compact", encoded_json(body), stream=False)
        answer, told, client_key = await _ask(plan.upstream, plan.caller, request)
        content = _content(plan.upstream, answer, told, services.now(), client_key=client_key)
        await exchange.json(200, content)
        return
    exchange.recorded = True
    summary, usage = await summarise(services, plan)
    fields = compaction_fields(plan.target.model, summary)
    output = with_ids([*kept_messages(prepared.window or []), fields], services.new_id)
    compaction = {
        "id": services.new_id("resp"),
        "object": "response.compaction",
        "created_at": services.now(),
        "output": output,
        "usage": usage or usage_of(0, 0),
    }
    await exchange.json(200, compaction)


_COMPACTED: Final = (
    "input",
    "instructions",
    "previous_response_id",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "service_tier",
    "image",
    "tools",
    "parallel_tool_calls",
    "reasoning",
    "text",
)
"""What ``/responses/compact`` of a native upstream is told (responses-api.md §1.8, §7.1)."""


async def _prepare_input(exchange: Exchange) -> Prepared:
    """A plan over an input that is not answered: nothing is streamed, kept or generated."""
    body = await exchange.body()
    if isinstance(body, dict):
        ignored = ("stream", "store", "background", "n", "context_management")
        body = {name: value for name, value in body.items() if name not in ignored}
        body["store"] = False
    return await prepare(exchange.services, body, exchange.caller, trace=exchange.trace(), weight=exchange.weight)


async def _ask(upstream: Upstream, caller: Caller, request: UpstreamRequest) -> tuple[Answer, bytes, bool]:
    """One call beside the turns: its answer, which is over, the body, and whether the key was the client's own."""
    keyed, client_key = upstream.headers(caller.key, request.headers)
    headers = [("content-type", "application/json"), ("accept", "application/json"), *keyed]
    path = upstream.base_path + request.path
    answer = await upstream.client.request(
        upstream.origin, "POST", path, headers, request.body, upstream.timeouts, owner=caller.owner
    )
    try:
        return answer, await answer.body(BODY_LIMIT_BYTES), client_key
    finally:
        answer.close()


def _content(upstream: Upstream, answer: Answer, body: bytes, now: float, *, client_key: bool) -> Any:
    """The JSON of an answer. Raises: RelayError as the provider reads it."""
    if answer.status != 200:
        raise refusal(upstream, answer, body, now, client_key=client_key)
    try:
        return loads(body)
    except ValueError:
        raise RelayError("upstream_bad_response", "The upstream did not answer with JSON.") from None
