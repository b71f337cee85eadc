"""Whose objects a request names, where several owners share one account of an upstream, and whose an answer makes.

Source: outliving.md 50 to 56; ``relay.responses.pointers`` for the list.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

from relay.app.guard import Caller
from relay.app.heavy import LIGHT, weight_of
from relay.app.services import Services, Upstream, log
from relay.config import Glob, PromptSettings
from relay.errors import RelayError
from relay.responses.pointers import (
    CONTAINERS,
    NAMES,
    OPAQUE,
    Pointer,
    is_bare,
    is_sealed,
    made,
    pointers,
    requires_id,
    substitute,
)
from relay.responses.request import KNOWN, Request
from relay.responses.tools import JSON
from relay.state.store import Objects, StoreError

_APPROVAL: Final = "approval_request_id"
_HERE: Final = frozenset({"previous_response_id", "conversation", "conversation.id"})
"""Pointers to what is only known where it was made."""

_LOST: Final = ("input", "an item of an earlier response is kept nowhere any more: it was left out")
_APART: Final = frozenset({"conversation", "input", "messages", "prompt", "response_format", "text"})


def is_guarded(services: Services, upstream: Upstream) -> bool:
    """Whether several owners may stand behind the one account in which this upstream looks ids up (rule 50)."""
    settings = upstream.settings
    shared = bool(services.settings.keys) or settings.api_key is not None
    return shared and settings.dialect in ("responses", "anthropic")


@dataclass(slots=True)
class _Named:
    """What a request names: ``pointers`` refuse it, ``items`` are ids of items that bring their own content."""

    pointers: list[Pointer] = field(default_factory=list)
    items: set[str] = field(default_factory=set)
    bare: set[str] = field(default_factory=set)
    """Ids of items of earlier responses that bring nothing else, which are left out."""

    ids: set[str] = field(default_factory=set)
    """All of them."""

    def summed(self) -> _Named:
        self.ids = self.bare.union(self.items, (pointer.id for pointer in self.pointers))
        return self


async def owned(
    services: Services,
    request: Request,
    upstream: Upstream,
    caller: Caller,
    own: list[JSON],
    template: list[JSON],
    weight: int,
) -> Request:
    """The request as it may be told to ``upstream``: it names nothing of another owner.

    ``own`` are the items of the client's own input, in its order; ``template`` are the operator's. Items that bring
    their own content lose an id that is not their owner's (rule 54).
    Raises: RelayError ``not_found`` with the path; ``store_unavailable``.
    """
    if not is_guarded(services, upstream):
        return request
    look = _named if upstream.provider.native else _containers
    work = partial(look, services.settings.prompts, request, own, template)
    named = work() if weight <= LIGHT else await services.heavy.run(weight, caller.owner, work)
    if not named.ids:
        return request
    try:
        known = await services.store.whose(named.ids, caller.owner)
    except StoreError as error:
        if named.pointers:
            message = "The response store is not available now; try again later."
            raise RelayError("store_unavailable", message, param=named.pointers[0].path, detail=error.detail) from None
        known = dict.fromkeys(named.ids)  # an id that is taken for another's is only left out
    judge = _Judge(upstream, caller.owner, known, shared=services.settings.shares_ids(upstream.settings))
    return await services.heavy.run(weight, caller.owner, partial(judge.judged, request, named))


# --- what is named

Prompts = Mapping[str, PromptSettings]


def _containers(prompts: Prompts, request: Request, own: list[JSON], template: list[JSON]) -> _Named:
    """What Anthropic is told: the container of a tool (the rest of rule 53 never reaches it)."""
    found = _Named(list(_below("tools", request.params.get("tools"), CONTAINERS)))
    for item, place in _places(request, own, template):
        if "tools" in item:
            found.pointers += (_at(place, one) for one in pointers(item, CONTAINERS))
    return found.summed()


def _named(prompts: Prompts, request: Request, own: list[JSON], template: list[JSON]) -> _Named:
    found = _Named(list(_of_params(request, prompts)))
    approvals: set[str] = set()
    for item, place in _places(request, own, template):
        id = item.get("id")
        if isinstance(id, str) and id and not is_sealed(item):
            if not is_bare(item):
                found.items.add(id)
                if item["type"] == "mcp_approval_request":
                    approvals.add(id)
            elif place is None:
                found.bare.add(id)
            else:
                found.pointers.append(_at(place, Pointer(".id", id)))
        for one in pointers(item):
            found.pointers.append(_at(place, one))
    if approvals:
        found.pointers = [
            one for one in found.pointers if one.id not in approvals or not one.path.endswith("." + _APPROVAL)
        ]
    return found.summed()


def _places(request: Request, own: list[JSON], template: list[JSON]) -> Iterator[tuple[JSON, int | None]]:
    """The items with their places in ``input``; those of earlier responses have none there, the operator's own are not
    looked at.
    """
    places = {id(item): at for at, item in enumerate(own)}
    operators = {id(item) for item in template}
    return ((item, places.get(id(item))) for item in request.items if id(item) not in operators)


def _at(place: int | None, one: Pointer) -> Pointer:
    """A pointer of an item by its path in the request."""
    return Pointer("previous_response_id" if place is None else f"input[{place}]{one.path}", one.id)


def _below(path: str, value: Any, names: frozenset[str] = NAMES) -> Iterator[Pointer]:
    return (Pointer(path + one.path, one.id) for one in pointers(value, names))


def _of_params(request: Request, prompts: Prompts) -> Iterator[Pointer]:
    params = request.params
    previous = params.get("previous_response_id")
    if previous and not request.resolved:
        yield Pointer("previous_response_id", previous)
    yield from _string("conversation", params.get("conversation"))
    yield from _string("conversation.id", _member(params.get("conversation"), "id"))
    prompt = params.get("prompt")
    template = _member(prompt, "id")
    if isinstance(template, str) and template not in prompts:
        yield from _string("prompt.id", template)
    variables = _member(prompt, "variables")
    for name, value in variables.items() if isinstance(variables, dict) else ():
        yield from _below(f"prompt.variables.{name}", value)
    comparison = _member(params.get("prompt_cache_options"), "comparison_response_id")
    yield from _string("prompt_cache_options.comparison_response_id", comparison)
    unknown = {name: value for name, value in request.body.items() if name not in KNOWN}
    for name, value in {**params, **unknown}.items():
        if name not in _APART and name not in OPAQUE:
            yield from (Pointer(one.path[1:], one.id) for one in pointers({name: value}))


def _member(holder: Any, name: str) -> Any:
    return holder.get(name) if isinstance(holder, dict) else None


def _string(path: str, value: Any) -> Iterator[Pointer]:
    if isinstance(value, str) and value:
        yield Pointer(path, value)


# --- whose it is


class _Judge:
    """What passes to one upstream for one owner. ``known``: where the owner has an id, None where only others do."""

    def __init__(self, upstream: Upstream, owner: str, known: dict[str, str | None], *, shared: bool) -> None:
        settings = upstream.settings
        self._name = settings.name
        self._shared = shared
        self._allowed = [Glob(glob) for glob in settings.allow_ids]
        self._owner = owner
        self._known = known

    def judged(self, request: Request, named: _Named) -> Request:
        """The request without ids that are not its owner's. Raises: RelayError for the first that it cannot lose."""
        for pointer in named.pointers:
            if not self._passes(pointer.id, here=pointer.path in _HERE):
                raise _refused(pointer, request)
        foreign = {id for id in (*named.items, *named.bare) if not self._passes(id)}
        if not foreign:
            return request
        lost = named.bare & foreign
        if lost:
            request = replace(request, notes=(*request.notes, _LOST))
        kept = [item for item in request.items if not (item.get("id") in lost and is_bare(item))]
        return request.with_items([self._without(item, foreign) for item in kept])

    def _passes(self, id: str, *, here: bool = False) -> bool:
        if id in self._known:
            where = self._known[id]
            return where is not None and (not here or where == self._name)
        return self._shared or any(glob.match(id) is not None for glob in self._allowed)

    def _without(self, item: JSON, foreign: set[str]) -> JSON:
        id, approval = item.get("id"), item.get(_APPROVAL)
        if isinstance(id, str) and id in foreign and not is_sealed(item):
            item = {**item, "id": substitute(id, self._owner)}
            if not requires_id(item):
                del item["id"]
        if isinstance(approval, str) and approval in foreign:
            item = {**item, _APPROVAL: substitute(approval, self._owner)}
        return item


