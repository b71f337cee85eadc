"""Breaking good streams: copies that are wrong in one place each, which the oracle must refuse, every one.

Source: issue 2, "The oracle" (drop a field, swap two events, repeat a number).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from tests import grammar
from tests.oracle import MODELS, REQUIRED_KEYS, USAGE_MEMBERS, Event, OracleError, check_stream

Mutation = tuple[str, list[Event]]


def _renumbered(events: list[Event]) -> list[Event]:
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


def _changed(events: list[Event], at: int, *path: str | int, value: Any) -> list[Event]:
    """A copy with one member replaced (or deleted: ``value`` is ``...``)."""
    event = copy.deepcopy(events[at])
    node: Any = event
    for step in path[:-1]:
        node = node[step]
    if value is ...:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return [*events[:at], event, *events[at + 1 :]]


def _required(event: Event) -> Iterator[tuple[str | int, ...]]:
    """Paths of the members of an event that must be there."""
    for name, field in MODELS[event["type"]].model_fields.items():  # type: ignore[attr-defined]
        if field.is_required() and name != "type":
            yield (name,)
    if "response" in event:
        for name in sorted(REQUIRED_KEYS & set(event["response"])):
            yield ("response", name)
        if event["response"].get("usage"):
            for members in USAGE_MEMBERS:
                yield ("response", "usage", *members)
    for name in ("id", "call_id", "name", "arguments", "input", "content", "summary", "role", "status"):
        item = event.get("item") or {}
        if name in item and not (item["type"] == "reasoning" and name in {"status", "content"} and not item[name]):
            yield ("item", name)
    for name in ("text", "refusal", "annotations", "type"):
        if name in event.get("part", {}):
            yield ("part", name)


def _dropped_fields(events: list[Event]) -> Iterator[Mutation]:
    seen: set[str] = set()
    for at, event in enumerate(events):
        if event["type"] in seen:
            continue
        seen.add(event["type"])
        for path in _required(event):
            if path[0] == "item" and path[-1] in {"status"} and event["item"]["type"] == "reasoning":
                continue
            yield f"#{at} without {'.'.join(map(str, path))}", _changed(events, at, *path, value=...)
        yield f"#{at} without type", _changed(events, at, "type", value="response.nonsense")


def _moved(events: list[Event]) -> Iterator[Mutation]:
    for at in range(len(events) - 1):
        left, right = events[at], events[at + 1]
        swapped = [*events[:at], right, left, *events[at + 2 :]]
        yield f"swap #{at}", swapped
        again = _renumbered(swapped)
        same_item = left.get("output_index") == right.get("output_index")
        kinds = {left["type"].rpartition(".")[2], right["type"].rpartition(".")[2]}
        free = kinds == {"delta", "added"} and left["type"] != "response.content_part.added"
        hosted = left["type"] in grammar.HOSTED_EVENTS or right["type"] in grammar.HOSTED_EVENTS
        if (
            same_item
            and not free
            and not hosted
            and [e.get("delta") for e in again] != [e.get("delta") for e in events]
        ):
            yield f"swap #{at} renumbered", again


def _numbers(events: list[Event]) -> Iterator[Mutation]:
    for at in range(1, len(events)):
        yield f"number of #{at} repeated", _changed(events, at, "sequence_number", value=at - 1)
    yield "numbers from 1", [{**event, "sequence_number": event["sequence_number"] + 1} for event in events]
    yield "a number as text", _changed(events, 0, "sequence_number", value="0")
    yield "a number as bool", _changed(events, 0, "sequence_number", value=False)


def _dropped_events(events: list[Event]) -> Iterator[Mutation]:
    for at, event in enumerate(events):
        rest = [*events[:at], *events[at + 1 :]]
        yield f"drop #{at}", rest
        optional = event["type"] in grammar.HOSTED_EVENTS or event["type"] in {
            "response.queued",
            "response.compaction.compacting",
        }
        if not optional:
            yield f"drop #{at} renumbered", _renumbered(rest)
        if grammar.HOSTED_EVENTS.get(event["type"], ("", "in_progress"))[1] in {"in_progress", "completed", "failed"}:
            yield f"double #{at} renumbered", _renumbered([*events[: at + 1], *events[at:]])


def _changed_values(events: list[Event]) -> Iterator[Mutation]:
    for at, event in enumerate(events):
        if "item_id" in event:
            yield f"item_id of #{at}", _changed(events, at, "item_id", value=event["item_id"] + "0")
        if "output_index" in event:
            yield f"output_index of #{at}", _changed(events, at, "output_index", value=event["output_index"] + 7)
        for name in ("delta", "text", "arguments", "input", "refusal"):
            if isinstance(event.get(name), str):
                yield f"{name} of #{at}", _changed(events, at, name, value=event[name] + "x")
        if event["type"] == "response.output_item.done":
            for name in ("id", "call_id"):
                if name in event["item"]:
                    yield f"{name} of #{at}", _changed(events, at, "item", name, value=event["item"][name] + "0")
        if "response" in event and at:
            yield f"response id of #{at}", _changed(events, at, "response", "id", value="resp_other")


def _ends(events: list[Event]) -> Iterator[Mutation]:
    last = len(events) - 1
    response = events[last]["response"]
    yield "no end", events[:-1]
    yield "two ends", _renumbered([*events, events[-1]])
    yield "another end", _changed(events, last, "type", value="response.queued")
    yield "a status of its own", _changed(events, last, "response", "status", value="in_progress")
    yield "a float time", _changed(events, last, "response", "created_at", value=response["created_at"] + 0.5)
    yield "a null temperature", _changed(events, last, "response", "temperature", value=None)
    if response["output"]:
        yield "output short of an item", _changed(events, last, "response", "output", value=response["output"][:-1])
        yield "empty output", _changed(events, last, "response", "output", value=[])
        yield "id in the output", _changed(events, last, "response", "output", 0, "id", value="msg_other")
        for name in ("phase", "encrypted_content", "content"):
            if name not in response["output"][0]:
                yield f"{name} null", _changed(events, last, "response", "output", 0, name, value=None)


def mutations(events: list[Event]) -> Iterator[Mutation]:
    """Broken copies of a good stream, each with what was done to it; the oracle must refuse every one."""
    for family in (_dropped_fields, _moved, _numbers, _dropped_events, _changed_values, _ends):
        yield from family(events)


def assert_refuses_mutations(events: list[Event], *, limit: int = 2_000) -> int:
    """The oracle takes ``events`` and refuses each of (at most ``limit``) broken copies → how many there were."""
    check_stream(events)
    every = list(mutations(events))
    step = max(1, len(every) // limit)
    for name, broken in every[::step]:
        try:
            check_stream(broken)
        except OracleError:
            continue
        raise AssertionError(f"the oracle takes a broken stream: {name}")
    return len(every[::step])
