"""The independent judge of what the relay says: openai-python's own event models and stream accumulator.

Source: the `openai` package (validated, never ``construct``-ed), and, where its types are laxer than the wire,
responses-api.md §2.3 (the 31 keys of Open Responses and their nulls), §2.7, §3.6, §4.3; tests/grammar.py for the order.
It imports nothing of the relay.
"""

from __future__ import annotations

import functools
import json
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, get_args

import httpx2
import openai
import orjson
from openai.types.responses import Response, ResponseStreamEvent
from openai.types.responses.responses_server_event import ResponsesServerEvent
from pydantic import TypeAdapter, ValidationError

from tests import grammar

Event = dict[str, Any]


class OracleError(AssertionError):
    """Something that the relay must not say, with the rules it breaks."""

    def __init__(self, rules: Iterable[str], message: str) -> None:
        super().__init__(message)
        self.rules = tuple(rules)


# --- one event ------------------------------------------------------------------------------------------------------


def _models(*unions: Any) -> dict[str, type]:
    found: dict[str, type] = {}
    for union in unions:
        for model in get_args(get_args(union)[0]):
            for name in get_args(model.model_fields["type"].annotation):
                found.setdefault(name, model)
    return found


MODELS = _models(ResponseStreamEvent, ResponsesServerEvent)
_ADAPTERS: dict[str, TypeAdapter[Any]] = {name: TypeAdapter(model) for name, model in MODELS.items()}
# on a WebSocket `error` is the nested envelope; the flat form of the SDK's SSE union is never sent (decision 1)
_ADAPTERS["error"] = TypeAdapter(_models(ResponsesServerEvent)["error"])
_RESPONSE: TypeAdapter[Response] = TypeAdapter(Response)

# Stricter than the wire: values that live traffic carries and the SDK's literals do not name (responses-api.md §4.7).
LIVE_ERROR_CODES = {
    "context_length_exceeded",
    "cyber_policy",
    "insufficient_quota",
    "previous_response_not_found",
    "server_is_overloaded",
    "slow_down",
    "usage_not_included",
}

# Laxer than the wire: the keys that Open Responses requires in every Response; those in NULLABLE may be null.
_REQUIRED = """
    id object created_at completed_at status incomplete_details model previous_response_id instructions output
    error tools tool_choice truncation parallel_tool_calls text top_p presence_penalty frequency_penalty
    top_logprobs temperature reasoning usage max_output_tokens max_tool_calls store background service_tier
    metadata safety_identifier prompt_cache_key"""
_NULLABLE = """completed_at error incomplete_details instructions max_output_tokens max_tool_calls previous_response_id
    prompt_cache_key reasoning safety_identifier usage"""
REQUIRED_KEYS, NULLABLE_KEYS = frozenset(_REQUIRED.split()), frozenset(_NULLABLE.split())


def _is_int(value: object) -> bool:
    return type(value) is int


def _is_number(value: object) -> bool:
    return type(value) in (int, float)


def _is(*types: type) -> Callable[[object], bool]:
    return lambda value: type(value) in types


# type of each required key where it is not null; the SDK leaves several of these out, or takes floats for times
KEY_TYPES: dict[str, Callable[[Any], bool]] = {
    "created_at": _is_int,
    "completed_at": _is_int,
    "top_logprobs": _is_int,
    "max_output_tokens": _is_int,
    "max_tool_calls": _is_int,
    "temperature": _is_number,
    "top_p": _is_number,
    "presence_penalty": _is_number,
    "frequency_penalty": _is_number,
    "parallel_tool_calls": _is(bool),
    "store": _is(bool),
    "background": _is(bool),
    "service_tier": _is(str),
    "metadata": _is(dict),
    "model": _is(str),
    "text": lambda value: isinstance(value, dict) and isinstance(value.get("format"), dict),
    "reasoning": lambda value: isinstance(value, dict) and {"effort", "summary"} <= set(value),
    "tools": lambda value: all(
        {"name", "description", "parameters", "strict"} <= set(tool) for tool in value if tool.get("type") == "function"
    ),
    "error": lambda value: isinstance(value.get("code"), str) and isinstance(value.get("message"), str),
}
USAGE_MEMBERS = (
    ("input_tokens",),
    ("input_tokens_details", "cached_tokens"),
    ("input_tokens_details", "cache_write_tokens"),
    ("output_tokens",),
    ("output_tokens_details", "reasoning_tokens"),
    ("total_tokens",),
)
# optional, never null (Open Responses fails on null; clients want the key absent)
NEVER_NULL = ("phase", "encrypted_content", "content", "summary", "annotations", "logprobs", "obfuscation", "stream_id")
STATUS_REQUIRED = ("message", "function_call", "custom_tool_call", "web_search_call", "code_interpreter_call")
# the SDK leaves an item's id optional in places; the wire does not (responses-api.md §3.7)
PREFIXES = {"message": "msg_", "function_call": "fc_", "custom_tool_call": "ctc_", "reasoning": "rs_"}


