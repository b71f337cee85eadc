"""Items of a native stream: what was said of each, and what its upstream left out.

Source: responses-api.md §3, §4.4-4.5 (the state machine); translation.md §3.6 (what may be altered); pain.md 1-4.
An item is told apart by its ``output_index``: ids may change between events (GitHub Copilot), the first counts.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, Protocol

import orjson

from relay.responses.emitter import Emitter, Voice
from relay.responses.json import encoded, mended_text
from relay.responses.output import Item
from relay.responses.tools import CALL_TYPES, JSON

ID_LIMIT: Final = 64
"""Characters of an item's id that OpenAI takes back."""

_PREFIXES: Final = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "custom_tool_call": "ctc",
    "web_search_call": "ws",
    "code_interpreter_call": "ci",
    "image_generation_call": "ig",
    "file_search_call": "fs",
    "mcp_call": "mcp",
    "mcp_list_tools": "mcpl",
    "mcp_approval_request": "mcpr",
    "compaction": "cmp",
}

_EMPTY: Final[dict[str, JSON]] = {
    "message": {"status": "in_progress", "role": "assistant", "content": []},
    "reasoning": {"summary": []},
    "function_call": {"status": "in_progress", "arguments": "", "name": ""},
    "custom_tool_call": {"status": "in_progress", "input": "", "name": ""},
}
"""Members that an item must have, as they are when it is announced."""

_SPELLED: Final = {
    "message": ("content",),
    "reasoning": ("summary", "content"),
    "function_call": ("arguments",),
    "custom_tool_call": ("input",),
}

_STEPS: Final[dict[str, tuple[str, ...]]] = {
    "web_search_call": ("in_progress", "searching", "completed"),
    "file_search_call": ("in_progress", "searching", "completed"),
    "code_interpreter_call": ("in_progress", "interpreting", "completed"),
    "image_generation_call": ("in_progress", "generating", "completed"),
    "mcp_call": ("in_progress", "completed"),
    "mcp_list_tools": ("in_progress", "completed"),
}
"""The steps of hosted tools that end well."""
_ENDS: Final = frozenset({"completed", "failed"})

_CUT_STATUS: Final = {"image_generation_call": "failed"}
"""The status of a cut item where its type does not know ``incomplete``."""


class Kind(NamedTuple):
    """Something that deltas spell: a part of an item (``place`` and ``index_name`` say where), or a call's text."""

    name: str
    item_type: str
    member: str
    stem: str
    place: str = ""
    index_name: str = ""

    def part(self, text: str) -> JSON:
        """A part with this text."""
        part: JSON = {"type": self.name, self.member: text}
        return {**part, "annotations": [], "logprobs": []} if self.name == "output_text" else part

    def part_event(self, step: str) -> str:
        """The event that announces or ends a part."""
        stem = "reasoning_summary_part" if self.place == "summary" else "content_part"
        return f"response.{stem}.{step}"


_CONTENT: Final = ("content", "content_index")
KINDS: Final = (
    Kind("output_text", "message", "text", "response.output_text", *_CONTENT),
    Kind("refusal", "message", "refusal", "response.refusal", *_CONTENT),
    Kind("reasoning_text", "reasoning", "text", "response.reasoning_text", *_CONTENT),
    Kind("summary_text", "reasoning", "text", "response.reasoning_summary_text", "summary", "summary_index"),
    Kind("function_call", "function_call", "arguments", "response.function_call_arguments"),
    Kind("custom_tool_call", "custom_tool_call", "input", "response.custom_tool_call_input"),
    Kind("mcp_call", "mcp_call", "arguments", "response.mcp_call_arguments"),
    Kind("code_interpreter_call", "code_interpreter_call", "code", "response.code_interpreter_call_code"),
)
DELTAS: Final = {f"{kind.stem}.delta": kind for kind in KINDS}
FILLED: Final = {f"{kind.stem}.done": kind for kind in KINDS}
PART_KINDS: Final = {kind.name: kind for kind in KINDS if kind.place}
_CALL_KINDS: Final = {kind.item_type: kind for kind in KINDS if not kind.place}
_ALWAYS_FILLED: Final = frozenset({"function_call", "custom_tool_call"})


def part_kind(part: object) -> Kind | None:
    """The kind of a part; None for one that is not known here."""
    return PART_KINDS.get(str(part.get("type"))) if isinstance(part, dict) else None


class Located(Protocol):
    """An event whose members can be set."""

    content: JSON

    def put(self, member: str, value: Any) -> None:
        """Set a member."""
        ...


