"""The log's one line for a request that was no turn: what was answered, or why it was refused.

Source: operate.md L1 to L4. A turn writes its own (``turn.TurnRecord``); ``ids.current_request`` gives each its id.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from relay.app.replies import Scope
from relay.app.services import access_log
from relay.errors import RelayError

_SHOWN: Final = 256  # characters of a path, which is the client's


def log_answer(scope: Scope, status: int, *, quiet: bool = False) -> None:
    """An answer that was no refusal; ``quiet``: of a probe, which asks every second."""
    level = logging.DEBUG if quiet else logging.INFO
    if access_log.isEnabledFor(level):
        access_log.log(level, "%s answered with %d", _asked(scope), status, extra=_fields(scope, status))


def log_refusal(scope: Scope, error: RelayError) -> None:
    """A refusal, in the words that the client was told, and the cause where it is not the client's.

    The error went through the redactor before. Faults of the relay and of its upstreams are warnings.
    """
    cause = f" ({error.detail})" if error.detail else ""
    access_log.log(
        logging.INFO if error.status < 500 else logging.WARNING,
        "%s refused with %d: %s%s",
        _asked(scope),
        error.status,
        error.message,
        cause,
        extra=_fields(scope, error.status) | {"code": error.code or error.type} | _param(error),
    )


def _asked(scope: Scope) -> str:
    """Method and path; without the query, in which keys may stand."""
    return f"{scope.get('method', 'WebSocket')} {scope['path'][:_SHOWN]}"


def _fields(scope: Scope, status: int) -> dict[str, Any]:
    client = scope.get("client")
    return {"status": status} | ({"client": client[0]} if client else {})


def _param(error: RelayError) -> dict[str, Any]:
    return {"param": error.param} if error.param is not None else {}