def _walk(value: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(value, dict):
        yield path, value
        for key, member in value.items():
            if isinstance(member, dict | list):
                yield from _walk(member, f"{path}.{key}")
    elif isinstance(value, list):
        for index, member in enumerate(value):
            yield from _walk(member, f"{path}[{index}]")


def _item_faults(item: Any, path: str) -> Iterator[str]:
    for where, node in _walk(item, path):
        for key in NEVER_NULL:
            if key in node and node[key] is None:
                yield f"{where}.{key} is null: leave the key out"
    kind = item.get("type")
    if not isinstance(item.get("id"), str) or not item["id"].startswith(PREFIXES.get(kind, "")):
        yield f"{path}.id is {item.get('id')!r}"
    if kind in STATUS_REQUIRED and not isinstance(item.get("status"), str):
        yield f"{path}.status is missing"
    if kind == "function_call" and item.get("status") == "completed":
        try:
            json.loads(item.get("arguments") or "")
        except ValueError:
            yield f"{path}.arguments of a completed call is not JSON"


def _response_faults(response: Event, path: str) -> Iterator[str]:
    for key in sorted(REQUIRED_KEYS - set(response)):
        yield f"{path}.{key} is missing"
    for key in REQUIRED_KEYS & set(response):
        value = response[key]
        if value is None:
            if key not in NULLABLE_KEYS:
                yield f"{path}.{key} is null"
        elif key in KEY_TYPES and not KEY_TYPES[key](value):
            yield f"{path}.{key} is {value!r}"
    if "verbosity" in (response.get("text") or {}) and response["text"]["verbosity"] is None:
        yield f"{path}.text.verbosity is null"
    if "output_text" in response:
        yield f"{path}.output_text is the SDK's convenience, never on the wire"
    usage = response.get("usage")
    if usage is not None:
        for members in USAGE_MEMBERS:
            value = functools.reduce(lambda node, member: (node or {}).get(member), members, usage)
            if not _is_int(value) or value < 0:
                yield f"{path}.usage.{'.'.join(members)} is {value!r}"
        if usage.get("total_tokens") != usage.get("input_tokens", 0) + usage.get("output_tokens", 0):
            yield f"{path}.usage.total_tokens is not the sum"
    for index, item in enumerate(response.get("output") or []):
        yield from _item_faults(item, f"{path}.output[{index}]")


def _wire_faults(event: Event) -> Iterator[str]:
    """What the SDK's models let through and the wire must not have."""
    kind = event["type"]
    if kind == "error":
        error = event.get("error") or {}
        if not _is_int(event.get("status")) or not isinstance(error.get("code"), str) or not error["code"]:
            yield "an error envelope needs an integer status and a string code"
        return
    if event.get("error"):
        yield "a truthy top-level `error` makes the SDK raise"
    for key in ("sequence_number", "output_index", "content_index", "summary_index", "annotation_index"):
        if key in event and (not _is_int(event[key]) or event[key] < 0):
            yield f"{key} is {event[key]!r}"
    for key in NEVER_NULL:
        if key in event and event[key] is None:
            yield f"{key} is null"
    if "item" in event:
        yield from _item_faults(event["item"], "item")
    if "response" in event:
        yield from _response_faults(event["response"], "response")
    if "part" in event:
        for where, node in _walk(event["part"], "part"):
            if node.get("type") == "output_text" and not isinstance(node.get("annotations"), list):
                yield f"{where}.annotations is missing"
            for key in NEVER_NULL:
                if key in node and node[key] is None:
                    yield f"{where}.{key} is null"


def _is_live_code(error: Any) -> bool:
    return (
        error["type"] == "literal_error"
        and error["loc"][-2:] == ("error", "code")
        and error["input"] in LIVE_ERROR_CODES
    )


# What recorded servers leave out and our relay must not: (kind of fault, last member of its path).
_VENDOR_FAULTS = {
    ("missing", "cache_write_tokens"),  # servers older than November 2026
    ("missing", "action"),  # OpenAI's own web_search_call while it is in progress
    ("missing", "logprobs"),  # xAI's output_text.done
}


def _narrowed(faults: list[Any]) -> list[Any]:
    """Of each union that found a member by its ``type``, only that member's faults."""
    foreign = {fault["loc"][:-1] for fault in faults if fault["type"] == "literal_error" and fault["loc"][-1] == "type"}
    sites: dict[Any, set[Any]] = {}
    for fault in faults:
        for prefix in foreign:
            if fault["loc"][: len(prefix) - 1] == prefix[:-1]:
                sites.setdefault(prefix[:-1], set()).add(fault["loc"][: len(prefix)])
    resolved = {site for site, members in sites.items() if members - foreign}
    dropped = [prefix for prefix in foreign if prefix[:-1] in resolved]
    return [fault for fault in faults if not any(fault["loc"][: len(prefix)] == prefix for prefix in dropped)]


def _sdk_faults(adapter: TypeAdapter[Any], encoded: bytes, *, vendor: bool) -> list[str]:
    """What the SDK's own model refuses, in strict mode: no coercion of types."""
    try:
        adapter.validate_json(encoded, strict=True)
    except ValidationError as refusal:
        faults = [fault for fault in _narrowed(refusal.errors(include_url=False)) if not _is_live_code(fault)]
        if vendor:
            faults = [fault for fault in faults if (fault["type"], fault["loc"][-1]) not in _VENDOR_FAULTS]
        return [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults]
    return []


@functools.lru_cache(maxsize=100_000)
def _faults(encoded: bytes, vendor: bool) -> tuple[str, ...]:
    event = orjson.loads(encoded)
    adapter = _ADAPTERS.get(event.get("type"))
    if adapter is None:
        return (f"unknown event type {event.get('type')!r}",)
    faults = _sdk_faults(adapter, encoded, vendor=vendor)
    if not vendor and not faults:
        faults += _wire_faults(event)
    return tuple(faults)


def validate_event(event: Event, *, vendor: bool = False) -> None:
    """Validate one event against the SDK's model for its ``type`` and the rules of the wire.

    ``vendor``: the SDK's model only, and tolerate what recorded servers are known to leave out (``_VENDOR_FAULTS``).
    Raises: OracleError.
    """
    faults = _faults(orjson.dumps(event), vendor)
    if faults:
        raise OracleError(["event"], f"{event.get('type')} #{event.get('sequence_number')}: " + "; ".join(faults[:8]))


def check_response(response: Event, *, vendor: bool = False) -> None:
    """Validate a Response that stands alone (a JSON answer, a stored one). Raises: OracleError."""
    faults = _sdk_faults(_RESPONSE, orjson.dumps(response), vendor=vendor)
    if not vendor:
        faults += _response_faults(response, "response")
    if faults:
        raise OracleError(["response"], "; ".join(faults[:8]))


def check_error_body(body: Event) -> None:
    """Validate the HTTP error envelope: four keys, always (responses-api.md §6.1). Raises: OracleError."""
    error = body.get("error")
    keys = {"message", "type", "param", "code"}
    good = set(body) == {"error"} and isinstance(error, dict) and keys <= set(error)
    if not good or not error or not all(isinstance(error[key], str) and error[key] for key in ("message", "type")):
        raise OracleError(["envelope"], f"not an error envelope: {body!r}")


# --- the SDK's accumulator ------------------------------------------------------------------------------------------


class _Wire(httpx2.BaseTransport):
    """Serves one body to the SDK's real client."""

    body = b""

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=self.body)


