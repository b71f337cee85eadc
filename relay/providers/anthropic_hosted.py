"""Tools that Anthropic runs itself, shown as the Responses API shows its own.

Source: translation.md §3.4: ``server_tool_use``, ``mcp_tool_use`` and their results; responses-api.md §3.7. A row opens
the item, says what was asked when the input is whole, and ends the item with the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Protocol

from relay.providers.anthropic_blocks import source
from relay.responses.emitter import Voice
from relay.responses.output import Hosted
from relay.responses.tools import JSON


class Speaker(Protocol):
    """What rows need of the translator."""

    @property
    def voice(self) -> Voice:
        """Where items are opened and closed."""
        ...

    @property
    def container(self) -> str:
        """The id of the container in which code runs, as far as it is known."""
        ...

    @property
    def shows_sources(self) -> bool:
        """Whether the client asked for the sources of web searches."""
        ...

    @property
    def shows_outputs(self) -> bool:
        """Whether the client asked for the outputs of code."""
        ...


class Row(Protocol):
    """How one hosted tool is shown."""

    def open(self, speaker: Speaker, start: JSON) -> Hosted:
        """The call begins."""
        ...

    def asked(self, speaker: Speaker, use: Use) -> None:
        """The call's input is whole."""
        ...

    def answered(self, speaker: Speaker, use: Use, result: JSON) -> None:
        """The result has come."""
        ...


class Use(NamedTuple):
    """A hosted call that waits for its result. ``row`` and ``item`` are None for tools that are not shown."""

    item: Hosted | None
    row: Row | None
    given: JSON
    origin: str
    """The source text of the block."""

    @property
    def shown(self) -> Hosted:
        """The item of a tool that is shown."""
        assert self.item is not None
        return self.item


def _failed(result: JSON) -> bool:
    content = result.get("content")
    return isinstance(content, dict) and str(content.get("type")).endswith("_error")


class _Web:
    """``web_search`` and ``web_fetch`` as ``web_search_call``."""

    __slots__ = ("_action", "_field")

    def __init__(self, action: str, field: str) -> None:
        self._action = action
        self._field = field

    def open(self, speaker: Speaker, start: JSON) -> Hosted:
        """An action of which nothing is known yet."""
        action = {"type": self._action, self._field: ""}
        return speaker.voice.hosted("web_search_call", {"status": "in_progress", "action": action})

    def asked(self, speaker: Speaker, use: Use) -> None:
        """Searching begins."""
        speaker.voice.hosted_step(use.shown, "searching")

    def answered(self, speaker: Speaker, use: Use, result: JSON) -> None:
        """The action with its query, and its sources where they were asked for."""
        asked = str(use.given.get(self._field) or "")
        action: JSON = {"type": self._action, self._field: asked}
        if self._action == "search":
            action["queries"] = [asked]
            if speaker.shows_sources:
                found = result.get("content")
                action["sources"] = [
                    {"type": "url", "url": str(one.get("url") or "")}
                    for one in (found if isinstance(found, list) else ())
                    if isinstance(one, dict)
                ]
        fields = {"status": "failed" if _failed(result) else "completed", "action": action}
        speaker.voice.hosted_end(use.shown, fields)  # the protocol has no event for a search that failed


class _Code:
    """Code execution as ``code_interpreter_call``. ``field`` is the input's code; without it the input is the code."""

    __slots__ = ("_field",)

    def __init__(self, field: str | None) -> None:
        self._field = field

    def open(self, speaker: Speaker, start: JSON) -> Hosted:
        """An item without code."""
        fields = {"status": "in_progress", "code": "", "container_id": speaker.container, "outputs": None}
        return speaker.voice.hosted("code_interpreter_call", fields)

    def asked(self, speaker: Speaker, use: Use) -> None:
        """The code, and that it runs."""
        code = use.given.get(self._field) if self._field is not None else None
        text = code if isinstance(code, str) else source(use.given)
        if text:
            speaker.voice.hosted_delta(use.shown, "code", text)
            speaker.voice.hosted_delta_end(use.shown)
        speaker.voice.hosted_step(use.shown, "interpreting")

    def answered(self, speaker: Speaker, use: Use, result: JSON) -> None:
        """What it wrote, where that was asked for."""
        fields: JSON = {"status": "completed", "container_id": speaker.container}
        if _failed(result):
            fields["status"] = "failed"
        if speaker.shows_outputs:
            fields["outputs"] = [{"type": "logs", "logs": _logs(result.get("content"))}]
        speaker.voice.hosted_end(use.shown, fields)


class _MCP:
    """Tools of MCP servers that Anthropic calls as ``mcp_call``; the arguments stream."""

    __slots__ = ()

    def open(self, speaker: Speaker, start: JSON) -> Hosted:
        """An item without arguments."""
        fields = {
            "status": "in_progress",
            "server_label": str(start.get("server_name") or ""),
            "name": str(start.get("name") or ""),
            "arguments": "",
            "output": None,
            "error": None,
        }
        return speaker.voice.hosted("mcp_call", fields)

    def argue(self, speaker: Speaker, use: Use, fragment: str) -> None:
        """A fragment of the arguments."""
        speaker.voice.hosted_delta(use.shown, "arguments", fragment)

    def asked(self, speaker: Speaker, use: Use) -> None:
        """The arguments are whole."""
        speaker.voice.hosted_delta_end(use.shown)

    def answered(self, speaker: Speaker, use: Use, result: JSON) -> None:
        """The output or the error."""
        said = _said(result.get("content"))
        if result.get("is_error"):
            error = {"type": "mcp_tool_execution_error", "content": said}
            speaker.voice.hosted_end(use.shown, {"status": "failed", "error": error}, step="failed")
        else:
            speaker.voice.hosted_end(use.shown, {"status": "completed", "output": said})


MCP: Final = _MCP()

SERVER_TOOLS: Final[Mapping[str, Row]] = {
    "web_search": _Web("search", "query"),
    "web_fetch": _Web("open_page", "url"),
    "code_execution": _Code("code"),
    "bash_code_execution": _Code("command"),
    "text_editor_code_execution": _Code(None),
}
"""Name of a server tool -> how it is shown. Others are not shown, and kept for replay."""


def _said(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(str(one.get("text") or "") for one in parts if isinstance(one, dict))


def _logs(content: Any) -> str:
    if not isinstance(content, dict):
        return ""
    pieces = [content.get(name) for name in ("stdout", "stderr", "error_code", "content")]
    return "".join(piece for piece in pieces if isinstance(piece, str))
