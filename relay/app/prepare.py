"""From a client's JSON to a plan: checked, routed, resolved against what is stored, and said in the upstream's words.

Source: translation.md §1.0 (the order), decisions 9-17, 21, 25, 52, 56, 57; responses-api.md §3.9-3.10. One pipeline
for HTTP and WebSocket.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

from relay.app.compaction import estimated_tokens, expand_compactions, is_ours, threshold
from relay.app.guard import Caller
from relay.app.heavy import ALWAYS, LIGHT, weight_of
from relay.app.media import fetch_media
from relay.app.memory import held_bytes
from relay.app.ownership import item_not_found, owned, previous_not_found
from relay.app.services import Services, Upstream
from relay.app.turn import Plan
from relay.config import PromptSettings
from relay.errors import RelayError
from relay.providers.base import Target
from relay.responses.items import check_file_ids, normalise
from relay.responses.request import Request, check_known, parse
from relay.responses.tools import JSON, call_id_of, is_call
from relay.state.record import encode
from relay.state.store import StoreError


class Memory(Protocol):
    """What a connection remembers beside the store (decision 36); HTTP remembers nothing."""

    def find(self, response_id: str) -> list[JSON] | None:
        """The full window after a response: its input and its output."""
        ...

    def find_item(self, item_id: str) -> JSON | None:
        """An item of a remembered response."""
        ...

    @property
    def weight(self) -> int:
        """The items that ``index`` looks at."""
        ...

    def index(self) -> None:
        """Make ``find_item`` quick."""
        ...


class NoMemory:
    """HTTP: only the store remembers."""

    def find(self, response_id: str) -> list[JSON] | None:
        """Nothing."""
        return None

    def find_item(self, item_id: str) -> JSON | None:
        """Nothing."""
        return None

    weight: Final = 0

    def index(self) -> None:
        """Nothing."""


NO_MEMORY: Final = NoMemory()

_DONE: Final = object()


@dataclass(frozen=True, slots=True)
class Prepared:
    """A plan, and what must be known to keep its response: the items of this turn, its parent, the whole window."""

    plan: Plan
    own_items: list[JSON]
    """What this turn adds to its stored parent; the whole window where the parent is not stored."""
    window: list[JSON] | None
    """The whole window; None where only the upstream knows it."""
    parent: str | None
    """The stored parent; None where there is none, or where only the connection remembers it."""
    upstream_state: bool
    """Whether the upstream keeps this response itself (decision 21)."""
    call_ids: set[str]
    """Those of the calls in the window, which an answer must not use again."""
    window_bytes: int
    """What the window costs a socket that remembers it (``memory.held_bytes``); 0 over HTTP."""


async def prepare(
    services: Services,
    body: Any,
    caller: Caller,
    *,
    transport: str = "http",
    memory: Memory = NO_MEMORY,
    trace: tuple[tuple[str, str], ...] = (),
    weight: int = 0,
) -> Prepared:
    """Everything before the first upstream byte. ``weight``: the body's JSON values, or a few more (``heavy``).

    Raises: RelayError, in the client's terms.
    """
    server, heavy, owner = services.settings.server, services.heavy, caller.owner
    read = partial(
        parse,
        body,
        default_model=server.default_model,
        strict=server.strict,
        judged=False,
        max_items=server.max_items,
    )
    light = weight <= LIGHT  # hot: bench short; what is light costs no detour
    request = read() if light else await heavy.run(weight, owner, read)
    upstream, target = route(services, request)
    admit = partial(_admitted, request, upstream, target, transport)
    request = admit() if light else await heavy.run(weight, owner, admit)
    theirs = target.holds_state and _prompt_id(request) not in (None, *services.settings.prompts)
    template = [] if theirs else prompt_items(request, services.settings.prompts)
    keeps = target.holds_state and request.n == 1
    resolved = await resolve(services, request, caller, memory, upstream if keeps else None, weight)
    request = await _store_or_not(services, resolved.request, keeps)
    passes = keeps and request.previous_response_id is not None and not request.resolved
    weight = max(weight, weight_of(request.items))
    light = weight <= LIGHT
    form = partial(
        _drafted,
        services,
        replace(resolved, request=request),
        template,
        caller,
        upstream,
        target,
        passes=passes,
        measured=transport == "websocket",
    )
    draft = form() if light else await heavy.run(weight, owner, form)
    request = await owned(services, draft.request, upstream, caller, resolved.own, template, weight)
    media = await fetch_media(services, upstream, request, draft.needed, owner) if draft.needed else {}
    spoken = request.with_params(previous_response_id=None) if request.resolved else request
    if not theirs:
        spoken = spoken.with_params(prompt=None)
    # a warm-up may be empty, which no upstream is ever told: what else it says is checked all the same
    warms_up = request.params.get("generate") is False and not upstream.provider.native
    said = spoken.with_items([*spoken.items, *normalise(".")]) if warms_up else spoken
    look = partial(_costly_schemas, upstream, said, target)
    cutting = look() if light else await heavy.run(weight, owner, look)
    if cutting is not None:
        await heavy.run(ALWAYS, owner, partial(deque, cutting, 0))
    build = partial(upstream.provider.build, said, target, media, frozenset())
    call = build() if light else await heavy.run(weight, owner, build)
    calls = (call,) * request.n
    plan = Plan(request, spoken, caller, upstream, target, media, calls, transport, trace, draft.compact, weight)
    return Prepared(plan, draft.own, draft.window, resolved.parent, keeps, draft.call_ids, draft.window_bytes)


class _Draft(NamedTuple):
    """A request over the items that its upstream will be told, and what is known of them."""

    request: Request
    own: list[JSON]
    window: list[JSON] | None
    compact: str | None
    needed: list[str]
    """URLs of media that must be fetched."""
    call_ids: set[str]
    window_bytes: int


def _drafted(
    services: Services,
    resolved: Resolved,
    template: list[JSON],
    caller: Caller,
    upstream: Upstream,
    target: Target,
    *,
    passes: bool,
    measured: bool,
) -> _Draft:
    request = resolved.request
    window = None if passes else _without_trigger(request.items)
    # a parent that only the connection remembers cannot be one in the store: the child brings the whole window
    own = window if window is not None and request.resolved and resolved.parent is None else resolved.own
    if template:
        request = request.with_items([*template, *request.items])
    compact, request = _shaped(services, request, caller, upstream, target)
    needed = upstream.provider.media_needed(request, target)
    call_ids = {call_id_of(item) or "" for item in request.items if is_call(item)}
    window_bytes = held_bytes(window) if measured and window is not None else 0
    return _Draft(request, _without_trigger(own), window, compact, needed, call_ids, window_bytes)


def _costly_schemas(upstream: Upstream, said: Request, target: Target) -> Iterator[None] | None:
    """The steps of cutting the schemas of tools, where one of them may cost milliseconds."""
    steps = upstream.provider.cut_schemas(said, target)
    return None if next(steps, _DONE) is _DONE else steps


def _admitted(request: Request, upstream: Upstream, target: Target, transport: str) -> Request:
    """The request as its upstream may be asked it."""
    if not upstream.provider.native:
        request = request.judged()
        check_known(request, target.forward)  # a native one gets what nobody here knows, and judges it (decision 57)
    check_transport(request, target, transport)
    return request


def _shaped(
    services: Services, request: Request, caller: Caller, upstream: Upstream, target: Target
) -> tuple[str | None, Request]:
    """Whether to compact, and the request over the items that the upstream will be told."""
    native = upstream.provider.native
    compact = None
    request = request.sound(native=native)
    if not native:
        check_file_ids(request.items)
    if not target.holds_state:
        compact, request = _compaction(request.told(sealed=native))
        request = request.with_items(_expanded(_current_turn(request), native=native))
        if not native:
            request = _configured(request)
        items = services.reasoning.restore(caller.owner, target.upstream, target.model, request.items)
        request = request.with_items(items)
    else:
        request = request.with_items(_expanded(request.items, native=True))
    if not native and not request.items and not _asks_something(request):
        raise RelayError("missing_parameter", "Missing required parameter: 'input'.", param="input")
    return compact, request


def route(services: Services, request: Request) -> tuple[Upstream, Target]:
    """The upstream and the model that will answer (decision 17)."""
    chosen = services.router.resolve(request.model).targets[0]
    upstream = services.upstreams[chosen.upstream.name]
    return upstream, services.target(upstream, chosen.model)


def check_transport(request: Request, target: Target, transport: str) -> None:
    """What one transport or this round does not have (decision 15). Raises: RelayError naming the parameter."""
    params = request.params
    native = target.holds_state and transport == "http"
    for name in ("conversation", "background"):
        if params.get(name) and not native:
            raise RelayError("unsupported_parameter", f"'{name}' is not supported by this relay.", param=name)
    if transport == "http":
        if params.get("generate") is False:
            raise RelayError("invalid_value", "'generate' belongs to WebSocket mode.", param="generate")
        if request.body.get("stream_id") is not None:
            raise RelayError("invalid_value", "'stream_id' belongs to WebSocket mode.", param="stream_id")
    if params.get("access_programs") and not target.holds_state:
        message = "'access_programs' is only known to OpenAI."
        raise RelayError("unsupported_parameter", message, param="access_programs")


async def _store_or_not(services: Services, request: Request, upstream_keeps: bool) -> Request:
    """Decision 41: while the store is known bad an explicit ``store: true`` is refused before the upstream is called;
    a defaulted one runs with ``false``. Raises: RelayError 503.
    """
    if not request.store or services.store.healthy:
        return request
    if request.params.get("store"):
        message = "The response store is not available now; send store: false or try again later."
        raise RelayError("store_unavailable", message, param="store")
    return request if upstream_keeps else request.with_params(store=False)


# --- what went before


@dataclass(frozen=True, slots=True)
class Resolved:
    """A request over its full window (``request.resolved``: the relay itself had the previous response)."""

    request: Request
    own: list[JSON]
    parent: str | None = None


async def resolve(
    services: Services,
    request: Request,
    caller: Caller,
    memory: Memory,
    keeper: Upstream | None,
    weight: int = 0,
) -> Resolved:
    """Put the previous response's window in front, and items in the place of references to them.

    ``keeper`` is the upstream where it keeps responses itself: what the relay does not know is then its question, once
    ``ownership`` has let it pass.
    Raises: RelayError ``previous_response_not_found``; ``not_found`` for an item.
    """
    previous = request.previous_response_id
    window = memory.find(previous) if previous is not None else None
    look = partial(_refers, request.items)
    refers = look() if weight <= LIGHT else await services.heavy.run(weight, caller.owner, look)
    own = await _dereferenced(services, request.items, caller, memory, keeper) if refers else request.items
    request = request.with_items(own) if own is not request.items else request
    if previous is None:
        return Resolved(request, own)
    if window is not None:
        is_stored = request.store and await _is_stored(services, previous, caller)
        return Resolved(request.with_window(window, own), own, previous if is_stored else None)
    stored = await services.store.get(previous, caller.owner)
    if stored is None and keeper is not None:
        return Resolved(request, own)
    if stored is None or stored.response.get("status") not in ("completed", "incomplete"):
        raise previous_not_found(previous)
    if (stored.extra or {}).get("n", 1) > 1:
        message = f"The response '{previous}' holds several answers (n) and cannot be continued."
        raise RelayError("invalid_request", message, param="previous_response_id")
    chain = await services.store.load_chain(previous, caller.owner)
    if chain is None:
        raise previous_not_found(previous)
    return Resolved(request.with_window(chain, own), own, previous)


async def _is_stored(services: Services, previous: str, caller: Caller) -> bool:
    """Whether a response that the connection remembers is in the store too; a bad store costs the turn nothing yet."""
    try:
        return await services.store.get(previous, caller.owner) is not None
    except StoreError:
        return False


async def _dereferenced(
    services: Services, items: list[JSON], caller: Caller, memory: Memory, keeper: Upstream | None
) -> list[JSON]:
    heavy, weight = services.heavy, weight_of(items)
    await heavy.run(memory.weight, caller.owner, memory.index)
    unknown = await heavy.run(weight, caller.owner, partial(_not_remembered, items, memory))
    known = await services.store.find_items(unknown, caller.owner) if unknown else {}
    limit = services.settings.server.max_body_bytes
    put = partial(_put_in_place, items, memory, known, limit_bytes=limit, strictly=keeper is None)
    return await heavy.run(weight, caller.owner, put)


def _not_remembered(items: list[JSON], memory: Memory) -> set[str]:
    """The ids of references to what only the store can know."""
    ids = {item["id"] for item in items if item["type"] == "item_reference"}
    return {id for id in ids if memory.find_item(id) is None}


def _put_in_place(
    items: list[JSON], memory: Memory, known: dict[str, JSON], *, limit_bytes: int, strictly: bool
) -> list[JSON]:
    """Items in the place of references to them. ``strictly``: nobody else knows what is not known here."""
    found: list[JSON] = []
    sizes: dict[str, int] = {}
    room = limit_bytes
    for index, item in enumerate(items):
        if item["type"] == "item_reference":
            id = item["id"]
            there = memory.find_item(id) or known.get(id)
            if there is None and strictly:
                raise item_not_found(id, f"input[{index}].id")
            if there is not None:
                # the same item as often as it is named: a short request must not make a long one without end
                room -= sizes[id] if id in sizes else sizes.setdefault(id, len(encode(there)))
                item = there
        if room < 0:
            message = f"The items that the input refers to are larger than {limit_bytes} bytes together."
            raise RelayError("context_length_exceeded", message, param="input")
        found.append(item)
    return found


def _refers(items: list[JSON]) -> bool:
    return any(item["type"] == "item_reference" for item in items)


def _without_trigger(items: list[JSON]) -> list[JSON]:
    return [item for item in items if item["type"] != "compaction_trigger"]


def _compaction(request: Request) -> tuple[str | None, Request]:
    """Whether the window is to be compacted (``only``, ``first``), and the request without the trigger."""
    items = request.items
    triggers = [index for index, item in enumerate(items) if item["type"] == "compaction_trigger"]
    limit = threshold(request.params.get("context_management"))
    request = request.with_params(context_management=None)
    if triggers:
        if triggers != [len(items) - 1]:
            message = "A compaction_trigger must be the last item of the input."
            raise RelayError("invalid_value", message, param=f"input[{triggers[0]}]")
        return "only", request.with_items(items[:-1])
    if limit is not None and estimated_tokens(expand_compactions(items)) > limit:
        return "first", request
    return None, request


def _expanded(items: list[JSON], *, native: bool) -> list[JSON]:
    """Without our compactions, which no upstream can read; those of others a native upstream may know."""
    return items if native and not any(is_ours(item) for item in items) else expand_compactions(items)


def _asks_something(request: Request) -> bool:
    """Whether there is something to answer, or nothing is to be answered (decision 56)."""
    given = request.body.get("input") is not None or request.body.get("messages") is not None
    return given or "instructions" in request.params or request.resolved or request.params.get("generate") is False


# --- parameters that live in items, items that live in parameters


def _configured(request: Request) -> Request:
    """Apply the last ``configuration_update`` (translation.md §2.4)."""
    updates = [item for item in request.items if item["type"] == "configuration_update"]
    if not updates:
        return request
    params: JSON = {}
    for update in updates:
        for name in ("reasoning", "text"):
            if isinstance(update.get(name), dict):
                params[name] = {**(params.get(name) or request.params.get(name) or {}), **update[name]}
    checked = parse({**request.body, **params, "model": request.model, "input": [], "messages": None}).params
    return request.with_params(**{name: checked[name] for name in params})


def _current_turn(request: Request) -> list[JSON]:
    """``reasoning.context: "current_turn"`` leaves out the reasoning of earlier turns (translation.md §1.1)."""
    items = request.items
    if (request.params.get("reasoning") or {}).get("context") != "current_turn":
        return items
    asked = [index for index, item in enumerate(items) if item["type"] == "message" and item["role"] == "user"]
    last = asked[-1] if asked else 0
    return [item for index, item in enumerate(items) if index > last or item["type"] != "reasoning"]


_VARIABLE: Final = re.compile(r"\{\{\s*([\w.-]+)\s*\}\}")


def _prompt_id(request: Request) -> Any:
    return (request.params.get("prompt") or {}).get("id")


def prompt_items(request: Request, prompts: Mapping[str, PromptSettings]) -> list[JSON]:
    """The messages of the request's prompt template, filled in; they stand first and, like ``instructions``, are not
    part of what the next turn continues. Raises: RelayError 404 for an unknown template or version.
    """
    prompt = request.params.get("prompt")
    if prompt is None:
        return []
    identifier = prompt.get("id")
    template = prompts.get(identifier) if isinstance(identifier, str) else None
    if template is None:
        raise RelayError("not_found", f"Prompt '{identifier}' not found.", param="prompt.id", code="prompt_not_found")
    version = prompt.get("version")
    if version is not None and str(version) != template.version:
        message = f"Prompt '{identifier}' has no version '{version}'; it has '{template.version}'."
        raise RelayError("not_found", message, param="prompt.version", code="prompt_not_found")
    given = prompt.get("variables") or {}
    if not isinstance(given, dict):
        raise RelayError("invalid_type", "prompt.variables must be an object.", param="prompt.variables")
    values = {**template.variables, **given}
    messages = template.messages or ({"role": "developer", "content": template.text or ""},)
    filled = [{**message, "content": _filled(message.get("content"), values)} for message in messages]
    return normalise(filled, "prompt")


def _filled(content: Any, values: Mapping[str, Any]) -> Any:
    """Text with its variables; a list of parts where a variable is an image or a file."""
    if isinstance(content, list):
        parts = [_filled_part(part, values) for part in content]
        return [piece for part in parts for piece in part]
    if not isinstance(content, str):
        return content
    pieces: list[Any] = [""]
    at = 0
    for match in _VARIABLE.finditer(content):
        pieces[-1] += content[at : match.start()]
        at = match.end()
        value = _value(match[1], values)
        if isinstance(value, str):
            pieces[-1] += value
        else:
            pieces += [value, ""]
    pieces[-1] += content[at:]
    return pieces[0] if len(pieces) == 1 else [piece for piece in pieces if piece != ""]


def _filled_part(part: Any, values: Mapping[str, Any]) -> list[Any]:
    if not isinstance(part, dict) or not isinstance(part.get("text"), str):
        return [part]
    filled = _filled(part["text"], values)
    return [{**part, "text": filled}] if isinstance(filled, str) else filled


def _value(name: str, values: Mapping[str, Any]) -> Any:
    value = values.get(name)
    if isinstance(value, dict) and value.get("type") == "input_text":
        value = value.get("text")
    if isinstance(value, str) or (isinstance(value, dict) and value.get("type") in ("input_image", "input_file")):
        return value
    place = f"prompt.variables.{name}"
    raise RelayError("missing_parameter", f"{place} must be a string or an input part.", param=place)