@functools.cache
def _client() -> tuple[_Wire, openai.OpenAI]:
    wire = _Wire()
    http = httpx2.Client(transport=wire)
    return wire, openai.OpenAI(api_key="sk-oracle", base_url="http://oracle/v1", http_client=http, max_retries=0)


def to_sse(events: Iterable[Event]) -> bytes:
    """Events as the wire has them, `[DONE]` last."""
    return b"".join(b"event: %s\ndata: %s\n\n" % (event["type"].encode(), orjson.dumps(event)) for event in events) + (
        b"data: [DONE]\n\n"
    )


def _plain(response: Any) -> Event:
    """An SDK object as JSON, without what the SDK's parser adds to it."""
    found: Event = response.to_dict(mode="json", warnings=False)
    for item in found.get("output") or []:
        item.pop("parsed_arguments", None)
        for part in item.get("content") or []:
            part.pop("parsed", None)
    return found


def _read(body: bytes) -> tuple[Any, list[Event]]:
    """Run the SDK's stream helper over a body → its last event, and the output its deltas spelled."""
    wire, client = _client()
    wire.body = body
    last: Any = None
    spelled: list[Event] = []
    try:
        with warnings.catch_warnings(), client.responses.stream(model="oracle", input="") as stream:
            warnings.simplefilter("ignore")  # pydantic on the SDK's own unions
            for event in stream:
                last = event
            snapshot = vars(stream._state)["_ResponseStreamState__current_snapshot"]
            spelled = _plain(snapshot)["output"] if snapshot is not None else []
    except (
        openai.OpenAIError,
        RuntimeError,
        AssertionError,
        AttributeError,
        IndexError,
        TypeError,
        ValueError,
    ) as refusal:
        raise OracleError(["accumulator"], f"the SDK's accumulator refuses the stream: {refusal!r}") from refusal
    return last, spelled


