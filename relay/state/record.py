"""What both engines keep of a turn: blobs of JSON, and the few members that they look at.

The output lives once, with the items; the body has an empty list in its place.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import orjson

from relay.responses.json import exact
from relay.state.store import Json, Stored

RUNNING: Final = frozenset({"queued", "in_progress"})
ID_LIMIT: Final = 256  # characters; a longer id of a client's own making is kept but not found by ``find_items``
DAY_S: Final = 86_400
# What is too old is not seen from then on, but goes this much later: a turn that began on it may still commit to it.
GRACE_S: Final = 3_600


class Record(NamedTuple):
    """One turn on its way into the store."""

    id: str
    owner: str
    parent: str | None
    running: bool
    created_at: int
    extra: bytes | None
    body: bytes
    input: bytes
    output: bytes
    item_ids: frozenset[str]

    @property
    def size_bytes(self) -> int:
        return len(self.body) + len(self.input) + len(self.output)


def encode(value: Any) -> bytes:
    """JSON; what orjson refuses (lone surrogates, long integers: decision 24) goes through the standard library."""
    try:
        return exact(orjson.dumps(value))
    except TypeError:
        return json.dumps(value).encode()


def decode(blob: bytes) -> Any:
    """The value that ``encode`` was given."""
    try:
        return orjson.loads(blob)
    except orjson.JSONDecodeError:
        return json.loads(blob)


def plain(id: str) -> str:
    """The id as text that every engine can hold: lone surrogates written as escapes."""
    return id if id.isascii() else id.encode("utf-8", "backslashreplace").decode()


def item_ids(items: Iterable[Json]) -> frozenset[str]:
    """The ids under which these items are found."""
    ids = (item.get("id") for item in items if isinstance(item, dict))
    return frozenset(plain(id) for id in ids if isinstance(id, str) and 0 < len(id) <= ID_LIMIT)


def record(
    response: Json, items: list[Json], owner: str, *, parent: str | None, extra: Json | None, created_at: int
) -> Record:
    """Take a turn apart; nothing of it is shared with the caller afterwards."""
    output = response.get("output") or []
    body = {**response, "output": []} if output else response
    return Record(
        id=plain(response["id"]),
        owner=owner,
        parent=None if parent is None else plain(parent),
        running=response.get("status") in RUNNING,
        created_at=created_at,
        extra=None if extra is None else encode(extra),
        body=encode(body),
        input=encode(items),
        output=encode(output),
        item_ids=item_ids(items) | item_ids(output),
    )


def stored(body: bytes, output: bytes, created_at: int, extra: bytes | None) -> Stored:
    """Put a response together again."""
    response = decode(body)
    if output != b"[]":
        response["output"] = decode(output)
    return Stored(response, created_at, None if extra is None else decode(extra))


def items_of(blobs: Iterable[bytes], wanted: Mapping[str, str]) -> dict[str, Json]:
    """The last item with each id in some lists of items; ``wanted``: what an item is called there and in the answer."""
    found: dict[str, Json] = {}
    for blob in blobs:
        for item in reversed(decode(blob)):
            id = item.get("id") if isinstance(item, dict) else None
            if isinstance(id, str) and (name := wanted.get(plain(id))) is not None:
                found.setdefault(name, item)
    return found
