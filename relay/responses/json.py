"""JSON as it is found in the wild: orjson first, the standard library for what orjson refuses.

Source: decision 24 (lone surrogates; ``NaN``), RFC 8259 §8.2.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import orjson

from relay.errors import RelayError

dumps = orjson.dumps

SECOND_LIMIT_BYTES: Final = 64 * 1024
"""What the standard library reads again: it takes 40 ms a megabyte in one go (decision 61)."""

_ESCAPE: Final = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)


def loads(data: bytes | str) -> Any:
    """A value; strings may hold lone surrogates, or U+FFFD for them where there is much to read.

    Raises: ValueError where ``data`` is no JSON at all.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        if len(data) > SECOND_LIMIT_BYTES:
            source = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
            return orjson.loads(without_lone_escapes(source))
        # bytes that are no UTF-8 raise UnicodeDecodeError here, which is a ValueError too
        text = data if isinstance(data, str) else data.decode("utf-8", "surrogatepass")
        try:
            return json.loads(text)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error


def without_lone_escapes(source: bytes) -> bytes:
    """JSON with U+FFFD in place of each escape of half a surrogate pair."""
    mended = bytearray()
    last = 0
    for escape in _ESCAPE.finditer(source):
        if escape[1] is not None:
            mended += source[last : escape.start()] + b"\\ufffd"
            last = escape.end()
    return bytes(mended + source[last:]) if last else source


def mended_text(text: str) -> str:
    """Surrogate pairs joined, lone surrogates replaced by U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def encoded(value: Any) -> bytes:
    """JSON for a value that may hold what orjson refuses: lone surrogates, integers over 64 bits.

    Raises: RelayError ``upstream_bad_response`` for one that is nested too deeply.
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        pass
    try:
        return orjson.dumps(mended(value))
    except (TypeError, RecursionError):
        raise RelayError("upstream_bad_response", "The upstream's answer is nested too deeply.") from None


_NESTED: Final = 200
"""Objects and arrays that stand in one another, of which as many again as the relay puts around them can be written."""


def check_depth(source: bytes, value: Any) -> None:
    """Whether ``value``, read from ``source``, can be written again within something else: what can be read may be
    nested too deeply for that. Raises: RelayError ``upstream_bad_response``.
    """
    if source.count(b"[") + source.count(b"{") > _NESTED:
        encoded([[[[[[[[value]]]]]]]])


def exact(source: bytes) -> bytes:
    """A copy in memory of its own size, for what is kept: what orjson returns holds 4 KiB, or eight times itself."""
    return bytes(memoryview(source))


def mended(value: Any) -> Any:
    """A copy of a JSON value in which every string and every number can be encoded."""
    if isinstance(value, str):
        return mended_text(value)
    if type(value) is int and not -(2**63) <= value < 2**64:
        return float(value) if abs(value) < 10**300 else None
    if isinstance(value, dict):
        return {mended_text(key): mended(item) for key, item in value.items()}
    if isinstance(value, list):
        return [mended(item) for item in value]
    return value
