"""Stored responses: retrieve, delete, cancel, list their input.

Source: responses-api.md §1.3-1.6; decisions 21, 29, 39, 42.
"""

from __future__ import annotations

from typing import Any

from relay.app.exchange import Exchange
from relay.app.services import Upstream
from relay.errors import RelayError
from relay.responses.json import loads

LIMIT_BYTES = 64 * 1024 * 1024


def _missing(identifier: str) -> RelayError:
    return RelayError("not_found", f"Response with id '{identifier}' not found.", param="response_id")


async def _upstream_of(exchange: Exchange) -> Upstream | None:
    name = await exchange.services.store.find_upstream(exchange.id, exchange.caller.owner)
    return exchange.services.upstreams.get(name) if name is not None else None


async def _pass(exchange: Exchange, upstream: Upstream, method: str, suffix: str = "") -> tuple[int, Any]:
    """Ask the upstream that keeps the response. Raises: RelayError as the provider reads it."""
    headers, _ = upstream.headers(exchange.caller.key)
    query = exchange.scope.get("query_string", b"").decode("latin-1")
    path = f"{upstream.base_path}/responses/{exchange.id}{suffix}" + (f"?{query}" if query else "")
    answer = await upstream.client.request(upstream.origin, method, path, headers, b"", upstream.timeouts)
    try:
        body = await answer.body(LIMIT_BYTES)
    finally:
        answer.close()
    if answer.status >= 300:
        pairs = {name.decode("latin-1"): value.decode("latin-1") for name, value in answer.headers}
        error = upstream.provider.error(answer.status, pairs, body)
        raise _missing(exchange.id) if answer.status == 404 else error
    try:
        return answer.status, loads(body) if body else {}
    except ValueError:
        raise RelayError("upstream_bad_response", "The upstream did not answer with JSON.") from None


async def retrieve(exchange: Exchange) -> None:
    """``GET /v1/responses/{id}``."""
    upstream = await _upstream_of(exchange)
    if upstream is not None:
        await exchange.json(*await _pass(exchange, upstream, "GET"))
        return
    stored = await exchange.services.store.get(exchange.id, exchange.caller.owner)
    if stored is None:
        raise _missing(exchange.id)
    if exchange.query().get("stream", ["false"])[0].lower() == "true":
        message = "Only a background response created with stream: true can be streamed again."
        raise RelayError("invalid_value", message, param="stream")
    await exchange.json(200, stored.response)


async def delete(exchange: Exchange) -> None:
    """``DELETE /v1/responses/{id}``."""
    upstream = await _upstream_of(exchange)
    if upstream is not None:
        await _pass(exchange, upstream, "DELETE")
    if not await exchange.services.store.delete(exchange.id, exchange.caller.owner):
        raise _missing(exchange.id)
    await exchange.json(200, {"id": exchange.id, "object": "response.deleted", "deleted": True})


async def cancel(exchange: Exchange) -> None:
    """``POST /v1/responses/{id}/cancel``: only background responses can be cancelled, and there are none here yet."""
    upstream = await _upstream_of(exchange)
    if upstream is not None:
        await exchange.json(*await _pass(exchange, upstream, "POST", "/cancel"))
        return
    if await exchange.services.store.get(exchange.id, exchange.caller.owner) is None:
        raise _missing(exchange.id)
    raise RelayError("invalid_request", "Cannot cancel a synchronous response.")


async def input_items(exchange: Exchange) -> None:
    """``GET /v1/responses/{id}/input_items``: the full effective input, in pages."""
    upstream = await _upstream_of(exchange)
    if upstream is not None:
        await exchange.json(*await _pass(exchange, upstream, "GET", "/input_items"))
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
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise RelayError("invalid_value", "limit must be an integer from 1 to 100.", param="limit")
    return int(text)
