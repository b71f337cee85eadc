"""Parts of a schema as words, for a description."""

from __future__ import annotations

import json
from typing import Any, Final

import orjson

from relay.responses.json import mended

WORDS: Final = 300
"""Characters of one keyword's value that are told."""


def source(value: Any) -> str:
    """The JSON text of any value."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # lone surrogates, or deeper than orjson writes
        pass
    try:
        return json.dumps(mended(value), ensure_ascii=False, separators=(",", ":"))
    except RecursionError:
        return "…"


def told(keyword: str, value: Any) -> str:
    """One keyword and its value, cut."""
    text = source(value)
    return f"{keyword}: {text if len(text) <= WORDS else text[: WORDS - 1] + '…'}"