def _refused(pointer: Pointer, request: Request) -> RelayError:
    path, id = pointer.path, pointer.id[:256]
    if path == "previous_response_id" and not request.resolved:
        return previous_not_found(pointer.id)
    if path.endswith("comparison_response_id"):
        return RelayError("not_found", f"Response with id '{id}' not found.", param=path)
    if path.endswith("].id") and any(_refers(item, pointer.id) for item in request.items):
        return item_not_found(pointer.id, path)
    return RelayError("not_found", f"No object with id '{id}' here.", param=path)


def _refers(item: JSON, id: str) -> bool:
    return item["type"] == "item_reference" and item.get("id") == id


def previous_not_found(previous: str) -> RelayError:
    """The exact error that clients recover from (responses-api.md §3.10)."""
    return RelayError(
        "previous_response_not_found",
        f"Previous response with id '{previous[:256]}' not found.",
        param="previous_response_id",
    )


def item_not_found(id: str, path: str) -> RelayError:
    """What OpenAI answers to a reference to an item that it does not have."""
    message = (
        f"Item with id '{id[:256]}' not found. Items are not persisted when 'store' is false: "
        "send the item itself, or remove it from your input."
    )
    return RelayError("not_found", message, param=path, code="item_not_found")


# --- whose an answer makes


def learned(services: Services, upstream: Upstream, response: dict[str, Any], *, stored: bool) -> Objects:
    """What an answer makes its owner's (rule 52): of one that is not stored only containers and files.

    An id that ``allow_ids`` spells out is the operator's, whoever meets it first.
    """
    if not is_guarded(services, upstream):
        return Objects(upstream.settings.name)
    operators = set(upstream.settings.allow_ids)
    ids = made(response.get("output") or [], items=stored and upstream.provider.native)
    return Objects(upstream.settings.name, [id for id in ids if id not in operators])


async def note(services: Services, upstream: Upstream, owner: str, response: dict[str, Any], *, stored: bool) -> None:
    """Keep what an answer makes its owner's, where nobody waits for it to be kept."""
    work = partial(learned, services, upstream, response, stored=stored)
    objects = await services.heavy.run(weight_of(response["output"]), owner, work)
    try:
        if objects.ids:
            await services.store.remember_upstream(objects, owner)
    except StoreError as error:
        log.warning("whose the objects of %s are is not noted: %s (%s)", response["id"], error.message, error.detail)
