"""The open items of one response and the events of their life: message, reasoning, calls, hosted tools.

Source: responses-api.md §3 (items), §4.4-4.5 (events and their order), §4.7 (status of cut items).
An item writes its own events through the emitter; the voice decides when it opens and closes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from relay.responses.json import encoded, mended_text
from relay.responses.renaming import KeyRenamer, with_keys
from relay.responses.unwrap import InputUnwrapper

if TYPE_CHECKING:
    from relay.responses.emitter import Emitter
    from relay.responses.tools import Tool

_dumps = orjson.dumps

_PLAIN_TAIL: Final = b',"sequence_number":'
_TEXT_TAIL: Final = b',"logprobs":[],"sequence_number":'


class Run:
    """A run of deltas of one event type: each is written as it comes, the whole is decoded once.

    What was said is kept as JSON source in one buffer: an object a delta would cost 40 bytes and a cold cache line. A
    high surrogate at the end of a delta waits for its partner in the next (decision 24).
    """

    __slots__ = ("_decoded", "_held", "_source", "head", "name", "tail")

    def __init__(self, name: str, fields: dict[str, Any], tail: bytes = _PLAIN_TAIL) -> None:
        self.name = name.encode()
        self.head = _dumps({"type": name, **fields})[:-1] + b',"delta":'
        self.tail = tail
        self._source = bytearray()
        self._decoded: list[str] = []
        self._held = ""

    def add(self, emitter: Emitter, delta: str, tail: bytes | None = None) -> None:
        """Write one delta event. Raises: RelayError ``output_too_large``."""
        # hot: bench/test_emitter.py
        if self._held:
            delta = self._held + delta
            self._held = ""
        try:
            literal = _dumps(delta)
        except TypeError:
            delta = self._mended(delta)
            if not delta:
                return
            literal = _dumps(delta)
        emitter.retain(len(literal))  # before it is kept: what cannot be said is not in the output either
        self._source += literal[1:-1]
        number = emitter.sequence_number
        emitter.sequence_number = number + 1
        emitter.write(self.name, b"%b%b%b%d}" % (self.head, literal, self.tail if tail is None else tail, number))

    def add_literals(self, emitter: Emitter, literals: list[bytes]) -> None:
        """Write one delta event for each; they are insides of JSON strings as orjson writes them, none empty."""
        # hot: bench/test_emitter.py
        if self._held:
            for literal in literals:
                self.add(emitter, orjson.loads(b'"%b"' % literal))
            return
        count = len(literals)
        source = b"".join(literals)
        emitter.retain(len(source) + 2 * count)
        self._source += source
        number = emitter.sequence_number
        emitter.sequence_number = number + count
        emitter.sink.write_run(self.name, self.head, literals, self.tail, number)

    def whole(self, emitter: Emitter) -> str:
        """The concatenation of all deltas; a surrogate still waiting becomes U+FFFD."""
        if self._held:
            self._held = ""
            self.add(emitter, "\ufffd")
        if self._source:
            self._decoded.append(orjson.loads(b"".join((b'"', self._source, b'"'))))
            self._source.clear()
        if len(self._decoded) > 1:
            self._decoded = ["".join(self._decoded)]
        return self._decoded[0] if self._decoded else ""

    def _mended(self, delta: str) -> str:
        if "\ud800" <= delta[-1] <= "\udbff":
            self._held = delta[-1]
            delta = delta[:-1]
        return mended_text(delta)


class Item:
    """One output item between ``output_item.added`` and ``output_item.done``."""

    __slots__ = ("closing", "id", "index", "item", "status")

    def __init__(self, emitter: Emitter, prefix: str, item: dict[str, Any]) -> None:
        self.id = emitter.new_id(prefix)
        self.item: dict[str, Any] = {"id": self.id, **item}
        self.index = emitter.open_item(self)
        self.closing = False
        self.status = "completed"

    def place(self, **fields: Any) -> dict[str, Any]:
        """The fields that say where an event belongs, and ``fields``."""
        return {"item_id": self.id, "output_index": self.index, **fields}

    def settle(self, emitter: Emitter) -> None:
        """Write what must come before ``output_item.done`` and complete ``item``."""

    def done(self, emitter: Emitter) -> None:
        """Settle, then write ``output_item.done``."""
        self.settle(emitter)
        emitter.event("response.output_item.done", {"output_index": self.index, "item": self.item})


class Message(Item):
    """An assistant message: parts of text or refusal, one open at a time.

    ``text_run``: what takes deltas of the open ``output_text`` part, where that is what is open; else ``open_text``.
    """

    __slots__ = ("_annotations", "_kind", "_logprobs", "_run", "suspended", "text_run")

    def __init__(self, emitter: Emitter) -> None:
        item = {"type": "message", "status": "in_progress", "role": "assistant", "content": []}
        super().__init__(emitter, "msg", item)
        self._run: Run | None = None
        self.text_run: Run | None = None
        self._kind = ""
        self._annotations: list[dict[str, Any]] = []
        self._logprobs: list[dict[str, Any]] = []
        self.suspended = False

    def open_text(self, emitter: Emitter) -> Run:
        """Open an ``output_text`` part; what was open is closed."""
        return self._open_part(emitter, "output_text")

    def text_with_logprobs(self, emitter: Emitter, delta: str, logprobs: list[dict[str, Any]]) -> None:
        """A delta and its log probabilities: ``[{token, logprob, bytes, top_logprobs: […]}]``."""
        run = self.text_run or self.open_text(emitter)
        said = encoded(logprobs)
        emitter.retain(len(said))
        run.add(emitter, delta, b',"logprobs":' + said + _PLAIN_TAIL)
        self._logprobs.extend(logprobs)

    def refusal(self, emitter: Emitter, delta: str) -> None:
        """A delta of a ``refusal`` part."""
        run = self._run
        if run is None or self._kind != "refusal":
            run = self._open_part(emitter, "refusal")
        run.add(emitter, delta)

    def annotation(self, emitter: Emitter, annotation: dict[str, Any]) -> None:
        """``output_text.annotation.added`` on the open text part (one is opened where there is none)."""
        if self.text_run is None:
            self.open_text(emitter)
        emitter.retain(len(encoded(annotation)))
        fields = self.place(
            content_index=len(self.item["content"]), annotation_index=len(self._annotations), annotation=annotation
        )
        self._annotations.append(annotation)
        emitter.event("response.output_text.annotation.added", fields)

    def text_length(self, emitter: Emitter) -> int:
        """Characters in the open text part so far; 0 without one."""
        return len(self.text_so_far(emitter))

    def text_so_far(self, emitter: Emitter) -> str:
        """The text of the open text part; empty without one."""
        return self.text_run.whole(emitter) if self.text_run is not None else ""

    def settle(self, emitter: Emitter) -> None:
        """Close the open part."""
        self._close_part(emitter)
        self.item["status"] = self.status

    def _open_part(self, emitter: Emitter, kind: str) -> Run:
        self._close_part(emitter)
        place = self.place(content_index=len(self.item["content"]))
        self._kind = kind
        if kind == "output_text":
            part: dict[str, Any] = {"type": "output_text", "annotations": [], "logprobs": [], "text": ""}
            self._run = self.text_run = Run("response.output_text.delta", place, _TEXT_TAIL)
        else:
            part = {"type": "refusal", "refusal": ""}
            self._run = Run("response.refusal.delta", place)
        emitter.event("response.content_part.added", {**place, "part": part})
        return self._run

    def _close_part(self, emitter: Emitter) -> None:
        if self._run is None:
            return
        text = self._run.whole(emitter)
        place = self.place(content_index=len(self.item["content"]))
        if self._kind == "output_text":
            part: dict[str, Any] = {
                "type": "output_text",
                "annotations": self._annotations,
                "logprobs": self._logprobs,
                "text": text,
            }
            emitter.event("response.output_text.done", {**place, "text": text, "logprobs": self._logprobs})
            self._annotations, self._logprobs = [], []
        else:
            part = {"type": "refusal", "refusal": text}
            emitter.event("response.refusal.done", {**place, "refusal": text})
        emitter.event("response.content_part.done", {**place, "part": part})
        self.item["content"].append(part)
        self._run = self.text_run = None


class Reasoning(Item):
    """A reasoning item: raw text in ``content``, summaries in ``summary``, opaque blocks in ``encrypted_content``."""

    __slots__ = ("_run", "_summary")

    def __init__(self, emitter: Emitter) -> None:
        super().__init__(emitter, "rs", {"type": "reasoning", "summary": []})
        self._run: Run | None = None
        self._summary = False

    def text(self, emitter: Emitter, delta: str) -> None:
        """A delta of ``reasoning_text``."""
        run = self._run
        if run is None or self._summary:
            self.close_part(emitter)
            content = self.item.setdefault("content", [])
            place = self.place(content_index=len(content))
            part = {"type": "reasoning_text", "text": ""}
            emitter.event("response.content_part.added", {**place, "part": part})
            run = self._run = Run("response.reasoning_text.delta", place)
            self._summary = False
        run.add(emitter, delta)

    def summary(self, emitter: Emitter, delta: str) -> None:
        """A delta of the open summary part."""
        run = self._run
        if run is None or not self._summary:
            self.close_part(emitter)
            place = self.place(summary_index=len(self.item["summary"]))
            part = {"type": "summary_text", "text": ""}
            emitter.event("response.reasoning_summary_part.added", {**place, "part": part})
            run = self._run = Run("response.reasoning_summary_text.delta", place)
            self._summary = True
        run.add(emitter, delta)

    def close_part(self, emitter: Emitter) -> None:
        """End the open part, if any; the next delta opens another."""
        if self._run is None:
            return
        text = self._run.whole(emitter)
        if self._summary:
            part = {"type": "summary_text", "text": text}
            place = self.place(summary_index=len(self.item["summary"]))
            emitter.event("response.reasoning_summary_text.done", {**place, "text": text})
            emitter.event("response.reasoning_summary_part.done", {**place, "part": part})
            self.item["summary"].append(part)
        else:
            part = {"type": "reasoning_text", "text": text}
            place = self.place(content_index=len(self.item["content"]))
            emitter.event("response.reasoning_text.done", {**place, "text": text})
            emitter.event("response.content_part.done", {**place, "part": part})
            self.item["content"].append(part)
        self._run = None

    def settle(self, emitter: Emitter) -> None:
        """Close the open part; only a cut item carries a status."""
        self.close_part(emitter)
        if self.status != "completed":
            self.item["status"] = self.status


class Call(Item):
    """A ``function_call``."""

    __slots__ = ("_run", "call_id")

    def __init__(self, emitter: Emitter, call_id: str, name: str, namespace: str | None = None) -> None:
        item = {
            "type": "function_call",
            "status": "in_progress",
            "arguments": "",
            "call_id": call_id,
            "name": name,
            # nothing in the arguments is sealed, which Codex must be told to read what it sends to other agents
            # (https://github.com/openai/codex/pull/35845)
            "encrypted_function_args": [],
        }
        if namespace is not None:
            item["namespace"] = namespace
        super().__init__(emitter, "fc", item)
        self.call_id = call_id
        self._run = Run("response.function_call_arguments.delta", self.place())

    def arguments(self, emitter: Emitter, fragment: str) -> None:
        """A fragment of the JSON text of the arguments."""
        self._run.add(emitter, fragment)

    def settle(self, emitter: Emitter) -> None:
        """Empty arguments become ``{}`` unless the call was cut (responses-api.md §3.4 rule 4)."""
        arguments = self._run.whole(emitter)
        if not arguments.strip() and self.status == "completed":
            self._run.add(emitter, "{}")
            arguments = self._run.whole(emitter)
        emitter.event("response.function_call_arguments.done", self.place(arguments=arguments))
        self.item["arguments"] = arguments
        self.item["status"] = self.status


class RenamedCall(Call):
    """A ``function_call`` of a tool whose property names the upstream does not take: its arguments get the client's."""

    __slots__ = ("_renamer",)

    def __init__(self, emitter: Emitter, call_id: str, tool: Tool) -> None:
        super().__init__(emitter, call_id, tool.name, tool.namespace)
        self._renamer = KeyRenamer(tool.renamed)

    def arguments(self, emitter: Emitter, fragment: str) -> None:
        """A fragment of the JSON text of the arguments."""
        text = self._renamer.feed(fragment)
        if text:
            self._run.add(emitter, text)

    def settle(self, emitter: Emitter) -> None:
        """Say what the renamer still holds."""
        rest = self._renamer.close()
        if rest:
            self._run.add(emitter, rest)
        super().settle(emitter)


