"""Ids and the clock: the only source of randomness and of time for the layers above.

Source: decisions.md 43 (prefix, an underscore, at least 24 random hex digits; times are integers).
"""

from __future__ import annotations

import os
import time
from contextvars import ContextVar
from typing import Final

current_request: Final[ContextVar[str]] = ContextVar("current_request", default="")
"""The ``x-request-id`` of what runs, on a WebSocket the handshake's: lines of the log carry it (operate.md L1)."""

_POOL_BYTES = 1_536  # 128 ids of 12 bytes (24 hex digits) a system call

_pool: list[str] = []


def new_id(prefix: str) -> str:
    """``prefix`` + ``_`` + 24 random hex digits, e.g. ``resp_0f…``."""
    if not _pool:
        digits = os.urandom(_POOL_BYTES).hex()
        _pool.extend(digits[i : i + 24] for i in range(0, len(digits), 24))
    return prefix + "_" + _pool.pop()


def now() -> int:
    """Unix time in whole seconds."""
    return int(time.time())


def _forget_pool() -> None:
    _pool.clear()


# A forked worker must not hand out the ids its parent has already drawn.
os.register_at_fork(after_in_child=_forget_pool)
