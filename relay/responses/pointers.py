"""Ids of objects that an upstream keeps: where a request names them, and which of them an answer makes known.

Source: outliving.md 51 to 55; openai-python 3.57.0 (types/responses), whose ``*_id`` members the tests compare with
this page. One list, walked at any depth: a request is refused for an object of another owner wherever it stands.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, Final, NamedTuple

from relay.responses.tools import JSON

NAMES: Final = frozenset(
    {"file_id", "container", "container_id", "skill_id", "tunnel_id", "approval_request_id", "vector_store_id"}
)
"""Members whose string is the id of an object."""

LISTS: Final = frozenset({"file_ids", "vector_store_ids"})
"""Members that list such ids."""

CONTAINERS: Final = frozenset({"container"})
"""Of these what Anthropic is told."""

NOT_OBJECTS: Final = frozenset(
    {"call_id", "caller_id", "connector_id", "continuation_id", "prompt_cache_key", "safety_identifier", "stream_id"}
)
"""Members that name something, but nothing that an upstream keeps for an owner."""

OPAQUE: Final = frozenset(
    {
        "annotations",  # of earlier answers
        "arguments",
        "attributes",
        "client_metadata",
        "env",
        "headers",
        "input_schema",
        "metadata",
        "output_schema",
        "parameters",
        "schema",
    }
)
"""Members whose insides are a client's, a model's or a schema's own words."""


class Pointer(NamedTuple):
    """The id of an object, and where it stands below what was walked over: ``.content[0].file_id``."""

    path: str
    id: str


_NESTED: Final = (dict, list)

Link = tuple["Link", str | int] | None
"""Where a value stands: its parent's place, and its name or index there."""


def pointers(value: Any, names: frozenset[str] = NAMES) -> list[Pointer]:
    """The pointers in a JSON value in the order in which they stand, at any depth; linear."""
    # hot: each item of each request to a shared account
    found: list[Pointer] = []
    stack: list[tuple[Any, Link]] = [(value, None)]
    while stack:
        node, link = stack.pop()
        inner: list[tuple[Any, Link]] = []
        if isinstance(node, dict):
            for name, member in node.items():
                if isinstance(member, str):
                    if name in names and member:
                        found.append(Pointer(_path((link, name)), member))
                    elif name == "type" and member == "item_reference" and link is not None and names is NAMES:
                        found += _listed([node.get("id")], link, "id")
                elif member and isinstance(member, _NESTED) and name not in OPAQUE:
                    if name in LISTS and names is NAMES:
                        found += _listed(member, (link, name))
                    inner.append((member, (link, name)))
        elif isinstance(node, list):
            inner = [(one, (link, at)) for at, one in enumerate(node) if isinstance(one, _NESTED)]
        if inner:
            stack.extend(reversed(inner))
    return found


def _listed(members: JSON | list[Any], link: Link, name: str | None = None) -> list[Pointer]:
    return [
        Pointer(_path((link, at if name is None else name)), one)
        for at, one in enumerate(members)
        if isinstance(one, str) and one
    ]


def _path(link: Link) -> str:
    pieces: list[str] = []
    while link is not None:
        link, step = link
        pieces.append(f"[{step}]" if isinstance(step, int) else f".{step}")
    return "".join(reversed(pieces))


# --- the ids of items

_SEALED: Final = frozenset({"reasoning", "compaction"})
"""Items whose content may be sealed: their upstream has bound the seal to the id."""

_SAYS: Final = {
    "reasoning": ("content", "summary"),
    "compaction": (),
    "image_generation_call": ("result",),
    "item_reference": (),
    "compaction_trigger": ("type",),
}
"""Item type -> the members that hold its content; of others it is whatever is not in ``_FRAME``."""

_FRAME: Final = frozenset({"type", "id", "status"})

_REQUIRED: Final = frozenset(
    {
        "code_interpreter_call",
        "computer_call",
        "file_search_call",
        "image_generation_call",
        "local_shell_call",
        "local_shell_call_output",
        "mcp_approval_request",
        "mcp_call",
        "mcp_list_tools",
        "program",
        "program_output",
        "reasoning",
        "web_search_call",
    }
)
"""Items that must have an id, besides an assistant's message."""

_PREFIX: Final = re.compile(r"[a-z]{1,16}_")


def is_sealed(item: JSON) -> bool:
    """Whether an item brings its content sealed, so that its id passes."""
    sealed = item.get("encrypted_content")
    return item["type"] in _SEALED and isinstance(sealed, str) and bool(sealed)


def is_bare(item: JSON) -> bool:
    """Whether an item says nothing but which one it is: its upstream then puts in what it keeps under that id."""
    members = _SAYS.get(item["type"])
    if members is None:
        members = tuple(item.keys() - _FRAME)
    return not any(item.get(name) for name in members)


def requires_id(item: JSON) -> bool:
    """Whether an item cannot do without an id."""
    return item["type"] in _REQUIRED or (item["type"] == "message" and item.get("role") == "assistant")


def substitute(id: str, owner: str) -> str:
    """What stands for an id of an item that is not its owner's; the same each turn (decision 25)."""
    prefix = _PREFIX.match(id)
    digest = hashlib.sha256(f"{owner}\0{id}".encode("utf-8", "surrogatepass")).hexdigest()
    return (prefix[0] if prefix else "item_") + digest[:24]


# --- what an answer makes known


def made(output: list[Any], *, items: bool) -> list[str]:
    """The ids that an answer's output makes its owner's: containers and files; with ``items`` those of items too."""
    found: dict[str, None] = {}
    for item in output:
        if isinstance(item, dict):
            if items:
                _take(found, item, "id")
            _take(found, item, "container_id")
            _take(found, item.get("environment"), "container_id")
            for result in _list(item.get("results")):
                _take(found, result, "file_id")
            for part in _list(item.get("content")):
                for annotation in _list(part.get("annotations") if isinstance(part, dict) else None):
                    _take(found, annotation, "container_id")
                    _take(found, annotation, "file_id")
    return list(found)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _take(found: dict[str, None], holder: Any, name: str) -> None:
    id = holder.get(name) if isinstance(holder, dict) else None
    if isinstance(id, str) and id:
        found[id] = None