class CustomCall(Item):
    """A ``custom_tool_call``: free text, unwrapped from the emulating function's one argument or sent as it is."""

    __slots__ = ("_run", "_unwrapper", "call_id")

    def __init__(
        self, emitter: Emitter, call_id: str, name: str, namespace: str | None = None, *, wrapped: bool = True
    ) -> None:
        item = {"type": "custom_tool_call", "status": "in_progress", "call_id": call_id, "name": name, "input": ""}
        if namespace is not None:
            item["namespace"] = namespace
        super().__init__(emitter, "ctc", item)
        self.call_id = call_id
        self._run = Run("response.custom_tool_call_input.delta", self.place())
        self._unwrapper = InputUnwrapper() if wrapped else None

    def arguments(self, emitter: Emitter, fragment: str) -> None:
        """A fragment of the function's arguments, or of the free text itself."""
        text = fragment if self._unwrapper is None else self._unwrapper.feed(fragment)
        if text:
            self._run.add(emitter, text)

    def settle(self, emitter: Emitter) -> None:
        """Write what the unwrapper still holds."""
        rest = "" if self._unwrapper is None else self._unwrapper.close()
        if rest:
            self._run.add(emitter, rest)
        text = self._run.whole(emitter)
        emitter.event("response.custom_tool_call_input.done", self.place(input=text))
        self.item["input"] = text
        self.item["status"] = self.status


