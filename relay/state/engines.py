"""Which engines there are, and where the file is when nobody says."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from relay.state.memory import MemoryStore
from relay.state.sqlite import SqliteStore
from relay.state.store import Store, StoreUnusable

KINDS: Final = ("sqlite", "memory")


def default_path(environ: Mapping[str, str] = os.environ) -> Path:
    """``relay/relay.db`` in the user's data directory (XDG base directories; Application Support, LocalAppData)."""
    home = Path(environ.get("HOME") or environ.get("USERPROFILE") or os.path.expanduser("~"))
    if Path(environ.get("XDG_DATA_HOME", "")).is_absolute():  # the specification: a relative path is ignored
        data = Path(environ["XDG_DATA_HOME"])
    elif sys.platform == "darwin":
        data = home / "Library" / "Application Support"
    elif sys.platform == "win32":
        data = Path(environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    else:
        data = home / ".local" / "share"
    return data / "relay" / "relay.db"


def open_store(
    kind: str = "sqlite",
    path: str | os.PathLike[str] | None = None,
    *,
    max_age_days: float | None = 30,
    max_bytes: int | None = 10 << 30,
    workers: int = 1,
    now: Callable[[], float] = time.time,
) -> Store:
    """Open the store of this worker, after its fork and before it serves; blocks. None is no bound.

    Raises: ``StoreUnusable``. A file that cannot be opened or written now is logged and makes a store that is not
    healthy, so that the relay serves without one (decision 41).
    """
    if kind == "memory":
        if workers > 1:
            raise StoreUnusable('[store] kind = "memory" is one process\'s own: use "sqlite", or one worker')
        return MemoryStore(max_age_days=max_age_days, max_bytes=max_bytes, now=now)
    if kind == "sqlite":
        file = default_path() if path is None else Path(path).expanduser()
        return SqliteStore(file, max_age_days=max_age_days, max_bytes=max_bytes, now=now)
    raise StoreUnusable(f'[store] kind = "{kind}" is not one of {", ".join(KINDS)}')
