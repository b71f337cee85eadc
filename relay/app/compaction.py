"""Compaction: a long window folded into a summary that the model itself writes, in an item every replica can read.

Source: responses-api.md §1.8, §5.11; decision 22 (envelope). What stands before the last compaction item is what it
sums up: of that only the messages of users, systems and developers are said again.
"""

from __future__ import annotations

import contextlib
from typing import Any, Final

import orjson

from relay.errors import RelayError
from relay.responses.envelope import seal, unseal
from relay.responses.items import ROLES
from relay.responses.json import encoded
from relay.responses.tools import JSON

FAMILY: Final = "compaction"

PROMPT: Final = (
    "The conversation above is about to be replaced by a summary that you write now. Write it for yourself: you will "
    "continue the work from the user's messages and this summary alone. Keep every fact, decision, name, path, number, "
    "open question, result of a tool and next step that the work still needs; leave out what is finished and no longer "
    "matters. Do not call tools, do not answer the user. Write only the summary."
)
_LEAD: Final = "Summary of the conversation so far, written by the assistant:\n\n"
_KEPT_ROLES: Final = ROLES - {"assistant"}


def compaction_fields(model: str, summary: str) -> JSON:
    """The members of a ``compaction`` item that holds ``summary``."""
    return {"type": "compaction", "encrypted_content": seal(FAMILY, model, [encoded(summary).decode()])}


def kept_messages(items: list[JSON]) -> list[JSON]:
    """The messages that survive a compaction: all but the assistant's."""
    return [item for item in items if item["type"] == "agent_message" or _is_kept(item)]


def _is_kept(item: JSON) -> bool:
    return item["type"] == "message" and item["role"] in _KEPT_ROLES


def prompt_item() -> JSON:
    """The message that asks for the summary."""
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": PROMPT}]}


def is_ours(item: JSON) -> bool:
    """Whether an item is a compaction that a relay made: no upstream can read it."""
    envelope = unseal(item.get("encrypted_content")) if item["type"] == "compaction" else None
    return envelope is not None and envelope.family == FAMILY


def expand_compactions(items: list[JSON]) -> list[JSON]:
    """Items with our compactions as user messages, and without what the last one sums up.

    Raises: RelayError ``invalid_value`` for one that the relay cannot read.
    """
    last = max((index for index, item in enumerate(items) if item["type"] == "compaction"), default=None)
    if last is None:
        return items
    return [*kept_messages(items[:last]), _expanded(items[last], last), *items[last + 1 :]]


def _expanded(item: JSON, index: int) -> JSON:
    envelope = unseal(item.get("encrypted_content"))
    summary = None
    if envelope is not None and envelope.family == FAMILY and len(envelope.blocks) == 1:
        with contextlib.suppress(ValueError):  # anybody can make an envelope
            summary = orjson.loads(envelope.blocks[0])
    if not isinstance(summary, str):
        path = f"input[{index}].encrypted_content"
        raise RelayError("invalid_value", f"{path} is no compaction that this relay made.", param=path)
    part = {"type": "input_text", "text": _LEAD + summary}
    return {"type": "message", "role": "user", "content": [part]}


def threshold(management: Any) -> int | None:
    """Tokens above which ``context_management`` asks for compaction; None where it does not ask."""
    for index, entry in enumerate(management if isinstance(management, list) else []):
        if isinstance(entry, dict) and entry.get("type") == "compaction":
            value = entry.get("compact_threshold")
            if value is None:
                return None
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                path = f"context_management[{index}].compact_threshold"
                raise RelayError("invalid_type", f"{path} must be a positive integer.", param=path)
            return value
    return None


_NOT_COUNTED: Final = frozenset({"encrypted_content", "file_data", "id", "call_id", "data"})


def estimated_tokens(value: Any) -> int:
    """Tokens of a JSON value, guessed from its length: four bytes each; media and opaque blocks are left out."""
    size = 0
    stack = [value]
    while stack:
        one = stack.pop()
        if isinstance(one, str):
            if not one.startswith("data:"):
                size += len(one) if one.isascii() else len(one.encode("utf-8", "surrogatepass"))
        elif isinstance(one, dict):
            stack.extend(inner for name, inner in one.items() if name not in _NOT_COUNTED)
            size += 2 * len(one)
        elif isinstance(one, list):
            stack.extend(one)
        elif one is not None:
            size += 4
    return size // 4
