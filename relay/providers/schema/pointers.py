"""What a ``$ref`` inside one document points to.

Source: RFC 6901; JSON Schema 2020-12 core §8.2. Other documents are never fetched.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from relay.providers.schema.budget import Budget


class Pointers:
    """The references of one document. ``NOWHERE`` is what others point to."""

    __slots__ = ("_anchors", "_budget", "_known", "_root")

    def __init__(self, root: Any, budget: Budget) -> None:
        self._root = root
        self._budget = budget
        self._known: dict[str, Any] = {"#": root}
        self._anchors: dict[str, Any] | None = None

    def target(self, reference: Any) -> Any:
        """A schema, or None. Raises: SpentError."""
        if not isinstance(reference, str):
            return None
        if reference not in self._known:
            self._budget.spend(1 + len(reference) // 8)
            node = self._at(reference) if reference.startswith("#/") else self._named(reference)
            self._known[reference] = node if isinstance(node, dict | bool) else None
        return self._known[reference]

    def _at(self, reference: str) -> Any:
        node = self._root
        for step in reference[2:].split("/"):
            name = unquote(step.replace("~1", "/").replace("~0", "~"))
            if isinstance(node, list) and name.isascii() and name.isdigit() and len(name) < 9:
                node = node[int(name)] if int(name) < len(node) else None
            elif isinstance(node, dict):
                node = node.get(name)
            else:
                return None
        return node

    def _named(self, reference: str) -> Any:
        """What has this ``$id`` or ``$anchor``."""
        if self._anchors is None:
            self._anchors = {}
            waiting: list[Any] = [self._root]
            while waiting:
                node = waiting.pop()
                members = list(node.values()) if isinstance(node, dict) else node
                self._budget.spend(1 + len(members))
                waiting.extend(member for member in members if isinstance(member, dict | list))
                for keyword, sign in (("$id", ""), ("id", ""), ("$anchor", "#")) if isinstance(node, dict) else ():
                    if isinstance(node.get(keyword), str):
                        self._anchors.setdefault(sign + node[keyword], node)
        return self._anchors.get(reference)
