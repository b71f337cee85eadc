"""Stored responses: retrieve, delete, cancel, list their input.

Source: responses-api.md §1.3-1.6; decisions 21, 29, 39, 42.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

from relay.app.exchange import Exchange
from relay.app.ownership import note
from relay.app.refusals import refusal
from relay.app.services import Upstream
from relay.errors import RelayError
from relay.responses.json import loads
from relay.upstream import Answer

LIMIT_BYTES: Final = 64 * 1024 * 1024
_SSE: Final = b"text/event-stream"


def _missing(identifier: str) -> RelayError:
    return RelayError("not_found", f"Response with id '{identifier}' not found.", param="response_id")


async def _upstream_of(exchange: Exchange) -> Upstream | None:
    name = await exchange.services.store.find_upstream(exchange.id, exchange.caller.owner)
    return exchange.services.upstreams.get(name) if name is not None else None


async def _ask(exchange: Exchange, upstream: Upstream, method: str, suffix: str = "") -> Answer:
    """Ask the upstream that keeps the response. Raises: RelayError as the provider reads it."""
    headers, client_key = upstream.headers(exchange.caller.key)
    query = exchange.scope.get("query_string", b"").decode("latin-1")
    path = f"{upstream.base_path}/responses/{quote(exchange.id, safe='')}{suffix}" + (f"?{query}" if query else "")
    answer = await upstream.client.request(
        upstream.origin,
        method,
        path,
        [*headers, *exchange.trace()],
        b"",
        upstream.timeouts,
        owner=exchange.caller.owner,
    )
    if answer.status < 300:
        return answer
    try:
        body = await answer.body(LIMIT_BYTES)
    finally:
        answer.close()
    if answer.status == 404:
        raise _missing(exchange.id)
    raise refusal(upstream, answer, body, exchange.services.now(), client_key=client_key)


async def _pass(exchange: Exchange, upstream: Upstream, method: str, suffix: str = "") -> None:
    """Ask, and pass the JSON on. Raises: RelayError."""
    status, content = await _asked(exchange, upstream, method, suffix)
    await exchange.json(status, content)


async def _asked(exchange: Exchange, upstream: Upstream, method: str, suffix: str = "") -> tuple[int, Any]:
    answer = await _ask(exchange, upstream, method, suffix)
    try:
        body = await answer.body(LIMIT_BYTES)
    finally:
        answer.close()
    try:
        content = loads(body)
    except ValueError:
        raise RelayError("upstream_bad_response", "The upstream did not answer with JSON.") from None
    return answer.status, content


class _Replay:
    """The upstream's own stream of a response that it keeps, byte by byte."""

    def __init__(self, exchange: Exchange, upstream: Upstream) -> None:
        self._exchange = exchange
        self._upstream = upstream

    async def run(self) -> None:
        """Until the upstream's end; what is no stream is passed on as JSON. Raises: RelayError."""
        exchange = self._exchange
        answer = await _ask(exchange, self._upstream, "GET")
        try:
            if not (answer.header(b"content-type") or b"").lower().startswith(_SSE):
                raise RelayError("upstream_bad_response", "The upstream did not answer with a stream.")
            headers = [(b"content-type", _SSE), (b"cache-control", b"no-cache"), *exchange.own_headers()]
            await exchange.send({"type": "http.response.start", "status": 200, "headers": headers})
            hiding = exchange.services.redactor.stream()
            while data := await answer.read():
                if data := hiding.feed(data):
                    await exchange.send({"type": "http.response.body", "body": data, "more_body": True})
            await exchange.send({"type": "http.response.body", "body": hiding.feed(b"")})
        finally:
            answer.close()


def _wants_stream(exchange: Exchange) -> bool:
    return exchange.query().get("stream", ["false"])[-1].lower() in ("true", "1")


async def retrieve(exchange: Exchange) -> None:
    """``GET /v1/responses/{id}``."""
    upstream = await _upstream_of(exchange)
    if upstream is not None:
        if _wants_stream(exchange):
            await exchange.run(_Replay(exchange, upstream))
        else:
            status, content = await _asked(exchange, upstream, "GET")
            if isinstance(content, dict) and content.get("background") and isinstance(content.get("output"), list):
                # what ran in the background is first seen whole when it is asked for
                await note(exchange.services, upstream, exchange.caller.owner, content, stored=True)
            await exchange.json(status, content)
        return
    stored = await exchange.services.store.get(exchange.id, exchange.caller.owner)
    if stored is None:
        raise _missing(exchange.id)
    if _wants_stream(exchange):
        message = "Only a background response created with stream: true can be streamed again."
        raise RelayError("invalid_value", message, param="stream")
    await exchange.json(200, stored.response)


async def delete(exchange: Exchange) -> None:
    """``DELETE /v1/responses/{id}``."""
    store, owner = exchange.services.store, exchange.caller.owner
    upstream = await _upstream_of(exchange)
    if upstream is not None:
        try:
            (await _ask(exchange, upstream, "DELETE")).close()
        except RelayError as error:
            if error.kind == "not_found":
                await store.delete(exchange.id, owner)
            raise
    if not await store.delete(exchange.id, owner):
        raise _missing(exchange.id)
    await exchange.json(200, {"id": exchange.id, "object": "response.deleted", "deleted": True})


async def cancel(exchange: Exchange) -> None:
    """``POST /v1/responses/{id}/cancel``: only background responses can be cancelled, and there are none here yet."""
    upstream = await _upstream_of(exchange)
    if upstream is not None:
        await _pass(exchange, upstream, "POST", "/cancel")
        return
    if await exchange.services.store.get(exchange.id, exchange.caller.owner) is None:
        raise _missing(exchange.id)
    raise RelayError("invalid_request", "Cannot cancel a synchronous response.")


async def input_items(exchange: Exchange) -> None:
    """``GET /v1/responses/{id}/input_items``: the full effective input, in pages."""
    upstream = await _upstream_of(exchange)
    if upstream is not None:
        await _pass(exchange, upstream, "GET", "/input_items")
        return
    items = await exchange.services.store.input_items(exchange.id, exchange.caller.owner)
    if items is None:
        raise _missing(exchange.id)
    query = exchange.query()
    limit = _limit(query.get("limit", ["20"])[0])
    order = query.get("order", ["desc"])[0]
    if order not in ("asc", "desc"):
        raise RelayError("invalid_value", "order must be asc or desc.", param="order")
    if order == "desc":
        items = items[::-1]
    after = query.get("after", [None])[0]
    if after is not None:
        index = next((number for number, item in enumerate(items) if item.get("id") == after), None)
        if index is None:
            raise RelayError("invalid_value", f"No item with id '{after[:256]}' here.", param="after")
        items = items[index + 1 :]
    page = items[:limit]
    await exchange.json(
        200,
        {
            "object": "list",
            "data": page,
            "first_id": page[0].get("id") if page else None,
            "last_id": page[-1].get("id") if page else None,
            "has_more": len(items) > limit,
        },
    )


def _limit(text: str) -> int:
    if not text.isdecimal() or len(text) > 3 or not 1 <= int(text) <= 100:
        raise RelayError("invalid_value", "limit must be an integer from 1 to 100.", param="limit")
    return int(text)