class Part:
    """One part, or the text of a call. ``said`` is the JSON source of the deltas, ``state``: open, filled, done."""

    __slots__ = ("_held", "annotations", "final", "index", "kind", "said", "state")

    def __init__(self, kind: Kind, index: int) -> None:
        self.kind = kind
        self.index = index
        self.said = bytearray()
        self.annotations: list[Any] = []
        self.state = "open"
        self.final: JSON = {}
        self._held = ""

    def say(self, delta: str) -> str:
        """Keep a delta. What can be said of it: a high surrogate at its end waits for the next (decision 24)."""
        delta, self._held = self._held + delta, ""
        try:
            literal = orjson.dumps(delta)
        except TypeError:
            if "\ud800" <= delta[-1] <= "\udbff":
                delta, self._held = delta[:-1], delta[-1]
            delta = mended_text(delta)
            literal = orjson.dumps(delta)
        self.said += literal[1:-1]
        return delta

    def text(self) -> str:
        """All deltas so far."""
        return str(orjson.loads(b"".join((b'"', self.said, b'"'))))

    def rest(self, text: str | None) -> str:
        """What ``text`` has beyond the deltas; a surrogate that still waits becomes U+FFFD."""
        held, self._held = self._held, ""
        if text is None:
            return "\ufffd" if held else ""
        text, spelled = mended_text(text), self.text()
        return text[len(spelled) :] if text.startswith(spelled) else ""

    def size_bytes(self) -> int:
        """Bytes that are kept."""
        return len(self.said)

    def completed(self, shown: JSON) -> JSON:
        """``shown`` with the members that it must have and has not."""
        needed: JSON = {self.kind.member: self.text()}
        if self.kind.name == "output_text":
            needed["annotations"] = self.annotations
        missing = {name: value for name, value in needed.items() if not isinstance(shown.get(name), type(value))}
        return {**self.kind.part(""), **shown, **missing} if missing else shown

    def end(self, shown: JSON) -> None:
        """The part is over: ``shown`` says what it holds, as far as it says anything."""
        self.state = "done"
        self.final = self.completed(shown)


