"""How many bytes of request bodies are being received at once, and whose.

Source: issue 10 point 11 (bodies being received have a bound in all); decision 61 (scarce things are shared per owner).
Rules. While all bodies together are within the limit, every piece is taken. Beyond it a piece is taken only where its
owner holds no more than its share, the limit divided by the owners that hold something, and never beyond twice the
limit; the others are refused and may come back. So whoever holds least goes on, and nobody waits for somebody slow.
"""

from __future__ import annotations

from relay.errors import RelayError


class Receiving:
    """The account of one worker."""

    __slots__ = ("_held", "_limit_bytes", "total_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._held: dict[str, int] = {}
        self.total_bytes = 0

    def take(self, owner: str, count: int) -> None:
        """A piece has come. Raises: RelayError ``overloaded``, and nothing is taken."""
        held, total = self._held.get(owner, 0) + count, self.total_bytes + count
        if total > self._limit_bytes and (held > self._share(owner) or total > 2 * self._limit_bytes):
            message = f"The requests that are being received hold {self._limit_bytes} bytes. Please try again later."
            raise RelayError("overloaded", message, retry_after_s=1)
        self._held[owner] = held
        self.total_bytes = total

    def _share(self, owner: str) -> int:
        return self._limit_bytes // (len(self._held) + (owner not in self._held))

    def let_go(self, owner: str, count: int) -> None:
        """Bytes that were taken are held no longer."""
        self.total_bytes -= count
        left = self._held.get(owner, 0) - count
        if left > 0:
            self._held[owner] = left
        else:
            self._held.pop(owner, None)
