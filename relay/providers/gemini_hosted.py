"""What Gemini runs itself, as hosted items: code, searches, pages that it read, images that it made.

Source: translation.md §3.5; responses-api.md §3.7. The native parts are kept for the next turn as they came.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from relay.providers.gemini_grounding import Grounding
from relay.providers.gemini_seals import Seals
from relay.responses.emitter import Voice
from relay.responses.output import Hosted
from relay.responses.tools import JSON


class HostedParts:
    """The hosted items of one answer. ``include`` is the request's."""

    __slots__ = ("_codes", "_grounding", "_include", "_seals", "_searches", "_shown", "_voice")

    def __init__(self, voice: Voice, seals: Seals, grounding: Grounding, include: frozenset[str]) -> None:
        self._voice = voice
        self._seals = seals
        self._grounding = grounding
        self._include = include
        self._codes: dict[str, Hosted] = {}
        self._searches: dict[str, tuple[Hosted, JSON]] = {}
        self._shown: set[str] = set()

    # --- parts

    def on_code(self, part: JSON, code: JSON) -> None:
        """``executableCode``."""
        self._seals.turn_to("part")
        voice = self._voice
        container = voice.emitter.new_id("cntr")
        fields = {"status": "in_progress", "container_id": container, "code": "", "outputs": None}
        item = voice.hosted("code_interpreter_call", fields)
        if code.get("code"):
            voice.hosted_delta(item, "code", str(code["code"]))
        voice.hosted_delta_end(item)
        voice.hosted_step(item, "interpreting")
        self._codes[str(code.get("id"))] = item
        self._seals.add("part", part=part, item=item.id)

    def on_code_result(self, part: JSON, result: JSON) -> None:
        """``codeExecutionResult``."""
        self._seals.kind = "part"
        item = self._codes.pop(str(result.get("id")), None)
        if item is not None:
            self._end_code(item, str(result.get("output") or ""))
        self._seals.add("part", part=part)

    def on_tool_call(self, part: JSON, call: JSON) -> None:
        """``toolCall``."""
        self._seals.turn_to("part")
        arguments = call.get("args")
        action = ACTIONS.get(str(call.get("toolType")))
        if action is None:
            self._seals.add("part", part=part)
            return
        shown = action(arguments if isinstance(arguments, dict) else {})
        item = self._open_search(shown)
        self._searches[str(call.get("id"))] = (item, shown)
        self._seals.add("part", part=part, item=item.id)

    def on_tool_response(self, part: JSON, response: JSON) -> None:
        """``toolResponse``."""
        self._seals.kind = "part"
        identifier = str(response.get("id"))
        if identifier in self._searches and not self._wants_sources:  # its sources come with the grounding, at the end
            self._end_search(*self._searches.pop(identifier))
        self._seals.add("part", part=part)

    def on_inline_data(self, part: JSON, data: JSON) -> None:
        """``inlineData``."""
        kind = str(data.get("mimeType") or "")
        if not kind.startswith("image/"):
            self._voice.emitter.left_out(f"content of the type {kind}")
            return
        self._seals.turn_to("part")
        item = self._voice.hosted("image_generation_call", {"status": "in_progress", "result": None})
        self._voice.hosted_end(item, {"status": "completed", "result": str(data.get("data") or "")})
        if isinstance(part.get("thoughtSignature"), str):
            self._seals.add("image", item=item.id, sig=part["thoughtSignature"])

    # --- the end

    def close(self) -> None:
        """The answer is whole: what is open ends."""
        for item in self._codes.values():
            self._end_code(item, None)
        for search in self._searches.values():
            self._end_search(*search)
        self._codes, self._searches = {}, {}

    def show_searches(self) -> None:
        """Searches and pages of which only the metadata tells."""
        if "search" not in self._shown and self._grounding.queries:
            action = _searched({"queries": self._grounding.queries})
            self._end_search(self._open_search(action), action)
        if "open_page" not in self._shown:
            for url in self._grounding.pages:
                action = _opened({"urls": [url]})
                self._end_search(self._open_search(action), action)

    def _end_code(self, item: Hosted, logs: str | None) -> None:
        shown = logs is not None and "code_interpreter_call.outputs" in self._include
        outputs = [{"type": "logs", "logs": logs}] if shown else None
        self._voice.hosted_end(item, {"status": "completed", "outputs": outputs})

    @property
    def _wants_sources(self) -> bool:
        return "web_search_call.action.sources" in self._include

    def _open_search(self, action: JSON) -> Hosted:
        self._shown.add(action["type"])
        item = self._voice.hosted("web_search_call", {"status": "in_progress", "action": action})
        self._voice.hosted_step(item, "searching")
        return item

    def _end_search(self, item: Hosted, action: JSON) -> None:
        if self._wants_sources and action["type"] == "search":
            action = {**action, "sources": self._grounding.sources()}
        self._voice.hosted_end(item, {"status": "completed", "action": action})


PARTS: Final[Mapping[str, Callable[[HostedParts, JSON, JSON], None]]] = {
    "executableCode": HostedParts.on_code,
    "codeExecutionResult": HostedParts.on_code_result,
    "toolCall": HostedParts.on_tool_call,
    "toolResponse": HostedParts.on_tool_response,
    "inlineData": HostedParts.on_inline_data,
}


def _searched(arguments: JSON) -> JSON:
    queries = [query for query in _list(arguments, "queries") if isinstance(query, str) and query]
    return {"type": "search", "query": queries[0] if queries else "", "queries": queries}


def _opened(arguments: JSON) -> JSON:
    urls = [url for url in _list(arguments, "urls") if isinstance(url, str)]
    return {"type": "open_page", "url": urls[0] if urls else None}


ACTIONS: Final[Mapping[str, Callable[[JSON], JSON]]] = {"GOOGLE_SEARCH_WEB": _searched, "URL_CONTEXT": _opened}
"""Tools of the upstream that are shown as ``web_search_call``; others are only kept for the next turn."""


def _list(arguments: JSON, name: str) -> list[Any]:
    found = arguments.get(name)
    return found if isinstance(found, list) else []
