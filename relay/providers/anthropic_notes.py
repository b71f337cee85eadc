"""Citations as annotations, and usage, as Anthropic counts it.

Source: translation.md §3.4 (``citations_delta``, usage); pain.md 17.
"""

from __future__ import annotations

from typing import Any, Final

from relay.providers.usage import chat_usage
from relay.responses.emitter import Usage, usage_of
from relay.responses.tools import JSON
from relay.responses.usage import count_of


def dicts(value: Any) -> list[JSON]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


# --- citations


def annotation_of(citation: JSON, start: int, end: int) -> JSON | None:
    kind = citation.get("type")
    url = citation.get("url") if kind == "web_search_result_location" else citation.get("source")
    if isinstance(url, str) and (kind == "web_search_result_location" or url.startswith(("http://", "https://"))):
        title = str(citation.get("title") or "")
        return {"type": "url_citation", "url": url, "title": title, "start_index": start, "end_index": end}
    if not isinstance(kind, str) or kind not in _FILE_CITATIONS:
        return None
    number = citation.get("document_index", citation.get("search_result_index", 0))
    name = citation.get("document_title") or citation.get("title") or url or ""
    identifier = citation.get("file_id") or f"document_{number}"
    return {"type": "file_citation", "file_id": str(identifier), "filename": str(name), "index": end}


_FILE_CITATIONS: Final = frozenset(
    {"char_location", "page_location", "content_block_location", "search_result_location"}
)


# --- usage


_COUNTED: Final = frozenset({"message", "compaction", "fallback_message"})


def anthropic_usage(usage: JSON) -> Usage:
    """The usage table of translation.md §3.4; with ``iterations`` those of the message itself count."""
    if _in_names_of_chat(usage):
        return chat_usage(usage)
    rows = [one for one in dicts(usage.get("iterations")) if one.get("type") in _COUNTED]
    if not rows or any(one["type"] == "fallback_message" for one in rows):
        rows = [usage]
    read = sum(_tokens(row, "cache_read_input_tokens") for row in rows)
    written = sum(_tokens(row, "cache_creation_input_tokens") for row in rows)
    details = usage.get("output_tokens_details")
    return usage_of(
        sum(_tokens(row, "input_tokens") for row in rows) + read + written,
        sum(_tokens(row, "output_tokens") for row in rows),
        cached=read,
        cache_write=written,
        reasoning=_tokens(details, "thinking_tokens") if isinstance(details, dict) else 0,
    )


def _in_names_of_chat(usage: JSON) -> bool:
    """A gateway in front of a chat server may leave the names of the counts as they were."""
    told = _tokens(usage, "input_tokens") or _tokens(usage, "output_tokens")
    return not told and ("prompt_tokens" in usage or "completion_tokens" in usage)


def _tokens(row: JSON, name: str) -> int:
    return count_of(row.get(name))
