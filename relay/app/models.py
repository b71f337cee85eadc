"""``GET /v1/models``: aliases, and what each upstream says it has.

Source: responses-api.md §1.10, decision 17: cached 60 s, an upstream that does not answer is left out; ``models``
beside ``data`` because Codex reads it.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from relay.app.exchange import Exchange
from relay.app.guard import Caller
from relay.app.services import Services, Upstream, log
from relay.errors import RelayError
from relay.responses.json import loads
from relay.upstream import Timeouts

CACHE_S: Final = 60.0
LIMIT_BYTES: Final = 8 * 1024 * 1024
MODELS_LIMIT: Final = 10_000

_TIMEOUTS: Final = Timeouts(5.0, 10.0, 10.0)
_PATHS: Final = {
    "anthropic": "/v1/models?limit=1000",
    "gemini": "/v1beta/models?pageSize=1000",
}
_HEADERS: Final = {"anthropic": (("anthropic-version", "2023-06-01"),)}


async def upstream_models(upstream: Upstream, client_key: str | None = None) -> list[str]:
    """The ids of an upstream's models. Raises: RelayError in plain words."""
    dialect = upstream.settings.dialect
    path = _PATHS.get(dialect, "/models")
    base = upstream.base_path
    if dialect in _PATHS and base.rsplit("/", 1)[-1].startswith("v1"):
        path = "/" + path.split("/", 2)[2]  # the address already ends in a version
    headers, _ = upstream.headers(client_key)
    answer = await upstream.client.request(
        upstream.origin, "GET", base + path, [*headers, *_HEADERS.get(dialect, ())], b"", _TIMEOUTS
    )
    try:
        body = await answer.body(LIMIT_BYTES)
    finally:
        answer.close()
    if answer.status != 200:
        pairs = {name.decode("latin-1"): value.decode("latin-1") for name, value in answer.headers}
        raise upstream.provider.error(answer.status, pairs, body)
    try:
        content = loads(body)
    except ValueError:
        content = None
    listed = (content.get("data") or content.get("models")) if isinstance(content, dict) else content
    if not isinstance(listed, list):
        raise RelayError("upstream_bad_response", "The upstream did not answer with a list of models.")
    names = [model.get("id") or model.get("name") for model in listed[:MODELS_LIMIT] if isinstance(model, dict)]
    return [name.removeprefix("models/") for name in names if isinstance(name, str)]


async def _listing(services: Services, caller: Caller) -> list[dict[str, Any]]:
    loop = asyncio.get_running_loop()
    cache = services.models_cache
    known = cache.get(caller.key)
    if known is not None and known[0] > loop.time():
        return known[1]
    upstreams = list(services.upstreams.values())
    answers = await asyncio.gather(*(_names(one, caller.key) for one in upstreams))
    created = services.now()
    data = [_model(alias, "relay", created) for alias in services.router.aliases()]
    for one, names in zip(upstreams, answers, strict=True):
        data.extend(_model(f"{one.settings.name}/{name}", one.settings.name, created) for name in names)
    if len(cache) >= 64:
        cache.clear()
    cache[caller.key] = (loop.time() + CACHE_S, data)
    return data


async def _names(upstream: Upstream, client_key: str | None) -> list[str]:
    try:
        return await upstream_models(upstream, client_key)
    except RelayError as error:
        log.info("the models of %s are left out: %s", upstream.settings.name, error.message)
        return []


def _model(identifier: str, owner: str, created: int) -> dict[str, Any]:
    return {"id": identifier, "object": "model", "created": created, "owned_by": owner}


async def list_models(exchange: Exchange) -> None:
    """The list, under both names."""
    data = await _listing(exchange.services, exchange.caller)
    await exchange.json(200, {"object": "list", "data": data, "models": data})


async def retrieve_model(exchange: Exchange) -> None:
    """One model: any name that would be routed is there."""
    target = exchange.services.router.resolve(exchange.id).targets[0]
    await exchange.json(200, _model(exchange.id, target.upstream.name, exchange.services.now()))
