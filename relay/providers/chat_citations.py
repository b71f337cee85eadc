"""Citations of a chat/completions answer as the annotations of its text.

Source: docs.perplexity.ai, api-reference/chat-completions: ``citations``, URLs that ``[1]`` in the text counts from 1,
and ``search_results``, their titles, both repeated in every chunk; xAI sends ``citations`` with the last.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from relay.responses.tools import JSON

SOURCES: Final = ("citations", "search_results")
"""Members of a chunk, or of a whole answer, that name what the answer rests on."""

SOURCES_LIMIT: Final = 1_000

_MARK: Final = re.compile(r"\[([1-9][0-9]{0,2})\]")


def citation(source: JSON, start: int, end: int) -> JSON:
    """A ``url_citation``."""
    title = str(source.get("title") or "")
    return {"type": "url_citation", "url": source["url"], "title": title, "start_index": start, "end_index": end}


def annotations_of(told: list[JSON], sources: JSON, text: Callable[[], str]) -> Iterator[JSON]:
    """Those that the upstream told, then one for each other source, in order, at its first mark in the text."""
    yield from told
    named = {one["url"] for one in told}
    marks: dict[str, tuple[int, int]] = {}
    for number, (url, source) in enumerate(_by_url(sources).items(), 1):
        if number == 1:
            for mark in _MARK.finditer(text()):
                marks.setdefault(mark[1], mark.span())
        if url not in named:
            yield citation(source, *marks.get(str(number), (0, 0)))


def _by_url(sources: JSON) -> dict[str, JSON]:
    found: dict[str, JSON] = {}
    for field in SOURCES:
        listed = sources.get(field)
        for one in listed[:SOURCES_LIMIT] if isinstance(listed, list) else ():
            source: Any = {"url": one} if isinstance(one, str) else one
            if isinstance(source, dict) and isinstance(source.get("url"), str):
                found[source["url"]] = {**found.get(source["url"], {}), **source}
    return found
