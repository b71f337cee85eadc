"""What the server itself refuses, before or in place of the app: the answer's head, and the log's one line for it.

Source: responses-api.md §6.1, §6.3 (envelope, ``x-request-id`` on every answer); operate.md L1, L4.
"""

from __future__ import annotations

import logging
import os
from typing import Final

from relay.errors import RelayError
from relay.server.context import Scope
from relay.wire.http1 import GUARD_HEADERS

_access_log: Final = logging.getLogger("relay.access")


def refusal_headers(
    error: RelayError, client: tuple[str, int] | None, scope: Scope | None
) -> list[tuple[bytes, bytes]]:
    """Headers of the error's answer but for its framing; ``scope`` where a head could be read. Writes the line."""
    identifier = "req_" + os.urandom(12).hex()
    fields = {"request_id": identifier, "status": error.status, "code": error.code or error.type}
    if client:
        fields["client"] = client[0]
    asked = f"{scope.get('method', 'WebSocket')} {scope['path'][:256]}" if scope else "a connection"
    level = logging.INFO if error.status < 500 else logging.WARNING
    _access_log.log(level, "%s refused with %d: %s", asked, error.status, error.message, extra=fields)
    return [
        (b"content-type", b"application/json"),
        (b"x-request-id", identifier.encode()),
        *GUARD_HEADERS,
        *((name.encode(), value.encode()) for name, value in error.response_headers()),
    ]
