"""Tool calls put together from the fragments of a chat/completions stream.

Source: decision 48, which replaces the key rule of translation.md §3.3; what it leaves open is said at ``_move``.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Final

from relay.errors import RelayError
from relay.providers.chat_arguments import Arguments, Stage
from relay.providers.chat_reasoning import Thinking
from relay.responses.emitter import OUTPUT_LIMIT_BYTES, Voice
from relay.responses.json import encoded
from relay.responses.output import Item
from relay.responses.tools import JSON, are_empty, tool_name

LEGACY: Final = -1
"""The index of the one call of a legacy ``function_call``."""


class _Call:
    """``item`` is None until it is opened: its name is not known yet, or it may be another one told twice."""

    __slots__ = ("again", "arguments", "dropped", "held", "id", "item", "name", "raw", "signature")

    def __init__(self, identifier: str, *, raw: bool) -> None:
        self.id = identifier
        self.name = ""
        self.raw = raw
        self.arguments = Arguments(raw=raw)
        self.item: Item | None = None
        self.held: list[str] = []
        self.signature: str | None = None
        self.again: tuple[str, str] | None = None
        """Name and id, where the whole call was announced once more: arguments that follow are another call's."""
        self.dropped = False


class Calls:
    """The calls of one answer. A call opens when its name is known; all of them end with the answer.

    Raises: RelayError ``output_too_large`` where more is kept than an output may have.
    """

    __slots__ = ("_at", "_by_id", "_calls", "_groups", "_kept", "_last", "_thinking", "_voice", "_warned")

    def __init__(self, voice: Voice, thinking: Thinking) -> None:
        self._voice = voice
        self._thinking = thinking
        self._calls: list[_Call] = []
        self._at: dict[int, _Call] = {}
        self._by_id: dict[str, _Call] = {}
        self._groups: dict[tuple[str, str], _Group] = {}
        self._last: _Call | None = None
        self._kept = 0
        self._warned = False

    @property
    def any(self) -> bool:
        """Whether there was a call."""
        return self._last is not None

    @property
    def cut(self) -> bool:
        """Whether the arguments of a call are not whole."""
        return any(not call.raw and call.arguments.stage is Stage.PARTIAL for call in self._calls)

    def feed(self, fragments: list[Any]) -> None:
        """The ``tool_calls`` of one chunk."""
        alone = len(fragments) == 1
        for position, fragment in enumerate(fragments):
            if isinstance(fragment, dict):
                index = fragment.get("index")
                identifier = fragment.get("id")
                known = isinstance(identifier, str) and identifier in self._by_id
                self.fragment(fragment, position if index is None and not (alone or known) else index)

    def whole(self, calls: list[Any]) -> None:
        """The ``tool_calls`` of a whole message: each is a call of its own, whatever its ``index``."""
        for call in calls:
            if isinstance(call, dict):
                self.fragment(call, len(self._calls))
                self._settle(self._calls[-1], [])

    def fragment(self, fragment: JSON, index: Any) -> None:
        """One fragment; ``index`` is its own, or its place in the array."""
        # hot: 100,000 fragments in one answer are linear, and most of them are another piece of arguments
        body = fragment.get("function") or fragment.get("custom")
        if body.__class__ is not dict:
            body = {}
        text = body.get("arguments", body.get("input"))
        if text.__class__ is not str:
            text = "" if text is None else encoded(text).decode()
        said = body.get("name")
        identifier = fragment.get("id")
        if not said and not identifier and text and index.__class__ is int:
            found = self._at.get(index)
            if found is not None and found.item is not None and found.arguments.stage is Stage.PARTIAL:
                self._last = found
                self._voice.arguments(found.item, found.arguments.add(text))
                if found.arguments.excess:
                    self._warn()
                return
        name = tool_name(said, self._voice.tools) if said and isinstance(said, str) else ""
        self._fragment(fragment, identifier if isinstance(identifier, str) else "", index, name, text)

    def _fragment(self, fragment: JSON, identifier: str, index: Any, name: str, text: str) -> None:
        at = index if index.__class__ is int else None
        found = self._at.get(at) if at is not None else None
        if found is None:
            found = self._elsewhere(identifier, at, name, text)
        move = Move.BEGINS if found is None else _move(found, identifier, name, text)
        if found is not None and move is Move.BRINGS_NOTHING:
            self._drop(found, identifier, name, text)
            return
        call = found if found is not None and move is Move.GOES_ON else self._begin(found, fragment, identifier, name)
        if at is not None:
            self._at[at] = call
        if identifier and call.id in ("", identifier):
            call.id = identifier
            self._by_id[identifier] = call
        self._last = call
        self._add(call, fragment, name, text)

    def close(self) -> None:
        """The answer is whole. Raises: RelayError where a call never said its name."""
        waiting: list[_Call] = []
        for call in self._calls:
            self._settle(call, waiting)
            if call.item is not None and call.arguments.stage < Stage.PARTIAL:
                waiting.append(call)
        for call in self._calls:
            if call.item is not None:
                self._voice.arguments(call.item, call.arguments.finish())

    # --- which call a fragment belongs to

    def _elsewhere(self, identifier: str, at: int | None, name: str, text: str) -> _Call | None:
        """The call that a fragment may go on with which has no index, or is the first with its index."""
        known = self._by_id.get(identifier)
        last = self._last
        if at is not None:
            # one call under several indexes (mudler/LocalAI#9722): what is no beginning goes on with its id's call
            if known is None or known.raw or known.arguments.stage is Stage.WHOLE or name not in ("", known.name):
                return None
            return None if name and (not text or _opens(text)) else known
        if known is None and identifier and name and last is not None and last.arguments.stage is not Stage.PARTIAL:
            return None  # without an index, a new id and a name are a new call
        return known or last

    def _begin(self, before: _Call | None, fragment: JSON, identifier: str, name: str) -> _Call:
        again = before.again if before is not None and not name else None
        tool = self._voice.tools.get(name)
        raw = bool(fragment.get("custom")) or (tool is not None and tool.native)
        call = _Call(identifier or (again[1] if again else ""), raw=raw)
        if again:
            call.name = again[0]
        self._calls.append(call)
        return call

    def _drop(self, call: _Call, identifier: str, name: str, text: str) -> None:
        if name and not text.strip():
            call.again = (name, identifier)
        elif not (self._warned or are_empty(text) or call.arguments.same_as(text)):
            self._warn()

    def _warn(self) -> None:
        self._warned = True
        self._voice.emitter.warn("output", "what came after the arguments of a whole tool call was left out")

    # --- what a call says

    def _add(self, call: _Call, fragment: JSON, name: str, text: str) -> None:
        call.name = call.name or name
        said = call.arguments.add(text) if text else ""
        if call.arguments.excess:
            self._warn()
        if call.item is not None:
            self._voice.arguments(call.item, said)
            return
        self._kept += len(said)
        if self._kept > OUTPUT_LIMIT_BYTES:
            raise RelayError("output_too_large", f"The output grew over {OUTPUT_LIMIT_BYTES} bytes.")
        if said:
            call.held.append(said)
        _sign(call, fragment)
        if call.name and not call.dropped:
            group = self._groups.get((call.id, call.name)) if call.id else None
            if group is None:
                self._open(call)
            elif call.arguments.stage is Stage.WHOLE:
                self._tell_apart(call, group)

    def _tell_apart(self, call: _Call, group: _Group) -> None:
        """Drop a call that was told before, open one that was not."""
        if group.told(call, Stage.WHOLE):
            call.dropped = True
        elif not group.running:
            self._open(call)

    def _settle(self, call: _Call, waiting: list[_Call]) -> None:
        """A call that could not be opened before its end; ``waiting`` are calls before it that lack arguments."""
        if call.item is not None or call.dropped:
            return
        call.dropped = True
        if call.arguments.stage is Stage.BLANK:
            return
        blank = None
        if call.name:
            group = self._groups[call.id, call.name]
            if group.told(call, Stage.EMPTY):
                return
            blank = next((one for one in group.running if one.arguments.stage is Stage.BLANK), None)
        elif waiting and call.held:
            blank = waiting.pop()
        if blank is not None and blank.item is not None:
            self._voice.arguments(blank.item, blank.arguments.add(call.arguments.text))
        elif call.name:
            self._open(call)
        else:
            raise RelayError("upstream_bad_response", "The upstream sent a tool call without a name.")

    def _open(self, call: _Call) -> None:
        if self._thinking.pending or call.signature is not None:
            self._thinking.before_output(call.signature)
        call.item = self._voice.call(call.id, call.name)
        self._voice.arguments(call.item, "".join(call.held))
        call.held = []
        if call.id:
            self._groups.setdefault((call.id, call.name), _Group()).running.append(call)


