"""The names that the capability tables know: what ``quirks`` and ``[capabilities."GLOB"]`` may say."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

from relay.providers import capabilities


def quirk_names() -> frozenset[str]:
    """Every value of ``quirks`` that some row recognises."""
    return frozenset(name for row in _rows() for name in row.quirks)


def capability_names() -> frozenset[str]:
    """Every field that some row sets."""
    return frozenset(name for row in _rows() for name in row.sets)


def _rows() -> Iterator[capabilities.Row]:
    """The rows of all dialects; each is a module of ``capabilities`` with its own ``ROWS``."""
    for module in pkgutil.iter_modules(capabilities.__path__, capabilities.__name__ + "."):
        yield from getattr(importlib.import_module(module.name), "ROWS", ())
