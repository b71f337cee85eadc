"""Reasoning of chat/completions upstreams: read under all its names, kept in envelopes, put back where it is due.

Source: translation.md §2.6, §3.2, §3.3; decisions 22, 23. Blocks of an envelope of the family ``chat``:
``{"k":"rc","field":…,"text":…}`` raw text; ``{"k":"rd","v":{…}}`` one merged entry of ``reasoning_details``;
``{"k":"fc","sig":…}`` the thought signature of the call that follows the item.
"""

from __future__ import annotations

from typing import Any, Final

from relay.responses.emitter import Voice
from relay.responses.envelope import seal
from relay.responses.json import encoded
from relay.responses.tools import JSON

FAMILY: Final = "chat"

_SHOWN: Final = {"reasoning.text": "text", "reasoning.summary": "summary"}


def source(block: JSON) -> str:
    """The JSON text of a block."""
    return encoded(block).decode()


class Thinking:
    """What one answer thinks. ``pending`` is true while ``before_output`` has something to do.

    With ``reasoning_details`` a signature may come after the text began: the item is then held open until the end, or
    until more reasoning text comes.
    """

    __slots__ = ("_details", "_field", "_keep", "_model", "_spoke", "_texts", "_voice", "pending")

    def __init__(self, voice: Voice, model: str, *, keep: bool) -> None:
        self._voice = voice
        self._model = model
        self._keep = keep
        self._field = ""
        self._texts: list[str] = []
        self._details: list[tuple[JSON, list[str]]] = []
        self._spoke = False
        self.pending = False

    def raw(self, field: str, text: str) -> None:
        """Raw reasoning that came under the name ``field``."""
        if self._spoke:
            self._resume()
        if self._keep:
            self._field = field
            self._texts.append(text)
            self.pending = True
        self._voice.reasoning(text)

    def details(self, entries: list[Any]) -> None:
        """Entries of ``reasoning_details``: shown, and merged with those before them."""
        for entry in entries:
            if isinstance(entry, dict):
                self._detail(entry)

    def before_output(self, signature: str | None = None) -> None:
        """Text or a call follows: the envelope goes into the item that ends here."""
        self.pending = False
        if signature is not None or self._texts or (self._details and not self._voice.reasoning_open):
            self._flush(signature)
        self._texts = []
        self._spoke = True

    def close(self) -> None:
        """The answer is whole."""
        if self._texts or self._details:
            self._flush(None)
            if self._spoke:
                self._voice.reasoning_end()

    def _resume(self) -> None:
        self._spoke = False
        if self._details:
            self._flush(None)
            self._details = []
        self._voice.reasoning_end()

    def _flush(self, signature: str | None) -> None:
        blocks: list[JSON] = []
        if self._texts:
            blocks.append({"k": "rc", "field": self._field, "text": "".join(self._texts)})
        for entry, pieces in self._details:
            name = _SHOWN.get(entry["type"])
            blocks.append({"k": "rd", "v": {**entry, name: "".join(pieces)} if name and pieces else entry})
        if signature is not None:
            blocks.append({"k": "fc", "sig": signature})
        self._voice.envelope(seal(FAMILY, self._model, [source(block) for block in blocks]))

    def _detail(self, entry: JSON) -> None:
        self._voice.hold_reasoning = True
        kind = entry.get("type")
        if not isinstance(kind, str) or not kind:
            kind = "reasoning.text" if "text" in entry else "reasoning.encrypted"
        name = _SHOWN.get(kind)
        text = entry.get(name) if name else None
        shown = text if isinstance(text, str) else ""
        if shown and self._spoke:
            self._resume()
        last = self._details[-1] if self._details else None
        if last is not None and name and last[0]["type"] == kind and _same_block(last[0], entry):
            last[0].update({key: value for key, value in entry.items() if key not in (name, "type") and value})
            pieces = last[1]
        else:
            pieces = []
            self._details.append(({**entry, "type": kind}, pieces))
            if kind == "reasoning.summary":
                self._voice.summary_end()
        if shown:
            pieces.append(shown)
            if kind == "reasoning.summary":
                self._voice.summary(shown)
            else:
                self._voice.reasoning(shown)
        self.pending = not self._spoke


def _same_block(before: JSON, entry: JSON) -> bool:
    return all(
        before.get(key) is None or entry.get(key) is None or before[key] == entry[key] for key in ("index", "id")
    )
