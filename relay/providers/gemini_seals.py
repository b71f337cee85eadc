"""What an answer's opaque parts become: blocks of envelopes, written where the kind of output changes.

Source: translation.md §2.6, §3.5; decision 22. The blocks are described in ``gemini_contents``, which puts them back.
"""

from __future__ import annotations

from typing import Final

from relay.responses.emitter import Voice
from relay.responses.envelope import seal
from relay.responses.json import encoded
from relay.responses.tools import JSON

FAMILY: Final = "gemini"


class Seals:
    """The blocks that wait, and the kind of output that is being said: text, thought, call or part.

    They go into the reasoning item that is open when the kind changes, else into one of its own, which follows what was
    signed or precedes the call that was.
    """

    __slots__ = ("_model", "_voice", "kind", "pending")

    def __init__(self, voice: Voice, model: str, pending: tuple[JSON, ...] = ()) -> None:
        self._voice = voice
        self._model = model
        self.pending = list(pending)
        self.kind = "text" if pending else ""

    def add(self, kind: str, **fields: object) -> None:
        """One block."""
        self.pending.append({"k": kind, **fields})

    def flush(self) -> None:
        """Write what waits."""
        if self.pending:
            has_text = self._voice.text_length() > 0
            blocks = [encoded(block if has_text else _alone(block)).decode() for block in self.pending]
            self.pending = []
            self._voice.envelope(seal(FAMILY, self._model, blocks))
            self._voice.reasoning_end()

    def turn_to(self, kind: str) -> None:
        """Output of another kind follows: what waits belongs to what ends here."""
        self.flush()
        self.kind = kind


def _alone(block: JSON) -> JSON:
    """A signature on empty text that no text came with: a part where it stands, no mark of the message before it."""
    return {"k": "part", "part": {"text": "", "thoughtSignature": block["sig"]}} if block["k"] == "text" else block
