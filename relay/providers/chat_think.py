"""Splits ``<think>…</think>`` at the start of a text from what follows it.

Source: translation.md §3.3 (Groq raw, old llama.cpp); tags may be cut anywhere between two pieces.
"""

from __future__ import annotations

from typing import Final

_OPEN: Final = "<think>"
_CLOSE: Final = "</think>"


class ThinkSplitter:
    """Pieces in, ``(is it thought?, text)`` out; only a tag at the very start counts."""

    __slots__ = ("_held", "_on")

    def __init__(self) -> None:
        self._held = ""
        self._on = self._at_start

    def feed(self, text: str) -> list[tuple[bool, str]]:
        """What ``text`` completes, in order."""
        pieces: list[tuple[bool, str]] = []
        self._held += text
        while self._held and self._on(pieces):
            pass
        return pieces

    def close(self) -> list[tuple[bool, str]]:
        """What was held back."""
        rest, self._held = self._held, ""
        if not rest or (self._on == self._after and not rest.strip()):
            return []
        return [(self._on == self._inside, rest)]

    # each returns whether there is more to do with what is held

    def _at_start(self, pieces: list[tuple[bool, str]]) -> bool:
        stripped = self._held.lstrip()
        if stripped.startswith(_OPEN):
            self._held = stripped[len(_OPEN) :]
            self._on = self._inside
            return True
        if _OPEN.startswith(stripped):
            return False
        self._on = self._outside
        return True

    def _inside(self, pieces: list[tuple[bool, str]]) -> bool:
        thought, tag, rest = self._held.partition(_CLOSE)
        if tag:
            if thought:
                pieces.append((True, thought))
            self._held = rest
            self._on = self._after
            return True
        kept = next((size for size in range(len(_CLOSE) - 1, 0, -1) if self._held.endswith(_CLOSE[:size])), 0)
        if len(self._held) > kept:
            pieces.append((True, self._held[: len(self._held) - kept]))
        self._held = self._held[len(self._held) - kept :]
        return False

    def _after(self, pieces: list[tuple[bool, str]]) -> bool:
        self._held = self._held.lstrip()
        if self._held:
            self._on = self._outside
        return bool(self._held)

    def _outside(self, pieces: list[tuple[bool, str]]) -> bool:
        pieces.append((False, self._held))
        self._held = ""
        return False