class EmulatedCall(Item):
    """A call of a tool that a function stands for: ``shell_call``, ``tool_search_call`` and the like.

    Its arguments are kept until they are whole, because the item shows them as structure. Arguments that are no such
    structure are shown as what they are: a ``function_call``.
    """

    __slots__ = ("_pieces", "_tool", "call_id")

    def __init__(self, emitter: Emitter, call_id: str, tool: Tool) -> None:
        self.call_id = call_id
        self._tool = tool
        self._pieces: list[str] = []
        self.closing = False
        self.status = "completed"
        self.index = -1  # an index is taken when the item can be shown
        self.id = ""
        self.item = {}

    def arguments(self, emitter: Emitter, fragment: str) -> None:
        """A fragment of the JSON text of the arguments."""
        emitter.retain(len(fragment))
        self._pieces.append(fragment)

    def done(self, emitter: Emitter) -> None:
        """Show the item: added, then done."""
        text = with_keys("".join(self._pieces), self._tool.renamed)
        try:
            arguments = orjson.loads(text)
        except ValueError:
            arguments = None
        emulation = self._tool.emulation
        fields = emulation.fields(arguments) if emulation is not None and isinstance(arguments, dict) else None
        if emulation is None or fields is None:
            call = Call(emitter, self.call_id, self._tool.name, self._tool.namespace)
            call.arguments(emitter, text)
            call.status = self.status
            call.done(emitter)
            return
        item = {"type": self._tool.item_type, "call_id": self.call_id, **fields, "status": "in_progress"}
        if self._tool.namespace is not None:
            item["namespace"] = self._tool.namespace
        shown = Item.__new__(Item)
        Item.__init__(shown, emitter, emulation.prefix, {**item, **emulation.blank})
        shown.item |= fields
        shown.item["status"] = self.status
        emitter.event("response.output_item.done", {"output_index": shown.index, "item": shown.item})


