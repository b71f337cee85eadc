"""Grounding and citations of Gemini as annotations and sources.

Source: translation.md §3.5; ai.google.dev (grounding, citation metadata). Gemini counts bytes of UTF-8 over the visible
text of the whole answer, the Responses API counts characters of one text part.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from relay.responses.tools import JSON
from relay.responses.usage import count_of

MISSES_LIMIT: Final = 64
"""How many segments of an answer are looked for in vain; each costs a walk over the text."""

_CONTINUATION_BYTES: Final = bytes(range(0x80, 0xC0))
_SOURCES: Final = ("web", "maps", "retrievedContext")


class _Span(NamedTuple):
    """A citation before its offsets are known in characters."""

    start: int
    end: int
    url: str
    title: str


class Grounding:
    """What one answer cites. ``queries`` and ``pages`` are what the upstream looked for and read."""

    __slots__ = ("_chunks", "_citations", "_supports", "pages", "queries")

    def __init__(self) -> None:
        self._chunks: list[Any] = []
        self._supports: list[Any] = []
        self._citations: dict[_Span, None] = {}
        self.queries: list[str] = []
        self.pages: list[str] = []

    def read(self, candidate: JSON) -> None:
        """The metadata of one candidate; what comes later replaces what came before."""
        grounding = candidate.get("groundingMetadata")
        if isinstance(grounding, dict):
            self._chunks = _list(grounding, "groundingChunks") or self._chunks
            self._supports = _list(grounding, "groundingSupports") or self._supports
            queries = [query for query in _list(grounding, "webSearchQueries") if isinstance(query, str) and query]
            self.queries = queries or self.queries
        for page in _list(candidate.get("urlContextMetadata"), "urlMetadata"):
            url = page.get("retrievedUrl") if isinstance(page, dict) else None
            if isinstance(url, str) and url not in self.pages:
                self.pages.append(url)
        cited = candidate.get("citationMetadata")
        for one in _list(cited, "citations") or _list(cited, "citationSources"):
            if isinstance(one, dict) and isinstance(one.get("uri"), str):
                start, end = count_of(one.get("startIndex")), count_of(one.get("endIndex"))
                self._citations[_Span(start, end, one["uri"], str(one.get("title") or ""))] = None

    def sources(self) -> list[JSON]:
        """Every page that the answer is grounded on, as sources of a search."""
        urls = dict.fromkeys(source[0] for source in map(_source, self._chunks) if source is not None)
        return [{"type": "url", "url": url} for url in urls]

    def annotations(self, text: str) -> list[JSON]:
        """The citations of ``text``, in the order of the supports."""
        if not self._supports and not self._citations:
            return []
        data = text.encode("utf-8", "surrogatepass")
        spans = [*self._supported(data), *self._citations]
        places = _characters(data, {offset for span in spans for offset in (span.start, span.end)})
        return [
            {
                "type": "url_citation",
                "url": span.url,
                "title": span.title,
                "start_index": places[span.start],
                "end_index": places[span.end],
            }
            for span in spans
        ]

    def _supported(self, data: bytes) -> list[_Span]:
        spans: list[_Span] = []
        searched = misses = 0
        for support in self._supports:
            segment = support.get("segment") if isinstance(support, dict) else None
            if not isinstance(segment, dict):
                continue
            start, end = count_of(segment.get("startIndex")), count_of(segment.get("endIndex"))
            said = str(segment.get("text") or "").encode("utf-8", "surrogatepass")
            if said and data[start:end] != said:
                # offsets of another part than this one: the words themselves say where they are
                found = data.find(said, searched) if misses < MISSES_LIMIT else -1
                if found < 0:
                    misses += 1
                    continue
                start, end = found, found + len(said)
            searched = max(searched, start)
            for index in _list(support, "groundingChunkIndices"):
                source = _source(self._chunks[index]) if isinstance(index, int) and index < len(self._chunks) else None
                if source is not None:
                    spans.append(_Span(start, end, *source))
        return spans


def _characters(data: bytes, offsets: Iterable[int]) -> dict[int, int]:
    """Character index by byte offset, in one walk; an offset beyond the end is the end."""
    places: dict[int, int] = {}
    at = count = 0
    for offset in sorted(offsets):
        count += len(data[at:offset].translate(None, _CONTINUATION_BYTES))
        at = max(at, min(offset, len(data)))
        places[offset] = count
    return places


def _source(chunk: Any) -> tuple[str, str] | None:
    for kind in _SOURCES:
        found = chunk.get(kind) if isinstance(chunk, dict) else None
        if isinstance(found, dict) and isinstance(found.get("uri"), str):
            return found["uri"], str(found.get("title") or "")
    return None


def _list(value: Any, name: str) -> list[Any]:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, list) else []
