"""The arguments of one chat call: told apart from what comes after them, without parsing them at each piece.

Source: decision 48. What is whole is counted: brackets outside strings, and the strings themselves.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import Final

import orjson

from relay.responses.tools import EMPTY_ARGUMENTS

_STRING: Final = r'[^"\\]*(?:\\.[^"\\]*)*("?)'
_STRING_END: Final = re.compile(_STRING, re.DOTALL)
_TOKEN: Final = re.compile(r'[{}\[\]]|"' + _STRING, re.DOTALL)

_AT_ONCE_CHARS: Final = 256
"""From this size on, arguments that came in one piece are tried with one parse, which is faster than counting."""


class Stage(IntEnum):
    """How far the arguments are. ``EMPTY`` is ``{}``, which many servers send ahead of the real ones, or ``null``."""

    BLANK = 0
    EMPTY = 1
    PARTIAL = 2
    WHOLE = 3


class Arguments:
    """Pieces in, what can be said of them out. Linear, whatever the pieces.

    ``stage``: see there; top-level numbers and words are never whole, and neither is ``raw`` text, which is no JSON.
    ``excess``: whether something other than white space came after the whole value; it is left out.
    """

    __slots__ = ("_depth", "_escaped", "_in_string", "_raw", "_said", "excess", "stage")

    def __init__(self, *, raw: bool = False) -> None:
        self._raw = raw
        self._said = bytearray()
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self.stage = Stage.BLANK
        self.excess = False

    def add(self, text: str) -> str:
        """What of ``text`` is to be said now. ``{}`` is kept back until ``finish``."""
        # hot: 100,000 pieces in one answer are linear
        if self.stage is not Stage.PARTIAL:
            if self._raw:
                self.stage = Stage.PARTIAL
                return self._keep(text)
            if self.stage is Stage.WHOLE:
                return self._after(text)
            empty = EMPTY_ARGUMENTS.match(text)
            if empty is not None:
                self.stage = Stage.EMPTY
                text = text[empty.end() :]
            if not text or text.isspace():
                return text if self.stage is Stage.BLANK else ""
            self.stage = Stage.PARTIAL
        if self._raw or (self._in_string and '"' not in text and "\\" not in text and not self._escaped):
            return self._keep(text)
        end = self._end_in(text)
        if end < 0:
            return self._keep(text)
        self.stage = Stage.WHOLE
        return self._keep(text[:end]) + self._after(text[end:])

    def finish(self) -> str:
        """What is still to be said at the end of the answer."""
        return self._keep("{}") if self.stage is Stage.EMPTY else ""

    @property
    def text(self) -> str:
        """What was said or, at ``EMPTY``, would be."""
        return self._said.decode(errors="surrogatepass") or "{}"

    @property
    def canonical(self) -> bytes:
        """``text``, white space, escapes and the order of members aside; as it is where it is no JSON."""
        return _canonical(self.text)

    def same_as(self, text: str) -> bool:
        """Whether ``text`` says the same."""
        return self.canonical == _canonical(text)

    def _after(self, text: str) -> str:
        if not text or text.isspace():
            return text
        self.excess = True
        return ""

    def _keep(self, text: str) -> str:
        self._said += text.encode("utf-8", "surrogatepass")
        return text

    def _end_in(self, text: str) -> int:
        """Where in ``text`` the value ends; -1 where it goes on."""
        at = 0
        if self._in_string:
            at = self._string_end(text)
            if self._in_string:
                return -1
            if not self._depth:
                return at
        elif not self._depth and len(text) >= _AT_ONCE_CHARS and _parses(text):
            return len(text)
        for token in _TOKEN.finditer(text, at):
            mark = token[0]
            if mark in "{[":
                self._depth += 1
            elif mark in "}]":
                self._depth -= 1
                if not self._depth:
                    return token.end()
            elif not token[1]:
                self._cut_string(token.end() < len(text))
            elif not self._depth:
                return token.end()
        return -1

    def _string_end(self, text: str) -> int:
        match = _STRING_END.match(text, min(len(text), int(self._escaped)))
        assert match is not None  # it matches nothing, too
        self._in_string = False
        if not match[1]:
            self._cut_string(match.end() < len(text))
        return match.end()

    def _cut_string(self, escaped: bool) -> None:
        self._in_string, self._escaped = True, escaped


def _canonical(text: str) -> bytes:
    try:
        return orjson.dumps(orjson.loads(text), option=orjson.OPT_SORT_KEYS)
    except (ValueError, TypeError):  # no JSON, or nested too deeply to be written
        return text.encode(errors="surrogatepass")


def _parses(text: str) -> bool:
    try:
        orjson.loads(text)
    except ValueError:
        return False
    return True