class Passed(Item):
    """An item of a native upstream between its announcement and its end. ``theirs`` is the id that it came with."""

    __slots__ = ("_emitter", "_last", "_placed", "call_id", "over", "parts", "steps", "theirs")

    def __init__(self, voice: Voice, item: JSON, *, own_call_ids: bool, announced: bool = False) -> None:
        emitter = self._emitter = voice.emitter
        item_type = item["type"] = str(item.get("type"))
        self.theirs = item.get("id")
        usable = isinstance(self.theirs, str) and 0 < len(self.theirs) <= ID_LIMIT
        self.id = str(self.theirs) if usable else emitter.new_id(_PREFIXES.get(item_type, "item"))
        self.call_id: str | None = None
        if item_type in CALL_TYPES:
            given = item.get("call_id")
            given = given if isinstance(given, str) and given else None
            self.call_id = emitter.call_id(given) if own_call_ids or given is None else given
        self.parts: dict[tuple[str, int], Part] = {}
        self._placed: dict[str, list[Part]] = {"content": [], "summary": [], "": []}  # by place, in the order of index
        self._last: Part | None = None  # those before it are over
        self.steps: set[str] = set()
        self.closing = self.over = False
        self.status = "completed"
        self.item = item
        self._complete(item)
        self.index = voice.adopt(self)
        if not announced:
            emitter.event("response.output_item.added", {"output_index": self.index, "item": item})

    def _complete(self, item: JSON) -> None:
        """Give ``item`` the identity of this one, and the members that its type must have."""
        item["id"] = self.id
        item["type"] = self.item["type"]
        if self.call_id is not None:
            item["call_id"] = self.call_id
        for name, value in _EMPTY.get(item["type"], {}).items():
            if not isinstance(item.get(name), type(value)):
                item[name] = _as(name, value, item.get(name) or self.item.get(name))

    # --- events about it

    def locate(self, event: Located) -> None:
        """Say where the event belongs."""
        event.put("item_id", self.id)
        event.put("output_index", self.index)

    def part(self, kind: Kind, number: int) -> Part:
        """The part that the upstream numbers so; it is announced if the upstream did not."""
        return self.parts.get((kind.place, number)) or self.open_part(kind, number)

    def open_part(self, kind: Kind, number: int, *, announced: bool = False) -> Part:
        """Another part; the one before it ends."""
        if self._last is not None:
            self._end_part(self._last)
        placed = self._placed[kind.place]
        part = self._last = self.parts[kind.place, number] = Part(kind, len(placed))
        placed.append(part)
        if kind.place and not announced:
            self._say(kind.part_event("added"), part, {"part": kind.part("")})
        return part

    def spell(self, part: Part, text: str | None) -> None:
        """Say as a delta what ``text`` has and the deltas had not."""
        rest = part.rest(text)
        if rest:
            self._emitter.retain(len(rest))
            part.say(rest)
            self._say(f"{part.kind.stem}.delta", part, {"delta": rest})

    def fill(self, part: Part, text: str | None, annotations: Any = None) -> None:
        """Say that the text of a part is whole, unless that was said."""
        if part.state == "open":
            self.spell(part, text)
            if part.kind.name == "output_text" and isinstance(annotations, list):
                self._annotate(part, annotations[len(part.annotations) :])
            part.state = "filled"
            self._say(f"{part.kind.stem}.done", part, {part.kind.member: part.text()})

    def _annotate(self, part: Part, annotations: list[Any]) -> None:
        for annotation in annotations:
            fields = {"annotation_index": len(part.annotations), "annotation": annotation}
            part.annotations.append(annotation)
            self._say("response.output_text.annotation.added", part, fields)

    def _end_part(self, part: Part, shown: JSON | None = None) -> None:
        if part.state == "done":
            return
        said = shown or {}
        text = said.get(part.kind.member)
        self.fill(part, text if isinstance(text, str) else None, said.get("annotations"))
        part.end(said)
        if part.kind.place:
            self._say(part.kind.part_event("done"), part, {"part": part.final})

    def _say(self, name: str, part: Part, fields: JSON) -> None:
        place: JSON = {"item_id": self.id, "output_index": self.index}
        if part.kind.index_name:
            place[part.kind.index_name] = part.index
        if part.kind.name == "output_text" and ("delta" in fields or "text" in fields):
            place["logprobs"] = []
        self._emitter.event(name, {**place, **fields})

    # --- its end

    def finish(self, item: JSON) -> int:
        """Take the final item, and say what it holds and was not said. Returns the bytes of deltas that were kept."""
        held = sum(part.size_bytes() for part in self.parts.values())
        self._complete(item)
        if item.get("status") == "in_progress":
            item["status"] = "completed"
        for place in ("content", "summary"):
            given = item.get(place)
            shown: list[Any] = given if isinstance(given, list) else []
            for index, one in enumerate(shown):
                kind = part_kind(one)
                if kind is not None and kind.place == place:
                    part = self._at(kind, index)
                    self._end_part(part, one)
                    shown[index] = part.completed(one)
        missing = self._missing_steps(item)
        self._step(missing[:-1])
        self._finish_call(item)
        self._step(missing[-1:])
        for part in self.parts.values():
            self._end_part(part)
        self.item = item
        self.over = True
        return held

    def _missing_steps(self, item: JSON) -> tuple[str, ...]:
        """The steps of a hosted tool that its upstream left out: all of them, or the last."""
        steps = _STEPS.get(item["type"], ())
        if self.steps & _ENDS or item.get("status", "completed") != "completed":
            return ()
        return steps[-1:] if self.steps else steps

    def _step(self, steps: tuple[str, ...]) -> None:
        for step in steps:
            place = {"item_id": self.id, "output_index": self.index}
            self._emitter.event(f"response.{self.item['type']}.{step}", place)

    def _at(self, kind: Kind, index: int) -> Part:
        placed = self._placed[kind.place]
        return placed[index] if index < len(placed) else self.open_part(kind, -1 - index)

    def _finish_call(self, item: JSON) -> None:
        kind = _CALL_KINDS.get(item["type"])
        if kind is None or (item["type"] not in _ALWAYS_FILLED and not self.parts):
            return
        part = self.part(kind, 0)
        text = item.get(kind.member)
        if part.state == "open" and item["type"] == "function_call" and item["status"] == "completed":
            # responses-api.md §3.4 rule 4
            text = text or part.text() or "{}"
        self.fill(part, text if isinstance(text, str) else None)
        if not isinstance(text, str) or not item.get(kind.member):
            item[kind.member] = part.text()

    def settle(self, emitter: Emitter) -> None:
        """The upstream did not end it: what was said is what it holds."""
        self.over = True
        item = self.item
        if item["type"] in _ALWAYS_FILLED:
            self.part(_CALL_KINDS[item["type"]], 0)
        for part in self.parts.values():
            self._end_part(part)
        for place in ("content", "summary"):
            finals = [part.final for part in self._placed[place]]
            if finals:
                item[place] = finals
        kind = _CALL_KINDS.get(item["type"])
        if kind is not None and self.parts:
            item[kind.member] = self.part(kind, 0).text()
        cut = self.status == "incomplete"
        if "status" in item or cut:
            item["status"] = _CUT_STATUS.get(item["type"], self.status) if cut else self.status


def _as(name: str, empty: Any, given: Any) -> Any:
    """A member of the type of ``empty``: text is a part where parts should be, an object is its JSON (decision 48)."""
    if isinstance(empty, list):
        kind = PART_KINDS["summary_text" if name == "summary" else "output_text"]
        return [kind.part(given)] if isinstance(given, str) and given else []
    if isinstance(given, dict | list):
        return encoded(given).decode()
    return given if isinstance(given, str) else empty


def blank(item: JSON) -> JSON:
    """An item without what its deltas will spell: what is announced with it would be read twice."""
    for name in _SPELLED.get(str(item.get("type")), ()):
        if item.get(name) is not None:
            item[name] = [] if name in ("content", "summary") else ""
    return item


def announcement(item: JSON) -> JSON:
    """A whole item as it would have been announced."""
    item = blank(dict(item))
    if "status" in item:
        item["status"] = "in_progress"
    return item
