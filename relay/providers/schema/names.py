"""Property names as an upstream takes them, and the way back.

A name that may not be said gets another that stands nowhere in the schema, in the order in which they come, so that one
schema always has the same names (decision 25). The map holds for the whole tool: a name is rewritten the same way
wherever it stands.
"""

from __future__ import annotations

import re
from typing import Any, Final

from relay.providers.schema.budget import Budget

_UNSAID: Final = re.compile(r"[^a-zA-Z0-9_.-]")


class Names:
    """The names of one schema. ``wire`` maps those that were rewritten: the client's -> the upstream's."""

    __slots__ = ("_form", "_limit", "_numbers", "_taken", "wire")

    def __init__(self, root: Any, form: re.Pattern[str] | None, limit: int, budget: Budget) -> None:
        self._form = form
        self._limit = limit
        self._numbers: dict[str, int] = {}
        self._taken = set() if form is None else _keys(root, budget)
        self.wire: dict[str, str] = {}

    def of(self, name: str) -> str:
        """The name that the upstream gets."""
        if self._form is None or (self._form.fullmatch(name) and name not in self.wire):
            return name
        if name not in self.wire:
            self.wire[name] = self._fresh(_UNSAID.sub("_", name[: self._limit]) or "_")
        return self.wire[name]

    def _fresh(self, stem: str) -> str:
        name, number = stem, self._numbers.get(stem, 1)
        while name in self._taken:
            number += 1
            ending = f"_{number}"
            name = stem[: self._limit - len(ending)] + ending
        self._numbers[stem] = number
        self._taken.add(name)
        return name


def _keys(root: Any, budget: Budget) -> set[str]:
    """Every name that stands anywhere in a schema."""
    found: set[str] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        budget.spend(1 + len(node) // 8)
        if isinstance(node, dict):
            found.update(node)
            node = node.values()
        waiting.extend(one for one in node if isinstance(one, dict | list))
    return found