class _Group:
    """The open calls that have one id and one name."""

    __slots__ = ("_texts", "running")

    def __init__(self) -> None:
        self.running: list[_Call] = []
        """Those whose arguments are not whole yet, at most one of which is not new."""
        self._texts: set[bytes] = set()

    def told(self, call: _Call, least: Stage) -> bool:
        """Whether one of them, whose arguments are at ``least`` or beyond, has those of ``call``."""
        running = []
        for one in self.running:
            if one.arguments.stage >= least:
                self._texts.add(one.arguments.canonical)
            else:
                running.append(one)
        self.running = running
        return call.arguments.canonical in self._texts


class Move(Enum):
    """What a fragment is to the call that has its place."""

    GOES_ON = 0
    BEGINS = 1
    BRINGS_NOTHING = 2


def _move(call: _Call, identifier: str, name: str, text: str) -> Move:
    """Decision 48. It says nothing of a name that differs where there is no id: ahead of any arguments, and after whole
    ones, that is another call.
    """
    stage = call.arguments.stage
    other = bool(identifier) and identifier != call.id
    renamed = bool(name) and bool(call.name) and name != call.name
    if stage is Stage.WHOLE:
        if identifier and not other and not renamed and are_empty(text):
            return Move.BRINGS_NOTHING
        return _move_after_whole(call, name, text, other=other, renamed=renamed)
    unlike = renamed and not identifier
    if call.raw or stage is Stage.EMPTY:
        begins = unlike or (other and bool(name))
    elif stage is Stage.BLANK:
        begins = unlike or (other and renamed)
    else:
        begins = other and renamed
    return Move.BEGINS if begins else Move.GOES_ON


def _move_after_whole(call: _Call, name: str, text: str, *, other: bool, renamed: bool) -> Move:
    real = bool(text) and not text.isspace()
    if not (real or name) or (not call.name and not (real and other)):
        return Move.GOES_ON
    if not name:
        begins = call.again is not None and _opens(text)
    elif real:
        begins = other or renamed or _opens(text)
    else:
        begins = other or renamed
    return Move.BEGINS if begins else Move.BRINGS_NOTHING


def _opens(text: str) -> bool:
    return text.lstrip().startswith(("{", "["))


def _sign(call: _Call, fragment: JSON) -> None:
    extra = fragment.get("extra_content")
    google = extra.get("google") if isinstance(extra, dict) else None
    if isinstance(google, dict) and isinstance(google.get("thought_signature"), str):
        call.signature = google["thought_signature"]
