"""A client's JSON, from an HTTP body or a WebSocket message: its values are counted before it is read.

Source: decision 61 (values are limited as bytes are, before the one call into a library that cannot be cut).
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from relay.app.replies import parse_json
from relay.app.services import Services
from relay.errors import RelayError
from relay.wire import values

_WINDOW_BYTES: Final = 256 * 1024


async def read_json(services: Services, owner: str, data: bytes, weight: int | None = None) -> tuple[Any, int]:
    """The value and how many it holds, or a few more; ``weight`` is no fewer than these, where that is known.

    Raises: RelayError ``invalid_json``, ``request_too_large`` for more than ``max_values``.
    """
    limit, heavy = services.settings.server.max_values, services.heavy
    if weight is None:
        light = len(data) <= _WINDOW_BYTES
        weight = values.most(data) if light else await heavy.run(len(data), owner, partial(_most, data))
    if weight > limit:
        weight = await heavy.run(weight, owner, partial(_counted, data, limit))
    return await heavy.run(weight, owner, partial(parse_json, data)), weight


def _most(data: bytes) -> int:
    return sum(values.most(data[at : at + _WINDOW_BYTES]) for at in range(0, len(data), _WINDOW_BYTES))


def _counted(data: bytes, limit: int) -> int:
    count = values.count(data)
    if count > limit:
        member = values.where(data, limit)
        place = f"'{member}' takes it" if member else "which takes it"
        message = f"The request has {count} JSON values; {place} over the limit of {limit} ([server] max_values)."
        raise RelayError("request_too_large", message, param=member or None)
    return count
