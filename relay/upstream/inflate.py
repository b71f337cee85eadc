"""Bounded inflation of answers that are compressed although identity was asked for.

Source: RFC 1950–1952, RFC 9110 §8.4; decision 26. At most ``STEP_BYTES`` come out of a step, however much is behind it.
"""

from __future__ import annotations

import zlib
from typing import Final

from relay.errors import RelayError
from relay.upstream.failures import failure

STEP_BYTES: Final = 64 * 1024
_RATIO_LIMIT: Final = 250  # recorded event streams shrink by 5 to 40; deflate's own bound is 1,032
_RATIO_FREE_BYTES: Final = 1024 * 1024  # a small answer may shrink as much as it likes
_GZIP_BITS: Final = 31
_ZLIB_BITS: Final = 15
_RAW_BITS: Final = -15
_BITS: Final = {b"gzip": _GZIP_BITS, b"x-gzip": _GZIP_BITS, b"deflate": _ZLIB_BITS}


class Inflater:
    """``feed`` compressed bytes, ``step`` until it gives nothing, ``close`` at the end of the body."""

    __slots__ = ("_bits", "_in_bytes", "_inflate", "_out_bytes", "_pending")

    def __init__(self, bits: int) -> None:
        self._bits = bits
        self._inflate: zlib._Decompress | None = None
        self._pending = b""
        self._in_bytes = 0
        self._out_bytes = 0

    def feed(self, data: bytes) -> None:
        self._pending += data
        self._in_bytes += len(data)

    def step(self) -> bytes:
        """The next piece; empty if more input is needed. Raises: RelayError upstream_bad_response."""
        try:
            output = self._step()
        except zlib.error as error:
            raise failure("upstream_bad_response", "its compressed body is damaged", str(error)) from None
        self._out_bytes += len(output)
        if self._out_bytes > max(_RATIO_FREE_BYTES, self._in_bytes * _RATIO_LIMIT):
            raise failure("upstream_bad_response", "its compressed body grows beyond measure")
        return output

    def _step(self) -> bytes:
        while True:
            if self._inflate is None:
                if not self._pending:
                    return b""
                self._inflate = self._begin()
            output = self._inflate.decompress(self._pending, STEP_BYTES)
            if self._inflate.eof:  # a gzip file may have several members
                self._pending = self._inflate.unused_data
                self._inflate = None
                if self._bits != _GZIP_BITS and self._pending:
                    raise zlib.error("bytes after the end")
            else:
                self._pending = self._inflate.unconsumed_tail
                if not output:
                    return b""
            if output:
                return output

    def _begin(self) -> zlib._Decompress:
        """``deflate`` means zlib, but some servers send it raw: a zlib header has method 8 in its low four bits."""
        if self._bits == _ZLIB_BITS and self._pending[0] & 0x0F != 8:
            return zlib.decompressobj(_RAW_BITS)
        return zlib.decompressobj(self._bits)

    def close(self) -> None:
        """Raises: RelayError upstream_ended_early if the compressed body is cut."""
        if self._inflate is not None:
            raise failure("upstream_ended_early", "its compressed body is cut")


def inflater_for(content_encoding: bytes | None) -> Inflater | None:
    """None for identity. Raises: RelayError upstream_bad_response for what was never asked for."""
    coding = (content_encoding or b"identity").strip().lower()
    if coding in (b"identity", b""):
        return None
    if coding not in _BITS:
        raise RelayError("upstream_bad_response", "The upstream answered in a content encoding that was not asked for.")
    return Inflater(_BITS[coding])
