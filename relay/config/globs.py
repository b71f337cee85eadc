"""Globs over names, matched without going back: ``*`` is any run of characters, ``?`` is one, all else is itself."""

from __future__ import annotations

from typing import Final


class Glob:
    """One glob. A match costs at most a name's length times the glob's, whatever both are."""

    __slots__ = ("_head", "_inner", "_least", "_tail")

    def __init__(self, glob: str) -> None:
        head, *rest = glob.split("*")
        self._head: Final = head
        self._tail: Final = rest.pop() if rest else None
        self._inner: Final = [piece for piece in rest if piece]
        self._least: Final = len(glob) - glob.count("*")

    def match(self, name: str) -> str | None:
        """What the ``*`` took, from the first to the last of several; empty without one. None: no match."""
        head, tail = self._head, self._tail
        if tail is None:
            return "" if len(name) == len(head) and _stands(head, name, 0) else None
        end = len(name) - len(tail)
        if len(name) < self._least or not _stands(head, name, 0) or not _stands(tail, name, end):
            return None
        at = len(head)
        for piece in self._inner:  # the leftmost place of each is as good as any other
            at = _find(piece, name, at, end)
            if at < 0:
                return None
            at += len(piece)
        return name[len(head) : end]


def _stands(piece: str, name: str, at: int) -> bool:
    if "?" not in piece:
        return name.startswith(piece, at)
    return len(name) >= at + len(piece) and all(
        one in ("?", there) for one, there in zip(piece, name[at : at + len(piece)], strict=True)
    )


def _find(piece: str, name: str, at: int, end: int) -> int:
    if "?" not in piece:
        return name.find(piece, at, end)
    return next((place for place in range(at, end - len(piece) + 1) if _stands(piece, name, place)), -1)
