"""The ASGI application, and the only place where providers and upstreams meet."""

from __future__ import annotations

from typing import Any

from relay.app.application import Application
from relay.app.routing import Router
from relay.app.services import Services, make_upstreams
from relay.config import Settings
from relay.state import open_store
from relay.state.store import Store

__all__ = ["Application", "create_app"]


def create_app(settings: Settings, *, store: Store | None = None, **services: Any) -> Application:
    """The application of ``settings``. Create it after a fork, in the process that will run it.

    ``store`` replaces the configured one; ``services`` are fields of ``Services`` (``new_id``, ``now``, ``on_record``).
    """
    if store is None:
        kept = settings.store
        store = open_store(kept.kind, kept.path, max_age_days=kept.max_age_days, max_bytes=kept.max_bytes)
    return Application(Services(settings, store, Router(settings), make_upstreams(settings), **services))
