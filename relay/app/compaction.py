"""Compaction items that the relay makes: a summary of a window, readable by every replica.

Source: responses-api.md §1.8, §5.11; decision 22 (envelope). The summary goes back to the model as a user message.
"""

from __future__ import annotations

from typing import Final

import orjson

from relay.errors import RelayError
from relay.responses.envelope import seal, unseal
from relay.responses.tools import JSON

FAMILY: Final = "compaction"
_LEAD: Final = "Summary of the conversation so far:\n\n"


def compaction_item(identifier: str, model: str, summary: str) -> JSON:
    """A ``compaction`` item that holds ``summary``."""
    sealed = seal(FAMILY, model, [orjson.dumps(summary).decode()])
    return {"id": identifier, "type": "compaction", "encrypted_content": sealed}


def expand_compactions(items: list[JSON]) -> list[JSON]:
    """Items with our compactions as user messages. Raises: RelayError for one that the relay cannot read."""
    if not any(item["type"] == "compaction" for item in items):
        return items
    expanded: list[JSON] = []
    for index, item in enumerate(items):
        if item["type"] != "compaction":
            expanded.append(item)
            continue
        envelope = unseal(item.get("encrypted_content"))
        if envelope is None or envelope.family != FAMILY:
            path = f"input[{index}].encrypted_content"
            raise RelayError("invalid_value", f"{path} is no compaction that this relay made.", param=path)
        summary = orjson.loads(envelope.blocks[0])
        part = {"type": "input_text", "text": _LEAD + summary}
        expanded.append({"type": "message", "role": "user", "content": [part]})
    return expanded
