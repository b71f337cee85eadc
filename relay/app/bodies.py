"""A client's JSON, from an HTTP body or a WebSocket message: its values are counted before it is read.

Source: decision 61 (values are limited as bytes are, before the one call into a library that cannot be cut).
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import orjson

from relay.app.heavy import Heavy
from relay.errors import RelayError
from relay.responses.json import loads, mended
from relay.wire import values

_WINDOW_BYTES: Final = 256 * 1024
_BYTES_A_VALUE: Final = 512
"""Bytes that cost what a value costs: half a megabyte of text is heavy too."""


async def read_json(
    heavy: Heavy, owner: str, data: bytes, weight: int | None = None, *, max_values: int
) -> tuple[Any, int]:
    """The value and how many it holds, or a few more; ``weight`` is no fewer than these, where that is known.

    Raises: RelayError ``invalid_json``, ``request_too_large`` for more than ``max_values``.
    """
    if weight is None:
        light = len(data) <= _WINDOW_BYTES
        weight = values.most(data) if light else await heavy.run(len(data), owner, partial(_most, data))
    if weight > max_values:
        weight = await heavy.run(weight, owner, partial(_counted, data, max_values))
    weight += len(data) // _BYTES_A_VALUE
    try:
        content = await heavy.run(weight, owner, partial(_read, data))
    except orjson.JSONDecodeError as error:
        content = await heavy.run(max(weight, len(data) // 8), owner, partial(_read_again, data, str(error)))
    return content, weight


def _read(data: bytes) -> Any:
    return _passable(orjson.loads(data))


def _read_again(data: bytes, reason: str) -> Any:
    """What orjson refuses (decision 24)."""
    try:
        return _passable(mended(loads(data)))
    except (ValueError, RecursionError):
        raise RelayError("invalid_json", f"The request body is no valid JSON: {reason}.") from None


def _passable(content: Any) -> Any:
    """What can be read can be nested too deeply to be written, in an event or to an upstream."""
    try:
        orjson.dumps([[[[[[[[content]]]]]]]])
    except TypeError as error:
        raise RelayError("invalid_json", f"The request body cannot be passed on: {error}.") from None
    return content


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
