"""What a finished turn leaves behind: its response and items in the store, or where its upstream keeps it.

Source: decisions 21, 39-41; outliving.md 52. The terminal event waits for the commit, and nothing else does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from relay.app.heavy import LIGHT, weight_of
from relay.app.ownership import is_guarded, learned
from relay.app.prepare import Prepared
from relay.app.services import Services, log
from relay.errors import RelayError
from relay.responses.emitter import Emitter
from relay.responses.tools import JSON, is_call, is_output
from relay.state.store import Objects

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


Keep = Callable[[dict[str, Any]], Callable[[], Awaitable[None]] | None]
"""What is to be awaited before the terminal event of a response; None where there is nothing to keep."""

_FEW: Final = 100
"""Items of an output that are looked through where they are."""


def keeper(services: Services, prepared: Prepared, emitter: Emitter) -> Keep | None:
    """How a turn is kept; None where nothing of it ever is."""
    plan = prepared.plan
    if not plan.request.store and not is_guarded(services, plan.upstream):
        return None
    look = partial(learned, services, plan.upstream, stored=plan.request.store)

    def keep(response: dict[str, Any]) -> Callable[[], Awaitable[None]] | None:
        few = len(response.get("output") or []) <= _FEW
        if not plan.request.store and few and not look(response).ids:
            return None
        return partial(kept, response)

    async def kept(response: dict[str, Any]) -> None:
        weight = weight_of(response.get("output") or [])
        work = partial(look, response)
        objects = work() if weight <= LIGHT else await services.heavy.run(weight, plan.caller.owner, work)
        try:
            await _kept(services, prepared, response, objects)
        except RelayError as error:
            log.warning("response %s is not kept: %s (%s)", response["id"], error.message, error.detail)
            response["store"] = False
            emitter.warn("store", _UNKEPT if plan.request.store else _UNNOTED)
            response["x_relay_warnings"] = [{"param": param, "reason": reason} for param, reason in emitter.warnings]

    return keep


_UNKEPT: Final = "the response could not be kept"
_UNNOTED: Final = "whose its containers and files are could not be noted: they cannot be used again"


async def _kept(services: Services, prepared: Prepared, response: dict[str, Any], objects: Objects) -> None:
    """One write, of the response here or of where it lives, and of what its answer made its owner's."""
    plan = prepared.plan
    owner = plan.caller.owner
    warm_up = plan.request.params.get("generate") is False  # local, whoever would answer (decision 21)
    if plan.request.store and not (prepared.upstream_state and not warm_up):
        give_ids = partial(with_ids, prepared.own_items, services.new_id)
        items = give_ids() if plan.weight <= LIGHT else await services.heavy.run(plan.weight, owner, give_ids)
        extra = {"n": plan.request.n} if plan.request.n > 1 else None
        await services.store.commit(
            response, items, owner, parent=prepared.parent, extra=extra, objects=objects if objects.ids else None
        )
    elif plan.request.store:
        await services.store.remember_upstream(objects, owner, response["id"])
    elif objects.ids:
        await services.store.remember_upstream(objects, owner)
