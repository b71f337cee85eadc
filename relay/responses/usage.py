"""Counts of tokens as upstreams tell them: several times in one answer, under their own names."""

from __future__ import annotations

from typing import Any, Final

MEMBERS_LIMIT: Final = 64
"""Members of an object that are kept when another one comes; real ones have ten."""

MOST: Final = 2**63 - 1
"""Tokens of one answer; what is more is no count."""


def count_of(value: Any) -> int:
    """A count as an upstream told it; whatever is none is 0."""
    return int(value) if isinstance(value, int | float) and 0 < value <= MOST else 0


Counts = dict[str, Any]
"""An upstream's own usage object: numbers, and objects of numbers."""


def overlaid(known: Counts, told: Counts) -> Counts:
    """What is known once ``told`` has come, too: zero, null and what is missing replace no count (decision 51).

    Both are left as they are, and either may be what is returned.
    """
    # hot: some servers tell it in every event
    for name in known:
        new = told.get(name)
        if (not new or new.__class__ is dict) and known[name]:
            break
    else:
        return told
    if len(known) > MEMBERS_LIMIT:
        return told
    merged = dict(known)
    for name, new in told.items():
        old = known.get(name)
        if new.__class__ is dict and old.__class__ is dict:
            new = {**old, **{inner: count for inner, count in new.items() if count or not old.get(inner)}}
        if new or not old:
            merged[name] = new
    return merged
