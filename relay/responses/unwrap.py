"""The one string argument of an emulated custom tool, decoded while it streams in.

Source: translation.md §2.7. ``{"input": "…"}`` gives its characters as they come; arguments that are not such an object
are given raw, whole, at the end.
"""

from __future__ import annotations

import re
from typing import Final

import orjson

_OPENING: Final = re.compile(r'[ \t\r\n]*\{[ \t\r\n]*"input"[ \t\r\n]*:[ \t\r\n]*"')
_PREFIXES: Final = re.compile(
    r'[ \t\r\n]*(?:\{[ \t\r\n]*(?:"(?:i(?:n(?:p(?:u(?:t(?:"[ \t\r\n]*(?::[ \t\r\n]*)?)?)?)?)?)?)?)?)?\Z'
)
_NO_BLANKS: Final = str.maketrans("", "", " \t\r\n")
_END: Final = re.compile(r'["\\]')
_ESCAPES: Final = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


class InputUnwrapper:
    """``feed(arguments fragment) -> decoded characters``; ``close() -> the rest``. Linear in the input."""

    __slots__ = ("_head", "_opened", "_pending", "_pieces", "_raw", "_shut", "_surrogate")

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._head = ""  # what came, without blanks, while it may become an opening
        self._opened = False
        self._raw = False
        self._shut = False
        self._pending = ""
        self._surrogate = ""

    def feed(self, fragment: str) -> str:
        """The characters of ``input`` that ``fragment`` completes."""
        if self._shut:
            return ""
        if self._opened:
            return self._decoded(self._pending + fragment)
        self._pieces.append(fragment)
        if self._raw:
            return ""
        text = self._head + fragment
        opening = _OPENING.match(text)
        if opening is not None:
            self._opened = True
            self._pieces.clear()
            return self._decoded(text[opening.end() :])
        self._raw = _PREFIXES.match(text) is None
        self._head = text.translate(_NO_BLANKS)  # which may stand anywhere in it but in the name
        return ""

    def close(self) -> str:
        """What is left: an unfinished surrogate, or the arguments that were no ``{"input": "…"}``."""
        if self._opened:
            rest, self._surrogate = ("\ufffd" if self._surrogate else ""), ""
            return rest
        text = "".join(self._pieces)
        try:
            value = orjson.loads(text)
        except ValueError:
            return text
        if isinstance(value, dict) and isinstance(value.get("input"), str):
            return str(value["input"])
        return value if isinstance(value, str) else text

    def _decoded(self, text: str) -> str:
        out: list[str] = []
        at = 0
        self._pending = ""
        while True:
            stop = _END.search(text, at)
            if stop is None:
                self._append(out, text[at:])
                break
            self._append(out, text[at : stop.start()])
            at = stop.start()
            if text[at] == '"':
                self._shut = True
                break
            length = 6 if text[at + 1 : at + 2] == "u" else 2
            if len(text) < at + length:
                self._pending = text[at:]
                break
            self._escape(out, text[at + 1 : at + length])
            at += length
        if self._shut and self._surrogate:
            out.append("\ufffd")
            self._surrogate = ""
        return "".join(out)

    def _append(self, out: list[str], text: str) -> None:
        if text:
            if self._surrogate:
                out.append("\ufffd")
                self._surrogate = ""
            out.append(text)

    def _escape(self, out: list[str], escape: str) -> None:
        if escape[0] != "u":
            self._append(out, _ESCAPES.get(escape, escape))
            return
        try:
            unit = int(escape[1:], 16)
        except ValueError:
            self._append(out, escape)
            return
        if 0xDC00 <= unit < 0xE000:
            low = chr(unit)
            pair = self._surrogate + low if self._surrogate else ""
            self._surrogate = ""
            out.append(pair.encode("utf-16", "surrogatepass").decode("utf-16") if pair else "\ufffd")
            return
        if 0xD800 <= unit < 0xDC00:
            if self._surrogate:
                out.append("\ufffd")
            self._surrogate = chr(unit)
            return
        self._append(out, chr(unit))
