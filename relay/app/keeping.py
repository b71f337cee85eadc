"""What a finished turn leaves behind: its response and items in the store, or where its upstream keeps it.

Source: decisions 21, 39-41. The terminal event waits for the commit, and nothing else does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final

from relay.app.prepare import Prepared
from relay.app.services import Services, log
from relay.errors import RelayError
from relay.responses.emitter import Emitter
from relay.responses.tools import JSON, is_call, is_output

_PREFIXES: Final = {
    "message": "msg",
    "function_call": "fc",
    "custom_tool_call": "ctc",
    "reasoning": "rs",
    "compaction": "cmp",
    "tool_search_call": "tsc",
    "tool_search_output": "tso",
}


def with_ids(items: list[JSON], new_id: Callable[[str], str]) -> list[JSON]:
    """Input items as they are kept: each with an ``id``, messages and calls with a ``status`` (§1.6)."""
    kept: list[JSON] = []
    for item in items:
        kind = item["type"]
        added: JSON = {}
        if not item.get("id"):
            added["id"] = new_id(_PREFIXES.get(kind, "fco" if is_output(item) else "item"))
        if item.get("status") is None and (kind == "message" or is_call(item) or is_output(item)):
            added["status"] = "completed"
        kept.append({**item, **added} if added else item)
    return kept


def keeper(
    services: Services, prepared: Prepared, emitter: Emitter
) -> Callable[[dict[str, Any]], Coroutine[Any, Any, None]] | None:
    """What is awaited before the terminal event; None where nothing is kept."""
    plan = prepared.plan
    if not plan.request.store:
        return None
    warm_up = plan.request.params.get("generate") is False  # local, whoever would answer (decision 21)
    keep = _remember_upstream if prepared.upstream_state and not warm_up else _commit

    async def kept(response: dict[str, Any]) -> None:
        try:
            await keep(services, prepared, response)
        except RelayError as error:
            log.warning("response %s is not kept: %s (%s)", response["id"], error.message, error.detail)
            response["store"] = False
            emitter.warn("store", "the response could not be kept")
            response["x_relay_warnings"] = [{"param": param, "reason": reason} for param, reason in emitter.warnings]

    return kept


async def _commit(services: Services, prepared: Prepared, response: dict[str, Any]) -> None:
    plan = prepared.plan
    give_ids = partial(with_ids, prepared.own_items, services.new_id)
    items = await services.heavy.run(plan.weight, plan.caller.owner, give_ids)
    extra = {"n": plan.request.n} if plan.request.n > 1 else None
    await services.store.commit(response, items, plan.caller.owner, parent=prepared.parent, extra=extra)


async def _remember_upstream(services: Services, prepared: Prepared, response: dict[str, Any]) -> None:
    """Where the response lives, and each of its items, for references to them (decisions 21 and 29)."""
    plan = prepared.plan
    name, owner = plan.upstream.settings.name, plan.caller.owner
    ids = [response["id"], *(item.get("id") for item in response.get("output") or [])]
    remembered = [services.store.remember_upstream(id, name, owner) for id in ids if isinstance(id, str)]
    await asyncio.gather(*remembered)