class Hosted(Item):
    """A tool that the upstream runs itself: ``web_search_call``, ``code_interpreter_call``, ``mcp_call`` and so on."""

    __slots__ = ("_kind", "_run", "_run_field")

    def __init__(self, emitter: Emitter, kind: str, prefix: str, fields: dict[str, Any]) -> None:
        super().__init__(emitter, prefix, {"type": kind, **fields})
        self._kind = kind
        self._run: Run | None = None
        self._run_field = ""

    def step(self, emitter: Emitter, step: str, fields: dict[str, Any] | None = None) -> None:
        """``response.<kind>.<step>``, e.g. ``searching``."""
        emitter.event(f"response.{self._kind}.{step}", self.place(**(fields or {})))

    def delta(self, emitter: Emitter, field: str, delta: str) -> None:
        """A delta of ``code`` (``code_interpreter_call_code``) or ``arguments`` (``mcp_call_arguments``)."""
        if self._run is None:
            self._run_field = field
            self._run = Run(f"response.{self._kind}_{field}.delta", self.place())
        self._run.add(emitter, delta)

    def delta_done(self, emitter: Emitter) -> None:
        """End the run of deltas and keep its text in the item."""
        if self._run is not None:
            text = self._run.whole(emitter)
            self.item[self._run_field] = text
            emitter.event(f"response.{self._kind}_{self._run_field}.done", self.place(**{self._run_field: text}))
            self._run = None

    def settle(self, emitter: Emitter) -> None:
        """A hosted item that never reached its end is cut with the response."""
        self.delta_done(emitter)
        if self.item.get("status") in ("in_progress", "searching", "interpreting", "generating", "calling"):
            self.item["status"] = "incomplete" if self.status == "incomplete" else "completed"
