"""Splits ``<think>…</think>`` at the start of a text from what follows it, and a ``</think>`` that was never opened.

Source: translation.md §3.3 (Groq raw, old llama.cpp); tags may be cut anywhere between two pieces. Templates that open
the tag in the prompt leave its end alone in the answer (anomalyco/opencode#7779, #43770): all before it was thought.
"""

from __future__ import annotations

import re
from typing import Final

KEPT_LIMIT_CHARS: Final = 1024 * 1024
"""How much text is kept back to see whether it was thought; what is longer goes out as it comes."""

_OPEN: Final = "<think>"
_CLOSE: Final = "</think>"
_TAGS: Final = re.compile(f"{_OPEN}|{_CLOSE}")
_QUOTES: Final = "`'\""
"""Ahead of a tag that is talked about."""

SAID_BEFORE: Final = (True, "")
"""A piece that says: the text so far, which is out already, was thought."""


class ThinkSplitter:
    """Pieces in, ``(is it thought?, text)`` out, or ``SAID_BEFORE``; an opening tag counts at the very start only.

    ``keep``: nothing is shown before the end, so text can be kept back until a lone ``</think>`` or the end comes.
    Without it no text waits, and what was said ahead of a lone ``</think>`` in another piece stays text.
    """

    __slots__ = ("_before", "_held", "_keep", "_kept", "_on", "_room", "_said")

    def __init__(self, *, keep: bool = False) -> None:
        self._held = ""
        self._on = self._at_start
        self._keep = keep
        self._kept: list[str] = []
        self._room = KEPT_LIMIT_CHARS
        self._said = False
        self._before = ""

    def feed(self, text: str) -> list[tuple[bool, str]]:
        """What ``text`` completes, in order."""
        pieces: list[tuple[bool, str]] = []
        self._held += text
        while self._held and self._on(pieces):
            pass
        return pieces

    def settle(self) -> list[tuple[bool, str]]:
        """What is kept back, where something other than text follows it: it is text."""
        pieces: list[tuple[bool, str]] = []
        self._keep = False
        self._release(pieces, "")
        return pieces

    def close(self) -> list[tuple[bool, str]]:
        """What was held back."""
        pieces = self.settle()
        rest, self._held = self._held, ""
        if rest and not (self._on == self._after and not rest.strip()):
            pieces.append((self._on == self._inside, rest))
        return pieces

    # each returns whether there is more to do with what is held

    def _at_start(self, pieces: list[tuple[bool, str]]) -> bool:
        stripped = self._held.lstrip()
        if stripped.startswith(_OPEN):
            self._held = stripped[len(_OPEN) :]
            self._on = self._inside
            return True
        if _OPEN.startswith(stripped):
            return False
        self._on = self._unopened
        return True

    def _unopened(self, pieces: list[tuple[bool, str]]) -> bool:
        tag = self._tag()
        if tag is None:
            kept = max(_cut(self._held, _OPEN), _cut(self._held, _CLOSE))
            self._release(pieces, self._held[: len(self._held) - kept])
            self._held = self._held[len(self._held) - kept :]
            return False
        if tag[0] == _OPEN:
            self._keep = False
            self._release(pieces, "")
            self._on = self._outside
            return True
        before = self._held[: tag.start()]
        self._held = self._held[tag.end() :]
        if self._said:
            self._release(pieces, before)
            pieces.append(SAID_BEFORE)
        elif self._kept or before:
            pieces.append((True, "".join((*self._kept, before))))
            self._kept = []
        self._on = self._after
        return True

    def _inside(self, pieces: list[tuple[bool, str]]) -> bool:
        thought, tag, rest = self._held.partition(_CLOSE)
        if tag:
            if thought:
                pieces.append((True, thought))
            self._held = rest
            self._on = self._after
            return True
        kept = _cut(self._held, _CLOSE)
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

    def _tag(self) -> re.Match[str] | None:
        for tag in _TAGS.finditer(self._held):
            before = self._held[tag.start() - 1] if tag.start() else self._before
            if tag[0] == _OPEN or not before or before not in _QUOTES:
                return tag
        return None

    def _release(self, pieces: list[tuple[bool, str]], text: str) -> None:
        """Say ``text``, or keep it back; say what was kept where nothing is any longer."""
        if text:
            self._before = text[-1]
        self._room -= len(text)
        if self._keep and self._room >= 0:
            self._kept.append(text)
            return
        text = "".join((*self._kept, text))
        self._kept, self._keep = [], False
        if text:
            self._said = True
            pieces.append((False, text))


def _cut(text: str, tag: str) -> int:
    """How many characters at the end of ``text`` may be the beginning of ``tag``."""
    return next((size for size in range(len(tag) - 1, 0, -1) if text.endswith(tag[:size])), 0)
