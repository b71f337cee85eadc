"""Keys of a JSON text replaced while it streams, all else left as it is, byte by byte.

A tool's property names may not be what an upstream takes; then its arguments come with the upstream's names, and go
back with the client's (decision 55). What is no JSON passes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import orjson

from relay.responses.json import encoded

_IN_STRING: Final = re.compile(r'["\\]')
_IN_OBJECT: Final = re.compile(r'["{}\[\],]')
_IN_ARRAY: Final = re.compile(r'["{}\[\]]')


class KeyRenamer:
    """``feed(fragment) -> text``; ``close() -> the rest``. Linear; a key that could be one of ``names`` is held until
    it is whole."""

    __slots__ = ("_escaped", "_held", "_inside", "_key", "_limit", "_names", "_open", "_size")

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names
        self._limit: Final = 2 + 6 * max(map(len, names), default=0)  # each character may be written as \uXXXX
        self._open: list[bool] = []  # of each open bracket, whether it is an object's
        self._key = False  # whether the next string is a key
        self._inside = False
        self._escaped = False
        self._held: list[str] | None = None
        self._size = 0

    def feed(self, fragment: str) -> str:
        """What can be said of all that came."""
        out: list[str] = []
        at = 0
        while at < len(fragment):
            at = self._string(fragment, at, out) if self._inside else self._structure(fragment, at, out)
        return "".join(out)

    def close(self) -> str:
        """What was held: a key that was cut."""
        held, self._held = self._held or (), None
        return "".join(held)

    def _string(self, text: str, at: int, out: list[str]) -> int:
        begun = at
        at += self._escaped
        self._escaped = False
        found = _IN_STRING.search(text, at)
        end = len(text) if found is None else found.end()
        self._put(text[begun:end], out)
        if found is not None and found[0] == "\\":
            self._escaped = True
        elif found is not None:
            self._inside = False
            if self._held is not None:
                out.append(self._renamed("".join(self._held)))
                self._held = None
        return end

    def _put(self, piece: str, out: list[str]) -> None:
        if self._held is None:
            out.append(piece)
            return
        self._held.append(piece)
        self._size += len(piece)
        if self._size > self._limit:  # longer than any name
            out.extend(self._held)
            self._held = None

    def _renamed(self, key: str) -> str:
        try:
            name = self._names.get(orjson.loads(key))
        except ValueError:
            name = None
        return key if name is None else encoded(name).decode()

    def _structure(self, text: str, at: int, out: list[str]) -> int:
        in_object = bool(self._open) and self._open[-1]
        found = (_IN_OBJECT if in_object else _IN_ARRAY).search(text, at)
        if found is None:
            out.append(text[at:])
            return len(text)
        sign = found[0]
        if sign == '"':
            out.append(text[at : found.start()])
            self._inside = True
            self._held, self._size = ([] if self._key else None), 0
            self._put(sign, out)
            self._key = False
        else:
            out.append(text[at : found.end()])
            if sign in "{[":
                self._open.append(sign == "{")
            elif sign in "}]" and self._open:
                self._open.pop()
            self._key = sign == "{" or sign == ","
        return found.end()


def with_keys(text: str, names: Mapping[str, str]) -> str:
    """A whole JSON text with its keys replaced."""
    if not names or ("\\u" not in text and not any(encoded(name).decode()[1:-1] in text for name in names)):
        return text
    renamer = KeyRenamer(names)
    return renamer.feed(text) + renamer.close()