def fold(events: list[Event]) -> Event:
    """The Response that openai-python's stream helper makes of these events.

    The terminal event goes in without its ``output``: the helper then has to put it together from what it was told on
    the way. Raises: OracleError.
    """
    told = list(events)
    if told and told[-1].get("type") in grammar.TERMINALS:
        response = {name: value for name, value in told[-1]["response"].items() if name != "output"}
        told[-1] = {**told[-1], "response": response}
    last, spelled = _read(to_sse(told))
    if last is None or last.type not in grammar.TERMINALS:
        raise OracleError(["accumulator"], f"the SDK's last event is {getattr(last, 'type', None)!r}")
    final = _plain(last.response)
    if len(spelled) != len(final.get("output") or []):
        raise OracleError(["accumulator"], "the accumulated output has another length")
    for mine, item in zip(spelled, final["output"], strict=True):
        _check_spelled(mine, item)
    return final


def _check_spelled(mine: Event, item: Event) -> None:
    """What the SDK's deltas spelled is what the done item says."""
    if item["type"] == "function_call" and mine["arguments"] != item["arguments"]:
        raise OracleError(["accumulator"], f"{item['id']}: accumulated arguments differ")
    if item["type"] == "message":
        if len(mine["content"]) != len(item["content"]):
            raise OracleError(["accumulator"], f"{item['id']}: accumulated content has another length")
        pairs = zip(mine["content"], item["content"], strict=True)
        if any(left["type"] == "output_text" and left["text"] != right["text"] for left, right in pairs):
            raise OracleError(["accumulator"], f"{item['id']}: accumulated text differs")


# --- a whole stream -------------------------------------------------------------------------------------------------


def check_stream(
    events: list[Event],
    final: Event | None = None,
    *,
    vendor: bool = False,
    tolerate: Iterable[str] = (),
) -> Event:
    """Check one response's events (a stream, or one lane of a WebSocket) → the final Response.

    Every event validates, the order is the grammar's, and the SDK accumulates exactly our terminal Response, which is
    ``final`` where given (a JSON answer to the same request; ids and times are the caller's to align).
    ``tolerate`` names rules of ``tests/grammar.py`` that this stream may break (a native upstream's own bytes).
    Raises: OracleError.
    """
    for event in events:
        validate_event(event, vendor=vendor)
    broken = [violation for violation in grammar.violations(events) if violation.rule not in set(tolerate)]
    if broken:
        lines = [f"#{violation.at} {violation.rule}: {violation.message}" for violation in broken[:8]]
        raise OracleError([violation.rule for violation in broken], "\n".join(lines))
    ours: Event = events[-1]["response"]
    told, _ = _read(to_sse(events))
    if _plain(told.response) != ours:
        raise OracleError(["accumulator"], "the SDK's last Response differs from ours")
    theirs = fold(events)
    if theirs != ours:
        names = [name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name)]
        raise OracleError(["accumulator"], f"the accumulated Response differs from ours in {names}")
    if final is not None and final != ours:
        names = [name for name in final.keys() | ours.keys() if final.get(name) != ours.get(name)]
        raise OracleError(["final"], f"the given final Response differs from the stream's in {names}")
    return ours


def parse_sse(body: bytes) -> list[Event]:
    """Read an SSE body as the strictest client does (responses-api.md §4.1). Raises: OracleError.

    LF only, UTF-8, one `event:` and one `data:` line an event, names equal to the JSON `type`, `[DONE]` last and once;
    comments may stand between events.
    """

    def refuse(message: str) -> OracleError:
        return OracleError(["sse"], message)

    if b"\r" in body:
        raise refuse("a CR on the wire")
    text = body.decode("utf-8")
    if not text.endswith("data: [DONE]\n\n"):
        raise refuse(f"the last line is not [DONE]: {text[-80:]!r}")
    events: list[Event] = []
    for block in text.removesuffix("data: [DONE]\n\n").split("\n\n")[:-1]:
        lines = block.split("\n")
        if all(line.startswith(":") for line in lines):
            continue
        if len(lines) != 2 or not lines[0].startswith("event: ") or not lines[1].startswith("data: "):
            raise refuse(f"not `event:` and `data:`: {block[:200]!r}")
        if lines[1] == "data: [DONE]":
            raise refuse("[DONE] is not last")
        event = json.loads(lines[1].removeprefix("data: "))
        if not isinstance(event, dict) or event.get("type") != lines[0].removeprefix("event: "):
            raise refuse(f"{lines[0]!r} carries {str(event)[:80]!r}")
        events.append(event)
    return events
