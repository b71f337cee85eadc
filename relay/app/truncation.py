"""``truncation: "auto"``: the oldest whole turns are left out when the upstream says that the input is too long.

Source: translation.md §1.1, §2.8: a turn is a user's message with all that follows up to the next; a call never loses
its output, and what systems and developers said stays.
"""

from __future__ import annotations

from relay.responses.tools import JSON, call_id_of, is_call, is_output

_STAYS = ("system", "developer")


def without_oldest_turns(items: list[JSON]) -> list[JSON] | None:
    """The items without the older half of their turns; None where only one turn is left."""
    starts = [
        index
        for index, item in enumerate(items)
        if item["type"] == "message"
        and item["role"] == "user"
        and (index == 0 or items[index - 1].get("role") != "user")
    ]
    if len(starts) < 2:
        return None
    cut = starts[(len(starts) + 1) // 2]
    stays = [item for item in items[:cut] if item["type"] == "message" and item["role"] in _STAYS]
    gone = {call_id_of(item) for item in items[:cut] if is_call(item)}
    kept = [item for item in items[cut:] if not is_output(item) or call_id_of(item) not in gone]
    return [*stays, *kept]
