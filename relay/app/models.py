"""``GET /v1/models``: aliases, and what each upstream says it has.

Source: responses-api.md §1.10, decision 17: cached 60 s, an upstream that does not answer is left out; ``models``
beside ``data`` because Codex reads it.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from relay.app.exchange import Exchange
from relay.app.guard import Caller
from relay.app.listing import model_ids
from relay.app.services import Services, Upstream, log
from relay.errors import RelayError

CACHE_S: Final = 60.0


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


async def _names(upstream: Upstream, client_key: str | None) -> tuple[str, ...]:
    try:
        return await model_ids(upstream, client_key)
    except RelayError as error:
        log.info("the models of %s are left out: %s", upstream.settings.name, error.message)
        return ()


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
