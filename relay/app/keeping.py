"""What a finished turn leaves behind: its response and items in the store, or where its upstream keeps it.

Source: decisions 21, 39-41. The terminal event waits for the commit, and nothing else does.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final

from relay.app.prepare import Prepared
from relay.app.services import Services
from relay.errors import RelayError
from relay.responses.emitter import Emitter
from relay.responses.tools import CALL_TYPES, JSON, OUTPUT_TYPES

_PREFIXES: Final = {
    "message": "msg",
    "function_call": "fc",
    "custom_tool_call": "ctc",
    "reasoning": "rs",
    "compaction": "cmp",
}


def with_ids(items: list[JSON], new_id: Callable[[str], str]) -> list[JSON]:
    """Input items as they are kept: each with an ``id``, messages and calls with a ``status`` (§1.6)."""
    kept: list[JSON] = []
    for item in items:
        kind = item["type"]
        added: JSON = {}
        if not item.get("id"):
            added["id"] = new_id(_PREFIXES.get(kind, "fco" if kind in OUTPUT_TYPES else "item"))
        if "status" not in item and (kind == "message" or kind in CALL_TYPES or kind in OUTPUT_TYPES):
            added["status"] = "completed"
        kept.append({**item, **added} if added else item)
    return kept


def keeper(
    services: Services, prepared: Prepared, emitter: Emitter
) -> Callable[[dict[str, Any]], Coroutine[Any, Any, None]] | None:
    """What is awaited before the terminal event; None where nothing is kept."""
    plan = prepared.plan
    if prepared.upstream_state:

        async def remember(response: dict[str, Any]) -> None:
            try:
                await services.store.remember_upstream(
                    str(response["id"]), plan.upstream.settings.name, plan.caller.owner
                )
            except RelayError:
                _not_kept(emitter, response)

        return remember
    if not plan.request.store:
        return None

    async def commit(response: dict[str, Any]) -> None:
        items = with_ids(prepared.own_items, services.new_id)
        extra = {"n": plan.request.n} if plan.request.n > 1 else None
        try:
            await services.store.commit(response, items, plan.caller.owner, parent=prepared.parent, extra=extra)
        except RelayError:
            response["store"] = False
            _not_kept(emitter, response)

    return commit


def _not_kept(emitter: Emitter, response: dict[str, Any]) -> None:
    emitter.warn("store", "the response could not be kept")
    response["x_relay_warnings"] = [{"param": param, "reason": reason} for param, reason in emitter.warnings]
