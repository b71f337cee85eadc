"""``GET /v1/models``: aliases, and what each upstream says it has.

Source: responses-api.md §1.10, decision 17: cached 60 s, an upstream that does not answer is left out. ``models``
beside ``data`` is what Codex reads: ``ModelsResponse`` of codex-rs/protocol/src/openai_models.rs in openai/codex, which
refuses the whole list where one entry lacks a member.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import orjson

from relay.app.exchange import Exchange
from relay.app.guard import Caller
from relay.app.listing import model_ids
from relay.app.services import Services, Upstream, log
from relay.errors import RelayError

CACHE_S: Final = 60.0
_SLICE: Final = 256  # models; about 1 ms


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


def _in_catalogue(model: dict[str, Any], place: int) -> dict[str, Any]:
    """A model as Codex's catalogue has it."""
    return {**model, "slug": model["id"], "display_name": model["id"], "priority": place, **_IN_CODEX}


async def _body(data: list[dict[str, Any]]) -> bytes:
    """Both lists as JSON, in slices: 10,000 models are 10 MB, and others get their turn (decision 61)."""
    plain, codex = [], []
    for begin in range(0, len(data), _SLICE):
        part = data[begin : begin + _SLICE]
        plain.append(orjson.dumps(part)[1:-1])
        codex.append(orjson.dumps([_in_catalogue(model, begin + place) for place, model in enumerate(part)])[1:-1])
        await asyncio.sleep(0)
    return b'{"object":"list","data":[%b],"models":[%b]}' % (b",".join(plain), b",".join(codex))


# What Codex itself assumes of a model that it does not know (model_info.rs); instructions it needs in versions that had
# no default for them yet.
_IN_CODEX: Final[dict[str, Any]] = {
    "description": None,
    "supported_reasoning_levels": [],
    "shell_type": "shell_command",
    "visibility": "list",
    "supported_in_api": True,
    "upgrade": None,
    "base_instructions": "You are a coding agent that works in a user's terminal, in the repository that is open "
    "there. Read before you change anything, keep to the style you find, and change no more than the task needs. Run "
    "commands and edit files with your tools; run the project's tests where there are some. Go on until the task is "
    "done, then say briefly what you did and what is left.",
    "supports_reasoning_summaries": False,
    "support_verbosity": False,
    "default_verbosity": None,
    "apply_patch_tool_type": None,
    "truncation_policy": {"mode": "bytes", "limit": 10_000},
    "supports_parallel_tool_calls": False,
    "experimental_supported_tools": [],
}


async def list_models(exchange: Exchange) -> None:
    """The list: OpenAI's under ``data``, Codex's under ``models``."""
    data = await _listing(exchange.services, exchange.caller)
    await exchange.json(200, await _body(data))


async def retrieve_model(exchange: Exchange) -> None:
    """One model: any name that would be routed is there."""
    target = exchange.services.router.resolve(exchange.id).targets[0]
    await exchange.json(200, _model(exchange.id, target.upstream.name, exchange.services.now()))
