"""Tool calls put together from the fragments of a chat/completions stream.

Source: translation.md §3.3, the key rule: a known ``id`` is that call; a new ``id`` is a new call even where ``index``
repeats; without an id the ``index`` counts; without both the latest call does.
"""

from __future__ import annotations

from typing import Any, Final

from relay.errors import RelayError
from relay.providers.chat_reasoning import Thinking
from relay.responses.emitter import Voice
from relay.responses.json import encoded
from relay.responses.output import Item
from relay.responses.tools import JSON

LEGACY: Final = -1
"""The index of the one call of a legacy ``function_call``."""


class _Call:
    __slots__ = ("held", "id", "item", "name", "signature")

    def __init__(self, identifier: str | None) -> None:
        self.id = identifier
        self.name = ""
        self.item: Item | None = None
        self.held: list[str] = []
        self.signature: str | None = None


class Calls:
    """The calls of one answer. A call opens when its name is known; all of them end with the answer."""

    __slots__ = ("_by_id", "_by_index", "_last", "_thinking", "_voice")

    def __init__(self, voice: Voice, thinking: Thinking) -> None:
        self._voice = voice
        self._thinking = thinking
        self._by_id: dict[str, _Call] = {}
        self._by_index: dict[int, _Call] = {}
        self._last: _Call | None = None

    @property
    def any(self) -> bool:
        """Whether there was a call."""
        return self._last is not None

    def feed(self, fragments: list[Any]) -> None:
        """The ``tool_calls`` of one chunk or one whole message."""
        alone = len(fragments) == 1
        for position, fragment in enumerate(fragments):
            if isinstance(fragment, dict):
                self.fragment(fragment, fragment.get("index", None if alone else position))

    def fragment(self, fragment: JSON, index: Any) -> None:
        """One fragment; ``index`` is its own, or its place in the array."""
        # hot: 100,000 fragments in one answer are linear
        body = fragment.get("function") or fragment.get("custom") or {}
        name = body.get("name")
        call = self._find(fragment.get("id"), index, name)
        if name and isinstance(name, str) and not call.name:
            call.name = name
        arguments = body.get("arguments", body.get("input"))
        if arguments is not None and not isinstance(arguments, str):
            arguments = encoded(arguments).decode()
        if call.item is None:
            self._open(call, fragment, arguments)
        elif arguments:
            self._voice.arguments(call.item, arguments)

    def close(self) -> None:
        """The answer is whole. Raises: RelayError where a call never said its name."""
        for call in (*self._by_id.values(), *self._by_index.values()):
            if call.item is None and call.held:
                raise RelayError("upstream_bad_response", "The upstream sent a tool call without a name.")

    def _open(self, call: _Call, fragment: JSON, arguments: str | None) -> None:
        extra = fragment.get("extra_content")
        google = extra.get("google") if isinstance(extra, dict) else None
        if isinstance(google, dict) and isinstance(google.get("thought_signature"), str):
            call.signature = google["thought_signature"]
        if arguments:
            call.held.append(arguments)
        if not call.name:
            return
        if self._thinking.pending or call.signature is not None:
            self._thinking.before_output(call.signature)
        call.item = self._voice.call(call.id, call.name)
        if call.held:
            self._voice.arguments(call.item, "".join(call.held))
            call.held = []

    def _find(self, identifier: Any, index: Any, name: Any) -> _Call:
        call: _Call | None
        if identifier and isinstance(identifier, str):
            call = self._by_id.get(identifier)
            if call is None:
                call = self._unnamed(index, name) or _Call(identifier)
                call.id = identifier
                self._by_id[identifier] = call
                if isinstance(index, int):
                    self._by_index[index] = call
        elif isinstance(index, int):
            call = self._by_index.get(index)
            if call is None:
                call = self._by_index[index] = _Call(None)
        else:
            call = self._last
            if call is None or (name and call.name and name != call.name):
                call = self._by_index[-2 - len(self._by_index)] = _Call(None)
        self._last = call
        return call

    def _unnamed(self, index: Any, name: Any) -> _Call | None:
        # an id that comes after the first fragment of its call
        call = self._by_index.get(index) if isinstance(index, int) else None
        return call if call is not None and call.id is None and call.item is None and not name else None
