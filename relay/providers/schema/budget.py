"""What work on a client's schema may cost (decision 61): one counter for cutting it down and for checking against it.

A step is about a tenth of a microsecond: one comparison. Who runs out stops; nothing here is ever raised out of this
package.
"""

from __future__ import annotations

from typing import Final

STEPS: Final = 150_000
NODES: Final = 10_000
"""Nodes of a schema that are read or written (decision 55)."""

NODE: Final = 10
"""Steps of one node."""

DEPTH: Final = 64
"""Levels of a schema (decision 55)."""


class SpentError(Exception):
    """There are no steps left."""


class Budget:
    """Steps and nodes that are left."""

    __slots__ = ("left", "nodes")

    def __init__(self) -> None:
        self.left = STEPS
        self.nodes = NODES

    def node(self, steps: int = 0) -> None:
        """One more node, and ``steps`` besides. Raises: SpentError."""
        self.nodes -= 1
        self.left -= NODE + steps
        if self.left < 0 or self.nodes < 0:
            raise SpentError

    def spend(self, steps: int = 1) -> None:
        """Raises: SpentError."""
        self.left -= steps
        if self.left < 0:
            raise SpentError
